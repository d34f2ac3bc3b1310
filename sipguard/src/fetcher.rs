//! The program that asks others: `sipguard-fetch`, run as its own user, who may do nothing else.

use std::{
    env, fs,
    io::{self, Read as _},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
    time::Duration,
};

use serde::Deserialize;
use sipguard_lists::said::{Message, Said};
use thiserror::Error;

/// The user, and his group.
const USER: &str = "sipguard-fetch";
const PROGRAM: &str = "sipguard-fetch";
const INSTALLED: &str = "/usr/bin/sipguard-fetch";

/// Why nobody is asked.
#[derive(Debug, Error)]
pub enum FetcherError {
    /// The program, or its user, is not there.
    #[error(
        "live sources are not asked for: {what} is not there; install the package sipguard-fetch"
    )]
    Missing {
        /// What there is not.
        what: String,
    },
    /// It could not be run.
    #[error("can't run {}: {error}", program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It took too long.
    #[error("not all live sources answered within {} s; `sipguard refresh` asks again", .0.as_secs())]
    Late(Duration),
    /// It said something else than what was asked for.
    #[error("{} says what it should not; install sipguard and sipguard-fetch of one version", .0.display())]
    Nonsense(PathBuf),
}

/// What came of a notice that was sent to see whether it arrives.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Tested {
    /// `webhook` or `mail`.
    pub receiver: String,
    /// Why it did not arrive; anybody's words, made harmless.
    pub error: Option<String>,
}

/// The program, and as whom it runs.
#[derive(Debug)]
pub struct Fetcher {
    program: PathBuf,
    user: User,
}

/// A user and his group, as numbers.
#[derive(Clone, Copy, Debug)]
struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// The one that the package made. It made him here, and no directory of users is asked: this program is linked statically, and the C
    /// library would load others to do so.
    fn find() -> Option<Self> {
        let users = fs::read_to_string("/etc/passwd").ok()?;
        users.lines().find_map(|line| {
            // passwd(5)
            let mut fields = line.split(':');
            if fields.next() != Some(USER) {
                return None;
            }
            let mut numbers = fields.skip(1).map(str::parse);
            let (Some(Ok(uid)), Some(Ok(gid))) = (numbers.next(), numbers.next()) else {
                return None;
            };
            Some(Self { uid, gid })
        })
    }
}

/// The group that may read what is to be asked for; `None` where the package is not there.
pub fn group() -> Option<u32> {
    User::find().map(|user| user.gid)
}

impl Fetcher {
    /// The one that is installed.
    ///
    /// # Errors
    /// [`FetcherError::Missing`].
    pub fn find() -> Result<Self, FetcherError> {
        let missing = |what: String| FetcherError::Missing { what };
        // Beside this program, where that is not installed.
        let beside = env::current_exe().ok();
        let beside = beside.and_then(|this| Some(this.parent()?.join(PROGRAM)));
        let program = [beside, Some(PathBuf::from(INSTALLED))]
            .into_iter()
            .flatten()
            .find(|program| program.is_file())
            .ok_or_else(|| missing(INSTALLED.to_owned()))?;
        let user = User::find().ok_or_else(|| missing(format!("the user {USER}")))?;
        Ok(Self { program, user })
    }

    /// Has sources asked for once, and waits for it, but not for longer than that. What came of it stands in the fetcher's folder.
    ///
    /// # Errors
    /// Where it can't be run, or takes longer.
    pub fn ask(&self, sources: &[&str], patience: Duration) -> Result<ExitStatus, FetcherError> {
        let mut command = self.command();
        let child = command.arg("--").args(sources).stdout(Stdio::null());
        self.wait(child.spawn().map_err(|error| self.failed(error))?, patience)
            .map(|(status, _)| status)
    }

    /// Has a notice sent to whoever wants them, and waits for it.
    ///
    /// # Errors
    /// Where it can't be run, or takes longer.
    pub fn test_notice(&self) -> Result<Vec<Tested>, FetcherError> {
        /// Longer than it waits for any receiver.
        const PATIENCE: Duration = Duration::from_secs(90);
        /// More than it has to say.
        const MOST: u64 = 1 << 14;
        let mut command = self.command();
        let child = command.arg("--test-notice").stdout(Stdio::piped());
        let child = child.spawn().map_err(|error| self.failed(error))?;
        let (_, child) = self.wait(child, PATIENCE)?;
        let mut said = String::new();
        let read = child
            .stdout
            .map(|out| out.take(MOST).read_to_string(&mut said));
        read.transpose().map_err(|error| self.failed(error))?;
        let tested: Result<Vec<Tested>, _> = said.lines().map(serde_json::from_str).collect();
        let mut tested = tested.map_err(|_| FetcherError::Nonsense(self.program.clone()))?;
        for one in &mut tested {
            one.receiver = Said(&one.receiver).to_string();
            one.error = one.error.as_ref().map(|error| Message(error).to_string());
        }
        Ok(tested)
    }

    /// As its user, who may do nothing else, and with nothing of ours.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .current_dir(Path::new("/"))
            // Without other groups, too: the standard library sees to that where root becomes somebody else.
            .uid(self.user.uid)
            .gid(self.user.gid)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    fn failed(&self, error: io::Error) -> FetcherError {
        FetcherError::Run {
            program: self.program.clone(),
            error,
        }
    }

    /// Waits for its end, but not for longer than that. What it prints has to find room in a pipe.
    fn wait(
        &self,
        mut child: Child,
        patience: Duration,
    ) -> Result<(ExitStatus, Child), FetcherError> {
        const TURN: Duration = Duration::from_millis(5);
        let mut left = patience;
        loop {
            if let Some(status) = child.try_wait().map_err(|error| self.failed(error))? {
                return Ok((status, child));
            }
            let Some(less) = left.checked_sub(TURN) else {
                // It may just have ended.
                let _ = child.kill();
                let _ = child.wait();
                return Err(FetcherError::Late(patience));
            };
            left = less;
            thread::sleep(TURN);
        }
    }
}
