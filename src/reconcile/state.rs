//! The known and the desired state of an environment. Pure data; `plan` reads it, the actor changes it.

use std::time::{Duration, Instant};

use devenv_spec::{ServiceName, ServiceSpec, SleepMode, SpecHash};
use indexmap::IndexMap;

use super::timeline::Timeline;
use crate::store::Goal;

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) goal: Goal,
    pub(crate) network: Network,
    /// In the profile's order; services that left the profile stay at the end until they are removed.
    pub(crate) services: IndexMap<ServiceName, Service>,
    /// False from the loss of the engine until it has been inspected again: nothing starts in between.
    pub(crate) engine_answers: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Network {
    Absent,
    /// Being created.
    Coming,
    Present {
        id: String,
    },
    /// Being removed: no container may be connected to it any more.
    Going,
    /// It could not be created.
    Failed {
        reason: String,
    },
}

#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) spec: ServiceSpec,
    /// Of `spec`: it is compared at every input, and takes long to compute.
    hash: SpecHash,
    /// Its instance's spec, if that is of another type than `spec` describes: a container instead of a process, or
    /// the other way round. It is stopped and removed according to that.
    pub(crate) former: Option<Box<ServiceSpec>>,
    pub(crate) wanted: DesiredState,
    pub(crate) life: Lifecycle,
    pub(crate) image: ImageState,
    /// The operation in progress. Anything else waits for its end: a service has one operation at a time.
    pub(crate) operation: Option<Operation>,
    /// Stop it once and start it again, in any state.
    pub(crate) restart: Option<RestartReason>,
    /// Restarts by the supervisor, since `up`.
    pub(crate) restarts: u32,
    /// Consecutive failed attempts.
    pub(crate) attempts: u32,
    pub(crate) started: Option<Instant>,
    pub(crate) ready_after: Option<Duration>,
    /// Its readiness has been checked since its last start, with or without success.
    pub(crate) settled: bool,
    /// Answers, and is being provisioned.
    pub(crate) provisioning: bool,
    /// Its container must be replaced whatever its spec says: a volume is no longer its own, or its image was rebuilt.
    pub(crate) moved: bool,
    /// It has restarted on its own, and its dependents have not been notified yet.
    pub(crate) came_back: bool,
    /// Events of its instance that arrived during an operation, handled when that has ended.
    pub(crate) meanwhile: Option<MissedEvent>,
    /// A process that ended before its start was reported, by its id.
    pub(crate) ended_early: Option<u32>,
    /// The engine has reported the last start: until then, an exit that it reports belongs to the previous run.
    pub(crate) start_heard: bool,
    /// It is starting because its files changed, and the result has not been reported yet.
    pub(crate) reloading: bool,
    /// Why the running version is not that of the current files.
    pub(crate) held_back: Option<String>,
    /// The event that caused its current operation.
    pub(crate) cause: Option<u64>,
    /// What it did since the last `up`.
    pub(crate) timeline: Timeline,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DesiredState {
    Running,
    /// Kept, and not running.
    Stopped,
    /// As `Stopped`, or frozen, until a client needs it.
    Asleep,
    /// Does not exist.
    Gone,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MissedEvent {
    /// It ended by itself.
    Ended,
    /// It was removed outside of devenv.
    Removed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RestartReason {
    Asked,
    Dependency,
    /// Its files changed.
    Reload,
    /// Its files changed, and the new version may run beside the old one.
    Swap,
    /// The version of the current files did not become ready, and the former one is kept.
    FallBack,
}

/// A container, or a process on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Instance {
    /// The container's id, or the process's.
    pub(crate) id: String,
    pub(crate) hash: SpecHash,
    /// Counts the service's starts from 1; 0 before the first.
    pub(crate) run: u32,
}

/// The state of a service, with exactly the data that exists in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lifecycle {
    /// No instance exists.
    Absent,
    /// It exists and does not run: not yet, or because we stopped it.
    Idle(Instance),
    /// It runs, but has not proven to be ready.
    Running(Instance),
    /// A client can do real work.
    Ready(Instance, String),
    /// It was ready and does not answer.
    Unhealthy(Instance, String),
    /// Paused because it is asleep. The proof of its readiness, if it was ready.
    Frozen(Instance, Option<String>),
    /// It ended by itself and is started again at that time.
    Backoff(Instance, Instant, String),
    /// It ended with success and is not started again.
    Completed(Instance),
    /// It has failed, until it is started again. An instance may exist for inspection, and may be running.
    Failed(Option<Instance>, Failure),
    /// It has failed and does not run: it could not be started, or exited with an error.
    Ended(Instance, Failure),
    /// It ended repeatedly.
    CrashLoop(Instance, Failure),
    /// It could not be stopped, so it may still run: nothing replaces it until it ends, or until another request.
    Unstoppable(Instance, Failure),
}

/// Why a service is not as requested: a short reason, and everything known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    /// The last probes, log lines, the exit's cause, the diagnosis; ready to print.
    pub(crate) detail: String,
    pub(crate) hint: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImageState {
    Unknown,
    Here,
}

/// Operations on a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Operation {
    /// Look for the image; pull or build it if it is not here.
    Image,
    Create,
    Start,
    /// Probe, provision, prove.
    Settle,
    Stop,
    /// Pause its container, because it is to sleep.
    Freeze,
    /// Let it continue.
    Thaw,
    Remove,
    /// Start a new version, which takes over when it is ready.
    Swap,
    /// It ended by itself: find out how.
    Examine,
}

impl Service {
    pub(crate) fn new(spec: ServiceSpec) -> Self {
        Self {
            hash: spec.hash(),
            spec,
            former: None,
            wanted: DesiredState::Running,
            life: Lifecycle::Absent,
            image: ImageState::Unknown,
            operation: None,
            restart: None,
            restarts: 0,
            attempts: 0,
            started: None,
            ready_after: None,
            settled: false,
            provisioning: false,
            moved: false,
            came_back: false,
            meanwhile: None,
            ended_early: None,
            start_heard: true,
            reloading: false,
            held_back: None,
            cause: None,
            timeline: Timeline::default(),
        }
    }

    pub(crate) fn set_spec(&mut self, spec: ServiceSpec) {
        self.hash = spec.hash();
        self.spec = spec;
    }

    /// The files of its image changed.
    pub(crate) fn set_content(&mut self, content: String) {
        self.spec.set_content(content);
        self.hash = self.spec.hash();
    }

    /// A service whose instance is not the one that the profile describes.
    pub(crate) fn outdated(&self) -> bool {
        self.life.instance().is_some_and(|instance| self.moved || self.former.is_some() || instance.hash != self.hash)
    }

    /// The spec of its instance, if there is one.
    pub(crate) fn made_from(&self) -> &ServiceSpec {
        self.former.as_deref().unwrap_or(&self.spec)
    }

    /// Neither changing nor able to continue by itself.
    pub(crate) fn settled(&self) -> bool {
        self.operation.is_none()
            && self.restart.is_none()
            && match (&self.wanted, &self.life) {
                (DesiredState::Running, Lifecycle::Ready(..) | Lifecycle::Completed(_)) => !self.outdated(),
                (DesiredState::Running, Lifecycle::Failed(..) | Lifecycle::Ended(..) | Lifecycle::CrashLoop(..)) => true,
                (DesiredState::Running | DesiredState::Stopped | DesiredState::Asleep, Lifecycle::Unstoppable(..)) => true,
                (DesiredState::Asleep, Lifecycle::Frozen(..)) => true,
                (DesiredState::Stopped | DesiredState::Asleep, life) => !life.runs(),
                (DesiredState::Gone, life) => *life == Lifecycle::Absent,
                (DesiredState::Running, _) => false,
            }
    }

    /// Whether it is paused to sleep, rather than stopped.
    pub(crate) fn freezes(&self) -> bool {
        self.spec.sleep.is_some_and(|sleep| sleep.mode == SleepMode::Freeze)
    }

    /// Its program is up, and what remains of its start is to provision it or to see that it stays up.
    pub(crate) fn has_answered(&self) -> bool {
        self.provisioning && self.operation == Some(Operation::Settle) && self.restart.is_none()
    }

    pub(crate) fn failure(&self) -> Option<&Failure> {
        match &self.life {
            Lifecycle::Failed(_, failure)
            | Lifecycle::Ended(_, failure)
            | Lifecycle::CrashLoop(_, failure)
            | Lifecycle::Unstoppable(_, failure) => Some(failure),
            _ => None,
        }
    }
}

impl Lifecycle {
    pub(crate) fn instance(&self) -> Option<&Instance> {
        match self {
            Self::Absent => None,
            Self::Idle(instance)
            | Self::Running(instance)
            | Self::Ready(instance, _)
            | Self::Unhealthy(instance, _)
            | Self::Frozen(instance, _)
            | Self::Backoff(instance, ..)
            | Self::Completed(instance)
            | Self::Ended(instance, _)
            | Self::CrashLoop(instance, _)
            | Self::Unstoppable(instance, _) => Some(instance),
            Self::Failed(instance, _) => instance.as_ref(),
        }
    }

    /// Whether the service may be running. A failed service may be, because it is kept for inspection.
    pub(crate) fn runs(&self) -> bool {
        match self {
            Self::Running(_)
            | Self::Ready(..)
            | Self::Unhealthy(..)
            | Self::Frozen(..)
            | Self::Failed(Some(_), _)
            | Self::Unstoppable(..) => true,
            Self::Absent
            | Self::Idle(_)
            | Self::Backoff(..)
            | Self::Completed(_)
            | Self::Failed(None, _)
            | Self::Ended(..)
            | Self::CrashLoop(..) => false,
        }
    }
}

impl State {
    pub(crate) fn new(goal: Goal) -> Self {
        Self { goal, network: Network::Absent, services: IndexMap::new(), engine_answers: true }
    }

    /// Applies a new spec: new services are started, removed ones stopped, and failed ones tried again.
    pub(crate) fn adopt_spec(&mut self, services: &IndexMap<ServiceName, ServiceSpec>, alone: &[ServiceName], cause: Option<u64>) {
        let mut former = std::mem::take(&mut self.services);
        for (name, spec) in services {
            let service = match former.shift_remove(name) {
                Some(service) if alone.contains(name) => service,
                Some(mut service) => {
                    let exists = service.life != Lifecycle::Absent || service.operation.is_some();
                    if service.made_from().container().is_some() == spec.container().is_some() {
                        service.former = None;
                    } else if exists && service.former.is_none() {
                        service.former = Some(Box::new(service.spec.clone()));
                    }
                    service.set_spec(spec.clone());
                    service.wanted = DesiredState::Running;
                    service.second_chance();
                    service.cause = cause;
                    service
                }
                None => Service { cause, ..Service::new(spec.clone()) },
            };
            self.services.insert(name.clone(), service);
        }
        for (name, mut service) in former {
            if service.life != Lifecycle::Absent || service.operation.is_some() {
                service.wanted = DesiredState::Gone;
                service.cause = cause;
                self.services.insert(name, service);
            }
        }
    }

    pub(crate) fn dependants<'a>(&'a self, of: &'a ServiceName) -> impl Iterator<Item = (&'a ServiceName, &'a Service)> {
        self.services.iter().filter(move |(_, service)| service.spec.depends_on.contains_key(of))
    }
}

impl Service {
    /// A different request: what could not be stopped is tried once more.
    pub(crate) fn may_be_stopped_again(&mut self) {
        if let Lifecycle::Unstoppable(instance, _) = &self.life {
            self.life = Lifecycle::Running(instance.clone());
        }
    }

    /// Failed services try again; ready ones are checked again with the current profile.
    pub(crate) fn second_chance(&mut self) {
        self.attempts = 0;
        self.image = ImageState::Unknown;
        self.life = match std::mem::replace(&mut self.life, Lifecycle::Absent) {
            Lifecycle::Failed(None, _) => Lifecycle::Absent,
            Lifecycle::Failed(Some(instance), _) | Lifecycle::Unstoppable(instance, _) => Lifecycle::Running(instance),
            Lifecycle::Ended(instance, _) | Lifecycle::CrashLoop(instance, _) | Lifecycle::Backoff(instance, ..) => {
                Lifecycle::Idle(instance)
            }
            // What it declares may have changed while it slept.
            Lifecycle::Frozen(instance, _) => Lifecycle::Frozen(instance, None),
            Lifecycle::Ready(instance, _) if !self.spec.provision.is_empty() && self.operation.is_none() => Lifecycle::Running(instance),
            other => other,
        };
    }
}
