//! Where in a JSON document a list stands: `prefixes[].ip_prefix` is, of each element of the array `prefixes`, the field `ip_prefix`.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use thiserror::Error;

use crate::prefix::Excerpt;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath(Vec<Step>);

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Into a field of an object.
    Field(String),
    /// Into each element of an array.
    Each,
}

/// A text that is no path.
#[derive(Debug, PartialEq, Eq, Error)]
#[error(
    "{0} is no path into JSON; write for example \"prefixes[].ip_prefix\", or \"[]\" for an array of prefixes"
)]
pub struct PathError(Excerpt);

/// More than any document has that is taken for one.
const MAX_STEPS: usize = 16;

impl JsonPath {
    /// From the outside in; at least one.
    pub fn steps(&self) -> &[Step] {
        &self.0
    }
}

impl FromStr for JsonPath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        let wrong = || PathError(Excerpt::of(text));
        let mut steps = Vec::new();
        for (place, part) in text.split('.').enumerate() {
            let field = part.trim_end_matches("[]");
            let each = (part.len() - field.len()) / "[]".len();
            // Only the document itself has no name.
            if (field.is_empty() && (place > 0 || each == 0)) || field.contains(['[', ']']) {
                return Err(wrong());
            }
            if !field.is_empty() {
                steps.push(Step::Field(field.to_owned()));
            }
            steps.extend((0..each).map(|_| Step::Each));
        }
        if steps.len() > MAX_STEPS {
            return Err(wrong());
        }
        Ok(Self(steps))
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, step) in self.0.iter().enumerate() {
            match step {
                Step::Field(field) if place == 0 => f.write_str(field)?,
                Step::Field(field) => write!(f, ".{field}")?,
                Step::Each => f.write_str("[]")?,
            }
        }
        Ok(())
    }
}

impl Serialize for JsonPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for JsonPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_and_written_alike() {
        let field = |name: &str| Step::Field(name.to_owned());
        for (text, steps) in [
            ("[]", vec![Step::Each]),
            (
                "prefixes[].ip_prefix",
                vec![field("prefixes"), Step::Each, field("ip_prefix")],
            ),
            ("[][].a b", vec![Step::Each, Step::Each, field("a b")]),
            (
                "data.list[]",
                vec![field("data"), field("list"), Step::Each],
            ),
        ] {
            let path: JsonPath = text.parse().unwrap();
            assert_eq!(path.steps(), steps);
            assert_eq!(path.to_string(), text);
        }
        let deep = "[]".repeat(17);
        for text in [
            "", ".", "a.", ".a", "a..b", "a.[]", "a[0]", "a[]b", "[", &deep,
        ] {
            let error = text.parse::<JsonPath>().unwrap_err().to_string();
            assert!(error.contains("is no path into JSON; write"), "{error}");
        }
    }
}
