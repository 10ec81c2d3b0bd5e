//! Collects the output of containers: one task for each running one, from the engine's log to ours.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use devenv_api::LogStream;
use devenv_engine::Engine;
use devenv_logs::Logs;
use devenv_spec::ServiceName;
use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::task::JoinHandle;

/// The most lines that are written at a time.
const BATCH: usize = 4096;

/// Cheap to share. Dropping it ends its tasks; the next daemon fetches the rest from the engine.
pub(crate) struct LogCollector {
    engine: Arc<dyn Engine>,
    logs: Logs,
    tasks: Mutex<HashMap<ServiceName, JoinHandle<()>>>,
}

impl LogCollector {
    pub(crate) fn new(engine: Arc<dyn Engine>, logs: Logs) -> Self {
        Self { engine, logs, tasks: Mutex::default() }
    }

    /// Collects this start's output, once that of the former start is complete.
    pub(crate) fn keep(&self, service: &ServiceName, container: &str, run: u32) {
        let mut tasks = self.tasks.lock().expect("no code panics while it holds this lock");
        let former = tasks.remove(service);
        let (engine, logs, name, container) = (self.engine.clone(), self.logs.clone(), service.clone(), container.to_owned());
        let task = tokio::spawn(async move {
            if let Some(former) = former {
                // Its container has ended, so its stream has too.
                let _ = former.await;
            }
            if let Err(error) = copy(engine.as_ref(), &logs, name.as_str(), &container, run).await {
                tracing::warn!(%error, service = %name, "Cannot store the output of a service.");
            }
        });
        tasks.insert(service.clone(), task);
    }

    /// Stops collecting: the next daemon fetches the rest from the engine.
    pub(crate) fn end(&self) {
        for (_, task) in self.tasks.lock().expect("no code panics while it holds this lock").drain() {
            task.abort();
        }
    }
}

impl Drop for LogCollector {
    fn drop(&mut self) {
        self.end();
    }
}

async fn copy(engine: &dyn Engine, logs: &Logs, service: &str, container: &str, run: u32) -> std::io::Result<()> {
    let mut resume = logs.resume(service)?;
    let since = resume.as_ref().map(|resume| resume.since().to_string());
    let mut writer = logs.writer(service)?;
    let mut batches = engine.logs(container, since.as_deref(), true).ready_chunks(BATCH);
    while let Some(batch) = batches.next().await {
        for chunk in batch {
            let Ok(chunk) = chunk else { continue };
            let time = chunk.time.parse().unwrap_or_else(|_| Timestamp::now());
            let stream = if chunk.stderr { LogStream::Stderr } else { LogStream::Stdout };
            if resume.as_mut().is_none_or(|resume| resume.is_new(time, stream)) {
                writer.push(time, run, stream, chunk.text.as_bytes());
            }
        }
        writer.flush()?;
    }
    Ok(())
}
