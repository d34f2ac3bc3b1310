//! One host: what it has, what it is to get, and the way back.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::anyhow;
use serde_json::Value;

use super::{
    address::Address,
    archive::archive,
    facts::{self, Deployment, Facts},
    judgement::{self, Install, Todo},
    payload::{Config, Package},
    results::{HostResult, Line},
    ssh::{Failure, Ssh, input},
};

/// What the new config is called on a host before it is the config.
const STAGED: &str = "/etc/sipguard/.sipguard.toml.deploy";
/// Until this step has ended, nothing is changed.
const COPYING: &str = "copying";
/// How often a host is asked that does not answer.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a host may need to take itself back, once it has begun.
const WAY_BACK: Duration = Duration::from_mins(2);

pub(super) struct Host<'a> {
    pub(super) ssh: &'a Ssh,
    pub(super) address: &'a Address,
    pub(super) package: &'a Package,
    pub(super) config: Option<&'a Config>,
    /// How long the host waits for our next word.
    pub(super) patience: Duration,
    pub(super) line: &'a Line<'a>,
}

/// Where it went wrong, and how.
struct Stop {
    step: &'static str,
    failure: Failure,
}

impl Host<'_> {
    pub(super) fn deploy(&self, dry_run: bool) -> HostResult {
        self.line.step("checking");
        let facts = match self.look() {
            Ok(facts) => facts,
            Err(failure) => return not_begun(&failure),
        };
        let facts = match facts.deployment {
            Some(Deployment::Abandoned) if dry_run => {
                return nothing_changed(
                    "the host restarted in an earlier deployment, which the next one takes back",
                    &facts,
                );
            }
            Some(Deployment::Abandoned) => match self.recover() {
                Ok(facts) => facts,
                Err(failure) => {
                    let why = format!(
                        "the host restarted in an earlier deployment, which can't be taken back: {failure}"
                    );
                    return HostResult::failed(why, facts.in_force());
                }
            },
            _ => facts,
        };
        let todo = match judgement::judge(&facts, self.package, self.config) {
            Ok(todo) => todo,
            Err(why) => return nothing_changed(&why, &facts),
        };
        self.tell(&facts, &todo);
        if todo.is_nothing() {
            return HostResult::unchanged(facts.in_force());
        }
        if dry_run {
            return self.plan(&todo, &facts);
        }
        let token = match token() {
            Ok(token) => token,
            Err(error) => return nothing_changed(&format!("{error:#}"), &facts),
        };
        match self.change(&todo, &token) {
            Ok(facts) => HostResult::done(self.done(&todo, &facts), facts.in_force()),
            Err(stop) => self.back(&todo, &token, &stop, &facts),
        }
    }

    fn look(&self) -> Result<Facts, Failure> {
        facts::look(self.ssh, self.address, &self.package.sums)
    }

    fn tell(&self, facts: &Facts, todo: &Todo) {
        let mut found = format!(
            "{}, Linux {}, {}, in force: {}",
            facts.machine,
            facts.kernel,
            facts.installed(),
            facts.in_force()
        );
        let foreign = facts.foreign();
        if !foreign.is_empty() {
            found = format!(
                "{found}; an XDP program of somebody else's on {}",
                foreign.join(" ")
            );
        }
        self.line.note(&found);
        let mut will = Vec::new();
        match todo.install {
            Install::Nothing => {}
            Install::Deb => will.push(format!("install sipguard {} (dpkg)", self.package.version)),
            Install::Tarball => {
                will.push(format!(
                    "install sipguard {} (tarball)",
                    self.package.version
                ));
            }
        }
        if let Some(config) = self.config.filter(|_| todo.config) {
            will.push(format!("config {}", config.path.display()));
        } else if todo.apply {
            will.push("apply its config".to_owned());
        }
        if !will.is_empty() {
            self.line.note(&format!("to do: {}", will.join(", ")));
        }
    }

    fn done(&self, todo: &Todo, facts: &Facts) -> String {
        match todo.install {
            // A host that gets no config has none that names an interface.
            _ if facts.generation().is_none() => {
                format!("sipguard {} installed", self.package.version)
            }
            Install::Nothing => "config in force".to_owned(),
            Install::Deb | Install::Tarball => {
                format!("sipguard {} in force", self.package.version)
            }
        }
    }

    /// Shows what would be done; the host is asked what it makes of it.
    fn plan(&self, todo: &Todo, facts: &Facts) -> HostResult {
        self.line.step("asking what would change");
        let said = token()
            .map_err(Failure::from)
            .and_then(|token| self.copy(todo, &token, "plan"));
        match said {
            Ok(said) => {
                for line in said.lines() {
                    self.line.note(line);
                }
                HostResult::done("nothing was changed (dry run)", facts.in_force())
            }
            Err(Failure::NoConnection(why)) => not_begun(&Failure::NoConnection(why)),
            Err(failure) => nothing_changed(&self.explain(&failure), facts),
        }
    }

    /// Brings everything there, and runs the first step of it.
    fn copy(&self, todo: &Todo, token: &str, step: &str) -> Result<String, Failure> {
        let archive = archive(self.package, self.config, todo, self.patience.as_secs())?;
        let folder = format!("sipguard-deploy.{token}");
        // Whatever becomes of the connection, what was copied is used or goes.
        // Where the connection is cut and nobody tells the host, it does not wait forever.
        let limit = 5 * self.patience.as_secs();
        let line = format!(
            "cd /var/lib && mkdir -m 700 {folder} && \
             {{ timeout {limit} tar -xf - -C {folder} || {{ rm -rf {folder}; echo the files could not be copied >&2; exit 1; }} ; }} && \
             {{ sh {folder}/transaction.sh {token} {step} || {{ rm -rf {folder}; exit 1; }} ; }}"
        );
        self.ssh.line(self.address, &line, archive)
    }

    fn step(&self, token: &str, step: &str) -> Result<String, Failure> {
        let line = format!("exec sh /var/lib/sipguard-deploy/transaction.sh {token} {step}");
        let nothing = input(b"")?;
        self.ssh.line(self.address, &line, nothing)
    }

    /// Until the end, when the host has been found to be as it should.
    fn change(&self, todo: &Todo, token: &str) -> Result<Facts, Stop> {
        let stop = |step| move |failure| Stop { step, failure };
        self.line.step(COPYING);
        self.copy(todo, token, "begin").map_err(stop(COPYING))?;
        if todo.install != Install::Nothing {
            self.line.step("installing");
            self.step(token, "install").map_err(stop("installing"))?;
        }
        self.line.step("applying");
        let applied = self.step(token, "apply").map_err(stop("applying"))?;
        self.line.step("verifying");
        self.verify(&applied).map_err(|failure| {
            let failure = match failure {
                Failure::NoConnection(why) => Failure::NoConnection(format!(
                    "with the new config it does not answer any more ({why})"
                )),
                other => other,
            };
            stop("verifying")(failure)
        })?;
        self.line.step("confirming");
        self.step(token, "commit").map_err(stop("confirming"))?;
        self.look().map_err(stop("confirming"))
    }

    /// From this side, with a new connection, which the new policy has to let in.
    fn verify(&self, applied: &str) -> Result<(), Failure> {
        let facts = self.look()?;
        let wrong = |why: String| Err(Failure::Said(why));
        let todo = judgement::todo(&facts, self.config).map_err(Failure::Said)?;
        if !todo.is_nothing() {
            return wrong("the host has not what it was given".to_owned());
        }
        let unfiltered = facts.unfiltered();
        if !unfiltered.is_empty() {
            return wrong(format!("not filtered: {}", unfiltered.join(" ")));
        }
        // Nothing where there was nothing to apply.
        let applied: Value = serde_json::from_str(applied).unwrap_or(Value::Null);
        if !applied.is_null() && applied["generation"].as_u64() != facts.generation() {
            return wrong(format!("in force is {}", facts.in_force()));
        }
        Ok(())
    }

    /// After a failure: sees to it that the host has what it had, and says what it has.
    fn back(&self, todo: &Todo, token: &str, stop: &Stop, before: &Facts) -> HostResult {
        let Stop { step, failure } = stop;
        let cut = matches!(failure, Failure::NoConnection(_));
        let why = format!("{step}: {}", self.explain(failure));
        if !cut && *step == COPYING {
            return nothing_changed(&self.explain(failure), before);
        }
        self.line.step("taking it back");
        // Where it can't be asked, or fails to, it does so by itself.
        let asked = !cut && self.step(token, "rollback").is_ok();
        if !asked {
            self.line
                .step("waiting until the host has taken itself back");
        }
        let Some(after) = self.settle() else {
            return HostResult::failed(
                format!(
                    "{why}; no answer since: it takes itself back {} s after it heard of us last",
                    self.patience.as_secs()
                ),
                format!("{}, or soon again", before.in_force()),
            );
        };
        if after.deployment.is_some() {
            let why = format!(
                "{why}; it is not taken back, and why is in /var/lib/sipguard-deploy/said there"
            );
            return HostResult::failed(why, after.in_force());
        }
        match judgement::todo(&after, self.config) {
            // The last word was heard there, and the answer to it was lost.
            Ok(left) if left.is_nothing() => {
                HostResult::done(self.done(todo, &after), after.in_force())
            }
            _ => match after.differs(before) {
                None => {
                    HostResult::failed(format!("{why}; it has again what it had"), after.in_force())
                }
                Some(what) => HostResult::failed(
                    format!("{why}; and what it had did not all come back: {what}"),
                    after.in_force(),
                ),
            },
        }
    }

    /// Waits until the host answers, and until its deployment is over.
    fn settle(&self) -> Option<Facts> {
        let begin = Instant::now();
        let mut last = None;
        while begin.elapsed() < self.patience + WAY_BACK {
            let looked = match self.look() {
                Ok(facts) if facts.deployment == Some(Deployment::Abandoned) => self.recover(),
                looked => looked,
            };
            match looked {
                Ok(facts) if facts.deployment.is_none() => return Some(facts),
                Ok(facts) => last = Some(facts),
                Err(_) => {}
            }
            thread::sleep(AGAIN);
        }
        last
    }

    /// Takes back a deployment that a restart cut off.
    fn recover(&self) -> Result<Facts, Failure> {
        self.line
            .step("taking back a deployment that a restart cut off");
        self.step("-", "recover")?;
        self.look()
    }

    /// With our own name of the config file, which has another one there.
    fn explain(&self, failure: &Failure) -> String {
        let text = failure.to_string();
        match self.config {
            Some(config) => text.replace(STAGED, &config.path.display().to_string()),
            None => text,
        }
    }
}

/// Nobody came in.
pub(super) fn not_begun(failure: &Failure) -> HostResult {
    HostResult::failed(
        format!("{failure}; nothing was changed there"),
        "what was before",
    )
}

pub(super) fn nothing_changed(why: &str, facts: &Facts) -> HostResult {
    HostResult::failed(
        format!("{why}; nothing was changed there"),
        facts.in_force(),
    )
}

/// Tells one deployment from another.
fn token() -> anyhow::Result<String> {
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid")
        .map_err(|error| anyhow!("no random number: {error}"))?;
    Ok(uuid.trim().to_owned())
}
