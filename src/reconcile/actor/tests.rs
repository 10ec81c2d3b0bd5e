//! The task with a scripted engine and a scripted caretaker: what it does, in which order, and what it leaves behind when
//! it is killed at any moment.

use std::{
    collections::{HashMap, VecDeque},
    path::Path,
    sync::Mutex,
};

use async_trait::async_trait;
use devenv_api::{Condition, Phase, ServiceState};
use futures_util::StreamExt;
use indexmap::IndexMap;
use tempfile::TempDir;

use super::*;
use crate::{
    engine::{Engine, EngineError, OwnerId, fake::FakeEngine},
    reconcile::{Caretaker, Exit, Leaving},
    secret::Vault,
    spec::{ContainerSpec, EnvironmentId, Mount, MountSource, OnDependencyRestart, Probe, RestartPolicy, ServiceSpec, Stop, Workload},
};

/// Everything a test needs around the task.
struct World {
    directory: TempDir,
    engine: FakeEngine,
    caretaker: Arc<FakeCaretaker>,
    specs: Vec<ServiceSpec>,
}

/// A daemon's life: dropped, it is killed.
struct Life {
    handle: Handle,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct FakeCaretaker {
    /// What the next settlings of a service come to; without any they succeed at once.
    settlings: Mutex<HashMap<String, VecDeque<Result<String, Evidence>>>>,
    runs: Mutex<HashMap<ServiceName, u32>>,
}

#[async_trait]
impl Caretaker for FakeCaretaker {
    async fn prepare(&self, _: &ServiceSpec) -> Result<(), Evidence> {
        Ok(())
    }

    async fn settle(&self, spec: &ServiceSpec, _: &Instance, news: &mpsc::UnboundedSender<Settling>) -> Result<String, Evidence> {
        let _ = news.send(Settling::Answered);
        let scripted = self.settlings.lock().unwrap().get_mut(spec.name.as_str()).and_then(VecDeque::pop_front);
        scripted.unwrap_or_else(|| Ok("proven".to_owned()))
    }

    async fn watch(&self, _: &ServiceSpec, _: &Instance) -> String {
        std::future::pending().await
    }

    async fn device(&self, _: &str, _: crate::spec::Size) -> Result<BTreeMap<String, String>, String> {
        Err("these tests have no devices".to_owned())
    }

    fn next_run(&self, service: &ServiceName) -> u32 {
        let mut runs = self.runs.lock().unwrap();
        let run = runs.entry(service.clone()).or_default();
        *run += 1;
        *run
    }

    fn last_run(&self, service: &ServiceName) -> u32 {
        self.runs.lock().unwrap().get(service).copied().unwrap_or_default()
    }

    fn keep_output(&self, _: &ServiceSpec, _: &Instance) {}

    fn diagnose(&self, _: &ServiceSpec, _: &Evidence) -> Option<(String, String)> {
        None
    }

    async fn start_process(&self, _: &ServiceSpec, _: u32) -> Result<String, Evidence> {
        Err(Evidence::of("these tests have no processes"))
    }

    async fn stop_process(&self, _: &ServiceSpec, _: Leaving) -> Result<(), String> {
        Ok(())
    }

    async fn signal_process(&self, _: &ServiceSpec, _: u32, _: &str) -> Result<(), String> {
        Ok(())
    }

    async fn examine_process(&self, _: &ServiceSpec, _: u32) -> Exit {
        Exit { code: -1, out_of_memory: false, error: None }
    }

    fn keep_crash(&self, _: &ServiceName, _: u32) {}

    fn last_lines(&self, _: &ServiceName, _: u32) -> Vec<String> {
        Vec::new()
    }

    fn serve(&self, _: &ServiceSpec, _: u32) {}

    async fn retire_process(&self, _: &ServiceSpec, _: u32) -> Result<(), String> {
        Ok(())
    }

    async fn synced_files(&self, _: &ServiceSpec) -> Vec<crate::engine::UploadFile> {
        Vec::new()
    }
}

impl World {
    /// A database with a volume, and an API that needs it.
    fn new() -> Self {
        let mut db = service("db", &[]);
        let Workload::Container(container) = &mut db.workload else { unreachable!() };
        container.mounts.push(Mount { source: MountSource::Volume("data".into()), target: "/data".into(), read_only: false, device: None });
        let mut api = service("api", &["db"]);
        api.on_dependency_restart = OnDependencyRestart::Restart;
        Self {
            directory: tempfile::tempdir().unwrap(),
            engine: FakeEngine::new().with_image("db:1").with_image("api:1"),
            caretaker: Arc::default(),
            specs: vec![db, api],
        }
    }

    fn owner() -> OwnerId {
        OwnerId("owner".to_owned())
    }

    fn id() -> EnvironmentId {
        EnvironmentId::of(Path::new("/p/shop"), "default")
    }

    fn spec(&self) -> EnvironmentSpec {
        EnvironmentSpec {
            id: Self::id(),
            project: "/p/shop".into(),
            instance: "default".into(),
            profile: "shop".into(),
            subnet: "10.213.0.0/26".parse().unwrap(),
            services: self.specs.iter().map(|spec| (spec.name.clone(), spec.clone())).collect(),
            variables: IndexMap::new(),
        }
    }

    /// Starts a daemon's worth of it, on what the one before left.
    async fn start(&self) -> Life {
        let store = Store::open(self.directory.path()).unwrap();
        let record = store.records().unwrap().into_iter().next();
        let record = record.unwrap_or_else(|| Record::new(Self::id(), "/p/shop".into(), "default".into()));
        store.save(&record).unwrap();
        let events = EventLog::open(&record.id, &store.environment(&record.id).join("events.ndjson")).unwrap();
        let engine: Arc<dyn Engine> = Arc::new(self.engine.clone());
        let effects = Effects {
            engine: engine.clone(),
            owner: Self::owner(),
            vault: Vault::new(store.secrets(&record.id)),
            caretaker: self.caretaker.clone(),
            offline: Arc::default(),
        };
        let mut followed = engine.events(&Self::owner());
        let observed = observe(engine.as_ref()).await;
        let setup = Setup { record, store, events, effects, observed, progress: broadcast::channel(8).0 };
        let mut tasks = JoinSet::new();
        let handle = spawn(setup, &mut tasks, CancellationToken::new());
        let told = handle.clone();
        tasks.spawn(async move {
            while let Some(event) = followed.next().await {
                match event {
                    Ok(event) => told.engine_event(event).await,
                    Err(_) => told.engine_gone().await,
                }
            }
        });
        Life { handle, tasks }
    }

    async fn containers(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.engine.containers(&Self::owner()).await.unwrap().into_iter().map(|container| container.name).collect();
        names.sort();
        names
    }

    /// What an engine is left with: containers and networks.
    async fn leftovers(&self) -> usize {
        self.containers().await.len() + self.engine.networks(&Self::owner()).await.unwrap().len()
    }

    fn next_settling(&self, service: &str, result: Result<String, Evidence>) {
        self.caretaker.settlings.lock().unwrap().entry(service.to_owned()).or_default().push_back(result);
    }

    async fn container(&self, service: &str) -> crate::engine::ObservedContainer {
        let containers = self.engine.containers(&Self::owner()).await.unwrap();
        containers.into_iter().find(|container| container.name.ends_with(&format!("-{service}"))).unwrap()
    }
}

impl Life {
    async fn up(&self, world: &World) -> View {
        let turn = self.handle.up(world.spec()).await.unwrap();
        within(self.handle.until_up(turn)).await.unwrap()
    }

    async fn down(&self, volumes: bool) -> View {
        let turn = self.handle.down(volumes).await.unwrap();
        within(self.handle.until_down(turn)).await.unwrap()
    }

    /// Waits until the view is so.
    async fn until(&self, reached: impl Fn(&View) -> bool) -> View {
        let mut views = self.handle.view.clone();
        within(views.wait_for(reached)).await.unwrap().clone()
    }

    fn state(&self, service: &str) -> ServiceState {
        self.handle.status().services.iter().find(|found| found.name == service).map(|found| found.state).unwrap()
    }

    fn kinds(&self, service: &str) -> Vec<String> {
        let (history, _) = self.handle.events.history_and_rest().unwrap();
        history.into_iter().filter(|event| event.service.as_deref() == Some(service)).map(|event| event.kind).collect()
    }

    async fn kill(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(10), work).await.expect("it ends in time")
}

async fn observe(engine: &dyn Engine) -> Observed {
    Observed {
        containers: engine.containers(&World::owner()).await.unwrap(),
        network: engine.networks(&World::owner()).await.unwrap().into_iter().next(),
        processes: Some(Vec::new()),
    }
}

fn service(name: &str, needs: &[&str]) -> ServiceSpec {
    ServiceSpec {
        name: name.parse().unwrap(),
        kind: "container".into(),
        workload: Workload::Container(ContainerSpec::new(format!("{name}:1"))),
        depends_on: needs.iter().map(|name| (name.parse().unwrap(), Condition::Ready)).collect(),
        on_dependency_restart: OnDependencyRestart::Ignore,
        optional: false,
        probe: Probe::None,
        provision: Vec::new(),
        scripts: None,
        watch: Vec::new(),
        proof: None,
        ready_timeout: Duration::from_mins(1),
        stop: Stop { signal: "SIGTERM".into(), grace: Duration::from_secs(10) },
        restart: RestartPolicy { policy: RestartWhen::Always, attempts: 3 },
        urls: IndexMap::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn everything_comes_up_in_order_and_a_second_up_changes_nothing() {
    let world = World::new();
    let life = world.start().await;
    let view = life.up(&world).await;
    assert_eq!(view.status.phase, Phase::Ready);
    let starts: Vec<String> = world.engine.take_calls().into_iter().filter(|call| call.starts_with("start ")).collect();
    assert_eq!(starts.len(), 2);
    let before = world.containers().await;
    let view = life.up(&world).await;
    assert_eq!((view.status.phase, world.containers().await), (Phase::Ready, before));
    let changing: Vec<String> = world
        .engine
        .calls()
        .into_iter()
        .filter(|call| call.starts_with("start ") || call.starts_with("create") || call.starts_with("stop"))
        .collect();
    assert!(changing.is_empty(), "{changing:?}");
}

#[tokio::test(start_paused = true)]
async fn a_dependant_is_restarted_once_after_its_dependency_came_back_ready() {
    let world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    let (db, api) = (world.container("db").await, world.container("api").await);
    world.engine.die(&db.id, 137);
    let view = life
        .until(|view| {
            view.status.services.iter().all(|service| service.state == ServiceState::Ready)
                && view.status.services[0].restarts == 1
                && view.status.phase == Phase::Ready
                && view.settled.len() == 2
        })
        .await;
    assert_eq!(view.status.phase, Phase::Ready);
    assert_eq!((world.container("db").await.id, world.container("api").await.id), (db.id, api.id), "restarted, not replaced");
    let told = life.kinds("api");
    assert_eq!(told.iter().filter(|kind| *kind == "service.restart-due").count(), 1, "{told:?}");
    let why = life.handle.events.why("api").unwrap();
    assert!(why.iter().any(|event| event.message.contains("137")), "the chain goes back to the exit: {why:?}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_ends_again_and_again_is_a_crash_loop_and_says_how() {
    let world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    for _ in 0..4 {
        let id = world.container("db").await.id;
        life.until(|view| view.status.services[0].state == ServiceState::Ready).await;
        world.engine.die(&id, 3);
        life.until(|view| view.status.services[0].state != ServiceState::Ready).await;
    }
    let view = life.until(|view| view.status.services[0].state == ServiceState::CrashLoop).await;
    assert_eq!(view.status.phase, Phase::Failed);
    assert!(view.failures[0].failure.reason.contains("exit code 3"), "{:?}", view.failures);
    let view = life.up(&world).await;
    assert_eq!(view.status.phase, Phase::Ready, "another `up` tries again");
}

#[tokio::test(start_paused = true)]
async fn a_failed_up_leaves_what_runs_running_and_tells_the_evidence() {
    let world = World::new();
    world.next_settling(
        "db",
        Err(Evidence { probes: vec!["connection refused".into()], ..Evidence::of("it did not become ready within 60 s") }),
    );
    let life = world.start().await;
    let view = life.up(&world).await;
    assert_eq!(view.status.phase, Phase::Failed);
    assert_eq!(view.failures[0].failure.reason, "it did not become ready within 60 s: connection refused");
    assert_eq!(world.containers().await.len(), 2);
    assert_eq!(life.up(&world).await.status.phase, Phase::Ready);
}

#[tokio::test(start_paused = true)]
async fn down_goes_in_reverse_and_leaves_nothing_but_volumes() {
    let world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    let (db, api) = (world.container("db").await.id, world.container("api").await.id);
    world.engine.take_calls();
    let view = life.down(false).await;
    assert_eq!((view.status.phase, world.leftovers().await), (Phase::Absent, 0));
    let stops: Vec<String> = world.engine.calls().into_iter().filter(|call| call.starts_with("stop ")).collect();
    assert_eq!(stops, [format!("stop {api}"), format!("stop {db}")]);
    assert_eq!(world.engine.volumes(&World::owner()).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn removed_volumes_rest_in_the_trash_and_come_back() {
    let world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    let volume = world.engine.volumes(&World::owner()).await.unwrap()[0].name.clone();
    life.down(true).await;
    assert!(life.handle.record().await.unwrap().volumes.is_empty());
    assert_eq!(life.handle.undo().await.unwrap().unwrap(), ["db/data"]);
    assert_eq!(life.handle.record().await.unwrap().volumes["db/data"], volume);
    life.down(true).await;
    life.up(&world).await;
    assert_ne!(life.handle.record().await.unwrap().volumes["db/data"], volume, "what comes after the trash has a volume of its own");
    assert!(life.handle.undo().await.unwrap().is_err(), "not while it is up");
    assert!(life.handle.empty_trash(Duration::from_hours(1)).await.unwrap().is_empty());
    assert_eq!(life.handle.empty_trash(Duration::ZERO).await.unwrap(), [volume]);
}

#[tokio::test(start_paused = true)]
async fn a_service_moved_to_another_volume_is_made_anew_with_it() {
    let world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    let before = world.container("db").await.id;
    let fresh = life.handle.reserve_volumes(vec!["db/data".into()]).await.unwrap();
    let turn = life.handle.move_to(fresh.clone(), "reset").await.unwrap();
    let view = within(life.handle.until_up(turn)).await.unwrap();
    assert_eq!(view.status.phase, Phase::Ready);
    assert_ne!(world.container("db").await.id, before);
    assert_eq!(life.handle.record().await.unwrap().volumes["db/data"], fresh["db/data"]);
}

#[tokio::test(start_paused = true)]
async fn a_stopped_service_stays_stopped_in_the_next_daemons_life() {
    let world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    let names = vec!["api".parse().unwrap()];
    let turn = life.handle.services(names.clone(), Verb::Stop).await.unwrap();
    within(life.handle.until_settled(turn, &names)).await.unwrap();
    life.kill().await;
    let life = world.start().await;
    life.until(|view| view.status.services[0].state == ServiceState::Ready).await;
    assert_eq!(life.state("api"), ServiceState::Stopped);
    let turn = life.handle.services(names.clone(), Verb::Start).await.unwrap();
    within(life.handle.until_settled(turn, &names)).await.unwrap();
    assert_eq!(life.state("api"), ServiceState::Ready);
}

#[tokio::test(start_paused = true)]
async fn the_engine_may_go_away_and_come_back_under_it() {
    let world = World::new();
    let life = world.start().await;
    life.up(&world).await;
    world.engine.go_away();
    life.handle.engine_gone().await;
    let turn = life.handle.up(world.spec()).await.unwrap();
    world.engine.come_back();
    life.handle.observed(observe(&world.engine).await).await;
    let view = within(life.handle.until_up(turn)).await.unwrap();
    assert_eq!(view.status.phase, Phase::Ready);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_is_heard_of_before_the_start_has_returned_is_not_missed() {
    let world = World::new();
    let life = world.start().await;
    world.engine.delay("start", Duration::from_millis(50));
    let turn = life.handle.up(world.spec()).await.unwrap();
    life.until(|view| view.status.services[0].state == ServiceState::Starting).await;
    let container = world.container("db").await;
    let died = EngineEvent { container: container.id, labels: container.labels, kind: EngineEventKind::Died { code: 1 } };
    life.handle.engine_event(died).await;
    let view = within(life.handle.until_up(turn)).await.unwrap();
    assert_eq!(view.status.phase, Phase::Ready, "it was examined, and it ran");
}

#[tokio::test(start_paused = true)]
async fn a_taken_subnet_is_passed_over() {
    let world = World {
        engine: FakeEngine::new().with_image("db:1").with_image("api:1").with_foreign_subnet("10.213.0.0/24".parse().unwrap()),
        ..World::new()
    };
    let life = world.start().await;
    assert_eq!(life.up(&world).await.status.phase, Phase::Ready);
    let network = world.engine.networks(&World::owner()).await.unwrap().remove(0);
    assert_ne!(network.subnet.unwrap().to_string(), "10.213.0.0/26");
}

#[tokio::test(start_paused = true)]
async fn a_port_that_is_taken_at_the_start_fails_that_service_alone() {
    let world = World::new();
    world.engine.fail_next("start", EngineError::PortTaken { port: 25_000 });
    let life = world.start().await;
    let view = life.up(&world).await;
    assert_eq!(view.failures[0].name.as_str(), "db");
    assert!(view.failures[0].failure.reason.contains("port 25000"), "{:?}", view.failures);
}

/// The daemon is killed after each of the engine's calls in turn, on the way up and on the way down. Whatever it leaves,
/// the next one brings it up with one container a service and the same volume, and takes it down to nothing.
#[tokio::test(start_paused = true)]
async fn killed_after_any_call_it_leaves_what_the_next_life_can_finish_or_undo() {
    for volumes in [false, true] {
        for moment in 0..60 {
            let world = World::new();
            world.engine.delay("create_container", Duration::from_millis(5));
            world.engine.delay("start", Duration::from_millis(5));
            world.engine.delay("stop", Duration::from_millis(5));
            world.engine.delay("remove_container", Duration::from_millis(5));
            let life = world.start().await;
            let handle = life.handle.clone();
            let spec = world.spec();
            let work = tokio::spawn(async move {
                let turn = handle.up(spec).await?;
                handle.until_up(turn).await?;
                let turn = handle.down(volumes).await?;
                handle.until_down(turn).await
            });
            let reached = async {
                while world.engine.calls().len() < moment && !work.is_finished() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            within(reached).await;
            life.kill().await;
            work.abort();

            let life = world.start().await;
            assert_eq!(life.up(&world).await.status.phase, Phase::Ready, "after call {moment}");
            assert_eq!(world.containers().await.len(), 2, "after call {moment}");
            let volume = life.handle.record().await.unwrap().volumes["db/data"].clone();
            assert!(world.engine.volumes(&World::owner()).await.unwrap().iter().any(|found| found.name == volume), "after call {moment}");
            life.down(true).await;
            assert_eq!(world.leftovers().await, 0, "after call {moment}");
        }
    }
}
