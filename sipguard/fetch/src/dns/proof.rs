//! Proof that an answer is what the owner of its name wrote (DNSSEC, RFC 4033 to 4035).

use std::{fs, path::Path};

use bytes::Bytes;
use domain::{
    base::Message,
    dnssec::validator::{
        anchor::TrustAnchors,
        context::{ValidationContext, ValidationState},
    },
};
use sipguard_lists::said::Said;

use super::{Connection, Why};

/// The root's keys of 2017 and 2024 (<https://data.iana.org/root-anchors/root-anchors.xml>).
const ROOT: &str = "\
. IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D
. IN DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16
";

/// By which keys it is proven, as in a zone file.
#[derive(Debug)]
pub(crate) struct Anchors(Vec<u8>);

impl Anchors {
    /// Those of a file, or else the root's own.
    pub(crate) fn read(file: Option<&Path>) -> Result<Self, String> {
        let Some(file) = file else {
            return Ok(Self(ROOT.into()));
        };
        let text = fs::read(file);
        let anchors =
            Self(text.map_err(|error| format!("cannot read {}: {error}", file.display()))?);
        match anchors.trusted() {
            Some(_) => Ok(anchors),
            None => Err(format!(
                "{} has something else than DS and DNSKEY records",
                file.display()
            )),
        }
    }

    fn trusted(&self) -> Option<TrustAnchors> {
        TrustAnchors::from_u8(&self.0).ok()
    }
}

/// Asks one server for whatever proves its answers.
pub(super) struct Validator(ValidationContext<Connection>);

impl Validator {
    pub(super) fn new(anchors: &Anchors, connection: Connection) -> Self {
        // They were read once.
        let trusted = anchors.trusted().unwrap_or_else(TrustAnchors::empty);
        Self(ValidationContext::new(trusted, connection))
    }

    /// Whether an answer is proven, all of it: that there is no such name, too.
    pub(super) async fn check(&self, answer: &mut Message<Bytes>) -> Result<(), Why> {
        let state = self.0.validate_msg::<_, Vec<u8>>(answer).await;
        let (state, why) = state.map_err(|error| Why::Unproven(error.to_string()))?;
        let what = match state {
            ValidationState::Secure => return Ok(()),
            ValidationState::Bogus => "its proof is wrong",
            ValidationState::Insecure => "the name is in a zone that is not signed",
            ValidationState::Indeterminate => "nothing is trusted that could prove it",
        };
        let why = why.as_ref().and_then(|why| why.text()?.ok());
        Err(Why::Unproven(match why {
            Some(why) => format!("{what} ({})", Said(why)),
            None => what.to_owned(),
        }))
    }
}
