//! Looks after services that run: probes and provisions them, keeps their output, runs those that are host processes.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use devenv_api::LedgerEntry;
use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::{
    describe,
    golden::{self, Golden},
    hosts::Hosts,
    loops,
    output::Output,
    reload,
    versions::Versions,
};
use crate::{
    diagnosis,
    engine::{Engine, UploadFile},
    log::{Logs, Query},
    probe::{self, ExecTarget, Lines, NotReady, ProbeContext, Receipt, Schedule},
    provision::{self, Change, ProvisionContext, ProvisionError, hmac::hex},
    reconcile::{Caretaker, Evidence, Exit, Instance, Leaving, Settling},
    script::{self, Checksums, Choice, DatabaseRecords, ScriptContext, ScriptError},
    secret::Vault,
    spec::{Probe, Provision, Reaction, ScriptSet, ServiceName, ServiceSpec, Size, WatchRule, Workload},
    store::{Record, Store},
    tls, watch,
};

/// One environment's caretaker.
pub(crate) struct DaemonCaretaker {
    engine: Arc<dyn Engine>,
    golden: Arc<Golden>,
    vault: Vault,
    logs: Logs,
    authority: PathBuf,
    loops: PathBuf,
    output: Output,
    pub(super) hosts: Arc<Hosts>,
    versions: Arc<Versions>,
    runs: Mutex<HashMap<ServiceName, u32>>,
    project: PathBuf,
    checksums: Checksums,
    /// What each service's data was last heard to say of its scripts.
    recorded: Mutex<HashMap<ServiceName, Vec<DatabaseRecords>>>,
    /// Whose turn it is at each service's ledger.
    ledgers: Mutex<HashMap<ServiceName, Arc<tokio::sync::Mutex<()>>>>,
    /// What has been brought about in each service.
    provisioned: Mutex<HashMap<ServiceName, Vec<Provision>>>,
}

/// PostgreSQL's word for it.
const WRONG_PASSWORD: &str = "SQLSTATE 28P01";

/// What came of applying.
pub(crate) struct Applied {
    /// Nothing had been applied before: the data is as freshly initialised and seeded.
    pub(crate) fresh: bool,
}

fn failed_script(error: &ScriptError) -> Evidence {
    let hint = error.hint.clone().unwrap_or_else(|| "mend the script and say `devenv up` again: it goes on where it stopped".to_owned());
    Evidence { diagnosis: Some((error.to_string(), hint)), ..Evidence::of("a script failed") }
}

impl DaemonCaretaker {
    pub(super) fn new(golden: Arc<Golden>, vault: Vault, logs: Logs, store: &Store, hosts: Arc<Hosts>, record: &Record) -> Self {
        let engine = golden.engine.clone();
        let output = Output::new(engine.clone(), logs.clone());
        Self {
            engine,
            golden,
            vault,
            logs,
            authority: tls::certificate_of(&store.authority()),
            loops: store.loops(),
            output,
            hosts,
            versions: Arc::new(Versions::new(store.versions(&record.id), record.project.clone())),
            runs: Mutex::default(),
            project: record.project.clone(),
            checksums: Checksums::default(),
            recorded: Mutex::default(),
            ledgers: Mutex::default(),
            provisioned: Mutex::default(),
        }
    }

    /// The certificate by which servers with TLS are verified.
    pub(super) fn authority(&self) -> &Path {
        &self.authority
    }

    /// Applies the scripts that are pending; `tell` hears of each that was applied.
    pub(crate) async fn apply(
        &self,
        set: &ScriptSet,
        choice: Choice,
        instance: &Instance,
        tell: impl Fn(String),
    ) -> Result<Applied, ScriptError> {
        let _turn = self.turn(&set.service).await;
        let progress = |_: script::Progress<'_>| {};
        let script::Applied { before, after, result } = script::apply(set, choice, &self.scripts(instance, &progress)).await?;
        for (database, entries) in &after {
            let known = before.iter().find(|(known, _)| known == database).map(|(_, entries)| entries.as_slice()).unwrap_or_default();
            for entry in entries.iter().filter(|entry| entry.applied_at.is_some() && !known.contains(entry)) {
                tell(format!("`{}` was applied in {} ms", entry.path, entry.duration_ms.unwrap_or_default()));
            }
        }
        self.note(&set.service, after);
        let fresh = choice == Choice::All && before.iter().all(|(_, entries)| entries.is_empty());
        result.map(|()| Applied { fresh })
    }

    /// Hears again what the data says of its scripts.
    pub(super) async fn reread(&self, set: &ScriptSet, instance: &Instance) {
        let _turn = self.turn(&set.service).await;
        let progress = |_: script::Progress<'_>| {};
        match script::recorded(set, &self.scripts(instance, &progress)).await {
            Ok(recorded) => self.note(&set.service, recorded),
            Err(error) => tracing::warn!(%error, service = %set.service, "The ledger could not be read."),
        }
    }

    /// A ledger is one's alone, since whoever works on it ends what others do there.
    async fn turn(&self, service: &ServiceName) -> tokio::sync::OwnedMutexGuard<()> {
        let ledger = self.ledgers.lock().expect("no holder of this lock panics").entry(service.clone()).or_default().clone();
        ledger.lock_owned().await
    }

    /// Keeps what the data said, in place of what it said before of the same databases.
    fn note(&self, service: &ServiceName, said: Vec<DatabaseRecords>) {
        let mut recorded = self.recorded.lock().expect("no holder of this lock panics");
        let known = recorded.entry(service.clone()).or_default();
        known.retain(|(database, _)| said.iter().all(|(other, _)| other != database));
        known.extend(said);
    }

    /// The ledger of a service, by today's files and what its data was last heard to say.
    pub(crate) async fn ledger(&self, set: &ScriptSet) -> Result<Vec<LedgerEntry>, ScriptError> {
        let recorded = self.recorded.lock().expect("no holder of this lock panics").get(&set.service).cloned();
        match recorded {
            Some(recorded) => script::view(set, &recorded, &self.project, &self.checksums),
            None => Ok(Vec::new()),
        }
    }

    /// Changes whenever scripts or data sets are applied to any service's data.
    pub(crate) fn data_key(&self) -> String {
        let recorded = self.recorded.lock().expect("no holder of this lock panics");
        let mut lines: Vec<String> = Vec::new();
        for (service, databases) in recorded.iter() {
            for (database, entries) in databases {
                lines.extend(entries.iter().map(|entry| format!("{service} {database:?} {} {:?}\n", entry.path, entry.applied_at)));
            }
        }
        lines.sort_unstable();
        hex(&Sha256::digest(lines.concat()))[..16].to_owned()
    }

    /// Records today's file as what was applied; whether the set has it.
    pub(crate) async fn accept(&self, set: &ScriptSet, path: &str, instance: &Instance) -> Result<bool, ScriptError> {
        let _turn = self.turn(&set.service).await;
        let progress = |_: script::Progress<'_>| {};
        let cx = self.scripts(instance, &progress);
        let accepted = script::accept(set, path, &cx).await?;
        self.note(&set.service, script::recorded(set, &cx).await?);
        Ok(accepted)
    }

    fn scripts<'a>(&'a self, instance: &'a Instance, progress: &'a (dyn Fn(script::Progress<'_>) + Send + Sync)) -> ScriptContext<'a> {
        ScriptContext {
            engine: self.engine.as_ref(),
            container: &instance.id,
            vault: &self.vault,
            project: &self.project,
            authority: Some(&self.authority),
            checksums: &self.checksums,
            progress,
        }
    }

    /// `again`: what it is for has been brought about before.
    fn provisioning(&self, again: bool) -> ProvisionContext {
        ProvisionContext { vault: self.vault.clone(), authority: Some(self.authority.clone()), again }
    }

    fn context(&self, spec: &ServiceSpec, instance: &Instance) -> ProbeContext {
        let target = match &spec.workload {
            Workload::Container(container) => ExecTarget::Container {
                engine: self.engine.clone(),
                id: instance.id.clone(),
                // A secret that cannot be read has kept the service from being started.
                environment: self.vault.resolve_all(container.secret_variables()).unwrap_or_default(),
            },
            Workload::Process(process) => ExecTarget::Process {
                directory: process.directory.clone(),
                environment: self.hosts.variables(spec, instance.run, &self.vault),
            },
        };
        ProbeContext {
            vault: self.vault.clone(),
            authority: Some(self.authority.clone()),
            target,
            lines: lines_of(&self.logs, &spec.name, instance.run),
        }
    }

    /// The first answer. Where data came with another superuser's password than this environment's, that is set anew
    /// over the server's own socket, which nobody but us reaches.
    async fn answer(
        &self,
        spec: &ServiceSpec,
        probe: &Probe,
        instance: &Instance,
        cx: &ProbeContext,
        began: Instant,
        news: &mpsc::UnboundedSender<Settling>,
    ) -> Result<Receipt, Evidence> {
        let refused = tokio::sync::Notify::new();
        let hear = |failure: &probe::ProbeFailure| {
            if failure.what.contains(WRONG_PASSWORD) {
                refused.notify_one();
            }
        };
        let mend = async {
            if let Some(provision) = golden::postgres(spec) {
                refused.notified().await;
                match provision::mend_superuser(self.engine.as_ref(), &instance.id, provision, &self.vault).await {
                    Ok(()) => drop(news.send(Settling::Changed("the superuser's password was set to this environment's".to_owned()))),
                    Err(error) => tracing::warn!(%error, service = %spec.name, "The superuser's password could not be set."),
                }
            }
            std::future::pending::<()>().await;
        };
        // Dropping either half is safe: the password is set by one statement.
        tokio::select! {
            answer = self.ask_hearing(probe, cx, began, spec.ready_timeout, hear) => answer,
            () = mend => unreachable!("it never ends"),
        }
    }

    /// What is declared, in a server that answers; and the proof of it, if there is one to be had.
    async fn bring_about(
        &self,
        spec: &ServiceSpec,
        instance: &Instance,
        cx: &ProbeContext,
        began: Instant,
        news: &mpsc::UnboundedSender<Settling>,
    ) -> Result<Option<Receipt>, Evidence> {
        let known = !self.golden.began_empty(&spec.name)
            && self.provisioned.lock().expect("no holder of this lock panics").get(&spec.name) == Some(&spec.provision);
        // Where most likely nothing is left to do, the proof is asked for meanwhile.
        let early = async {
            match &spec.proof {
                Some(proof) if known => probe::ask(proof, cx).await.ok(),
                _ => None,
            }
        };
        let (changed, early) = futures_util::join!(self.provision(spec, known, cx, began, news), early);
        let changed = changed?;
        let applied = AtomicBool::new(false);
        let fresh = match &spec.scripts {
            Some(set) => {
                let tell = |what| {
                    applied.store(true, Ordering::Relaxed);
                    let _ = news.send(Settling::Changed(what));
                };
                self.apply(set, Choice::All, instance, tell).await.map_err(|error| failed_script(&error))?.fresh
            }
            None => true,
        };
        if fresh {
            self.golden.keep(spec, instance, self.provisioning(false), &self.project, &self.checksums).await;
        }
        Ok(match (&spec.proof, early) {
            (None, _) => None,
            (Some(_), Some(early)) if !changed && !applied.into_inner() => Some(early),
            (Some(proof), _) => Some(self.ask(proof, cx, began, spec.ready_timeout.max(began.elapsed() + Duration::from_secs(10))).await?),
        })
    }

    /// Whether anything had to be changed.
    async fn provision(
        &self,
        spec: &ServiceSpec,
        again: bool,
        cx: &ProbeContext,
        began: Instant,
        news: &mpsc::UnboundedSender<Settling>,
    ) -> Result<bool, Evidence> {
        let mut changed = false;
        for provision in &spec.provision {
            for change in self.provide(spec, provision, again, cx, began).await? {
                changed = true;
                let _ = news.send(Settling::Changed(change.what));
            }
        }
        self.provisioned.lock().expect("no holder of this lock panics").insert(spec.name.clone(), spec.provision.clone());
        Ok(changed)
    }

    /// Provisions, and again from the start when the server has gone away meanwhile and come back within its time: every
    /// step may be repeated.
    async fn provide(
        &self,
        spec: &ServiceSpec,
        provision: &Provision,
        again: bool,
        cx: &ProbeContext,
        began: Instant,
    ) -> Result<Vec<Change>, Evidence> {
        loop {
            match provision::apply(provision, &self.provisioning(again)).await {
                Ok(changes) => return Ok(changes),
                Err(error @ ProvisionError::Unreachable { .. }) if began.elapsed() < spec.ready_timeout => {
                    tracing::info!(%error, service = %spec.name, "Provisioning begins again once the server answers.");
                    self.ask(&spec.probe, cx, began, spec.ready_timeout).await?;
                }
                Err(error) => {
                    let diagnosis = error.hint().map(|hint| (error.to_string(), hint));
                    return Err(Evidence { diagnosis, ..Evidence::of(format!("it could not be provisioned: {error}")) });
                }
            }
        }
    }

    /// Keeps the files of a version that has just become ready.
    async fn keep_version(&self, spec: &ServiceSpec, instance: &Instance) {
        let run = instance.run;
        let started = match &spec.workload {
            Workload::Process(_) => self.hosts.started_at(&spec.name),
            // Its files were copied into it, so they are what it has; what is newer is on its way.
            Workload::Container(_) => Some(SystemTime::now()),
        };
        if let Some(started) = started {
            self.blocking(spec, move |versions, spec| versions.keep(spec, run, started)).await;
        }
    }

    /// Nothing if it panicked, which has been told by the runtime.
    async fn blocking<T: Send + 'static>(
        &self,
        spec: &ServiceSpec,
        work: impl FnOnce(&Versions, &ServiceSpec) -> T + Send + 'static,
    ) -> Option<T> {
        let (versions, spec) = (self.versions.clone(), spec.clone());
        tokio::task::spawn_blocking(move || work(&versions, &spec)).await.ok()
    }

    /// Asks until there is a proof, within what is left of the service's time.
    async fn ask(&self, probe: &Probe, cx: &ProbeContext, began: Instant, limit: Duration) -> Result<Receipt, Evidence> {
        self.ask_hearing(probe, cx, began, limit, |_| {}).await
    }

    async fn ask_hearing(
        &self,
        probe: &Probe,
        cx: &ProbeContext,
        began: Instant,
        limit: Duration,
        hear: impl FnMut(&probe::ProbeFailure) + Send,
    ) -> Result<Receipt, Evidence> {
        let left = limit.saturating_sub(began.elapsed());
        match probe::until_ready(probe, cx, Schedule::until(left), hear).await {
            Ok(receipt) => Ok(receipt),
            Err(NotReady { last, .. }) => Err(Evidence {
                probes: last.into_iter().map(|(after, failure)| format!("after {after} ms: {failure}")).collect(),
                ..Evidence::of(format!("it did not become ready within {} s", limit.as_secs_f32()))
            }),
        }
    }
}

#[async_trait]
impl Caretaker for DaemonCaretaker {
    async fn prepare(&self, spec: &ServiceSpec) -> Result<(), Evidence> {
        self.golden.prepare(spec, &self.project, &self.checksums).await
    }

    async fn settle(&self, spec: &ServiceSpec, instance: &Instance, news: &mpsc::UnboundedSender<Settling>) -> Result<String, Evidence> {
        let (cx, began) = (self.context(spec, instance), Instant::now());
        let probe = spec.probe.behind(&self.hosts.ports(&spec.name, instance.run));
        loop {
            let answer = self.answer(spec, &probe, instance, &cx, began, news).await?;
            self.golden.answered(&spec.name)?;
            // Whoever listened may be gone; what is to be done is not.
            let _ = news.send(Settling::Answered);
            let proof = self.bring_about(spec, instance, &cx, began, news).await?;
            match proof {
                // A server that was started anew in between may have lost what was brought about.
                Some(proof) if proof.life != answer.life => {}
                proof => {
                    self.golden.replenish(spec).await;
                    return Ok(proof.unwrap_or(answer).evidence);
                }
            }
        }
    }

    async fn watch(&self, spec: &ServiceSpec, instance: &Instance) -> String {
        self.keep_version(spec, instance).await;
        let cx = self.context(spec, instance);
        let probe = spec.proof.as_ref().unwrap_or(&spec.probe).behind(&self.hosts.ports(&spec.name, instance.run));
        probe::watchful(&probe, &cx).await.to_string()
    }

    fn next_run(&self, service: &ServiceName) -> u32 {
        let run = self.last_run(service) + 1;
        self.runs.lock().expect("no holder of this lock panics").insert(service.clone(), run);
        run
    }

    fn last_run(&self, service: &ServiceName) -> u32 {
        let mut runs = self.runs.lock().expect("no holder of this lock panics");
        *runs.entry(service.clone()).or_insert_with(|| {
            let last = self.logs.tail(service.as_str(), None, 1).ok().and_then(|lines| lines.last().map(|line| line.run));
            last.unwrap_or(0).max(self.hosts.last_run(service))
        })
    }

    fn keep_output(&self, spec: &ServiceSpec, instance: &Instance) {
        match &spec.workload {
            Workload::Container(_) => self.output.keep(&spec.name, &instance.id, instance.run.max(1)),
            // Its keeper does, and it is the keeper who knows of its end.
            Workload::Process(_) => self.hosts.follow(&spec.name, instance.run),
        }
    }

    async fn device(&self, volume: &str, size: Size) -> Result<BTreeMap<String, String>, String> {
        loops::options(&self.loops, volume, size).await
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
        self.hosts
            .start(&spec, run, &self.vault, &self.logs)
            .await
            .map_err(|error| Evidence::of(format!("it could not be started: {}", describe(&error))))
    }

    async fn stop_process(&self, spec: &ServiceSpec, leaving: Leaving) -> Result<(), String> {
        match leaving {
            Leaving::Ports => self.hosts.stop(spec).await,
            Leaving::Nothing => {
                let stopped = self.hosts.stop_for_good(spec).await;
                self.versions.forget(&spec.name);
                stopped
            }
        }
    }

    fn fall_back(&self, spec: &ServiceSpec) -> Option<u32> {
        self.versions.fall_back(spec)
    }

    fn go_on(&self, service: &ServiceName) {
        self.versions.go_on(service);
    }

    async fn signal_process(&self, spec: &ServiceSpec, run: u32, signal: &str) -> Result<(), String> {
        self.hosts.signal(spec, run, signal).await
    }

    async fn examine_process(&self, spec: &ServiceSpec, run: u32) -> Exit {
        self.hosts.exited(&spec.name, run).await
    }

    fn keep_crash(&self, service: &ServiceName, run: u32) {
        if let Err(error) = self.logs.pin_crash(service.as_str(), run) {
            tracing::warn!(%error, %service, "The last lines of a crash could not be kept.");
        }
    }

    fn last_lines(&self, service: &ServiceName, run: u32) -> Vec<String> {
        let lines = self.logs.tail(service.as_str(), Some(run), 30).unwrap_or_default();
        lines.into_iter().map(|line| self.vault.redact(&line.text)).collect()
    }

    fn serve(&self, spec: &ServiceSpec, run: u32) {
        if matches!(spec.workload, Workload::Process(_)) {
            self.hosts.serve(spec, run);
        }
    }

    async fn retire_process(&self, spec: &ServiceSpec, run: u32) -> Result<(), String> {
        self.hosts.retire(spec, run).await
    }

    async fn synced_files(&self, spec: &ServiceSpec) -> Vec<UploadFile> {
        let (project, name) = (self.project.clone(), spec.name.clone());
        let rules: Vec<WatchRule> = spec.watch.iter().filter(|rule| matches!(rule.reaction, Reaction::Sync { .. })).cloned().collect();
        if rules.is_empty() {
            return Vec::new();
        }
        let read = move || -> Vec<UploadFile> {
            let files = |rule: &WatchRule| watch::files(&project, &reload::watched(&name, 0, rule));
            rules
                .iter()
                .flat_map(|rule| files(rule).into_iter().filter_map(|file| reload::upload(rule, &file)).collect::<Vec<_>>())
                .collect()
        };
        if let Some(files) = self.blocking(spec, Versions::synced_files).await.flatten() {
            return files;
        }
        // A panic in it has been told by the runtime.
        tokio::task::spawn_blocking(read).await.unwrap_or_default()
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
