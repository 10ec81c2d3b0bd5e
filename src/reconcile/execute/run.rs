//! Runs a service: start, readiness, signal, stop, removal.

use bytes::Bytes;
use devenv_engine::{EngineError, UploadFile, launch};
use devenv_spec::{ContainerSpec, ServiceSpec, Workload};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Effects, OperationError, ReadinessUpdate, Subject, mounted};
use crate::reconcile::{failure::Evidence, state::Instance};

/// Why there is no new run.
pub(crate) enum NotStarted {
    /// Its container does not exist any more: an engine may have completed a request of a daemon that was killed.
    ContainerGone,
    EngineGone,
    Failed(Evidence),
}

impl From<Evidence> for NotStarted {
    fn from(evidence: Evidence) -> Self {
        Self::Failed(evidence)
    }
}

impl Effects {
    /// Writes the service's files (again: a container that was created and never started may lack them) and starts it.
    pub(crate) async fn start(&self, subject: &Subject) -> Result<Instance, NotStarted> {
        let run = self.runtime.next_run(&subject.spec.name);
        let instance = match &subject.spec.workload {
            Workload::Process(_) => {
                let id = self.runtime.start_process(&subject.spec, run).await?;
                Instance { id, hash: subject.spec.hash(), run }
            }
            Workload::Container(container) => {
                let mut instance = subject.instance.clone().ok_or(NotStarted::ContainerGone)?;
                instance.run = run;
                let refused = |error: OperationError| match error {
                    OperationError::Engine(EngineError::NotFound { what: "container", .. }) => NotStarted::ContainerGone,
                    error if error.is_engine_gone() => NotStarted::EngineGone,
                    error => NotStarted::Failed(self.refused(&subject.spec, "cannot be started", &error)),
                };
                // The two are independent and run at the same time.
                let (prepared, written) =
                    futures_util::join!(self.runtime.prepare(&subject.spec), self.write_files(&subject.spec, &instance, container));
                prepared?;
                written.map_err(refused)?;
                self.engine.start(&instance.id).await.map_err(|error| refused(error.into()))?;
                instance
            }
        };
        self.runtime.keep_output(&subject.spec, &instance);
        Ok(instance)
    }

    async fn write_files(&self, spec: &ServiceSpec, instance: &Instance, container: &ContainerSpec) -> Result<(), OperationError> {
        let launched = launch::is_wanted(container).map_err(|error| OperationError::Other(error.to_string()))?;
        let user = if launched { self.engine.user(&instance.id).await? } else { 0 };
        let mut files = self.files(container, user)?;
        if mounted::is_wanted(container) {
            // Files that are kept the same as the project's are for containers that can be written to.
            return self.mounted_files(&spec.name, &files).map(drop);
        }
        files.extend(self.runtime.synced_files(spec).await);
        if !files.is_empty() {
            self.engine.upload(&instance.id, &files).await?;
        }
        Ok(())
    }

    /// The service's own files, and those by which it is started with its secrets; `user` is who reads these.
    pub(super) fn files(&self, container: &ContainerSpec, user: u32) -> Result<Vec<UploadFile>, OperationError> {
        let mut files = Vec::new();
        for file in &container.files {
            let content = Bytes::from(self.vault.resolve(&file.content)?);
            files.push(UploadFile { path: file.path.clone(), mode: file.mode, uid: file.uid, gid: file.gid, content });
        }
        if launch::is_wanted(container).map_err(|error| OperationError::Other(error.to_string()))? {
            files.extend(launch::files(user, &self.vault.resolve_all(container.secret_variables())?));
        }
        Ok(files)
    }

    /// Waits for readiness within the service's time limit, unless it is cancelled because the service exited. A service that was
    /// ready before (`again`) has logged much that says nothing of why it is not ready now.
    pub(crate) async fn settle(
        &self,
        subject: &Subject,
        again: bool,
        news: mpsc::UnboundedSender<ReadinessUpdate>,
        cancelled: CancellationToken,
    ) -> Option<Result<String, Evidence>> {
        let instance = subject.instance.clone()?;
        let since = again.then(Timestamp::now);
        tokio::select! {
            // Dropping the future half way is safe: everything in it may be repeated.
            () = cancelled.cancelled() => None,
            result = self.runtime.settle(&subject.spec, &instance, &news) => Some(match result {
                Ok(proof) => {
                    self.runtime.serve(&subject.spec, instance.run);
                    Ok(proof)
                }
                Err(mut evidence) => {
                    evidence.lines = self.last_lines(subject, since).await;
                    evidence.diagnosis = evidence.diagnosis.take().or_else(|| self.runtime.diagnose(&subject.spec, &evidence));
                    Err(evidence)
                }
            }),
        }
    }

    pub(crate) async fn stop(&self, subject: &Subject) -> Result<(), OperationError> {
        let Some(instance) = &subject.instance else { return Ok(()) };
        match &subject.spec.workload {
            Workload::Container(_) => {
                self.runtime.before_stop(&subject.spec, instance).await;
                match self.engine.stop(&instance.id, &subject.spec.stop.signal, subject.spec.stop.grace).await {
                    Ok(()) | Err(EngineError::NotFound { .. }) => Ok(()),
                    Err(error) => Err(error.into()),
                }
            }
            Workload::Process(_) => self.runtime.stop_process(&subject.spec, subject.leaving).await.map_err(OperationError::Other),
        }
    }

    /// Pauses the container of a service that is to sleep.
    pub(crate) async fn freeze(&self, subject: &Subject) -> Result<(), OperationError> {
        match &subject.instance {
            Some(instance) => Ok(self.engine.pause(&instance.id).await?),
            None => Ok(()),
        }
    }

    pub(crate) async fn thaw(&self, subject: &Subject) -> Result<(), OperationError> {
        match &subject.instance {
            Some(instance) => Ok(self.engine.unpause(&instance.id).await?),
            None => Ok(()),
        }
    }

    pub(crate) async fn signal(&self, subject: &Subject, signal: &str) -> Result<(), OperationError> {
        let Some(instance) = &subject.instance else { return Ok(()) };
        match &subject.spec.workload {
            Workload::Container(_) => Ok(self.engine.kill(&instance.id, signal).await?),
            Workload::Process(_) => self.runtime.signal_process(&subject.spec, instance.run, signal).await.map_err(OperationError::Other),
        }
    }

    pub(crate) async fn remove(&self, subject: &Subject) -> Result<(), OperationError> {
        match (&subject.instance, &subject.spec.workload) {
            (Some(instance), Workload::Container(_)) => Ok(self.engine.remove_container(&instance.id).await?),
            (None, Workload::Container(_)) => Ok(()),
            (_, Workload::Process(_)) => self.runtime.stop_process(&subject.spec, subject.leaving).await.map_err(OperationError::Other),
        }
    }
}
