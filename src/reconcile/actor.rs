//! The task: takes one input at a time, changes the state, and starts what the plan says.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use ipnet::Ipv4Net;
use jiff::Timestamp;
use rand::RngExt;
use tokio::{
    sync::{broadcast, mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::{
    backoff,
    execute::{Effects, Leaving, Observed, ObservedProcess, OperationError, Progress, Settling, Subject},
    failure::Evidence,
    handle::{Command, CommandError, Handle, Verb},
    plan::{self, Next},
    state::{Failure, ImageState, Instance, Life, Network, Operation, RestartReason, Service, State, Wanted},
    swap::Swapped,
    view::View,
};
use crate::{
    engine::{ContainerState, EngineEvent, EngineEventKind},
    event::{EventLog, News},
    spec::{EnvironmentSpec, MountSource, OnDependencyRestart, RestartWhen, ServiceName, SpecHash},
    store::{Goal, Record, Store, StoreError, Trashed},
};

/// Ready for this long, a service has proven itself: what it does wrong next is a first attempt again.
const PROVEN: Duration = Duration::from_secs(10);
const COMMANDS: usize = 256;

/// What an environment's task is started with.
pub(crate) struct Setup {
    pub(crate) record: Record,
    pub(crate) store: Store,
    pub(crate) events: EventLog,
    pub(crate) effects: Effects,
    /// What the engine has of it already.
    pub(crate) observed: Observed,
    pub(crate) progress: broadcast::Sender<Progress>,
}

/// Starts the task in `tasks`, whose owner awaits it.
pub(crate) fn spawn(setup: Setup, tasks: &mut JoinSet<()>, stop: CancellationToken) -> Handle {
    let (commands, inbox) = mpsc::channel(COMMANDS);
    let state = State::new(setup.record.goal);
    let (view, watched) = watch::channel(View::of(0, &state, &setup.record));
    let events = setup.events.clone();
    let (news, heard) = mpsc::unbounded_channel();
    let mut actor = Actor {
        state,
        record: setup.record,
        store: setup.store,
        events: setup.events,
        effects: setup.effects,
        progress: setup.progress,
        inbox,
        operations: JoinSet::new(),
        cancels: HashMap::new(),
        watchers: HashMap::new(),
        news,
        heard,
        view,
        turn: 0,
        unsaved: false,
    };
    // Before anybody can ask: the first view is of what was adopted.
    actor.begin(setup.observed);
    actor.publish();
    tasks.spawn(actor.run(stop));
    Handle { commands, view: watched, events }
}

struct Actor {
    state: State,
    record: Record,
    store: Store,
    events: EventLog,
    effects: Effects,
    progress: broadcast::Sender<Progress>,
    inbox: mpsc::Receiver<Command>,
    /// Operations under way, at most one a service, and the watching of ready services.
    operations: JoinSet<Outcome>,
    cancels: HashMap<ServiceName, CancellationToken>,
    watchers: HashMap<ServiceName, AbortHandle>,
    /// Unbounded: a settling tells a handful of things at most.
    news: mpsc::UnboundedSender<(ServiceName, Settling)>,
    heard: mpsc::UnboundedReceiver<(ServiceName, Settling)>,
    view: watch::Sender<View>,
    turn: u64,
    /// The record differs from what is on disk, in something that may be lost.
    unsaved: bool,
}

/// How an operation ended.
enum Outcome {
    Network(Result<(String, Ipv4Net), OperationError>),
    NetworkGone(Result<Vec<String>, OperationError>),
    Image(ServiceName, Result<bool, OperationError>),
    Created(ServiceName, Result<Instance, OperationError>),
    Started(ServiceName, Result<Instance, Evidence>),
    /// `None`: it was cancelled.
    Settled(ServiceName, Option<Result<String, Evidence>>),
    Stopped(ServiceName, Result<(), OperationError>),
    Removed(ServiceName, Result<(), OperationError>),
    /// `None`: it runs after all.
    Examined(ServiceName, Option<Evidence>),
    Swapped(ServiceName, Swapped),
    /// A ready service has stopped answering.
    Unhealthy(ServiceName, String),
    Signalled,
}

enum Input {
    Command(Command),
    Ended(Outcome),
    News(ServiceName, Settling),
    Due,
    Stop,
    /// Nobody can say anything any more: the environment was forgotten, with its record.
    Forgotten,
}

impl Actor {
    async fn run(mut self, stop: CancellationToken) {
        loop {
            self.proceed();
            self.publish();
            let wake = plan::next_wake(&self.state).map(Instant::from_std);
            // Each branch is cancel-safe: receiving from a channel, joining a set, a timer, a token.
            let input = tokio::select! {
                () = stop.cancelled() => Input::Stop,
                command = self.inbox.recv() => command.map_or(Input::Forgotten, Input::Command),
                Some(ended) = self.operations.join_next() => match ended {
                    Ok(outcome) => Input::Ended(outcome),
                    // An aborted watcher; a panic has been told by the runtime.
                    Err(_) => continue,
                },
                Some((service, settling)) = self.heard.recv() => Input::News(service, settling),
                () = async { tokio::time::sleep_until(wake.expect("guarded")).await }, if wake.is_some() => Input::Due,
            };
            match input {
                Input::Command(command) => self.command(command),
                Input::Ended(outcome) => self.ended(outcome),
                Input::News(service, settling) => self.heard(&service, settling),
                Input::Due => {}
                // Environments go on running without a daemon; the next one adopts them.
                Input::Stop => {
                    self.save_quietly();
                    break;
                }
                Input::Forgotten => break,
            }
        }
        self.operations.shutdown().await;
    }

    /// Takes up what an earlier daemon left: the goal from the record, the rest from the engine.
    fn begin(&mut self, observed: Observed) {
        if let Some(spec) = self.record.spec.clone() {
            self.state.adopt_spec(&spec.services, None);
            for (name, service) in &mut self.state.services {
                service.moved = self.record.moved.contains(name);
                service.wanted = match self.record.goal {
                    Goal::Up if self.record.stopped.contains(name) => Wanted::Stopped,
                    Goal::Up => Wanted::Running,
                    Goal::Down | Goal::DownWithVolumes => Wanted::Gone,
                };
            }
        }
        self.observe(observed);
    }

    /// Starts whatever can be started now.
    fn proceed(&mut self) {
        for next in plan::next(&self.state, Instant::now().into_std()) {
            match next {
                Next::CreateNetwork => {
                    self.state.busy = true;
                    let (effects, record) = (self.effects.clone(), self.record.clone());
                    self.operations.spawn(async move { Outcome::Network(effects.create_network(&record).await) });
                }
                Next::RemoveNetwork => {
                    self.state.busy = true;
                    let (effects, id) = (self.effects.clone(), super::execute::network_name(&self.record.id));
                    self.operations
                        .spawn(async move { Outcome::NetworkGone(effects.engine.remove_network(&id).await.map_err(OperationError::from)) });
                }
                Next::Operate(name, operation) => self.operate(name, operation),
            }
        }
        self.finish_down();
    }

    fn operate(&mut self, name: ServiceName, operation: Operation) {
        let Some(service) = self.state.services.get_mut(&name) else { return };
        service.operation = Some(operation);
        let subject = self.subject_of(&name);
        let effects = self.effects.clone();
        match operation {
            Operation::Image => {
                let (progress, mut steps) = mpsc::channel(16);
                let sender = self.progress.clone();
                self.operations.spawn(async move {
                    let ensure = effects.ensure_image(&subject.spec, &progress);
                    tokio::pin!(ensure);
                    loop {
                        tokio::select! {
                            result = &mut ensure => break Outcome::Image(name, result),
                            // Nobody looking is fine.
                            Some(step) = steps.recv() => { let _ = sender.send(step); }
                        }
                    }
                });
            }
            Operation::Create => {
                self.operations.spawn(async move { Outcome::Created(name, effects.create(&subject).await) });
            }
            Operation::Start => {
                self.start_begins(&name);
                self.operations.spawn(async move { Outcome::Started(name, effects.start(&subject).await) });
            }
            Operation::Settle => {
                let cancel = CancellationToken::new();
                self.cancels.insert(name.clone(), cancel.clone());
                let news = self.news.clone();
                self.operations.spawn(async move {
                    let (sender, mut heard) = mpsc::unbounded_channel();
                    let settle = effects.settle(&subject, sender, cancel);
                    tokio::pin!(settle);
                    loop {
                        tokio::select! {
                            biased;
                            // The actor outlives its operations.
                            Some(settling) = heard.recv() => { let _ = news.send((name.clone(), settling)); }
                            result = &mut settle => break Outcome::Settled(name, result),
                        }
                    }
                });
            }
            Operation::Swap => {
                let cancel = CancellationToken::new();
                self.cancels.insert(name.clone(), cancel.clone());
                self.swap_begins(&name);
                self.operations.spawn(async move { Outcome::Swapped(name, effects.swap(&subject, cancel).await) });
            }
            Operation::Stop => {
                self.stop_watching(&name);
                self.operations.spawn(async move { Outcome::Stopped(name, effects.stop(&subject).await) });
            }
            Operation::Remove => {
                self.operations.spawn(async move { Outcome::Removed(name, effects.remove(&subject).await) });
            }
            Operation::Examine => {
                self.operations.spawn(async move { Outcome::Examined(name, effects.examine(&subject).await) });
            }
        }
    }

    /// What an operation on the service works with.
    fn subject(&self, service: &Service) -> Subject {
        let network = match &self.state.network {
            Network::Present { id } => Some(id.clone()),
            Network::Absent | Network::Failed { .. } => None,
        };
        let leaving = if service.wanted == Wanted::Running { Leaving::Ports } else { Leaving::Nothing };
        Subject {
            record: Arc::new(self.record.clone()),
            spec: service.spec.clone(),
            instance: service.life.instance().cloned(),
            network,
            leaving,
        }
    }

    fn subject_of(&self, name: &ServiceName) -> Subject {
        self.subject(&self.state.services[name])
    }

    /// Whoever settles, or takes over, is to give it up.
    fn stop_settling(&mut self, name: &ServiceName) {
        if let Some(cancel) = self.cancels.remove(name) {
            cancel.cancel();
        }
    }

    fn stop_watching(&mut self, name: &ServiceName) {
        if let Some(watcher) = self.watchers.remove(name) {
            watcher.abort();
        }
        self.stop_settling(name);
    }

    fn publish(&mut self) {
        self.turn += 1;
        if self.unsaved {
            self.save_quietly();
        }
        self.view.send_replace(View::of(self.turn, &self.state, &self.record));
    }

    fn save(&mut self) -> Result<(), StoreError> {
        self.unsaved = false;
        self.store.save(&self.record)
    }

    /// For what may be lost without harm.
    fn save_quietly(&mut self) {
        if let Err(error) = self.save() {
            tracing::error!(%error, environment = %self.record.id, "The environment's record could not be saved.");
        }
    }

    // Commands

    fn command(&mut self, command: Command) {
        // Whoever asked may have gone away meanwhile; what was asked is done all the same.
        match command {
            Command::Up { spec, reply } => {
                let _ = reply.send(self.up(*spec));
            }
            Command::Down { volumes, reply } => {
                let _ = reply.send(self.down(volumes));
            }
            Command::Services { names, verb, reply } => {
                let _ = reply.send(self.services(&names, verb));
            }
            Command::Reload { service, how, cause, reply } => {
                let _ = reply.send(self.reload(&service, how, cause));
            }
            Command::Preview { spec, reply } => {
                let _ = reply.send(plan::preview(&self.state, &spec.services, &self.record.applied));
            }
            Command::Undo { reply } => {
                let _ = reply.send(self.undo());
            }
            Command::EmptyTrash { older_than, reply } => {
                let _ = reply.send(self.empty_trash(older_than));
            }
            Command::ReserveVolumes { keys, reply } => {
                let names = keys.into_iter().map(|key| (key.clone(), self.record.reserve(&key))).collect();
                let _ = reply.send(self.save().map(|()| names).map_err(CommandError::from));
            }
            Command::MoveTo { volumes, why, reply } => {
                let _ = reply.send(self.move_to(volumes, why));
            }
            Command::KeepSnapshots { snapshots, reply } => {
                self.record.snapshots = snapshots;
                let _ = reply.send(self.save().map_err(CommandError::from));
            }
            Command::KeepPorts { ports, reply } => {
                let changed = self.record.ports != ports;
                self.record.ports = ports;
                let _ = reply.send(if changed { self.save().map_err(CommandError::from) } else { Ok(()) });
            }
            Command::Keep { reply } => {
                self.record.ephemeral = false;
                let _ = reply.send(self.save().map_err(CommandError::from));
            }
            Command::Record { reply } => {
                let _ = reply.send(Box::new(self.record.clone()));
            }
            Command::Engine(event) => self.engine_event(&event),
            Command::ProcessEnded { service, pid, code } => {
                let ours = self
                    .state
                    .services
                    .get(&service)
                    .and_then(|service| service.life.instance())
                    .is_some_and(|instance| instance.id == pid.to_string());
                if ours {
                    self.died(&service, code);
                }
            }
            Command::EngineGone => {
                if self.state.engine_answers {
                    self.events.emit(News::new("engine.gone", "the engine does not answer any more"));
                }
                self.state.engine_answers = false;
            }
            Command::Observed(observed) => {
                self.state.engine_answers = true;
                self.events.emit(News::new("engine.back", "the engine answers again"));
                self.observe(*observed);
            }
        }
    }

    fn up(&mut self, spec: EnvironmentSpec) -> Result<u64, CommandError> {
        let cause = self.events.emit(
            News::new("environment.up-asked", format!("up was asked for with the profile `{}`", spec.profile))
                .with("profile", spec.profile.clone()),
        );
        for (name, service) in &spec.services {
            for mount in service.container().into_iter().flat_map(|container| &container.mounts) {
                if let MountSource::Volume(volume) = &mount.source {
                    self.record.volume(name, volume);
                }
            }
        }
        self.record.goal = Goal::Up;
        self.record.subnet.get_or_insert(spec.subnet);
        self.record.stopped.clear();
        self.record.spec = Some(spec.clone());
        // Before anything is made: whatever dies next, the next daemon knows what it was for.
        self.save()?;
        self.state.goal = Goal::Up;
        if matches!(self.state.network, Network::Failed { .. }) {
            self.state.network = Network::Absent;
        }
        self.state.adopt_spec(&spec.services, Some(cause));
        Ok(self.turn + 1)
    }

    fn down(&mut self, volumes: bool) -> Result<u64, CommandError> {
        let what = if volumes { "down was asked for, with volumes" } else { "down was asked for" };
        let cause = self.events.emit(News::new("environment.down-asked", what));
        self.record.goal = if volumes { Goal::DownWithVolumes } else { Goal::Down };
        self.save()?;
        self.state.goal = self.record.goal;
        let names: Vec<ServiceName> = self.state.services.keys().cloned().collect();
        for name in names {
            let service = self.state.services.get_mut(&name).expect("listed above");
            service.wanted = Wanted::Gone;
            service.restart = None;
            service.cause = Some(cause);
            if matches!(service.operation, Some(Operation::Settle | Operation::Swap)) {
                self.stop_watching(&name);
            }
        }
        Ok(self.turn + 1)
    }

    fn services(&mut self, names: &[ServiceName], verb: Verb) -> Result<u64, CommandError> {
        if self.state.goal != Goal::Up {
            return Err(CommandError::NotUp);
        }
        if let Some(unknown) = names.iter().find(|name| !self.state.services.contains_key(*name)) {
            return Err(CommandError::NoService(unknown.to_string()));
        }
        let names: Vec<ServiceName> = if names.is_empty() { self.state.services.keys().cloned().collect() } else { names.to_vec() };
        for name in &names {
            let (kind, word) = match verb {
                Verb::Start => ("service.start-asked", "start"),
                Verb::Stop => ("service.stop-asked", "stop"),
                Verb::Restart => ("service.restart-asked", "restart"),
            };
            let cause = self.events.emit(News::of(name, kind, format!("{word} was asked for")));
            let service = self.state.services.get_mut(name).expect("checked above");
            service.cause = Some(cause);
            match verb {
                Verb::Start | Verb::Restart => {
                    service.wanted = Wanted::Running;
                    if verb == Verb::Restart {
                        service.attempts = 0;
                        service.restart = Some(RestartReason::Asked);
                        service.held_back = None;
                        self.effects.caretaker.go_on(name);
                        if let Life::Completed(instance) | Life::CrashLoop(instance, _) | Life::Backoff(instance, ..) = service.life.clone()
                        {
                            service.life = Life::Idle(instance);
                        }
                    } else if service.failure().is_some() || matches!(service.life, Life::Backoff(..)) {
                        service.second_chance();
                    }
                    self.record.stopped.retain(|stopped| stopped != name);
                }
                Verb::Stop => {
                    service.wanted = Wanted::Stopped;
                    service.restart = None;
                    if let Life::Backoff(instance, ..) = service.life.clone() {
                        service.life = Life::Idle(instance);
                    }
                    if !self.record.stopped.contains(name) {
                        self.record.stopped.push(name.clone());
                    }
                }
            }
            if matches!(service.operation, Some(Operation::Settle | Operation::Swap)) {
                self.stop_watching(name);
            }
        }
        self.save()?;
        Ok(self.turn + 1)
    }

    fn move_to(&mut self, volumes: BTreeMap<String, String>, why: &'static str) -> Result<u64, CommandError> {
        let cause = self.events.emit(News::new("volumes.moved", format!("{why} was asked for")));
        let mut former = BTreeMap::new();
        for (key, volume) in volumes {
            let service = key.split('/').next().and_then(|name| name.parse::<ServiceName>().ok());
            if let Some(had) = self.record.volumes.insert(key.clone(), volume) {
                former.insert(key, had);
            }
            let Some(name) = service else { continue };
            if let Some(service) = self.state.services.get_mut(&name) {
                service.moved = true;
                service.came_back = true;
                service.cause = Some(cause);
                service.second_chance();
                if !self.record.moved.contains(&name) {
                    self.record.moved.push(name.clone());
                }
                if matches!(service.operation, Some(Operation::Settle | Operation::Swap)) {
                    self.stop_watching(&name);
                }
            }
        }
        if !former.is_empty() {
            self.record.trash.push(Trashed { at: Timestamp::now().to_string(), volumes: former });
        }
        self.save()?;
        Ok(self.turn + 1)
    }

    fn undo(&mut self) -> Result<Vec<String>, devenv_api::ApiError> {
        use devenv_api::{ApiError, ErrorCode};
        if self.state.goal == Goal::Up || !self.state.services.values().all(|service| service.life == Life::Absent) {
            return Err(
                ApiError::new(ErrorCode::Conflict, "the environment is up, on other volumes").hint("take it down first: `devenv down`")
            );
        }
        let Some(trashed) = self.record.trash.pop() else {
            return Err(ApiError::new(ErrorCode::NotFound, "there is nothing to bring back")
                .hint("`devenv down --volumes` keeps volumes for 24 h; after that they are gone"));
        };
        let replaced = std::mem::replace(&mut self.record.volumes, trashed.volumes);
        if !replaced.is_empty() {
            self.record.trash.insert(0, Trashed { at: Timestamp::now().to_string(), volumes: replaced });
        }
        self.save().map_err(|error| ApiError::from(CommandError::Store(error)))?;
        let names: Vec<String> = self.record.volumes.keys().cloned().collect();
        self.events.emit(News::new("volumes.restored", format!("volumes were brought back: {}", names.join(", "))));
        Ok(names)
    }

    fn empty_trash(&mut self, older_than: Duration) -> Vec<String> {
        let now = Timestamp::now();
        let expired = |trashed: &Trashed| {
            let age = trashed.at.parse::<Timestamp>().map_or(Duration::MAX, |at| now.duration_since(at).unsigned_abs());
            age >= older_than
        };
        let gone = self.record.trash.extract_if(.., |trashed| expired(trashed)).flat_map(|trashed| trashed.volumes.into_values()).collect();
        self.save_quietly();
        gone
    }

    /// Once nothing is left, the volumes go where they were to go and the services are forgotten.
    fn finish_down(&mut self) {
        let gone = self.state.services.values().all(|service| service.life == Life::Absent && service.operation.is_none());
        if self.state.goal == Goal::Up
            || !gone
            || self.state.network != Network::Absent
            || self.state.services.is_empty() && self.record.goal != Goal::DownWithVolumes
        {
            return;
        }
        if self.record.goal == Goal::DownWithVolumes {
            let volumes = std::mem::take(&mut self.record.volumes);
            if !volumes.is_empty() {
                self.record.trash.push(Trashed { at: Timestamp::now().to_string(), volumes });
            }
            self.record.goal = Goal::Down;
            self.state.goal = Goal::Down;
        }
        self.record.applied.clear();
        self.state.services.clear();
        self.save_quietly();
        self.events.emit(News::new("environment.down", "the environment is down"));
    }

    // What the engine tells

    fn engine_event(&mut self, event: &EngineEvent) {
        let Some(name) = self
            .state
            .services
            .iter()
            .find(|(_, service)| service.life.instance().is_some_and(|instance| instance.id == event.container))
            .map(|(name, _)| name.clone())
        else {
            return;
        };
        match &event.kind {
            EngineEventKind::Died { code } => self.died(&name, *code),
            EngineEventKind::Removed => self.removed_by_others(&name),
            EngineEventKind::Started => self.started_by_others(&name),
            EngineEventKind::OutOfMemory => {
                self.emit(&name, "service.out-of-memory", format!("{name} ran out of memory"));
            }
            EngineEventKind::Paused => {
                self.emit(&name, "service.paused", format!("{name} was paused"));
            }
            EngineEventKind::Unpaused => {
                self.emit(&name, "service.unpaused", format!("{name} goes on after a pause"));
            }
        }
    }

    fn died(&mut self, name: &ServiceName, code: i64) {
        let service = self.state.services.get_mut(name).expect("found by the caller");
        match service.operation {
            // Asked for: the operation's end tells.
            Some(Operation::Stop | Operation::Remove | Operation::Examine) => return,
            // It may have ended before we heard that it was started, or this is the end of its last run.
            Some(Operation::Start | Operation::Swap) => {
                service.ended_meanwhile = true;
                return;
            }
            Some(Operation::Settle | Operation::Image | Operation::Create) | None => {}
        }
        if !service.life.runs() {
            return;
        }
        service.cause = Some(
            self.events.emit(
                News::of(name, "service.ended", format!("{name} ended by itself with exit code {code}"))
                    .with("exit_code", code)
                    .because(service.cause),
            ),
        );
        self.stop_watching(name);
        self.operate(name.clone(), Operation::Examine);
    }

    fn removed_by_others(&mut self, name: &ServiceName) {
        let service = self.state.services.get_mut(name).expect("found by the caller");
        if matches!(service.operation, Some(Operation::Remove | Operation::Stop)) {
            return;
        }
        service.cause = Some(
            self.events
                .emit(News::of(name, "service.removed", format!("{name}'s container was removed by somebody else")).because(service.cause)),
        );
        service.life = Life::Absent;
        if service.operation == Some(Operation::Examine) {
            service.operation = None;
        }
        self.stop_watching(name);
    }

    fn started_by_others(&mut self, name: &ServiceName) {
        let service = self.state.services.get_mut(name).expect("found by the caller");
        if service.operation.is_some() || service.life.runs() {
            return;
        }
        if let Some(instance) = service.life.instance().cloned() {
            service.life = Life::Running(instance);
            service.started = Some(Instant::now().into_std());
            self.emit(name, "service.started", format!("{name} was started by somebody else"));
        }
    }

    /// Takes what is there for what it is. Services with something under way learn it from that.
    fn observe(&mut self, observed: Observed) {
        if !self.state.busy {
            self.state.network = match observed.network {
                Some(network) => Network::Present { id: network.id },
                None => Network::Absent,
            };
        }
        let mut found: HashMap<ServiceName, (Instance, ContainerState)> = HashMap::new();
        for container in observed.containers {
            let Some(name) = container.labels.service.clone() else { continue };
            if container.labels.role.is_some() {
                continue;
            }
            let hash = container.labels.spec.clone().unwrap_or_else(|| SpecHash::recorded("unknown"));
            let run = self.effects.caretaker.last_run(&name);
            found.insert(name, (Instance { id: container.id, hash, run }, container.state));
        }
        let looked_at_processes = observed.processes.is_some();
        for (name, process) in observed.processes.into_iter().flatten() {
            let Some(service) = self.state.services.get(&name) else { continue };
            let hash = service.spec.hash();
            let (instance, state) = match process {
                ObservedProcess::Running { pid, run } => (Instance { id: pid.to_string(), hash, run }, ContainerState::Running { pid }),
                ObservedProcess::Ended { code, run } => {
                    let state = ContainerState::Exited { code, out_of_memory: false, error: None, finished_at: String::new() };
                    (Instance { id: String::new(), hash, run }, state)
                }
            };
            found.insert(name, (instance, state));
        }
        let names: Vec<ServiceName> = self
            .state
            .services
            .iter()
            .filter(|(_, service)| looked_at_processes || service.spec.container().is_some())
            .map(|(name, _)| name.clone())
            .collect();
        for name in names {
            let there = found.remove(&name);
            self.observe_service(&name, there);
        }
    }

    fn observe_service(&mut self, name: &ServiceName, there: Option<(Instance, ContainerState)>) {
        let service = self.state.services.get_mut(name).expect("listed by the caller");
        if service.operation.is_some() {
            return;
        }
        let Some((instance, state)) = there else {
            if service.life != Life::Absent {
                service.life = Life::Absent;
            }
            return;
        };
        match state {
            ContainerState::Running { .. } | ContainerState::Paused { .. } | ContainerState::Other(_) => {
                let same = service.life.runs() && service.life.instance().is_some_and(|known| known.id == instance.id);
                if !same {
                    self.effects.caretaker.keep_output(&service.spec, &instance);
                    service.life = Life::Running(instance);
                    service.started.get_or_insert_with(|| Instant::now().into_std());
                    self.emit(name, "service.adopted", format!("{name} runs already and was adopted"));
                }
            }
            ContainerState::Created => service.life = Life::Idle(instance),
            ContainerState::Exited { code, .. } => {
                if service.life.runs() {
                    self.died(name, code);
                } else if !matches!(service.life, Life::Backoff(..) | Life::Completed(_) | Life::CrashLoop(..)) {
                    let policy = service.spec.restart.policy;
                    service.life = if code == 0 && policy != RestartWhen::Always && service.wanted == Wanted::Running {
                        Life::Completed(instance)
                    } else {
                        Life::Idle(instance)
                    };
                }
            }
        }
    }

    // How operations end

    fn ended(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Network(result) => self.network_made(result),
            Outcome::NetworkGone(result) => self.network_gone(result),
            Outcome::Image(name, result) => self.image_is_here(&name, result),
            Outcome::Created(name, result) => self.created(&name, result),
            Outcome::Started(name, result) => self.started(&name, result),
            Outcome::Settled(name, result) => self.settled(&name, result),
            Outcome::Stopped(name, result) => self.stopped(&name, result),
            Outcome::Removed(name, result) => self.removed(&name, result),
            Outcome::Examined(name, evidence) => self.examined(&name, evidence),
            Outcome::Swapped(name, swapped) => self.swapped(&name, swapped),
            Outcome::Unhealthy(name, reason) => self.unhealthy(&name, reason),
            Outcome::Signalled => {}
        }
    }

    fn network_made(&mut self, result: Result<(String, Ipv4Net), OperationError>) {
        self.state.busy = false;
        match result {
            Ok((id, subnet)) => {
                self.state.network = Network::Present { id };
                self.record.subnet = Some(subnet);
                self.unsaved = true;
                self.events.emit(News::new("network.created", format!("the network was made on {subnet}")));
            }
            Err(error) if error.is_engine_gone() => self.state.engine_answers = false,
            Err(error) => {
                self.events.emit(News::new("network.failed", format!("the network could not be made: {error}")));
                self.state.network = Network::Failed { reason: error.to_string() };
            }
        }
    }

    fn network_gone(&mut self, result: Result<Vec<String>, OperationError>) {
        self.state.busy = false;
        match result {
            Ok(foreign) => {
                self.state.network = Network::Absent;
                let message = if foreign.is_empty() {
                    "the network was removed".to_owned()
                } else {
                    format!("the network was removed; {} was cut off it", foreign.join(", "))
                };
                self.events.emit(News::new("network.removed", message));
            }
            Err(error) if error.is_engine_gone() => self.state.engine_answers = false,
            Err(error) => {
                // Left for the next daemon's sweep: a network that cannot be removed must not hold up `down`.
                self.events.emit(News::new("network.left", format!("the network could not be removed: {error}")));
                self.state.network = Network::Absent;
            }
        }
    }

    fn image_is_here(&mut self, name: &ServiceName, result: Result<bool, OperationError>) {
        match result {
            Ok(fetched) => {
                let Some(service) = self.finish(name) else { return };
                service.image = ImageState::Here;
                if fetched {
                    let image = service.spec.container().map(|container| container.image.name().to_owned()).unwrap_or_default();
                    self.emit(name, "service.image-fetched", format!("the image {image} is here"));
                }
            }
            Err(error) => self.operation_failed(name, "its image could not be had", &error),
        }
    }

    fn created(&mut self, name: &ServiceName, result: Result<Instance, OperationError>) {
        match result {
            Ok(instance) => {
                let Some(service) = self.finish(name) else { return };
                service.life = Life::Idle(instance);
                service.moved = false;
                let workload = service.spec.workload.clone();
                self.record.moved.retain(|moved| moved != name);
                self.record.applied.insert(name.clone(), workload);
                self.unsaved = true;
                self.emit(name, "service.created", format!("{name} was created"));
            }
            Err(error) => self.operation_failed(name, "it could not be created", &error),
        }
    }

    fn started(&mut self, name: &ServiceName, result: Result<Instance, Evidence>) {
        match result {
            Ok(instance) => {
                let Some(service) = self.finish(name) else { return };
                let run = instance.run;
                service.life = Life::Running(instance);
                service.provisioning = false;
                let ended = std::mem::take(&mut service.ended_meanwhile);
                self.emit(name, "service.started", format!("{name} was started, run {run}"));
                if ended {
                    self.operate(name.clone(), Operation::Examine);
                }
            }
            Err(evidence) => self.give_up(name, evidence),
        }
    }

    fn settled(&mut self, name: &ServiceName, result: Option<Result<String, Evidence>>) {
        // One that ended meanwhile is being examined, and what was asked of it is of no interest any more.
        if self.state.services.get(name).is_some_and(|service| service.operation != Some(Operation::Settle)) {
            return;
        }
        self.cancels.remove(name);
        let Some(service) = self.finish(name) else { return };
        service.provisioning = false;
        let Some(instance) = service.life.instance().cloned() else { return };
        match result {
            None => {}
            Some(Ok(proof)) => self.became_ready(name, proof),
            Some(Err(evidence)) if matches!(service.life, Life::Unhealthy(..)) => {
                let reason = evidence.into_failure().reason;
                service.life = Life::Unhealthy(instance, reason);
            }
            Some(Err(evidence)) => self.give_up(name, evidence),
        }
    }

    fn became_ready(&mut self, name: &ServiceName, proof: String) {
        let Some(service) = self.state.services.get_mut(name) else { return };
        let Some(instance) = service.life.instance().cloned() else { return };
        service.reloading = false;
        let first = service.ready_after.is_none();
        if first {
            service.ready_after = service.started.map(|started| Instant::now().into_std().duration_since(started));
        }
        let after = service.ready_after.map_or(0, |duration| duration.as_millis() as u64);
        service.life = Life::Ready(instance.clone(), proof.clone());
        let spec = service.spec.clone();
        let came_back = std::mem::take(&mut service.came_back);
        let message = if first { format!("{name} is ready after {after} ms: {proof}") } else { format!("{name} is ready: {proof}") };
        let cause = self.emit_with(name, News::of(name, "service.ready", message).with("ready_after_ms", after).with("proof", proof));
        let (caretaker, watched) = (self.effects.caretaker.clone(), name.clone());
        let watcher = self.operations.spawn(async move {
            let reason = caretaker.watch(&spec, &instance).await;
            Outcome::Unhealthy(watched, reason)
        });
        if let Some(former) = self.watchers.insert(name.clone(), watcher) {
            former.abort();
        }
        if came_back {
            self.tell_dependants(name, cause);
        }
    }

    fn stopped(&mut self, name: &ServiceName, result: Result<(), OperationError>) {
        if let Err(error) = result {
            if error.is_engine_gone() {
                self.state.engine_answers = false;
            } else {
                self.emit(name, "service.stop-failed", format!("{name} could not be stopped: {error}"));
            }
        }
        let Some(service) = self.finish(name) else { return };
        if let Some(instance) = service.life.instance().cloned() {
            service.life = if service.spec.container().is_some() { Life::Idle(instance) } else { Life::Absent };
        }
        service.restart = None;
        self.emit(name, "service.stopped", format!("{name} was stopped"));
    }

    fn removed(&mut self, name: &ServiceName, result: Result<(), OperationError>) {
        match result {
            Ok(()) => {
                let Some(service) = self.finish(name) else { return };
                service.life = Life::Absent;
                service.moved = false;
                self.record.moved.retain(|moved| moved != name);
                let Some(service) = self.state.services.get_mut(name) else { return };
                let gone = service.wanted == Wanted::Gone && self.state.goal == Goal::Up;
                self.record.applied.remove(name);
                self.unsaved = true;
                self.emit(name, "service.removed", format!("{name} was removed"));
                if gone {
                    self.state.services.shift_remove(name);
                }
            }
            Err(error) => self.operation_failed(name, "it could not be removed", &error),
        }
    }

    fn examined(&mut self, name: &ServiceName, evidence: Option<Evidence>) {
        let Some(service) = self.finish(name) else { return };
        let Some(instance) = service.life.instance().cloned() else { return };
        let Some(evidence) = evidence else {
            service.life = Life::Running(instance);
            return;
        };
        if service.wanted != Wanted::Running {
            service.life = Life::Idle(instance);
            return;
        }
        let code = evidence.exit.as_ref().map_or(-1, |exit| exit.code);
        let told = evidence.exit.as_ref().map_or_else(|| "it ended".to_owned(), |exit| format!("it ended with {}", exit.describe()));
        if service
            .ready_after
            .is_some_and(|_| service.started.is_some_and(|started| Instant::now().into_std().duration_since(started) > PROVEN))
        {
            service.attempts = 0;
        }
        let again = match service.spec.restart.policy {
            RestartWhen::Always => true,
            RestartWhen::OnFailure => code != 0,
            RestartWhen::Never => false,
        };
        let Some(evidence) = self.old_version_instead(name, evidence, again || code != 0) else { return };
        let Some(service) = self.state.services.get_mut(name) else { return };
        if again && service.attempts < service.spec.restart.attempts {
            let delay = backoff::delay(service.attempts, rand::rng().random_range(0.0..1.0));
            service.attempts += 1;
            service.restarts += 1;
            service.came_back = true;
            service.life = Life::Backoff(instance, Instant::now().into_std() + delay, told.clone());
            let message = format!("{name} is started again in {} ms: {told}", delay.as_millis());
            self.emit_with(name, News::of(name, "service.restarting", message).with("exit_code", code));
        } else if again {
            let mut evidence = evidence;
            evidence.what = format!("it ended {} times in a row", service.attempts + 1);
            let failure = evidence.into_failure();
            service.life = Life::CrashLoop(instance, failure.clone());
            self.emit_with(name, News::of(name, "service.crash-loop", format!("{name}: {}", failure.reason)).with("exit_code", code));
        } else if code == 0 {
            service.life = Life::Completed(instance);
            self.emit(name, "service.completed", format!("{name} has completed"));
        } else {
            self.give_up(name, evidence);
        }
    }

    fn unhealthy(&mut self, name: &ServiceName, reason: String) {
        self.watchers.remove(name);
        let Some(service) = self.state.services.get_mut(name) else { return };
        if let Life::Ready(instance, _) = &service.life {
            service.life = Life::Unhealthy(instance.clone(), reason.clone());
            self.emit(name, "service.unhealthy", format!("{name} does not answer: {reason}"));
        }
    }

    fn heard(&mut self, name: &ServiceName, settling: Settling) {
        match settling {
            Settling::Answered => {
                if let Some(service) = self.state.services.get_mut(name) {
                    service.provisioning = true;
                }
            }
            Settling::Changed(what) => {
                self.emit(name, "service.provisioned", format!("{name}: {what}"));
            }
        }
    }

    fn tell_dependants(&mut self, name: &ServiceName, cause: u64) {
        for dependant in plan::affected_by(&self.state, name) {
            let service = self.state.services.get_mut(&dependant).expect("a dependant is a service");
            match service.spec.on_dependency_restart {
                OnDependencyRestart::Ignore => {}
                OnDependencyRestart::Restart => {
                    service.restart = Some(RestartReason::Dependency);
                    service.cause = Some(
                        self.events.emit(
                            News::of(&dependant, "service.restart-due", format!("{dependant} is restarted because {name} came back"))
                                .with("cause", cause),
                        ),
                    );
                }
                OnDependencyRestart::Signal => {
                    let subject = self.subject_of(&dependant);
                    let effects = self.effects.clone();
                    self.events.emit(
                        News::of(&dependant, "service.signalled", format!("{dependant} was sent SIGHUP because {name} came back"))
                            .with("cause", cause),
                    );
                    self.operations.spawn(async move {
                        if let Err(error) = effects.signal(&subject, "SIGHUP").await {
                            tracing::warn!(%error, service = %subject.spec.name, "A service could not be signalled.");
                        }
                        Outcome::Signalled
                    });
                }
            }
        }
    }

    fn operation_failed(&mut self, name: &ServiceName, what: &str, error: &OperationError) {
        if error.is_engine_gone() {
            self.state.engine_answers = false;
            self.finish(name);
            return;
        }
        let Some(service) = self.state.services.get(name) else { return };
        let evidence = self.effects.refused(&service.spec, what, error);
        self.give_up(name, evidence);
    }

    fn give_up(&mut self, name: &ServiceName, evidence: Evidence) {
        let Some(service) = self.finish(name) else { return };
        let failure: Failure = evidence.into_failure();
        service.life = Life::Failed(service.life.instance().cloned(), failure.clone());
        service.restart = None;
        if service.wanted == Wanted::Gone {
            // Nothing more can be done for it here; it must not hold up the others.
            service.life = Life::Absent;
        }
        self.emit_with(
            name,
            News::of(name, "service.failed", format!("{name}: {}", failure.reason)).with("detail", failure.detail.clone()),
        );
        self.reload_failed(name, &failure);
    }

    /// The service's operation has ended.
    fn finish(&mut self, name: &ServiceName) -> Option<&mut Service> {
        let service = self.state.services.get_mut(name)?;
        service.operation = None;
        Some(service)
    }

    fn emit(&mut self, name: &ServiceName, kind: &'static str, message: String) -> u64 {
        self.emit_with(name, News::of(name, kind, message))
    }

    /// Tells it, as the consequence of what the service did before.
    fn emit_with(&mut self, name: &ServiceName, news: News) -> u64 {
        let service = self.state.services.get_mut(name);
        let sequence = self.events.emit(news.because(service.as_ref().and_then(|service| service.cause)));
        if let Some(service) = service {
            service.cause = Some(sequence);
        }
        sequence
    }
}

mod reload;
#[cfg(test)]
mod tests;
