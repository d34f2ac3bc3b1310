//! The time zone that people here go by: the one that `TZ` names, or else this host's.

use std::{env, fs, path::Path, sync::OnceLock};

use jiff::tz::TimeZone;

/// Where the system keeps zones by their names (tzset(3)). jiff would look a name up in all files that there are, which takes longer than most
/// commands do.
const FOLDER: &str = "/usr/share/zoneinfo";

/// Where it is none of this, UTC.
pub fn local() -> TimeZone {
    static NAMED: OnceLock<Option<TimeZone>> = OnceLock::new();
    let named = NAMED.get_or_init(|| named(Path::new(FOLDER), &env::var("TZ").ok()?));
    // It looks at TZ, too, which may say how the clock differs, and at /etc/localtime, which may be another one later.
    named.clone().unwrap_or_else(TimeZone::system)
}

/// `Asia/Tokyo`, or `:Asia/Tokyo`.
fn named(folder: &Path, name: &str) -> Option<TimeZone> {
    let name = name.strip_prefix(':').unwrap_or(name);
    let rules = fs::read(folder.join(name)).ok()?;
    TimeZone::tzif(name, &rules).ok()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn zones_have_names() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("Asia")).unwrap();
        // RFC 9636, section 3: of times, types and characters of their names there are 0, 1 and 4; the type is 9 hours ahead.
        let mut rules = b"TZif".to_vec();
        rules.extend([0; 16]);
        rules.extend([0, 0, 0, 0, 1, 4_u32].map(u32::to_be_bytes).as_flattened());
        rules.extend(32_400_i32.to_be_bytes());
        rules.extend(b"\0\0JST\0");
        fs::write(folder.path().join("Asia/Tokyo"), rules).unwrap();
        for name in ["Asia/Tokyo", ":Asia/Tokyo"] {
            let zone = named(folder.path(), name).expect("it is there");
            let there = Timestamp::UNIX_EPOCH.to_zoned(zone);
            assert_eq!(there.strftime("%F %T").to_string(), "1970-01-01 09:00:00");
        }
        // What says how the clock differs is no name, and neither is a folder.
        for name in ["JST-9", "Asia", "", "Asia/Nowhere"] {
            assert!(named(folder.path(), name).is_none(), "{name}");
        }
    }
}
