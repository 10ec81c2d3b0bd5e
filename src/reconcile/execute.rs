//! Carries out one operation of the plan. Each may be repeated after a crash at any line: what is already done is a success.

mod examine;
mod images;
mod make;
mod mounted;
mod networks;
mod run;

pub(crate) use make::choose;
pub(crate) use run::NotStarted;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, atomic::AtomicBool},
};

use async_trait::async_trait;
use devenv_engine::{Engine, EngineError, Labels, ObservedContainer, ObservedNetwork, OwnerId, UploadFile};
use devenv_secrets::{SecretError, Vault};
use devenv_spec::{EnvironmentId, ImageBuild, ServiceName, ServiceSpec, Size};
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::{
    failure::{Evidence, Exit},
    state::Instance,
};
use crate::{net, store::Record};

/// What operations work with.
#[derive(Clone)]
pub(crate) struct Effects {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) owner: OwnerId,
    pub(crate) vault: Vault,
    pub(crate) runtime: Arc<dyn ServiceRuntime>,
    /// Use local images and ask no registry, until the next `up` says otherwise.
    pub(crate) offline: Arc<AtomicBool>,
}

/// Operates a running service: the interface to probes, provisioning, logs and host processes.
#[async_trait]
pub(crate) trait ServiceRuntime: Send + Sync + 'static {
    /// Prepares the volumes before a start. Returns a reason not to start the service.
    async fn prepare(&self, spec: &ServiceSpec) -> Result<(), Evidence>;

    /// Waits until the service answers, provisions it, and checks that a client can work with it.
    /// Returns the proof. `news` gets a message when the service answers, after each part of the work, and one for each change.
    async fn settle(
        &self,
        spec: &ServiceSpec,
        instance: &Instance,
        news: &mpsc::UnboundedSender<ReadinessUpdate>,
    ) -> Result<String, Evidence>;

    /// Runs what the profile wants to run in a container that is about to be stopped.
    async fn before_stop(&self, spec: &ServiceSpec, instance: &Instance);

    /// Returns the reason when a ready service has stopped answering; never, if it keeps answering. `news` gets a message for each change
    /// that was left for the time after it became ready.
    async fn watch(&self, spec: &ServiceSpec, instance: &Instance, news: &mpsc::UnboundedSender<ReadinessUpdate>) -> String;

    /// A start is about to happen. Returns its number.
    fn next_run(&self, service: &ServiceName) -> u32;

    /// The number of the last start.
    fn last_run(&self, service: &ServiceName) -> u32;

    /// Collects the output of this start from now on.
    fn keep_output(&self, spec: &ServiceSpec, instance: &Instance);

    /// The driver's options for a volume on a device of its own, which is created if it does not exist.
    async fn device(&self, volume: &str, size: Size) -> Result<BTreeMap<String, String>, String>;

    /// Builds an image that the service needs, with the output in its log; an error holds the reason and the last lines.
    async fn build_image(&self, spec: &ServiceSpec, build: &ImageBuild, progress: &mpsc::Sender<Progress>) -> Result<(), Evidence>;

    /// A cause and a fix, if this failure is known.
    fn diagnose(&self, spec: &ServiceSpec, evidence: &Evidence) -> Option<(String, String)>;

    /// Starts a host process. Returns its id.
    async fn start_process(&self, spec: &ServiceSpec, run: u32) -> Result<String, Evidence>;
    /// Ends all processes of the service.
    async fn stop_process(&self, spec: &ServiceSpec, leaving: Leaving) -> Result<(), String>;
    async fn signal_process(&self, spec: &ServiceSpec, run: u32, signal: &str) -> Result<(), String>;
    /// Waits until the process of this start has ended. Cancel-safe.
    async fn examine_process(&self, spec: &ServiceSpec, run: u32) -> Exit;
    /// Keeps the last lines of this start, whatever follows.
    fn keep_crash(&self, service: &ServiceName, run: u32);
    /// The last lines that a process of this start wrote, from `since` on.
    fn last_lines(&self, service: &ServiceName, run: u32, since: Option<Timestamp>) -> Vec<String>;
    /// When the last line of this start was written, to a microsecond; `None` if it wrote nothing, or so much is not kept.
    fn last_written(&self, service: &ServiceName, run: u32) -> Option<Timestamp>;
    /// It is ready: from now on connections to the ports that are held for it go to this start.
    fn serve(&self, spec: &ServiceSpec, run: u32);
    /// Ends the process of one start, once its open requests have been answered.
    async fn retire_process(&self, spec: &ServiceSpec, run: u32) -> Result<(), String>;

    /// The running version is stored as one that became ready, if its readiness has been seen and not only been confirmed yet.
    fn confirm_version(&self, service: &ServiceName, run: u32);
    /// From now on the last version that became ready is started, instead of the current files. Returns the number of its run, if
    /// there is one.
    fn fall_back(&self, spec: &ServiceSpec) -> Option<u32>;
    /// From now on the current files are started again.
    fn go_on(&self, service: &ServiceName);

    /// Where files of a service lie that are mounted into its container.
    fn mounted_files(&self, service: &ServiceName) -> PathBuf;

    /// The files of the project that are kept the same in the container.
    async fn synced_files(&self, spec: &ServiceSpec) -> Vec<UploadFile>;
}

/// What remains of a process's service when it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaving {
    /// Its ports, because it is started again.
    Ports,
    Nothing,
}

/// A message while a service starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ReadinessUpdate {
    Answered,
    /// Its declarations hold; its scripts are next, if it has any.
    Provisioned,
    /// Its scripts are applied; the proof is next.
    Scripted,
    Changed(String),
}

/// Everything that the engine has of one environment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    pub(crate) containers: Vec<ObservedContainer>,
    pub(crate) networks: Vec<ObservedNetwork>,
    /// Host processes; `None` if nobody looked, because the engine does not know of them.
    pub(crate) processes: Option<Vec<(ServiceName, ObservedProcess)>>,
}

/// The state of a host process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ObservedProcess {
    Running { pid: u32, run: u32 },
    Ended { code: i64, run: u32 },
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum OperationError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Subnet(#[from] net::SubnetError),
    #[error("{0}")]
    Other(String),
    /// All that is known of the failure.
    #[error("{}", .0.what)]
    Known(Box<Evidence>),
}

impl OperationError {
    /// The engine itself is away: the request was not wrong.
    pub(crate) fn is_engine_gone(&self) -> bool {
        matches!(self, Self::Engine(EngineError::Unreachable { .. }))
    }
}

/// The context of an operation: environment, service and engine.
#[derive(Clone)]
pub(crate) struct Subject {
    pub(crate) record: Arc<Record>,
    pub(crate) spec: ServiceSpec,
    pub(crate) instance: Option<Instance>,
    /// The environment's network, if it has one.
    pub(crate) network: Option<String>,
    /// What remains when it is stopped.
    pub(crate) leaving: Leaving,
}

/// Progress of a pull or a build.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    pub(crate) service: ServiceName,
    pub(crate) message: String,
}

pub(crate) fn labels(owner: &OwnerId, record: &Record, service: Option<&ServiceSpec>) -> Labels {
    Labels {
        owner: owner.clone(),
        environment: record.id.clone(),
        project: record.project.display().to_string(),
        instance: record.instance.clone(),
        service: service.map(|spec| spec.name.clone()),
        spec: service.map(ServiceSpec::hash),
        role: None,
    }
}

pub(crate) fn network_name(environment: &EnvironmentId) -> String {
    format!("devenv-{environment}")
}
