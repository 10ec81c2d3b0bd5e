//! The host processes of one environment, each under its keeper.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, OnceLock},
};

use tokio::task::JoinHandle;

use crate::{
    log::Logs,
    process::{self, Adopted, Ending, ProcessError, Running, Signal, StartRequest, Supervisor},
    reconcile::{Exit, Handle, ObservedProcess},
    secret::Vault,
    spec::{EnvironmentId, ServiceName, ServiceSpec, Workload},
};

pub(super) struct Hosts {
    environment: EnvironmentId,
    /// Where keepers have their directories.
    directory: PathBuf,
    supervisor: Supervisor,
    running: Mutex<HashMap<ServiceName, Running>>,
    /// Tasks that wait for a process's end.
    followers: Mutex<HashMap<ServiceName, JoinHandle<()>>>,
    /// Whom to tell of it; set as soon as the environment's task exists.
    handle: OnceLock<Handle>,
}

impl Hosts {
    pub(super) fn new(environment: EnvironmentId, directory: PathBuf) -> Self {
        Self {
            environment,
            directory,
            supervisor: Supervisor::new(),
            running: Mutex::default(),
            followers: Mutex::default(),
            handle: OnceLock::new(),
        }
    }

    pub(super) fn tell(&self, handle: Handle) {
        // Set once, by whoever made this.
        let _ = self.handle.set(handle);
    }

    /// Takes over the processes that an earlier daemon started, and says what became of each.
    pub(super) async fn adopt(&self) -> Vec<(ServiceName, ObservedProcess)> {
        let mut found = Vec::new();
        let Ok(directories) = std::fs::read_dir(&self.directory) else { return found };
        for directory in directories.flatten() {
            let Some(name) = directory.file_name().to_str().and_then(|name| name.parse::<ServiceName>().ok()) else { continue };
            match process::adopt(&directory.path()).await {
                Adopted::Running(running) => {
                    found.push((name.clone(), ObservedProcess::Running { pid: running.pid, run: running.run }));
                    self.running.lock().expect("no holder of this lock panics").insert(name, running);
                }
                Adopted::Ended(running, exit) => found.push((name, ObservedProcess::Ended { code: code(exit.ending), run: running.run })),
                Adopted::Lost(running) => found.push((name, ObservedProcess::Ended { code: -1, run: running.run })),
                Adopted::Nothing => {}
            }
        }
        found
    }

    pub(super) async fn start(&self, spec: &ServiceSpec, run: u32, vault: &Vault, logs: &Logs) -> Result<String, ProcessError> {
        let Workload::Process(process) = &spec.workload else { return Ok(String::new()) };
        let request = StartRequest {
            environment: self.environment.to_string(),
            service: spec.name.to_string(),
            run,
            command: process.command.clone(),
            directory: process.directory.clone(),
            variables: self.variables(spec, vault),
            logs: logs.directory().to_owned(),
            keeper: self.directory.join(spec.name.as_str()),
        };
        let running = self.supervisor.start(request).await?;
        let pid = running.pid.to_string();
        self.running.lock().expect("no holder of this lock panics").insert(spec.name.clone(), running);
        Ok(pid)
    }

    /// The daemon's own variables (a program on the host needs its `PATH` and `HOME`), then the service's.
    pub(super) fn variables(&self, spec: &ServiceSpec, vault: &Vault) -> Vec<(String, String)> {
        let Workload::Process(process) = &spec.workload else { return Vec::new() };
        let mut variables: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| !process.environment.contains_key(name))
            .collect();
        for (name, template) in &process.environment {
            match vault.resolve(template) {
                Ok(value) => variables.push((name.clone(), value)),
                Err(error) => tracing::error!(%error, service = %spec.name, "A variable could not be given to a process."),
            }
        }
        variables
    }

    pub(super) async fn stop(&self, spec: &ServiceSpec) -> Result<(), String> {
        let Some(running) = self.get(&spec.name) else { return Ok(()) };
        let signal: Signal = spec.stop.signal.parse().map_err(|error| format!("{error}"))?;
        running.stop(signal, spec.stop.grace).await;
        Ok(())
    }

    pub(super) async fn signal(&self, spec: &ServiceSpec, signal: &str) -> Result<(), String> {
        let Some(running) = self.get(&spec.name) else { return Ok(()) };
        let signal: Signal = signal.parse().map_err(|error| format!("{error}"))?;
        running.signal(signal).await.map_err(|error| error.to_string())
    }

    /// Tells the environment's task when the process ends.
    pub(super) fn follow(self: &Arc<Self>, service: &ServiceName) {
        let (Some(running), Some(handle)) = (self.get(service), self.handle.get().cloned()) else { return };
        let name = service.clone();
        let follower = tokio::spawn(async move {
            let exit = running.exited().await;
            handle.process_ended(name, running.pid, code(exit.ending)).await;
        });
        if let Some(former) = self.followers.lock().expect("no holder of this lock panics").insert(service.clone(), follower) {
            former.abort();
        }
    }

    pub(super) async fn last_exit(&self, service: &ServiceName) -> Exit {
        let code = match self.get(service) {
            Some(running) => code(running.exited().await.ending),
            None => -1,
        };
        Exit { code, out_of_memory: false, error: (code == -1).then(|| "its keeper was killed, so nobody knows how it ended".to_owned()) }
    }

    fn get(&self, service: &ServiceName) -> Option<Running> {
        self.running.lock().expect("no holder of this lock panics").get(service).cloned()
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        for (_, follower) in self.followers.get_mut().expect("no holder of this lock panics").drain() {
            follower.abort();
        }
    }
}

/// As shells tell it: 128 and the signal's number.
fn code(ending: Ending) -> i64 {
    match ending {
        Ending::Code(code) => i64::from(code),
        Ending::Signal(signal) => 128 + i64::from(signal),
        Ending::Lost => -1,
    }
}
