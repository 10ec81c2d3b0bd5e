//! Looks after services that run: probes and provisions them, keeps their output, runs those that are host processes.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

use super::{hosts::Hosts, loops, output::Output};
use crate::{
    diagnosis,
    engine::Engine,
    log::{Logs, Query},
    probe::{self, ExecTarget, Lines, NotReady, ProbeContext, Schedule},
    provision::{self, ProvisionContext},
    reconcile::{Caretaker, Evidence, Exit, Instance, Settling},
    secret::Vault,
    spec::{Probe, ServiceName, ServiceSpec, Size, Workload},
    store::Store,
};

/// One environment's caretaker.
pub(crate) struct DaemonCaretaker {
    engine: Arc<dyn Engine>,
    vault: Vault,
    logs: Logs,
    authority: PathBuf,
    loops: PathBuf,
    output: Output,
    pub(super) hosts: Arc<Hosts>,
    runs: Mutex<HashMap<ServiceName, u32>>,
}

impl DaemonCaretaker {
    pub(super) fn new(engine: Arc<dyn Engine>, vault: Vault, logs: Logs, store: Store, hosts: Arc<Hosts>) -> Self {
        let output = Output::new(engine.clone(), logs.clone());
        Self { engine, vault, logs, authority: store.authority(), loops: store.loops(), output, hosts, runs: Mutex::default() }
    }

    fn context(&self, spec: &ServiceSpec, instance: &Instance) -> ProbeContext {
        let target = match &spec.workload {
            Workload::Container(_) => ExecTarget::Container { engine: self.engine.clone(), id: instance.id.clone() },
            Workload::Process(process) => ExecTarget::Process { directory: process.directory.clone(), environment: self.hosts.variables(spec, &self.vault) },
        };
        ProbeContext { vault: self.vault.clone(), authority: Some(self.authority.clone()), target, lines: lines_of(&self.logs, &spec.name, instance.run) }
    }

    /// Asks until there is a proof, within what is left of the service's time.
    async fn ask(&self, probe: &Probe, cx: &ProbeContext, began: Instant, limit: Duration) -> Result<String, Evidence> {
        let left = limit.saturating_sub(began.elapsed());
        match probe::until_ready(probe, cx, Schedule::until(left), |_| {}).await {
            Ok(receipt) => Ok(receipt.evidence),
            Err(NotReady { last, .. }) => Err(Evidence {
                probes: last.into_iter().map(|(after, failure)| format!("after {after} ms: {failure}")).collect(),
                ..Evidence::of(format!("it did not become ready within {} s", limit.as_secs_f32()))
            }),
        }
    }
}

#[async_trait]
impl Caretaker for DaemonCaretaker {
    async fn settle(&self, spec: &ServiceSpec, instance: &Instance, news: &mpsc::UnboundedSender<Settling>) -> Result<String, Evidence> {
        let (cx, began) = (self.context(spec, instance), Instant::now());
        let answer = self.ask(&spec.probe, &cx, began, spec.ready_timeout).await?;
        // Whoever listened may be gone; what is to be done is not.
        let _ = news.send(Settling::Answered);
        for provision in &spec.provision {
            let cx = ProvisionContext { vault: self.vault.clone(), authority: Some(self.authority.clone()) };
            let changes = provision::apply(provision, &cx).await.map_err(|error| {
                let diagnosis = error.hint().map(|hint| (error.to_string(), hint));
                Evidence { diagnosis, ..Evidence::of(format!("it could not be provisioned: {error}")) }
            })?;
            for change in changes {
                let _ = news.send(Settling::Changed(change.what));
            }
        }
        match &spec.proof {
            Some(proof) => self.ask(proof, &cx, began, spec.ready_timeout.max(began.elapsed() + Duration::from_secs(10))).await,
            None => Ok(answer),
        }
    }

    async fn watch(&self, spec: &ServiceSpec, instance: &Instance) -> String {
        let cx = self.context(spec, instance);
        probe::watchful(spec.proof.as_ref().unwrap_or(&spec.probe), &cx).await.to_string()
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
            last.unwrap_or(0)
        })
    }

    fn keep_output(&self, spec: &ServiceSpec, instance: &Instance) {
        match &spec.workload {
            Workload::Container(_) => self.output.keep(&spec.name, &instance.id, instance.run.max(1)),
            // Its keeper does, and it is the keeper who knows of its end.
            Workload::Process(_) => self.hosts.follow(&spec.name),
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
        self.hosts.start(spec, run, &self.vault, &self.logs).await.map_err(|error| Evidence::of(format!("it could not be started: {error}")))
    }

    async fn stop_process(&self, spec: &ServiceSpec) -> Result<(), String> {
        self.hosts.stop(spec).await
    }

    async fn signal_process(&self, spec: &ServiceSpec, signal: &str) -> Result<(), String> {
        self.hosts.signal(spec, signal).await
    }

    async fn examine_process(&self, spec: &ServiceSpec) -> (Exit, Vec<String>) {
        let exit = self.hosts.last_exit(&spec.name).await;
        let lines = self.logs.tail(spec.name.as_str(), Some(self.last_run(&spec.name)), 30).unwrap_or_default();
        (exit, lines.into_iter().map(|line| self.vault.redact(&line.text)).collect())
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
