//! One environment of a daemon, on a fake engine and a fake service runtime.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use devenv_api::{Condition, ServiceState};
use devenv_engine::{Engine, EngineError, EngineEvent, ObservedContainer, OwnerId, UploadFile, fake::FakeEngine};
use devenv_secrets::Vault;
use devenv_spec::{
    ContainerSpec, EnvironmentId, EnvironmentSpec, Mount, MountSource, OnDependencyRestart, Probe, RestartPolicy, RestartWhen, ServiceName,
    ServiceSpec, Size, Stop, Workload,
};
use futures_util::{StreamExt, stream::BoxStream};
use indexmap::IndexMap;
use tempfile::TempDir;
use tokio::{
    sync::{broadcast, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    event::EventLog,
    reconcile::{Effects, Evidence, Exit, Handle, Instance, Leaving, Observed, ReadinessUpdate, ServiceRuntime, Setup, View, actor::begin},
    store::{Record, Store},
};

/// Everything a test needs around the task.
pub(super) struct World {
    pub(super) directory: TempDir,
    pub(super) engine: FakeEngine,
    pub(super) runtime: Arc<FakeServiceRuntime>,
    pub(super) specs: Vec<ServiceSpec>,
}

/// A daemon's lifetime: dropping it kills the daemon.
pub(super) struct Lifecycle {
    pub(super) handle: Handle,
    pub(super) tasks: JoinSet<()>,
}

pub(super) struct FakeServiceRuntime {
    engine: FakeEngine,
    /// How long a start takes until it is ready.
    pub(super) settles_in: Mutex<Duration>,
    /// The results of the next starts of a service; without any they succeed.
    pub(super) settlings: Mutex<HashMap<String, VecDeque<Result<String, Evidence>>>>,
    pub(super) runs: Mutex<HashMap<ServiceName, u32>>,
    /// The run of the kept version.
    pub(super) kept: Mutex<Option<u32>>,
    /// The id of every process, and how long its start takes; without it none can be started.
    pub(super) process: Mutex<Option<(u32, Duration)>>,
}

#[async_trait]
impl ServiceRuntime for FakeServiceRuntime {
    async fn prepare(&self, _: &ServiceSpec) -> Result<(), Evidence> {
        Ok(())
    }

    async fn settle(
        &self,
        spec: &ServiceSpec,
        instance: &Instance,
        news: &mpsc::UnboundedSender<ReadinessUpdate>,
    ) -> Result<String, Evidence> {
        let _mark = self.engine.mark(&instance.id, "settle");
        let _ = news.send(ReadinessUpdate::Answered);
        let settles_in = *self.settles_in.lock().unwrap();
        tokio::time::sleep(settles_in).await;
        let scripted = self.settlings.lock().unwrap().get_mut(spec.name.as_str()).and_then(VecDeque::pop_front);
        scripted.unwrap_or_else(|| Ok("proven".to_owned()))
    }

    fn mounted_files(&self, service: &ServiceName) -> std::path::PathBuf {
        std::env::temp_dir().join("devenv-tests").join(service.as_str())
    }

    async fn before_stop(&self, _: &ServiceSpec, _: &Instance) {}

    async fn watch(&self, _: &ServiceSpec, _: &Instance, _: &mpsc::UnboundedSender<ReadinessUpdate>) -> String {
        std::future::pending().await
    }

    async fn device(&self, _: &str, _: Size) -> Result<BTreeMap<String, String>, String> {
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

    async fn build_image(
        &self,
        _: &ServiceSpec,
        build: &devenv_spec::ImageBuild,
        _: &mpsc::Sender<crate::reconcile::Progress>,
    ) -> Result<(), Evidence> {
        use devenv_engine::{Engine, build::BuildInputs};
        let lines: Vec<_> = futures_util::StreamExt::collect(self.engine.build(build, BuildInputs::default())).await;
        lines.into_iter().find_map(Result::err).map_or(Ok(()), |error| Err(Evidence::of(error.to_string())))
    }

    fn diagnose(&self, _: &ServiceSpec, _: &Evidence) -> Option<(String, String)> {
        None
    }

    async fn start_process(&self, _: &ServiceSpec, _: u32) -> Result<String, Evidence> {
        let process = *self.process.lock().unwrap();
        let (pid, time) = process.ok_or_else(|| Evidence::of("this test has no processes"))?;
        tokio::time::sleep(time).await;
        Ok(pid.to_string())
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

    fn last_lines(&self, _: &ServiceName, _: u32, _: Option<jiff::Timestamp>) -> Vec<String> {
        Vec::new()
    }

    fn last_written(&self, _: &ServiceName, _: u32) -> Option<jiff::Timestamp> {
        None
    }

    fn serve(&self, _: &ServiceSpec, _: u32) {}

    async fn retire_process(&self, _: &ServiceSpec, _: u32) -> Result<(), String> {
        Ok(())
    }

    fn confirm_version(&self, _: &ServiceName, _: u32) {}

    fn fall_back(&self, _: &ServiceSpec) -> Option<u32> {
        *self.kept.lock().unwrap()
    }

    fn go_on(&self, _: &ServiceName) {}

    async fn synced_files(&self, _: &ServiceSpec) -> Vec<UploadFile> {
        Vec::new()
    }
}

impl World {
    /// A database with a volume, and an API that needs it.
    pub(super) fn new() -> Self {
        let mut db = service("db", &[]);
        let Workload::Container(container) = &mut db.workload else { unreachable!() };
        container.mounts.push(Mount {
            source: MountSource::Volume("data".into()),
            target: "/data".into(),
            read_only: false,
            device: None,
            options: devenv_spec::MountOptions::default(),
            image: None,
        });
        let mut api = service("api", &["db"]);
        api.on_dependency_restart = OnDependencyRestart::Restart;
        let engine = FakeEngine::new().with_image("db:1").with_image("api:1");
        let runtime = FakeServiceRuntime {
            engine: engine.clone(),
            settles_in: Mutex::default(),
            settlings: Mutex::default(),
            runs: Mutex::default(),
            kept: Mutex::default(),
            process: Mutex::default(),
        };
        Self { directory: tempfile::tempdir().unwrap(), engine, runtime: Arc::new(runtime), specs: vec![db, api] }
    }

    pub(super) fn owner() -> OwnerId {
        OwnerId("owner".to_owned())
    }

    pub(super) fn id() -> EnvironmentId {
        EnvironmentId::of("owner", Path::new("/p/shop"), "default")
    }

    pub(super) fn spec(&self) -> EnvironmentSpec {
        EnvironmentSpec {
            id: Self::id(),
            project: "/p/shop".into(),
            instance: "default".into(),
            profile: "shop".into(),
            subnet: "10.213.0.0/26".parse().unwrap(),
            planned: false,
            metrics_address: None,
            services: self.specs.iter().map(|spec| (spec.name.clone(), spec.clone())).collect(),
            networks: indexmap::IndexMap::new(),
            variables: IndexMap::new(),
            overridden: Vec::new(),
        }
    }

    /// Starts a daemon for it, on what the former one left.
    pub(super) async fn start(&self) -> Lifecycle {
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
            runtime: self.runtime.clone(),
            offline: Arc::default(),
        };
        let followed = engine.events(&Self::owner());
        let observed = observe(engine.as_ref()).await;
        let setup = Setup { record, store, events, effects, observed, progress: broadcast::channel(8).0 };
        let mut tasks = JoinSet::new();
        let (handle, task) = begin(setup, CancellationToken::new());
        tasks.spawn(task);
        let mut life = Lifecycle { handle, tasks };
        life.follow(followed);
        life
    }

    /// The engine goes away and comes back, and is followed again.
    pub(super) async fn interrupt(&self, life: &mut Lifecycle) {
        self.engine.disconnect();
        life.handle.engine_gone().await;
        self.engine.reconnect();
        let followed = self.engine.events(&Self::owner());
        life.handle.observed(observe(&self.engine).await).await;
        life.follow(followed);
    }

    pub(super) async fn containers(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.engine.containers(&Self::owner()).await.unwrap().into_iter().map(|container| container.name).collect();
        names.sort();
        names
    }

    /// What remains in an engine: containers and networks.
    pub(super) async fn leftovers(&self) -> usize {
        self.containers().await.len() + self.engine.networks(&Self::owner()).await.unwrap().len()
    }

    pub(super) fn next_settling(&self, service: &str, result: Result<String, Evidence>) {
        self.runtime.settlings.lock().unwrap().entry(service.to_owned()).or_default().push_back(result);
    }

    pub(super) async fn container(&self, service: &str) -> ObservedContainer {
        self.find(service).await.unwrap()
    }

    pub(super) async fn find(&self, service: &str) -> Option<ObservedContainer> {
        let containers = self.engine.containers(&Self::owner()).await.unwrap();
        containers.into_iter().find(|container| container.name.ends_with(&format!("-{service}")))
    }
}

impl Lifecycle {
    fn follow(&mut self, mut followed: BoxStream<'static, Result<EngineEvent, EngineError>>) {
        let environment = self.handle.clone();
        self.tasks.spawn(async move {
            while let Some(event) = followed.next().await {
                // The call that removed it reports that.
                let Ok(event) = event else { return };
                environment.engine_event(event).await;
            }
        });
    }

    pub(super) async fn up(&self, world: &World) -> View {
        let revision = self.handle.up(world.spec()).await.unwrap();
        within(self.handle.until_up(revision, &[])).await.unwrap()
    }

    pub(super) async fn down(&self, volumes: bool) -> View {
        let revision = self.handle.down(volumes).await.unwrap();
        within(self.handle.until_down(revision)).await.unwrap()
    }

    /// Waits until the view matches.
    pub(super) async fn until(&self, reached: impl Fn(&View) -> bool) -> View {
        let mut views = self.handle.view.clone();
        within(views.wait_for(reached)).await.unwrap().clone()
    }

    pub(super) fn state(&self, service: &str) -> ServiceState {
        self.handle.status().services.iter().find(|found| found.name == service).map(|found| found.state).unwrap()
    }

    pub(super) fn kinds(&self, service: &str) -> Vec<String> {
        let (history, _) = self.handle.events.history_and_rest().unwrap();
        history.into_iter().filter(|event| event.service.as_deref() == Some(service)).map(|event| event.kind).collect()
    }

    pub(super) async fn kill(mut self) {
        self.tasks.shutdown().await;
    }
}

pub(super) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(10), work).await.expect("it ends in time")
}

pub(super) async fn observe(engine: &dyn Engine) -> Observed {
    Observed {
        containers: engine.containers(&World::owner()).await.unwrap(),
        networks: engine.networks(&World::owner()).await.unwrap(),
        processes: Some(Vec::new()),
    }
}

pub(super) fn service(name: &str, needs: &[&str]) -> ServiceSpec {
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
        sleep: None,
    }
}
