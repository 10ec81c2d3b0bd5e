//! The messages between daemon and process shim, and the files that a process shim leaves on disk.
//!
//! Each message is one line of JSON. A process shim may be older than the daemon that talks to it: change only by adding.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{cgroup::Limits, signal::Signal, tree::Process};

const STATE: &str = "state.json";

/// What to run.
#[derive(Serialize, Deserialize)]
pub(super) struct Launch {
    pub(super) marker: String,
    pub(super) service: String,
    pub(super) run: u32,
    pub(super) command: Vec<String>,
    pub(super) directory: PathBuf,
    pub(super) variables: Vec<(String, String)>,
    pub(super) logs: PathBuf,
    #[serde(default)]
    pub(super) limits: Limits,
}

/// The outcome of a launch.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Started(State),
    Failed(LaunchError),
}

/// Why a program could not be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum LaunchError {
    #[error("the command is empty")]
    EmptyCommand,
    #[error("the directory `{}` does not exist", .0.display())]
    NoDirectory(PathBuf),
    #[error("`{program}` not found in the PATH of `{}`: {path}", directory.display())]
    NotInPath { program: String, path: String, directory: PathBuf },
    #[error("`{}` does not exist", .0.display())]
    NoProgram(PathBuf),
    #[error("cannot execute `{}`: {reason}", program.display())]
    NotExecutable { program: PathBuf, reason: String },
    #[error("cannot limit its memory or processors here: {0}")]
    NotLimited(String),
    #[error("the process shim failed: {0}")]
    Shim(String),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    Status,
    Signal {
        signal: Signal,
    },
    /// Answered when all processes have ended.
    Stop {
        signal: Signal,
        grace_ms: u64,
    },
    /// Answered when all processes have ended.
    Follow,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    State(State),
    Done,
    Refused(String),
    Ended(Exit),
}

/// The state of a process shim, also written to its directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) marker: String,
    pub(super) service: String,
    pub(super) run: u32,
    pub(super) shim: Process,
    pub(super) pid: u32,
    pub(super) started_at: Timestamp,
    /// Set when the program, its descendants and its output have ended.
    pub(super) exit: Option<Exit>,
    /// The processes that the program left running when it ended by itself, each as `NAME (process ID)`. They have been ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) left: Vec<String>,
    /// The kernel has killed one of its processes because of its memory limit.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) out_of_memory: bool,
}

/// How and when a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub ending: Ending,
    pub at: Timestamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    Code(i32),
    Signal(i32),
    /// Its process shim was killed, so the exit is unknown.
    Lost,
}

impl Exit {
    #[cfg(test)]
    pub fn is_success(self) -> bool {
        self.ending == Ending::Code(0)
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exited with code {code}"),
            Self::Signal(number) => match rustix::process::Signal::from_named_raw(*number) {
                Some(signal) => write!(f, "killed by {signal:?}"),
                None => write!(f, "killed by signal {number}"),
            },
            Self::Lost => f.write_str("killed together with its process shim"),
        }
    }
}

impl State {
    pub(super) fn read(directory: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(directory.join(STATE)).ok()?).ok()
    }

    /// Atomic. Not synced to the disk: a power cut ends the program too.
    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        let text = serde_json::to_vec(self)?;
        devenv_files::write_with(&directory.join(STATE), &text, devenv_files::PRIVATE, devenv_files::Durability::Cached)
    }
}
