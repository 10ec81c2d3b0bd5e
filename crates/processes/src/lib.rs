//! Programs on the host, each under a process shim that outlives the daemon.
//!
//! Theory of operation. The daemon starts this executable again as a process shim (`shim.rs`), passes it the command over a
//! socket (never in arguments, because the environment contains secrets) and gets an answer once the program runs or failed.
//! The process shim adopts all processes that its program leaves behind (it is a subreaper), writes the output to the log, answers on a
//! socket in its directory (`protocol.rs`), ends with its program's last descendant and writes the exit to `state.json`.
//! A later daemon finds the socket and continues. If a process shim itself is killed, its program's processes are
//! found by a marker in their environment variables (`tree.rs`) and ended, so that no second copy ever runs.
//!
//! It never decides whether a program should run.

pub mod cgroup;
mod command;
mod control;
mod limit;
mod output;
pub mod parent_death;
mod protocol;
pub mod shim;
mod signal;
mod tree;
mod usage;
mod written;

use std::{
    ffi::OsString,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use jiff::Timestamp;
use rand::RngExt;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
};

use cgroup::Limits;
use protocol::{Answer, Launch, Reply, Request, State};

pub use protocol::{Ending, Exit, LaunchError};
pub use signal::Signal;
pub use tree::{has_open_for_writing, sweep, sweep_others};
pub use usage::{Usage, usage};
pub use written::Written;

/// The variable that marks a program's descendants, in whatever process group or session they are.
pub const MARKER: &str = "DEVENV_MARKER";
/// The time limit for a process shim to start its program; only an overloaded machine needs it.
const LAUNCH_DEADLINE: Duration = Duration::from_secs(15);
/// The time limit for a process shim to answer a request for its state.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// What a process shim may take beyond the grace: to kill the processes and to write the rest of the output.
const AFTER_GRACE: Duration = Duration::from_secs(10);

/// The file of the program that a command names, as a shell in that directory would find it.
pub fn find_program(name: &str, directory: &Path, path: Option<&str>) -> Result<PathBuf, LaunchError> {
    command::find(name, directory, path)
}

/// Starts process shims.
#[derive(Debug, Clone)]
pub struct Supervisor {
    program: OsString,
    arguments: Vec<OsString>,
    /// Variables of the process shim itself.
    variables: Vec<(OsString, OsString)>,
}

/// A program to run.
#[derive(Debug, Clone)]
pub struct StartRequest {
    pub environment: String,
    pub service: String,
    /// Counts the service's starts from 1.
    pub run: u32,
    pub command: Vec<String>,
    /// Absolute.
    pub directory: PathBuf,
    /// Every variable that the program gets, secrets included. The daemon's own environment is not passed on.
    pub variables: Vec<(String, String)>,
    /// The directory of the service's log.
    pub logs: PathBuf,
    /// For all its processes together.
    pub limits: Limits,
    /// The process shim's own directory. An earlier shim in it must have ended.
    pub shim: PathBuf,
}

#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    #[error(transparent)]
    Launch(#[from] LaunchError),
    #[error("cannot start the process shim of `{service}`")]
    Shim {
        service: String,
        #[source]
        source: io::Error,
    },
    #[error("the process shim of `{service}` did not {what} within {} s", deadline.as_secs())]
    Silent { service: String, what: &'static str, deadline: Duration },
    #[error("the process shim of `{service}` does not answer")]
    Unreachable {
        service: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot send a signal to `{service}`: {reason}")]
    Signal { service: String, reason: String },
}

/// A program that runs, or ran, under its process shim. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Running {
    pub pid: u32,
    #[cfg(test)]
    shim: u32,
    pub service: String,
    pub run: u32,
    pub started_at: Timestamp,
    state: State,
    directory: PathBuf,
}

/// What a process shim's directory tells a later daemon.
#[derive(Debug)]
pub enum Adopted {
    /// The program still runs.
    Running(Running),
    /// It ended while no daemon ran.
    Ended(Running, Exit),
    /// Its process shim was killed; its remaining processes have been ended.
    Lost(Running),
    /// Nothing ever ran there.
    Nothing,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl Supervisor {
    /// The shim is this same binary, even if its file has been replaced since.
    pub fn new() -> Self {
        Self { program: "/proc/self/exe".into(), arguments: vec!["shim".into(), "--directory".into()], variables: Vec::new() }
    }

    /// Returns once the program runs.
    pub async fn start(&self, request: StartRequest) -> Result<Running, ProcessError> {
        let service = request.service.clone();
        let exchange = self.launch(request);
        tokio::time::timeout(LAUNCH_DEADLINE, exchange).await.map_err(|_| ProcessError::Silent {
            service,
            what: "start its program",
            deadline: LAUNCH_DEADLINE,
        })?
    }

    async fn launch(&self, request: StartRequest) -> Result<Running, ProcessError> {
        let shim_error = |source| ProcessError::Shim { service: request.service.clone(), source };
        std::fs::create_dir_all(&request.shim).map_err(shim_error)?;
        let identity: u64 = rand::rng().random();
        let launch = Launch {
            marker: format!("{}/{}/{identity:016x}", request.environment, request.service),
            service: request.service.clone(),
            run: request.run,
            command: request.command,
            directory: request.directory,
            variables: request.variables,
            logs: request.logs,
            limits: request.limits,
        };
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().map_err(shim_error)?;
        signal::stop_ignoring();
        // The runtime reaps it when it ends; it must outlive its handle and the daemon.
        let child = tokio::process::Command::new(&self.program)
            .args(&self.arguments)
            .arg(&request.shim)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .env_remove(MARKER)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(shim_error)?;
        drop(child);
        ours.set_nonblocking(true).map_err(shim_error)?;
        let mut ours = UnixStream::from_std(ours).map_err(shim_error)?;
        let text = serde_json::to_vec(&launch).map_err(|error| shim_error(error.into()))?;
        ours.write_all(&text).await.map_err(shim_error)?;
        ours.shutdown().await.map_err(shim_error)?;
        let mut answer = String::new();
        BufReader::new(ours).read_line(&mut answer).await.map_err(shim_error)?;
        match serde_json::from_str(&answer).map_err(|error| shim_error(error.into()))? {
            Answer::Started(state) => Ok(Running::of(state, &request.shim)),
            Answer::Failed(error) => Err(error.into()),
        }
    }
}

/// The state of the program whose process shim used this directory. Ends what a killed process shim left behind.
pub async fn adopt(directory: &Path) -> Adopted {
    let Some(state) = State::read(directory) else { return Adopted::Nothing };
    let running = Running::of(state, directory);
    if let Some(exit) = running.state.exit {
        return Adopted::Ended(running, exit);
    }
    match running.ask(&Request::Status, ANSWER_DEADLINE).await {
        Ok(Reply::State(_)) => Adopted::Running(running),
        _ => match running.after_shim().await {
            Exit { ending: Ending::Lost, .. } => Adopted::Lost(running),
            exit => Adopted::Ended(running, exit),
        },
    }
}

/// Whether the process shim of this directory has ended, and its program with it.
pub fn has_ended(directory: &Path) -> bool {
    State::read(directory).is_some_and(|state| state.exit.is_some())
}

impl Running {
    fn of(state: State, directory: &Path) -> Self {
        Self {
            pid: state.pid,
            #[cfg(test)]
            shim: state.shim.pid,
            service: state.service.clone(),
            run: state.run,
            started_at: state.started_at,
            directory: directory.to_owned(),
            state,
        }
    }

    /// What identifies its descendants, for [`sweep`] and [`has_open_for_writing`].
    pub fn marker(&self) -> &str {
        &self.state.marker
    }

    /// The process shim's directory, which may be removed once the program has ended.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Waits until the program, all its descendants and its output have ended. Cancel-safe; several tasks may wait.
    pub async fn exited(&self) -> Exit {
        match self.exchange(&Request::Follow).await {
            Ok(Reply::Ended(exit)) => exit,
            _ => self.after_shim().await,
        }
    }

    /// Whether the program itself runs, whatever it has left behind. Known at once, while [`Self::exited`] waits for these as well.
    pub fn program_runs(&self) -> bool {
        tree::Process::of(self.pid).is_some()
    }

    /// The processes that the program left running when it ended by itself, each as `NAME (process ID)`. They have been ended. Known
    /// once the program has ended.
    pub fn left_behind(&self) -> Vec<String> {
        self.last_state().map(|state| state.left).unwrap_or_default()
    }

    /// Whether the kernel has killed one of its processes because of its memory limit. Known once the program has ended.
    pub fn ran_out_of_memory(&self) -> bool {
        self.last_state().is_some_and(|state| state.out_of_memory)
    }

    fn last_state(&self) -> Option<State> {
        State::read(&self.directory).filter(|now| now.marker == self.state.marker)
    }

    /// Ends all processes: sends each `signal` once, and SIGKILL after `grace`.
    pub async fn stop(&self, signal: Signal, grace: Duration) -> Exit {
        let request = Request::Stop { signal, grace_ms: u64::try_from(grace.as_millis()).unwrap_or(u64::MAX) };
        match self.ask(&request, grace + AFTER_GRACE).await {
            Ok(Reply::Ended(exit)) => exit,
            _ => self.after_shim().await,
        }
    }

    /// Sends `signal` to the program's process group.
    pub async fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        match self.ask(&Request::Signal { signal }, ANSWER_DEADLINE).await? {
            Reply::Refused(reason) => Err(ProcessError::Signal { service: self.service.clone(), reason }),
            Reply::Done | Reply::State(_) | Reply::Ended(_) => Ok(()),
        }
    }

    async fn ask(&self, request: &Request, deadline: Duration) -> Result<Reply, ProcessError> {
        match tokio::time::timeout(deadline, self.exchange(request)).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(source)) => Err(ProcessError::Unreachable { service: self.service.clone(), source }),
            Err(_) => Err(ProcessError::Silent { service: self.service.clone(), what: "answer", deadline }),
        }
    }

    async fn exchange(&self, request: &Request) -> io::Result<Reply> {
        let socket = control::connect(&self.directory)?;
        let mut socket = UnixStream::from_std(socket)?;
        let mut text = serde_json::to_vec(request)?;
        text.push(b'\n');
        socket.write_all(&text).await?;
        let mut reply = String::new();
        BufReader::new(socket).read_line(&mut reply).await?;
        Ok(serde_json::from_str(&reply)?)
    }

    /// The process shim is gone or hangs: returns what it wrote last, or else ends all processes that it left.
    async fn after_shim(&self) -> Exit {
        let (directory, state) = (self.directory.clone(), self.state.clone());
        let ended = tokio::task::spawn_blocking(move || {
            if let Some(exit) = State::read(&directory).filter(|now| now.marker == state.marker).and_then(|now| now.exit) {
                return exit;
            }
            state.shim.kill();
            let count = sweep(&state.marker);
            tracing::warn!(service = %state.service, count, "Ended the processes of a process shim that was killed.");
            let exit = Exit { ending: Ending::Lost, at: Timestamp::now() };
            let ended = State { exit: Some(exit), ..state };
            if let Err(error) = ended.write(&directory) {
                tracing::warn!(service = %ended.service, %error, "Cannot record that a process shim was killed.");
            }
            exit
        });
        ended.await.unwrap_or(Exit { ending: Ending::Lost, at: Timestamp::now() })
    }
}

#[cfg(test)]
mod tests;
