//! Restarts an environment when a bug has ended one of its tasks.
//!
//! # Theory of operation
//!
//! A task that a bug ends is reported here (`runtime::tasks`). The whole environment is then stopped and composed again
//! from its record and from what the engine shows; one that fails repeatedly stays failed, and reports why.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use devenv_api::{ApiError, ErrorCode, ServiceState};
use devenv_spec::{EnvironmentId, ServiceName};
use tokio_util::sync::CancellationToken;

use super::{Environment, Environments, adopt, moved};
use crate::{error::internal, event::NewEvent, golden, runtime::tasks::Failed, store::Record};

/// An environment is restarted at most this many times within [`SPAN`], and then stays failed.
const ATTEMPTS: usize = 3;
const SPAN: Duration = Duration::from_mins(1);

impl Environments {
    /// Restarts the environments of which a bug has ended a task, until the daemon stops.
    pub(crate) async fn restart_failed(self, stop: CancellationToken) {
        let Some(mut failures) = self.shared.failed.lock().expect("no code panics while it holds this lock").take() else { return };
        let mut restarts: Vec<(EnvironmentId, Instant)> = Vec::new();
        loop {
            // Cancel-safe: a token, and receiving.
            let failed = tokio::select! {
                () = stop.cancelled() => return,
                failed = failures.recv() => failed,
            };
            let Some(Failed { environment: id, task, message }) = failed else { return };
            restarts.retain(|(_, at)| at.elapsed() < SPAN);
            let before = restarts.iter().filter(|(restarted, _)| *restarted == id).count();
            let Some(environment) = self.get(&id) else { continue };
            let what = format!("the {task} of this environment ended by a bug in devenv: {message}");
            if before >= ATTEMPTS {
                environment
                    .handle
                    .events
                    .emit(NewEvent::new("environment.failed", format!("{what}; it failed {before} times and is not restarted")));
                continue;
            }
            restarts.push((id.clone(), Instant::now()));
            match self.take_up_again(&environment).await {
                Ok(again) => {
                    again.handle.events.emit(NewEvent::new("environment.restarted", format!("{what}; what runs was adopted again")));
                }
                Err(error) => {
                    tracing::error!(%error, environment = %id, "Cannot take up an environment again.");
                    environment.handle.events.emit(NewEvent::new("environment.failed", format!("{what}; it cannot be restarted: {error}")));
                }
            }
        }
    }

    /// Gives an environment another project directory. What runs keeps running, what does not is started from the new directory, and
    /// its id, its data and everything else on record stay. Call it in an operation that has exclusive access to the environment.
    pub(crate) async fn relocate(&self, id: &EnvironmentId, project: &Path) -> Result<Environment, ApiError> {
        let gone = || ApiError::new(ErrorCode::NotFound, format!("the environment {id} does not exist any more"));
        let environment = self.get(id).ok_or_else(gone)?;
        if environment.handle.record().await?.project == project {
            return Ok(environment);
        }
        let observed = adopt::observe(self).await?.remove(id).unwrap_or_default();
        let status = environment.handle.status();
        environment.end().await;
        let former = self.shared.store.record(id).map_err(internal)?.ok_or_else(gone)?;
        let runs = |name: &ServiceName| status.services.iter().any(|service| service.name == name.as_str() && runs(service.state));
        let spec = former.spec.clone().map(|spec| moved::spec(spec, project, runs));
        let moved = Record { project: project.to_owned(), spec, ..former.clone() };
        // If it cannot be written, the environment continues where it was.
        let written = self.shared.store.save(&moved);
        if written.is_ok()
            && let Err(error) = golden::relocate(&self.shared.store, &former.project, project)
        {
            // They are only made again.
            tracing::warn!(%error, "Cannot keep the golden volumes of a project that has moved.");
        }
        let environment = adopt::adopt_one(self, if written.is_ok() { moved } else { former }, observed).await?;
        written.map_err(internal)?;
        Ok(environment)
    }

    /// Ends everything that runs for it in this process, and composes it again from its record and the engine.
    async fn take_up_again(&self, environment: &Environment) -> Result<Environment, ApiError> {
        environment.end().await;
        let record = self.shared.store.record(&environment.id).map_err(internal)?;
        let record = record.ok_or_else(|| ApiError::new(ErrorCode::Internal, "its record is not there any more"))?;
        let observed = adopt::observe(self).await?.remove(&environment.id).unwrap_or_default();
        adopt::adopt_one(self, record, observed).await
    }
}

/// Whether a service in this state has a program that runs, with the paths of the directory in which it was started.
fn runs(state: ServiceState) -> bool {
    use ServiceState::{Provisioning, Ready, Starting, Stopping, Unhealthy};
    matches!(state, Starting | Provisioning | Ready | Unhealthy | Stopping)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use async_trait::async_trait;
    use devenv_api::{Compared, EnvironmentTarget, ExecRequest};
    use devenv_engine::{OwnerId, Reach, fake::FakeEngine};
    use devenv_spec::EnvironmentSpec;

    use super::*;
    use crate::{faults::Backups, operation_store::OperationStore, store::Store};

    struct NoBackups;

    #[async_trait]
    impl Backups for NoBackups {
        async fn save(&self, _: &EnvironmentId, _: &ServiceName) -> Result<String, ApiError> {
            Err(ApiError::new(ErrorCode::Internal, "not in this test"))
        }

        async fn restore(&self, _: &EnvironmentId, _: &str) -> Result<Vec<Compared>, ApiError> {
            Err(ApiError::new(ErrorCode::Internal, "not in this test"))
        }
    }

    fn environments(directory: &std::path::Path, stop: &CancellationToken) -> (Environments, Store) {
        environments_on(directory, stop, FakeEngine::new())
    }

    fn environments_on(directory: &std::path::Path, stop: &CancellationToken, engine: FakeEngine) -> (Environments, Store) {
        let store = Store::open(directory).unwrap();
        let engine = Arc::new(engine);
        let operations = OperationStore::open(directory);
        let owner = OwnerId("owner".to_owned());
        (Environments::new(store.clone(), operations, engine, Reach::Here, owner, Arc::new(NoBackups), stop.clone()), store)
    }

    /// `exec` and `run SERVICE` end whatever call of the engine never returns.
    #[tokio::test(start_paused = true)]
    async fn a_command_in_a_service_ends_whatever_call_of_the_engine_never_returns() {
        const DAY: Duration = Duration::from_hours(24);
        for (one_off, call) in [
            (false, "inspect"),
            (false, "exec_session"),
            (true, "image"),
            (true, "create_container"),
            (true, "start"),
            (true, "exec_session"),
            (true, "remove_container"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            let (stop, engine) = (CancellationToken::new(), FakeEngine::new().with_image("api:1"));
            let (environments, _) = environments_on(directory.path(), &stop, engine.clone());
            let environment = environments.ensure(&target("one")).unwrap();
            let revision = environment.handle.up(spec(environment.id.clone())).await.unwrap();
            let view = environment.handle.until_up(revision, &[]).await.unwrap();
            assert_eq!(view.status.phase, devenv_api::Phase::Ready, "{:?}", view.status);
            engine.delay(call, DAY * 365);
            if call == "remove_container" {
                engine.delay("exec_session", DAY * 365);
            }
            let request = ExecRequest { one_off, ..ExecRequest::of(target("one"), "api".to_owned(), vec!["true".to_owned()]) };
            let run = async {
                if one_off { environments.run_once(&request).await.map(drop) } else { environments.exec(&request).await.map(drop) }
            };
            let ended = tokio::time::timeout(DAY, run).await.unwrap_or_else(|_| panic!("it waits for `{call}`"));
            // An image that is on record is not asked for again.
            assert!(ended.is_err() || call == "image", "{call}");
            stop.cancel();
        }
    }

    fn spec(id: EnvironmentId) -> EnvironmentSpec {
        let workload = devenv_spec::Workload::Container(devenv_spec::ContainerSpec::new("api:1"));
        let spec = serde_json::json!({
            "id": id, "project": "/p/shop", "instance": "one", "profile": "shop", "subnet": "10.213.0.0/26", "figures": null, "variables": {},
            "services": { "api": {
                "name": "api", "kind": "container", "workload": workload, "depends_on": {}, "on_dependency_restart": "ignore",
                "optional": false, "probe": "none", "provision": [], "proof": null, "ready_timeout": { "secs": 1, "nanos": 0 },
                "stop": { "signal": "SIGTERM", "grace": { "secs": 1, "nanos": 0 } },
                "restart": { "policy": "on-failure", "attempts": 5 }, "urls": {}
            } }
        });
        serde_json::from_value(spec).unwrap()
    }

    fn target(instance: &str) -> EnvironmentTarget {
        EnvironmentTarget { project: "/p/shop".to_owned(), instance: instance.to_owned() }
    }

    #[tokio::test]
    async fn a_forgotten_environment_ends_with_its_tasks_and_writes_nothing_again() {
        let directory = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let (environments, store) = environments(directory.path(), &stop);
        // Other tests of this process open files at the same time, but none in this directory.
        let open_files = || {
            let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
            open.filter(|path| path.starts_with(directory.path())).count()
        };
        environments.forget(&environments.ensure(&target("first")).unwrap().id).await.unwrap();
        let before = open_files();
        // A reference that somebody still holds.
        let kept = environments.ensure(&target("kept")).unwrap();
        environments.forget(&kept.id).await.unwrap();
        for number in 0..20 {
            let environment = environments.ensure(&target(&format!("test-{number}"))).unwrap();
            environments.forget(&environment.id).await.unwrap();
        }
        assert!(kept.handle.record().await.is_err(), "its task has ended");
        assert!(open_files() <= before + 4, "{before} files were open, {} are", open_files());
        assert!(environments.all().is_empty());
        stop.cancel();
        environments.finish().await;
        assert!(store.records().unwrap().is_empty());
        assert_eq!(std::fs::read_dir(directory.path().join("environments")).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_forgotten_environment_leaves_nothing_in_memory_although_it_is_still_referenced() {
        let directory = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let (environments, _) = environments(directory.path(), &stop);
        let environment = environments.ensure(&target("one")).unwrap();
        let (former, id) = (environment.downgrade(), environment.id.clone());
        let runtime = Arc::downgrade(&environment.runtime);
        // The references of clients that wait, follow, or hold a lease.
        let (handle, events, ended) = (environment.handle.clone(), environment.handle.events.subscribe(), environment.ended());
        let faults = environment.faults.clone();
        let waits = tokio::spawn(async move { handle.until_up(u64::MAX, &[]).await.map(drop) });
        drop(environment);
        assert!(former.get().is_ok(), "the registry owns it");
        environments.forget(&id).await.unwrap();
        assert!(former.get().is_err() && runtime.strong_count() == 0);
        let limit = Duration::from_mins(1);
        tokio::time::timeout(limit, ended).await.unwrap();
        assert!(tokio::time::timeout(limit, waits).await.unwrap().unwrap().is_err());
        assert!(faults.heal(&[]).await.unwrap().is_empty());
        drop(events);
        assert!(!directory.path().join("environments").join(id.as_str()).exists());
    }

    #[tokio::test]
    async fn an_environment_of_which_a_task_panics_is_taken_up_again_from_its_record() {
        let directory = tempfile::tempdir().unwrap();
        let stop = CancellationToken::new();
        let (environments, _) = environments(directory.path(), &stop);
        let environment = environments.ensure(&target("one")).unwrap();
        let before = environment.handle.record().await.unwrap();
        let restarts = tokio::spawn(environments.clone().restart_failed(stop.clone()));
        environment.tasks.spawn("metrics", async { panic!("no such metric") });
        let again = tokio::time::timeout(Duration::from_mins(1), async {
            loop {
                let now = environments.get(&environment.id).unwrap();
                if environment.handle.record().await.is_err() && now.handle.record().await.is_ok() {
                    return now;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let again = again.await.unwrap();
        assert_eq!(again.handle.record().await.unwrap(), before);
        stop.cancel();
        restarts.await.unwrap();
        environments.finish().await;
    }
}
