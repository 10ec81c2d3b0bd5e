//! Operates running services: probes and provisions them, collects their output, and runs host processes.

mod applied_scripts;
pub(crate) mod builds;
pub(crate) mod hooks;
pub(crate) mod host_processes;
mod image_names;
pub(crate) mod images;
pub(crate) mod inherited;
mod keeping;
mod ledger;
mod log_collector;
pub(crate) mod loop_devices;
pub(crate) mod metrics;
mod port_proxies;
pub(crate) mod readiness;
pub(crate) mod repositories;
pub(crate) mod tasks;
pub(crate) mod telemetry;
pub(crate) mod versions;
pub(crate) mod watched;

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use devenv_engine::{ContainerState, Engine, UploadFile};
use devenv_kinds::{
    diagnosis,
    probe::{self, ExecTarget, Lines, ProbeContext},
    script::{Checksums, DatabaseRecords},
};
use devenv_logs::{Logs, Query};
use devenv_secrets::{Vault, tls};
use devenv_spec::{ImageBuild, OfKind, Probe, Reaction, ServiceName, ServiceSpec, Size, WatchRule, Workload};
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::{
    blocking,
    error::describe,
    golden::Golden,
    reconcile::{Evidence, Exit, Instance, Leaving, Progress, ReadinessUpdate, ServiceRuntime},
    store::{Record, Store},
};
use applied_scripts::AppliedScripts;
use builds::Builds;
use hooks::LifecycleHooks;
use host_processes::HostProcesses;
use log_collector::LogCollector;
use readiness::ReadinessCheck;
use versions::Versions;
use watched::{upload, watched};

/// How long a look at the project's files may delay the environment's task.
const FALLS_BACK_WITHIN: Duration = Duration::from_secs(10);

/// One environment's service runtime.
pub(crate) struct EnvironmentRuntime {
    engine: Arc<dyn Engine>,
    golden: Arc<Golden>,
    vault: Vault,
    logs: Logs,
    authority: PathBuf,
    loops: PathBuf,
    builds: Arc<Builds>,
    output: LogCollector,
    pub(crate) processes: Arc<HostProcesses>,
    versions: Arc<Versions>,
    runs: Mutex<HashMap<ServiceName, u32>>,
    project: PathBuf,
    checksums: Checksums,
    /// The last known ledger of each service's data.
    recorded: Mutex<HashMap<ServiceName, Vec<DatabaseRecords>>>,
    /// Their texts.
    applied_scripts: Arc<AppliedScripts>,
    /// One lock for each service's ledger.
    ledgers: Mutex<HashMap<ServiceName, Arc<tokio::sync::Mutex<()>>>>,
    /// What has been provisioned, by service.
    provisioned: Mutex<HashMap<ServiceName, Provisioned>>,
    hooks: LifecycleHooks,
    /// Files of containers that are mounted instead of written into them, by service.
    mounted: PathBuf,
    /// How long a service without a probe must run until it is ready.
    steady: Duration,
}

/// What a service was provisioned with, and the start after which that was checked.
#[derive(Debug, Clone, PartialEq)]
struct Provisioned {
    declared: Vec<OfKind>,
    container: String,
    run: u32,
}

impl EnvironmentRuntime {
    pub(crate) fn new(
        golden: Arc<Golden>,
        vault: Vault,
        logs: Logs,
        store: &Store,
        processes: Arc<HostProcesses>,
        record: &Record,
        steady: Duration,
    ) -> Self {
        let engine = golden.engine.clone();
        let builds = Builds::new(engine.clone(), logs.clone(), store.environment(&record.id).join("builds"));
        let output = LogCollector::new(engine.clone(), logs.clone());
        Self {
            engine,
            golden,
            vault,
            logs,
            authority: tls::certificate_of(&store.authority()),
            loops: store.loops(),
            builds: Arc::new(builds),
            output,
            processes,
            versions: Arc::new(Versions::new(store.versions(&record.id), record.project.clone())),
            runs: Mutex::default(),
            project: record.project.clone(),
            checksums: Checksums::default(),
            recorded: Mutex::default(),
            applied_scripts: Arc::new(AppliedScripts { directory: store.environment(&record.id).join("applied-scripts") }),
            ledgers: Mutex::default(),
            provisioned: Mutex::default(),
            mounted: store.environment(&record.id).join("files"),
            hooks: LifecycleHooks::new(store.environment(&record.id).join("hooks")),
            steady,
        }
    }

    /// Drops what this process has of the services: they keep running.
    pub(crate) fn end(&self) {
        self.output.end();
        self.processes.end();
    }

    pub(crate) fn versions(&self) -> Arc<Versions> {
        self.versions.clone()
    }

    /// The certificate by which servers with TLS are verified.
    pub(crate) fn authority(&self) -> &Path {
        &self.authority
    }

    /// Builds the service's image. Returns the fingerprint of its files.
    pub(crate) async fn build(&self, spec: &ServiceSpec, no_cache: bool, tell: impl FnMut(&str) + Send) -> Result<String, Evidence> {
        let variables = self.processes.inherited.current();
        let run = self.last_run(&spec.name);
        let Some(build) = spec.build() else { return Err(Evidence::of("has no image of its own")) };
        self.builds.build(spec, build, no_cache, &variables.0, run, tell).await
    }

    pub(crate) fn builds(&self) -> Arc<Builds> {
        self.builds.clone()
    }

    /// Whether the service's program runs. An engine that does not answer says nothing else.
    async fn runs(&self, spec: &ServiceSpec, instance: &Instance) -> bool {
        match &spec.workload {
            Workload::Process(_) => self.processes.runs(&spec.name, instance.run),
            Workload::Container(_) => match self.engine.inspect(&instance.id).await {
                Ok(Some(container)) => !matches!(container.state, ContainerState::Created | ContainerState::Exited { .. }),
                Ok(None) => false,
                Err(_) => true,
            },
        }
    }

    fn context(&self, spec: &ServiceSpec, instance: &Instance) -> ProbeContext {
        let target = match &spec.workload {
            Workload::Container(container) => ExecTarget::Container {
                engine: self.engine.clone(),
                id: instance.id.clone(),
                // A secret that cannot be read has prevented the service's start.
                environment: self.vault.resolve_all(container.secret_variables()).unwrap_or_default(),
            },
            Workload::Process(process) => ExecTarget::Process {
                directory: process.directory.clone(),
                // As above.
                environment: self.processes.variables(spec, instance.run, &self.vault).unwrap_or_default(),
            },
        };
        ProbeContext {
            vault: self.vault.clone(),
            authority: Some(self.authority.clone()),
            target,
            lines: lines_of(&self.logs, &spec.name, instance.run),
        }
    }
}

#[async_trait]
impl ServiceRuntime for EnvironmentRuntime {
    async fn prepare(&self, spec: &ServiceSpec) -> Result<(), Evidence> {
        self.golden.prepare(spec, &self.project, &self.checksums).await
    }

    async fn settle(
        &self,
        spec: &ServiceSpec,
        instance: &Instance,
        news: &mpsc::UnboundedSender<ReadinessUpdate>,
    ) -> Result<String, Evidence> {
        self.processes.hold_ports(spec).await.map_err(|error| Evidence::of(describe(&error)))?;
        self.hooks.started(self.engine.as_ref(), &self.logs, spec, instance).await?;
        ReadinessCheck::new(self, spec, instance, news).settle().await
    }

    async fn before_stop(&self, spec: &ServiceSpec, instance: &Instance) {
        LifecycleHooks::stopping(self.engine.as_ref(), &self.logs, spec, instance).await;
    }

    async fn watch(&self, spec: &ServiceSpec, instance: &Instance, news: &mpsc::UnboundedSender<ReadinessUpdate>) -> String {
        if let Err(reason) = ReadinessCheck::new(self, spec, instance, news).make_up_for_provisioning().await {
            return reason;
        }
        // With a log probe that was done before.
        if !matches!(spec.probe, Probe::Log { .. }) {
            self.keep_version(spec, instance).await;
        }
        let cx = self.context(spec, instance);
        let probe = spec.proof.as_ref().unwrap_or(&spec.probe).behind(&self.processes.ports(&spec.name, instance.run));
        probe::watchful(&probe, &cx).await.to_string()
    }

    fn next_run(&self, service: &ServiceName) -> u32 {
        let run = self.last_run(service) + 1;
        self.runs.lock().expect("no code panics while it holds this lock").insert(service.clone(), run);
        run
    }

    fn last_run(&self, service: &ServiceName) -> u32 {
        let mut runs = self.runs.lock().expect("no code panics while it holds this lock");
        *runs.entry(service.clone()).or_insert_with(|| {
            let last = blocking::in_place(|| self.logs.tail(service.as_str(), None, 1)).ok();
            let last = last.and_then(|lines| lines.last().map(|line| line.run));
            last.unwrap_or(0).max(self.processes.last_run(service))
        })
    }

    fn keep_output(&self, spec: &ServiceSpec, instance: &Instance) {
        match &spec.workload {
            Workload::Container(_) => self.output.keep(&spec.name, &instance.id, instance.run.max(1)),
            // Its process shim does that, and knows of its end.
            Workload::Process(_) => self.processes.follow(&spec.name, instance.run),
        }
    }

    async fn device(&self, volume: &str, size: Size) -> Result<BTreeMap<String, String>, String> {
        loop_devices::options(&self.loops, volume, size).await
    }

    async fn build_image(&self, spec: &ServiceSpec, build: &ImageBuild, progress: &mpsc::Sender<Progress>) -> Result<(), Evidence> {
        let tell = |line: &str| {
            // Progress is only informative and may be missed.
            let _ = progress.try_send(Progress { service: spec.name.clone(), message: line.to_owned() });
        };
        let variables = self.processes.inherited.current();
        self.builds.build(spec, build, false, &variables.0, self.last_run(&spec.name), tell).await.map(drop)
    }

    fn diagnose(&self, spec: &ServiceSpec, evidence: &Evidence) -> Option<(String, String)> {
        let known = diagnosis::Evidence {
            kind: spec.kind.clone(),
            service: spec.name.to_string(),
            exit_code: evidence.exit.as_ref().map(|exit| exit.code),
            out_of_memory: evidence.exit.as_ref().is_some_and(|exit| exit.out_of_memory),
            log: evidence.lines.clone(),
            probe: evidence.probes.clone(),
            engine: Some(evidence.what.clone()),
        };
        diagnosis::diagnose(&known).map(|found| (found.cause, found.fix))
    }

    async fn start_process(&self, spec: &ServiceSpec, run: u32) -> Result<String, Evidence> {
        let spec = self.blocking(spec, Versions::to_start).await.unwrap_or_else(|| spec.clone());
        self.processes
            .start(&spec, run, &self.vault, &self.logs)
            .await
            .map_err(|error| Evidence::of(format!("cannot be started: {}", describe(&error))))
    }

    async fn stop_process(&self, spec: &ServiceSpec, leaving: Leaving) -> Result<(), String> {
        match leaving {
            Leaving::Ports => self.processes.stop(spec).await,
            Leaving::Nothing => {
                let stopped = self.processes.stop_for_good(spec).await;
                self.versions.forget(&spec.name);
                stopped
            }
        }
    }

    fn confirm_version(&self, service: &ServiceName, run: u32) {
        let (versions, service) = (self.versions.clone(), service.clone());
        // As below.
        blocking::in_place_within(FALLS_BACK_WITHIN, move || versions.confirm(&service, run));
    }

    fn fall_back(&self, spec: &ServiceSpec) -> Option<u32> {
        let (versions, spec) = (self.versions.clone(), spec.clone());
        // The environment's task waits for it.
        blocking::in_place_within(FALLS_BACK_WITHIN, move || versions.fall_back(&spec)).flatten()
    }

    fn go_on(&self, service: &ServiceName) {
        blocking::in_place(|| self.versions.go_on(service));
    }

    async fn signal_process(&self, spec: &ServiceSpec, run: u32, signal: &str) -> Result<(), String> {
        self.processes.signal(spec, run, signal).await
    }

    async fn examine_process(&self, spec: &ServiceSpec, run: u32) -> Exit {
        self.processes.exited(&spec.name, run).await
    }

    fn keep_crash(&self, service: &ServiceName, run: u32) {
        if let Err(error) = blocking::in_place(|| self.logs.pin_crash(service.as_str(), run)) {
            tracing::warn!(%error, %service, "Cannot store the last log lines of a crash.");
        }
    }

    fn last_lines(&self, service: &ServiceName, run: u32, since: Option<Timestamp>) -> Vec<String> {
        let lines = blocking::in_place(|| self.logs.tail(service.as_str(), Some(run), 30)).unwrap_or_default();
        let is_new = |time: &str| since.is_none_or(|since| time.parse::<Timestamp>().is_ok_and(|time| time >= since));
        lines.into_iter().filter(|line| is_new(&line.time)).map(|line| self.vault.redact(&line.text)).collect()
    }

    fn last_written(&self, service: &ServiceName, run: u32) -> Option<Timestamp> {
        // Lines of its two streams may be out of order.
        let lines = blocking::in_place(|| self.logs.tail(service.as_str(), Some(run), 30)).ok()?;
        lines.iter().filter_map(|line| line.time.parse().ok()).max()
    }

    fn serve(&self, spec: &ServiceSpec, run: u32) {
        if matches!(spec.workload, Workload::Process(_)) {
            self.processes.serve(spec, run);
        }
    }

    async fn retire_process(&self, spec: &ServiceSpec, run: u32) -> Result<(), String> {
        self.processes.retire(spec, run).await
    }

    fn mounted_files(&self, service: &ServiceName) -> PathBuf {
        self.mounted.join(service.as_str())
    }

    async fn synced_files(&self, spec: &ServiceSpec) -> Vec<UploadFile> {
        let (project, name) = (self.project.clone(), spec.name.clone());
        let rules: Vec<WatchRule> = spec.watch.iter().filter(|rule| matches!(rule.reaction, Reaction::Sync { .. })).cloned().collect();
        if rules.is_empty() {
            return Vec::new();
        }
        let place = project.clone();
        let read = move || -> Vec<UploadFile> {
            let files = |rule: &WatchRule| devenv_watch::files(&project, &watched(&name, 0, rule));
            let all = rules.iter().flat_map(|rule| files(rule).into_iter().map(move |file| upload(rule, &file)));
            let read = all.filter_map(|file| {
                file.inspect_err(|error| tracing::warn!(%error, service = %name, "A file is not copied into the container.")).ok().flatten()
            });
            read.collect()
        };
        if let Some(files) = self.blocking(spec, Versions::synced_files).await.flatten() {
            return files;
        }
        let files = devenv_files::read_in_time(vec![place], read).await;
        files.unwrap_or_else(|error| {
            tracing::warn!(%error, service = %spec.name, "Cannot read the files that are copied into the container.");
            Vec::new()
        })
    }
}

/// The lines of one start, from its first.
fn lines_of(logs: &Logs, service: &ServiceName, run: u32) -> Lines {
    let (logs, service) = (logs.clone(), service.clone());
    Arc::new(move || {
        let query = Query { services: vec![service.to_string()], ..Query::default() };
        let Ok(follower) = logs.follow(query) else { return stream::pending().boxed() };
        stream::unfold(follower, |mut follower| async move { follower.next().await.ok().map(|lines| (lines, follower)) })
            .flat_map(stream::iter)
            .filter(move |line| std::future::ready(line.run == run))
            .map(|line| line.text)
            .boxed()
    })
}
