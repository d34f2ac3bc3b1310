//! `sipguard doctor`.
//!
//! JSON, one object:
//! ```json
//! {"well":false,"checks":["kernel",…],
//!  "findings":[{"check":"in_force","name":"interface_not_filtered","severity":"open","wrong":true,"place":{"interface":"eth1"},
//!               "about":"…","mend":"sipguard apply …"}]}
//! ```
//! `name` is one of those in docs/health.md. `severity` is `open` where something is open now that the config wants closed, `wrong` where
//! something else is wrong, and `advice` where it could be better; `wrong` is false for that alone. `place` is `{"interface":"eth1"}`,
//! `{"service":"web"}`, `{"file":{"path":"/etc/sipguard/blocked.txt","line":7}}` (where `line` may be null), or null for this host. `about`
//! is one sentence, `mend` one command for a shell. `well` is false where anything is wrong, and then the exit code is 1.

use std::io::Write;

use anyhow::Result;
use sipguard::health::{self, CHECKS, Health, Severity, Verdict};

use super::{Context, Outcome, needs_root, write_json};
use crate::output::count;

pub(super) fn run(context: &Context, out: &mut dyn Write) -> Result<Outcome> {
    needs_root()?;
    let health = health::examine(&context.host, &context.config)?;
    let well = health.verdict() == Verdict::Guarded;
    if context.json {
        let checks: Vec<_> = CHECKS.iter().map(|check| check.name).collect();
        let findings = &health.findings;
        let json = serde_json::json!({ "well": well, "checks": checks, "findings": findings });
        write_json(out, &json)?;
    } else {
        write(out, &health, context)?;
    }
    Ok(if well { Outcome::Done } else { Outcome::Wrong })
}

fn write(out: &mut dyn Write, health: &Health, context: &Context) -> Result<()> {
    let palette = context.palette;
    for finding in &health.findings {
        let (style, word) = match finding.severity {
            Severity::Open => (palette.bad, "not guarded"),
            Severity::Wrong => (palette.bad, "wrong"),
            Severity::Advice => (palette.warning, "advice"),
        };
        writeln!(out, "{style}{word}:{style:#} {}", finding.about)?;
        writeln!(out, "    {}", finding.mend)?;
    }
    if health.findings.is_empty() && !context.is_quiet() {
        let good = palette.good;
        let checks = count(CHECKS.len(), "check", "checks");
        writeln!(out, "{good}all is well{good:#}: {checks}, nothing to mend")?;
    }
    Ok(())
}
