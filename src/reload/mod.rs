//! Hot reload: one task for each environment, which owns its watcher and reacts to changed files.
//!
//! Theory of operation. While the environment is up its `watch` rules are active. A change is published as an event, and then
//! a job (`job`) does what the rule says: it builds, copies, runs a command, and finally asks the environment's own
//! task to restart, swap, signal or replace the service, with the event as the cause. Each service has one job at a time;
//! a change that comes in the meantime cancels the current build and is handled with the rest. The watcher is notified while
//! a service is being built or started, so that what it writes then is not taken for its user's work.
//!
//! It never decides whether a service runs, and holds no state of one.

mod commands;
mod job;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
};

use devenv_spec::{EnvironmentSpec, ServiceName, ServiceSpec};
use devenv_watch::{Change, Extent, FeedbackLoop, Limited, Observation, Watcher};
use tokio::{
    sync::{mpsc, oneshot},
    task::{JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

use crate::{
    event::NewEvent,
    reconcile::{Handle, View},
    runtime::{host_processes::HostProcesses, versions::AdoptedStart, watched::watched},
    store::Goal,
};
use job::{Job, run_job};

pub(crate) use job::Tools;

/// Requests are rare, and each is answered.
const ASKS: usize = 16;

/// The handle of the task. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Reloader {
    asks: mpsc::Sender<Ask>,
}

struct Ask {
    services: Vec<ServiceSpec>,
    project: PathBuf,
    /// Processes that ran before the watch began.
    adopted: HashMap<ServiceName, AdoptedStart>,
    done: oneshot::Sender<()>,
}

impl Reloader {
    /// The handle, and the task, which its owner runs.
    pub(crate) fn begin(handle: Handle, tools: Arc<Tools>, stop: CancellationToken) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (asks, inbox) = mpsc::channel(ASKS);
        let task = Task { handle, tools, inbox, watching: None, jobs: Jobs::default(), services: HashMap::new(), working: HashSet::new() };
        (Self { asks }, task.run(stop))
    }

    /// Watches the files of this spec instead of the former ones. Every change after this returns is handled.
    pub(crate) async fn watch(&self, spec: &EnvironmentSpec) {
        self.ask(spec, HashMap::new()).await;
    }

    /// The same, and handles changes that nobody saw: of files that differ from those that the adopted process was started with.
    pub(crate) async fn watch_adopted(&self, spec: &EnvironmentSpec, processes: &HostProcesses) {
        let adopted = spec.services.keys().filter_map(|name| {
            let (run, at) = processes.newest(name)?;
            Some((name.clone(), AdoptedStart { run, at }))
        });
        self.ask(spec, adopted.collect()).await;
    }

    async fn ask(&self, spec: &EnvironmentSpec, adopted: HashMap<ServiceName, AdoptedStart>) {
        let (done, is_done) = oneshot::channel();
        let services = spec.services.values().filter(|service| !service.watch.is_empty()).cloned().collect();
        // The task has ended, so there is no receiver.
        if self.asks.send(Ask { services, project: spec.project.clone(), adopted, done }).await.is_ok() {
            let _ = is_done.await;
        }
    }
}

struct Task {
    handle: Handle,
    tools: Arc<Tools>,
    inbox: mpsc::Receiver<Ask>,
    watching: Option<Watching>,
    jobs: Jobs,
    services: HashMap<ServiceName, Reloading>,
    /// Services that are being built or started, as the watcher knows.
    working: HashSet<ServiceName>,
}

struct Watching {
    watcher: Watcher,
    observations: mpsc::Receiver<Observation>,
    services: Vec<ServiceSpec>,
}

/// A service with a job.
struct Reloading {
    /// Cancelled when there is a newer change.
    outdated: CancellationToken,
    /// Changes that arrived while the job was running.
    waiting: Changes,
}

/// What changed and has not been handled, by rule.
type Changes = std::collections::BTreeMap<usize, BTreeSet<PathBuf>>;

/// Running jobs, and their services: a job that panics reports nothing itself.
#[derive(Default)]
struct Jobs {
    /// Each returns what it did not complete.
    set: JoinSet<Changes>,
    services: HashMap<tokio::task::Id, ServiceName>,
}

impl Jobs {
    fn spawn(&mut self, service: ServiceName, job: impl Future<Output = Changes> + Send + 'static) {
        let job = self.set.spawn(job);
        self.services.insert(job.id(), service);
    }

    /// The next one that ends; `None` if there is none. Cancel-safe.
    async fn next(&mut self) -> Option<(ServiceName, Result<Changes, JoinError>)> {
        let (job, ended) = match self.set.join_next_with_id().await? {
            Ok((job, left)) => (job, Ok(left)),
            Err(error) => (error.id(), Err(error)),
        };
        self.services.remove(&job).map(|service| (service, ended))
    }
}

enum Input {
    Ask(Ask),
    Observed(Option<Observation>),
    JobEnded(ServiceName, Result<Changes, JoinError>),
    Viewed,
    Stop,
}

impl Task {
    async fn run(mut self, stop: CancellationToken) {
        let mut views = self.handle.views();
        loop {
            // Each branch is cancel-safe: receiving from a channel, joining a set, a token.
            let input = tokio::select! {
                () = stop.cancelled() => Input::Stop,
                ask = self.inbox.recv() => ask.map_or(Input::Stop, Input::Ask),
                observation = next(&mut self.watching) => Input::Observed(observation),
                Some((service, ended)) = self.jobs.next() => Input::JobEnded(service, ended),
                changed = views.changed() => if changed.is_ok() { Input::Viewed } else { Input::Stop },
            };
            match input {
                Input::Ask(ask) => self.watch(ask).await,
                Input::Observed(Some(observation)) => self.observed(observation),
                Input::Observed(None) => self.watching = None,
                Input::JobEnded(service, Ok(left)) => self.job_ended(service, left),
                Input::JobEnded(service, Err(error)) => self.job_failed(service, &error),
                // The resulting change is handled below.
                Input::Viewed => {}
                Input::Stop => break,
            }
            let view = views.borrow_and_update().clone();
            if view.goal != Goal::Up && self.watching.is_some() {
                self.forget();
            }
            self.tell_work(&view);
        }
        self.jobs.set.shutdown().await;
    }

    async fn watch(&mut self, ask: Ask) {
        let same = self.watching.as_ref().is_some_and(|watching| watching.services == ask.services);
        if !same {
            self.forget();
            if !ask.services.is_empty() {
                let rules = ask
                    .services
                    .iter()
                    .flat_map(|spec| spec.watch.iter().enumerate().map(|(index, rule)| watched(&spec.name, index, rule)));
                let (watcher, observations, extent) = Watcher::start(&ask.project, rules.collect()).await;
                self.tell_extent(extent);
                self.watching = Some(Watching { watcher, observations, services: ask.services });
            }
        }
        if !ask.adopted.is_empty() {
            self.catch_up(ask.adopted).await;
        }
        // The caller may be gone.
        let _ = ask.done.send(());
    }

    async fn catch_up(&mut self, adopted: HashMap<ServiceName, AdoptedStart>) {
        let services = self.watching.as_ref().map(|watching| watching.services.clone()).unwrap_or_default();
        let versions = self.tools.versions.clone();
        let find = move || {
            let mut found = Vec::new();
            for spec in &services {
                let Some(start) = adopted.get(&spec.name) else { continue };
                let changes = versions.changes_since(spec, *start).into_iter();
                found.extend(changes.map(|(rule, paths)| Change { service: spec.name.to_string(), rule, paths }));
            }
            found
        };
        match devenv_files::read_in_time(Vec::new(), find).await {
            Ok(changes) => changes.into_iter().for_each(|change| self.changed(change)),
            Err(error) => tracing::warn!(%error, "Cannot look for files that changed while no daemon ran."),
        }
    }

    /// Stops watching, and cancels running jobs.
    fn forget(&mut self) {
        self.watching = None;
        self.working.clear();
        for reloading in self.services.values_mut() {
            reloading.outdated.cancel();
            reloading.waiting.clear();
        }
    }

    fn observed(&mut self, observation: Observation) {
        match observation {
            Observation::Changed(change) => self.changed(change),
            Observation::Limited(limited) => self.tell_limit(&limited),
            Observation::FeedbackLoop(found) => self.tell_loop(&found),
        }
    }

    fn changed(&mut self, change: Change) {
        let Ok(name) = change.service.parse::<ServiceName>() else { return };
        match self.services.get_mut(&name) {
            Some(reloading) => {
                reloading.waiting.entry(change.rule).or_default().extend(change.paths);
                reloading.outdated.cancel();
            }
            None => self.begin(name, Changes::from([(change.rule, change.paths.into_iter().collect())])),
        }
    }

    fn begin(&mut self, name: ServiceName, changes: Changes) {
        let Some(watching) = &self.watching else { return };
        let Some(spec) = watching.services.iter().find(|spec| spec.name == name).cloned() else { return };
        let outdated = CancellationToken::new();
        let job = Job { spec, changes, outdated: outdated.clone() };
        let (handle, tools) = (self.handle.clone(), self.tools.clone());
        watching.watcher.work_begins(name.as_str(), Some(&tools.marker(&name)));
        self.working.insert(name.clone());
        self.services.insert(name.clone(), Reloading { outdated, waiting: Changes::new() });
        self.jobs.spawn(name, async move { run_job(job, &handle, &tools).await });
    }

    /// It panicked. This is reported, and the service is reloaded at the next change.
    fn job_failed(&mut self, name: ServiceName, error: &JoinError) {
        tracing::error!(%error, service = %name, "A reload panicked.");
        let message =
            format!("cannot reload {name}: internal error, please report it with the daemon's log; the next change is tried again");
        self.handle.events.emit(NewEvent::of(&name, "service.reload-failed", message));
        self.job_ended(name, Changes::new());
    }

    fn job_ended(&mut self, name: ServiceName, left: Changes) {
        let Some(reloading) = self.services.remove(&name) else { return };
        if reloading.waiting.is_empty() {
            return;
        }
        let mut changes = reloading.waiting;
        for (rule, paths) in left {
            changes.entry(rule).or_default().extend(paths);
        }
        self.begin(name, changes);
    }

    /// What a service writes while it is built or started may be its own output.
    fn tell_work(&mut self, view: &View) {
        let Some(watching) = &self.watching else { return };
        for spec in &watching.services {
            let waits = view.blocked_by(spec.name.as_str()).is_some();
            let works = self.services.contains_key(&spec.name) || !(waits || view.has_started(&spec.name));
            if works && self.working.insert(spec.name.clone()) {
                watching.watcher.work_begins(spec.name.as_str(), Some(&self.tools.marker(&spec.name)));
            } else if !works && self.working.remove(&spec.name) {
                if waits {
                    watching.watcher.waits(spec.name.as_str());
                } else {
                    watching.watcher.work_ends(spec.name.as_str());
                }
            }
        }
    }

    fn tell_extent(&self, extent: Extent) {
        let message = format!("watching {} files in {} directories", extent.files, extent.directories + extent.polled);
        self.handle.events.emit(
            NewEvent::new("watch.started", message)
                .with("files", extent.files)
                .with("directories", extent.directories)
                .with("polled", extent.polled),
        );
    }

    fn tell_limit(&self, limited: &Limited) {
        let limit = limited.limit.map_or_else(|| "its limit".to_owned(), |limit| limit.to_string());
        let message = format!(
            "watching {} directories and polling {} more, because {} is {limit}; to watch all: {}",
            limited.watched, limited.polled, limited.setting, limited.fix
        );
        self.handle.events.emit(
            NewEvent::new("watch.limited", message)
                .with("watched", limited.watched)
                .with("polled", limited.polled)
                .with("fix", limited.fix.clone()),
        );
    }

    fn tell_loop(&self, found: &FeedbackLoop) {
        let Ok(name) = found.service.parse::<ServiceName>() else { return };
        let paths: Vec<String> = found.paths.iter().map(|path| self.tools.shown(path)).collect();
        let writer = match &found.writer {
            Some((pid, program)) => format!("{program} (process {pid})"),
            None if found.while_running => format!("{name} itself"),
            None => format!("the build or the start of {name}"),
        };
        let message = format!(
            "{writer} writes {}, which {name} watches, so each change would cause the next; these changes are ignored from now on; \
             add the file to `ignore` or `.gitignore`",
            paths.join(", ")
        );
        self.handle.events.emit(
            NewEvent::of(&name, "service.feedback-loop", message)
                .with("paths", paths)
                .with("writer", found.writer.as_ref().map(|(pid, _)| *pid)),
        );
    }
}

/// The next observation; never, while nothing is watched.
async fn next(watching: &mut Option<Watching>) -> Option<Observation> {
    match watching {
        Some(watching) => watching.observations.recv().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reload_that_panics_ends_for_its_service_like_any_other() {
        let mut jobs = Jobs::default();
        jobs.spawn("api".parse().unwrap(), async { panic!("a variable that is not UTF-8") });
        let (service, ended) = jobs.next().await.unwrap();
        assert_eq!(service.as_str(), "api");
        assert!(ended.unwrap_err().is_panic());
        jobs.spawn("api".parse().unwrap(), async { Changes::new() });
        assert!(jobs.next().await.unwrap().1.is_ok());
        assert!(jobs.next().await.is_none() && jobs.services.is_empty());
    }
}
