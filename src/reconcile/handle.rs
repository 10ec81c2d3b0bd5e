//! The interface of an environment's task: commands in, views out.

use std::{collections::BTreeMap, time::Duration};

use devenv_api::{ApiError, EnvironmentTarget, ErrorCode, Plan, Status};
use devenv_engine::EngineEvent;
use devenv_spec::{EnvironmentSpec, ServiceName};
use tokio::sync::{mpsc, oneshot, watch};

use super::{FrontedService, View, execute::Observed};
use crate::{
    error::failed,
    event::EventLog,
    store::{Record, SnapshotRecord},
};

/// How long services may wait for one another while nothing happens, before a command that waits for them ends.
pub(super) const QUIET: Duration = Duration::from_mins(30);
/// How long such a command waits for an engine that has gone away.
pub(super) const ENGINE_SILENT: Duration = Duration::from_mins(10);

/// What was brought back.
#[derive(Debug)]
pub(crate) struct Undone {
    /// By the keys of the record: `db/data`.
    pub(crate) volumes: Vec<String>,
    /// For an environment that is up: the revision that has done it.
    pub(crate) revision: Option<u64>,
}

/// Commands to an environment. Each is answered with the revision that has handled it.
pub(super) enum Command {
    Up {
        spec: Box<EnvironmentSpec>,
        /// Services whose containers are replaced even if nothing has changed.
        replaced: Vec<ServiceName>,
        /// Services that stay as they are.
        alone: Vec<ServiceName>,
        reply: Reply,
    },
    Down {
        volumes: bool,
        reply: Reply,
    },
    Services {
        names: Vec<ServiceName>,
        verb: ServiceAction,
        reply: Reply,
    },
    /// Returns which fall asleep with them.
    Sleep {
        names: Vec<ServiceName>,
        reply: Asleep,
    },
    /// Returns which wake with them.
    Wake {
        names: Vec<ServiceName>,
        why: String,
        reply: Asleep,
    },
    /// Services that have not been started yet stay so.
    StopStarting {
        reply: Reply,
    },
    /// Files of a service changed; `cause` is the event that reported it.
    Reload {
        service: ServiceName,
        how: Reload,
        cause: u64,
        reply: Reply,
    },
    Preview {
        spec: Box<EnvironmentSpec>,
        /// Why images are built again.
        rebuilds: BTreeMap<ServiceName, String>,
        reply: oneshot::Sender<Plan>,
    },
    Undo {
        reply: oneshot::Sender<Result<Undone, ApiError>>,
    },
    /// Removes trash older than this from the record. Returns the names of volumes to remove.
    EmptyTrash {
        older_than: Duration,
        reply: oneshot::Sender<Vec<String>>,
    },
    ReserveVolumes {
        keys: Vec<String>,
        reply: oneshot::Sender<Result<BTreeMap<String, String>, CommandError>>,
    },
    /// From now on these services have these volumes.
    MoveTo {
        volumes: BTreeMap<String, String>,
        why: String,
        reply: Reply,
    },
    /// Refused if one of that name exists.
    AddSnapshot {
        name: String,
        snapshot: SnapshotRecord,
        reply: oneshot::Sender<Result<(), ApiError>>,
    },
    /// Returns what was removed; `None` if there is none of that name.
    RemoveSnapshot {
        name: String,
        reply: oneshot::Sender<Result<Option<SnapshotRecord>, CommandError>>,
    },
    /// Host ports that were leased for it.
    KeepPorts {
        ports: BTreeMap<ServiceName, BTreeMap<u16, u16>>,
        reply: oneshot::Sender<Result<(), CommandError>>,
    },
    /// Keeps the environment, even if a test created it.
    Keep {
        reply: oneshot::Sender<Result<(), CommandError>>,
    },
    Record {
        reply: oneshot::Sender<Box<Record>>,
    },
    Engine(EngineEvent),
    ProcessEnded {
        service: ServiceName,
        pid: u32,
        code: i64,
    },
    EngineGone,
    /// The engine is back and has been checked.
    Observed(Box<Observed>),
}

impl Command {
    /// Changes nothing.
    pub(super) fn only_asks(&self) -> bool {
        matches!(self, Self::Preview { .. } | Self::Record { .. })
    }
}

type Asleep = oneshot::Sender<Result<(u64, Vec<ServiceName>), CommandError>>;
type Reply = oneshot::Sender<Result<u64, CommandError>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServiceAction {
    Start,
    Stop,
    Restart,
}

/// What to do with a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reload {
    Restart,
    /// Start the new version beside the old one if that serves; else as above.
    Swap,
    Signal(String),
    /// Recreate its container from the image that has just been built; the fingerprint is that of the image's files.
    Replace(Option<String>),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error("unknown service `{0}` in this environment")]
    NoService(String),
    #[error("the environment is not running")]
    NotUp,
    #[error("{0} cannot sleep, because the profile does not say `sleep`")]
    Sleepless(String),
    #[error("`{0}` stays awake, because a container that depends on it cannot sleep, or because it has failed")]
    StaysAwake(String),
    #[error("cannot save the environment's state")]
    Store(#[from] crate::store::StoreError),
    #[error("these services have waited for what they depend on for {} minutes: {services}", QUIET.as_secs() / 60)]
    Quiet { services: String },
    #[error("the container engine has not answered for {} minutes", ENGINE_SILENT.as_secs() / 60)]
    EngineSilent,
    #[error("the environment's task has ended")]
    Ended,
    #[error("the environment is being removed, because the process that held it has ended")]
    Closing,
}

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        let code = match &error {
            CommandError::NoService(_) => ErrorCode::NotFound,
            CommandError::NotUp | CommandError::Sleepless(_) | CommandError::StaysAwake(_) | CommandError::Quiet { .. } => {
                ErrorCode::Failed
            }
            CommandError::EngineSilent => ErrorCode::NoEngine,
            CommandError::Closing => ErrorCode::Interrupted,
            CommandError::Store(_) | CommandError::Ended => ErrorCode::Internal,
        };
        let api_error = failed(code, &error);
        match error {
            CommandError::Sleepless(_) => api_error.hint("add `sleep: {}` to the profile, or to the service, and run `devenv up`"),
            CommandError::StaysAwake(_) => api_error.hint("add `sleep: {}` to what depends on it, or stop that first"),
            CommandError::NotUp => api_error.hint("run `devenv up` to start it"),
            CommandError::Quiet { .. } => {
                api_error.hint("run `devenv why SERVICE` to see what it waits for; it starts as soon as that holds")
            }
            CommandError::EngineSilent => api_error.hint("start the engine; the daemon continues when it answers"),
            CommandError::NoService(_) => api_error.hint("run `devenv status` to list the services"),
            CommandError::Store(_) | CommandError::Ended | CommandError::Closing => api_error,
        }
    }
}

/// The handle of one environment's task. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Handle {
    pub(super) commands: mpsc::Sender<Command>,
    pub(super) view: watch::Receiver<View>,
    pub(crate) events: EventLog,
}

impl Handle {
    pub(crate) fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// The services that may sleep, in the newest view.
    pub(crate) fn fronted(&self) -> Vec<FrontedService> {
        self.view.borrow().fronted.clone()
    }

    /// Notifies of each new view.
    pub(crate) fn views(&self) -> watch::Receiver<View> {
        self.view.clone()
    }

    /// Whether it is the environment of that project and instance.
    pub(crate) fn is_of(&self, target: &EnvironmentTarget) -> bool {
        let view = self.view.borrow();
        (&view.status.project, &view.status.instance) == (&target.project, &target.instance)
    }

    pub(crate) fn status(&self) -> Status {
        self.view.borrow().status.clone()
    }

    /// As [`Self::up_replacing`], with nothing to replace.
    #[cfg(test)]
    pub(crate) async fn up(&self, spec: EnvironmentSpec) -> Result<u64, CommandError> {
        self.up_replacing(spec, Vec::new()).await
    }

    /// Sets the goal to `spec`, with new containers for the services in `replaced`. Returns as soon
    /// as that is on record.
    pub(crate) async fn up_replacing(&self, spec: EnvironmentSpec, replaced: Vec<ServiceName>) -> Result<u64, CommandError> {
        self.up_beside(spec, replaced, Vec::new()).await
    }

    /// As [`Self::up_replacing`]; the services in `alone` stay as they are, whether they run or not.
    pub(crate) async fn up_beside(
        &self,
        spec: EnvironmentSpec,
        replaced: Vec<ServiceName>,
        alone: Vec<ServiceName>,
    ) -> Result<u64, CommandError> {
        self.ask(|reply| Command::Up { spec: Box::new(spec), replaced, alone, reply }).await?
    }

    pub(crate) async fn down(&self, volumes: bool) -> Result<u64, CommandError> {
        self.ask(|reply| Command::Down { volumes, reply }).await?
    }

    pub(crate) async fn services(&self, names: Vec<ServiceName>, verb: ServiceAction) -> Result<u64, CommandError> {
        self.ask(|reply| Command::Services { names, verb, reply }).await?
    }

    /// Puts services to sleep with what depends on them; all that may sleep, if none is named. Returns which.
    pub(crate) async fn sleep(&self, names: Vec<ServiceName>) -> Result<(u64, Vec<ServiceName>), CommandError> {
        self.ask(|reply| Command::Sleep { names, reply }).await?
    }

    /// Wakes services with what they depend on, or all. `why` is a clause for the events. Returns which.
    pub(crate) async fn wake(&self, names: Vec<ServiceName>, why: &str) -> Result<(u64, Vec<ServiceName>), CommandError> {
        self.ask(|reply| Command::Wake { names, why: why.to_owned(), reply }).await?
    }

    /// What `up` has not started yet stays stopped until it is requested again; running services keep running.
    pub(crate) async fn stop_starting(&self) -> Result<u64, CommandError> {
        self.ask(|reply| Command::StopStarting { reply }).await?
    }

    pub(crate) async fn reload(&self, service: ServiceName, how: Reload, cause: u64) -> Result<u64, CommandError> {
        self.ask(|reply| Command::Reload { service, how, cause, reply }).await?
    }

    pub(crate) async fn preview(&self, spec: EnvironmentSpec, rebuilds: BTreeMap<ServiceName, String>) -> Result<Plan, CommandError> {
        self.ask(|reply| Command::Preview { spec: Box::new(spec), rebuilds, reply }).await
    }

    /// Brings back the volumes that the last `reset` or `down --volumes` took away.
    pub(crate) async fn undo(&self) -> Result<Result<Undone, ApiError>, CommandError> {
        self.ask(|reply| Command::Undo { reply }).await
    }

    pub(crate) async fn empty_trash(&self, older_than: Duration) -> Result<Vec<String>, CommandError> {
        self.ask(|reply| Command::EmptyTrash { older_than, reply }).await
    }

    /// Names for the volumes that will replace those under `keys`.
    pub(crate) async fn reserve_volumes(&self, keys: Vec<String>) -> Result<BTreeMap<String, String>, CommandError> {
        self.ask(|reply| Command::ReserveVolumes { keys, reply }).await?
    }

    /// Moves services to other volumes; their former ones go to the trash.
    pub(crate) async fn move_to(&self, volumes: BTreeMap<String, String>, why: String) -> Result<u64, CommandError> {
        self.ask(|reply| Command::MoveTo { volumes, why, reply }).await?
    }

    pub(crate) async fn add_snapshot(&self, name: String, snapshot: SnapshotRecord) -> Result<(), ApiError> {
        self.ask(|reply| Command::AddSnapshot { name, snapshot, reply }).await?
    }

    /// Removes a snapshot from the record. The caller removes its volumes.
    pub(crate) async fn remove_snapshot(&self, name: String) -> Result<Option<SnapshotRecord>, CommandError> {
        self.ask(|reply| Command::RemoveSnapshot { name, reply }).await?
    }

    pub(crate) async fn keep_ports(&self, ports: BTreeMap<ServiceName, BTreeMap<u16, u16>>) -> Result<(), CommandError> {
        self.ask(|reply| Command::KeepPorts { ports, reply }).await?
    }

    /// Keeps an environment that would be removed with its holder.
    pub(crate) async fn keep(&self) -> Result<(), CommandError> {
        self.ask(|reply| Command::Keep { reply }).await?
    }

    pub(crate) async fn record(&self) -> Result<Record, CommandError> {
        self.ask(|reply| Command::Record { reply }).await.map(|record| *record)
    }

    pub(crate) async fn engine_event(&self, event: EngineEvent) {
        // A task that has ended needs no message.
        let _ = self.commands.send(Command::Engine(event)).await;
    }

    pub(crate) async fn process_ended(&self, service: ServiceName, pid: u32, code: i64) {
        let _ = self.commands.send(Command::ProcessEnded { service, pid, code }).await;
    }

    pub(crate) async fn engine_gone(&self) {
        let _ = self.commands.send(Command::EngineGone).await;
    }

    pub(crate) async fn observed(&self, observed: Observed) {
        let _ = self.commands.send(Command::Observed(Box::new(observed))).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, CommandError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| CommandError::Ended)?;
        answer.await.map_err(|_| CommandError::Ended)
    }
}
