//! Usage metrics: how many decisions this bouncer has in force, which `cscli metrics` shows. CrowdSec has a place for them since 1.6.3; one that
//! has not says so once. Whatever becomes of them, bans do not depend on it.

use std::{fs, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};
use sipguard_lists::{found::Family, task::CrowdSec};
use ureq::{Agent, http::StatusCode};

use super::decisions::Decisions;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is to be told.
#[derive(Default)]
pub(super) struct Usage {
    /// Whether there is nobody to tell.
    is_unwanted: bool,
    /// What was counted and not told yet.
    items: Option<Vec<Value>>,
    /// When there was something to count first.
    began: Option<Timestamp>,
    /// When it was told last.
    told: Option<Timestamp>,
}

impl Usage {
    /// Counts, to be told with the next question: nobody waits for that.
    pub(super) fn count(&mut self, decisions: &Decisions, now: Timestamp) {
        self.began.get_or_insert(now);
        let item = |((origin, family), count)| {
            let family = match family {
                Family::Ipv4 => "ipv4",
                Family::Ipv6 => "ipv6",
            };
            let labels = json!({ "origin": origin, "ip_type": family });
            json!({ "name": "active_decisions", "value": count, "unit": "ip", "labels": labels })
        };
        if !self.is_unwanted {
            self.items = Some(decisions.count().into_iter().map(item).collect());
        }
    }

    /// Tells what was counted.
    pub(super) fn send(&mut self, agent: &Agent, lapi: &CrowdSec, key: &str, now: Timestamp) {
        let Some(items) = self.items.take() else {
            return;
        };
        let url = lapi.url.trim_end_matches('/');
        let request = agent
            .post(format!("{url}/v1/usage-metrics"))
            .header("X-Api-Key", key)
            .header("Content-Type", "application/json")
            .config()
            .timeout_global(Some(PATIENCE))
            .build();
        let began = self.began.unwrap_or(now);
        let since = self.told.unwrap_or(began);
        let sent = request.send(report(&items, began, since, now).to_string());
        self.told = Some(now);
        self.is_unwanted = sent.is_ok_and(|response| response.status() == StatusCode::NOT_FOUND);
    }
}

/// As CrowdSec wants it (`AllMetrics` in its `localapi_swagger.yaml`).
fn report(items: &[Value], began: Timestamp, since: Timestamp, now: Timestamp) -> Value {
    let [name, version] = system();
    let seconds = now.as_second().saturating_sub(since.as_second()).max(0);
    let meta = json!({ "utc_now_timestamp": now.as_second(), "window_size_seconds": seconds });
    json!({ "remediation_components": [{
        "type": "sipguard",
        "version": env!("CARGO_PKG_VERSION"),
        "os": { "name": name, "version": version },
        "feature_flags": [],
        "utc_startup_timestamp": began.as_second(),
        "metrics": [{ "meta": meta, "items": items }],
    }] })
}

/// The system's name and version, as os-release(5) has them.
fn system() -> [String; 2] {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    ["ID", "VERSION_ID"].map(|key| {
        let mut lines = release.lines();
        let value = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        value.unwrap_or_default().trim_matches('"').to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names are CrowdSec's; what it requires is there.
    #[test]
    fn what_is_told_is_what_crowdsec_wants() {
        let time = |second| Timestamp::from_second(second).unwrap();
        let told = report(&[json!("item")], time(1_000), time(1_600), time(3_400));
        let [component] = told["remediation_components"]
            .as_array()
            .unwrap()
            .as_slice()
        else {
            panic!("there is one")
        };
        assert_eq!(component["type"], "sipguard");
        assert!(component["os"]["name"].is_string() && component["os"]["version"].is_string());
        assert!(component["version"].is_string() && component["feature_flags"].is_array());
        assert_eq!(component["utc_startup_timestamp"], 1_000);
        let meta = json!({ "utc_now_timestamp": 3_400, "window_size_seconds": 1_800 });
        assert_eq!(
            component["metrics"],
            json!([{ "meta": meta, "items": ["item"] }])
        );
    }
}
