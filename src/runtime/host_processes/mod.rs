//! The host processes of one environment, each start under a process shim with a directory of its own: `SERVICE.RUN`.
//!
//! During a swap, and while an old version ends, a service has several starts. The one that gets its connections is
//! recorded in `SERVICE.serving`, so that the next daemon keeps that one and ends the others.

mod adopt;
mod variables;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock},
    time::SystemTime,
};

use devenv_logs::Logs;
use devenv_processes::{Ending, ProcessError, Running, Signal, StartRequest, Supervisor, cgroup::Limits};
use devenv_secrets::{SecretError, Vault};
use devenv_spec::{ProcessSpec, ServiceName, ServiceSpec, Size, Workload};
use tokio::task::JoinHandle;

use super::{
    inherited::Inherited,
    port_proxies::{self, PortProxies, Ports},
};
use crate::reconcile::{Exit, Handle};
use variables::variables;

pub(crate) struct HostProcesses {
    /// The prefix of the markers of all processes of the environment; another daemon's have another prefix.
    marker: String,
    /// The parent directory of the process shims' directories.
    directory: PathBuf,
    supervisor: Supervisor,
    proxies: PortProxies,
    pub(crate) inherited: Inherited,
    starts: Mutex<HashMap<ServiceName, BTreeMap<u32, Start>>>,
    /// Where to report a process's exit; set as soon as the environment's task exists.
    handle: OnceLock<Handle>,
}

struct Start {
    running: Running,
    /// The ports on which it really listens, if the daemon holds its own ports.
    ports: Ports,
    /// Waits for its end.
    follower: Option<JoinHandle<()>>,
}

impl Drop for Start {
    fn drop(&mut self) {
        if let Some(follower) = self.follower.take() {
            follower.abort();
        }
    }
}

impl HostProcesses {
    pub(crate) fn new(owner: &str, environment: &str, directory: PathBuf, inherited: Inherited) -> Self {
        Self {
            marker: format!("{owner}:{environment}"),
            directory,
            supervisor: Supervisor::new(),
            proxies: PortProxies::default(),
            inherited,
            starts: Mutex::default(),
            handle: OnceLock::new(),
        }
    }

    pub(crate) fn tell(&self, handle: Handle) {
        // Set once, by the creator.
        let _ = self.handle.set(handle);
        // Processes were adopted before the receiver existed.
        let adopted: Vec<(ServiceName, u32)> =
            self.lock().iter().flat_map(|(service, starts)| starts.keys().map(|run| (service.clone(), *run))).collect();
        for (service, run) in adopted {
            self.follow(&service, run);
        }
    }

    /// The prefix of the markers of a service's processes.
    pub(crate) fn marker(&self, service: &ServiceName) -> String {
        format!("{}/{service}/", self.marker)
    }

    /// Ports that are held for services, whether or not these run.
    pub(crate) fn held_ports(&self) -> Vec<u16> {
        self.proxies.ports()
    }

    pub(crate) async fn start(&self, spec: &ServiceSpec, run: u32, vault: &Vault, logs: &Logs) -> Result<String, StartError> {
        let Workload::Process(process) = &spec.workload else { return Ok(String::new()) };
        let shim = self.directory.join(format!("{}.{run}", spec.name));
        // It may have had others, or have been one that versions are swapped behind.
        self.proxies.keep_only(&spec.name, if process.fronted { &process.ports } else { &[] });
        let ports = if process.fronted { self.proxy(spec, process, &shim).await? } else { Ports::new() };
        let variables = variables(process, &self.inherited.current(), &ports, vault)?;
        let request = StartRequest {
            environment: self.marker.clone(),
            service: spec.name.to_string(),
            run,
            command: process.command.clone(),
            directory: process.directory.clone(),
            variables,
            logs: logs.directory().to_owned(),
            limits: Limits { cpus: process.resources.cpus, memory: process.resources.memory.map(Size::bytes) },
            shim,
        };
        let running = self.supervisor.start(request).await?;
        let pid = running.pid.to_string();
        self.forget_ended(&spec.name);
        self.insert(&spec.name, Start { running, ports, follower: None });
        Ok(pid)
    }

    /// Ensures that the service's ports are held. Another program may have taken the ports of an adopted service while no daemon
    /// ran; then no connection would reach the service.
    pub(crate) async fn hold_ports(&self, spec: &ServiceSpec) -> Result<(), StartError> {
        match &spec.workload {
            Workload::Process(process) if process.fronted => self.proxies.hold(&spec.name, &process.ports).await.map_err(StartError::Ports),
            Workload::Process(_) | Workload::Container(_) => Ok(()),
        }
    }

    /// Holds the service's ports, and chooses others for this start.
    async fn proxy(&self, spec: &ServiceSpec, process: &ProcessSpec, shim: &Path) -> Result<Ports, StartError> {
        self.proxies.hold(&spec.name, &process.ports).await.map_err(StartError::Ports)?;
        let ports = port_proxies::choose(&process.ports).map_err(StartError::Ports)?;
        fs::create_dir_all(shim).and_then(|()| fs::write(shim.join(PORTS), serde_json::to_vec(&ports)?)).map_err(StartError::Ports)?;
        Ok(ports)
    }

    /// The variables of the process of this start; what it inherits may have changed since it was started.
    pub(crate) fn variables(&self, spec: &ServiceSpec, run: u32, vault: &Vault) -> Result<Vec<(String, String)>, StartError> {
        let inherited = self.inherited.current();
        match &spec.workload {
            Workload::Process(process) => variables(process, &inherited, &self.ports(&spec.name, run), vault),
            // For commands on the host that concern a container.
            Workload::Container(_) => Ok(inherited.0.clone().into_iter().collect()),
        }
    }

    /// The ports on which this start really listens.
    pub(crate) fn ports(&self, service: &ServiceName, run: u32) -> Ports {
        self.lock().get(service).and_then(|starts| starts.get(&run)).map(|start| start.ports.clone()).unwrap_or_default()
    }

    /// The highest known number of a start.
    pub(crate) fn last_run(&self, service: &ServiceName) -> u32 {
        self.lock().get(service).and_then(|starts| starts.keys().last().copied()).unwrap_or_default()
    }

    /// When its newest running start began.
    pub(crate) fn started_at(&self, service: &ServiceName) -> Option<SystemTime> {
        self.newest(service).map(|(_, at)| at)
    }

    /// The number of its newest running start, and when that began.
    pub(crate) fn newest(&self, service: &ServiceName) -> Option<(u32, SystemTime)> {
        self.lock().get(service)?.iter().last().map(|(run, start)| (*run, start.running.started_at.into()))
    }

    /// It is ready: connections to the ports that are held for it go to this start from now on.
    pub(crate) fn serve(&self, spec: &ServiceSpec, run: u32) {
        let ports = self.ports(&spec.name, run);
        if ports.is_empty() {
            return;
        }
        let noted = fs::write(self.directory.join(format!("{}.serving", spec.name)), run.to_string());
        if let Err(error) = noted {
            tracing::warn!(%error, service = %spec.name, "Cannot record which version serves.");
        }
        self.proxies.serve(&spec.name, run, &ports);
    }

    /// Ends one start, once its open requests have been answered.
    pub(crate) async fn retire(&self, spec: &ServiceSpec, run: u32) -> Result<(), String> {
        self.proxies.drain(&spec.name, run, spec.stop.grace).await;
        let Some(running) = self.get(&spec.name, run) else { return Ok(()) };
        let signal: Signal = spec.stop.signal.parse().map_err(|error| format!("{error}"))?;
        running.stop(signal, spec.stop.grace).await;
        self.forget(&spec.name, run);
        Ok(())
    }

    /// Ends all starts of the service. Its connections wait for the next one.
    pub(crate) async fn stop(&self, spec: &ServiceSpec) -> Result<(), String> {
        let runs: Vec<u32> = self.lock().get(&spec.name).into_iter().flat_map(BTreeMap::keys).copied().collect();
        let ended = futures_util::future::join_all(runs.into_iter().map(|run| self.retire(spec, run))).await;
        ended.into_iter().collect()
    }

    /// Ends every process of the service.
    pub(crate) async fn stop_for_good(&self, spec: &ServiceSpec) -> Result<(), String> {
        let stopped = self.stop(spec).await;
        self.proxies.release(&spec.name);
        let prefix = self.marker(&spec.name);
        // Nothing is kept: what escaped its process shim ends too.
        let _ = tokio::task::spawn_blocking(move || devenv_processes::sweep(&prefix)).await;
        for (_, directory) in self.directories().remove(&spec.name).unwrap_or_default() {
            remove(&directory);
        }
        stopped
    }

    pub(crate) async fn signal(&self, spec: &ServiceSpec, run: u32, signal: &str) -> Result<(), String> {
        let Some(running) = self.get(&spec.name, run) else { return Ok(()) };
        let signal: Signal = signal.parse().map_err(|error| format!("{error}"))?;
        running.signal(signal).await.map_err(|error| error.to_string())
    }

    /// Reports the process's exit to the environment's task.
    pub(crate) fn follow(&self, service: &ServiceName, run: u32) {
        let (Some(running), Some(handle)) = (self.get(service, run), self.handle.get().cloned()) else { return };
        let name = service.clone();
        let follower = tokio::spawn(async move {
            let exit = running.exited().await;
            handle.process_ended(name, running.pid, code(exit.ending)).await;
        });
        let mut starts = self.lock();
        if let Some(start) = starts.get_mut(service).and_then(|starts| starts.get_mut(&run))
            && let Some(former) = start.follower.replace(follower)
        {
            former.abort();
        }
    }

    /// Drops this process's state about them. They keep running under their process shims, until the next daemon adopts them.
    pub(crate) fn end(&self) {
        self.lock().clear();
        self.proxies.end();
    }

    /// Waits for the end of a start. Cancel-safe.
    pub(crate) async fn exited(&self, service: &ServiceName, run: u32) -> Exit {
        let (code, left, out_of_memory) = match self.get(service, run) {
            Some(running) => (code(running.exited().await.ending), running.left_behind(), running.ran_out_of_memory()),
            None => (-1, Vec::new(), false),
        };
        // A program that survives the death of a child has ended for another reason.
        Exit { code, out_of_memory: out_of_memory && code == KILLED, error: explain(code, &left) }
    }

    /// Whether the program of a start runs: what it left behind does not count.
    pub(crate) fn runs(&self, service: &ServiceName, run: u32) -> bool {
        self.get(service, run).is_some_and(|running| running.program_runs())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ServiceName, BTreeMap<u32, Start>>> {
        self.starts.lock().expect("no code panics while it holds this lock")
    }

    fn get(&self, service: &ServiceName, run: u32) -> Option<Running> {
        self.lock().get(service)?.get(&run).map(|start| start.running.clone())
    }

    fn insert(&self, service: &ServiceName, start: Start) {
        self.lock().entry(service.clone()).or_default().insert(start.running.run, start);
    }

    fn forget(&self, service: &ServiceName, run: u32) {
        let start = self.lock().get_mut(service).and_then(|starts| starts.remove(&run));
        if let Some(start) = start {
            remove(start.running.directory());
        }
    }

    /// Drops starts that have ended, which were kept for inspection.
    fn forget_ended(&self, service: &ServiceName) {
        let ended: Vec<u32> = self
            .lock()
            .get(service)
            .into_iter()
            .flatten()
            .filter(|(_, start)| start.follower.as_ref().is_some_and(JoinHandle::is_finished))
            .map(|(run, _)| *run)
            .collect();
        for run in ended {
            self.forget(service, run);
        }
        let known: Vec<u32> = self.lock().get(service).into_iter().flat_map(BTreeMap::keys).copied().collect();
        for (run, directory) in self.directories().remove(service).unwrap_or_default() {
            // The newest is the one that starts now.
            if !known.contains(&run) && devenv_processes::has_ended(&directory) {
                remove(&directory);
            }
        }
    }

    fn directories(&self) -> HashMap<ServiceName, BTreeMap<u32, PathBuf>> {
        let mut found: HashMap<ServiceName, BTreeMap<u32, PathBuf>> = HashMap::new();
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some((service, run)) = name.to_str().and_then(|name| name.rsplit_once('.')) else { continue };
            if let (Ok(service), Ok(run)) = (service.parse(), run.parse()) {
                found.entry(service).or_default().insert(run, entry.path());
            }
        }
        found
    }
}

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Process(#[from] ProcessError),
    #[error("cannot listen on its ports")]
    Ports(#[source] std::io::Error),
    #[error("cannot resolve its variable `{name}`")]
    Variable {
        name: String,
        #[source]
        source: SecretError,
    },
}

/// The exit code of a program that SIGKILL has ended.
const KILLED: i64 = 128 + 9;
/// In a process shim's directory: the ports on which its program really listens.
const PORTS: &str = "ports.json";

fn remove(directory: &Path) {
    if let Err(error) = fs::remove_dir_all(directory) {
        tracing::debug!(%error, path = %directory.display(), "Cannot remove the directory of a process shim.");
    }
}

/// The message about a process that ended by itself. `left` names the processes that it left running.
fn explain(code: i64, left: &[String]) -> Option<String> {
    match (code, left) {
        (-1, _) => Some("exit status unknown: its process shim was killed".to_owned()),
        (_, []) => None,
        (0, left) => Some(format!(
            "it left {} running, which devenv has ended too: the command of a service has to stay in the foreground",
            left.join(", ")
        )),
        (_, left) => Some(format!("it left {} running, which devenv has ended too", left.join(", "))),
    }
}

/// The shell's convention: 128 plus the signal's number.
fn code(ending: Ending) -> i64 {
    match ending {
        Ending::Code(code) => i64::from(code),
        Ending::Signal(signal) => 128 + i64::from(signal),
        Ending::Lost => -1,
    }
}

#[cfg(test)]
mod tests {
    use devenv_spec::Resources;
    use indexmap::IndexMap;

    use super::*;

    #[test]
    fn a_program_that_daemonizes_gets_a_hint_to_stay_in_the_foreground() {
        let left = ["nginx (process 12)".to_owned(), "nginx (process 13)".to_owned()];
        let explained = explain(0, &left).unwrap();
        assert!(explained.starts_with("it left nginx (process 12), nginx (process 13) running"), "{explained}");
        assert!(explained.contains("has to stay in the foreground"), "{explained}");
        assert!(!explain(1, &left).unwrap().contains("foreground"), "it has failed for another reason");
        assert_eq!(explain(0, &[]), None);
    }

    #[tokio::test]
    async fn a_service_whose_port_another_program_has_taken_does_not_count_as_ready() {
        let directory = tempfile::tempdir().unwrap();
        let processes = HostProcesses::new("owner", "e", directory.path().into(), Inherited::open(directory.path().join("inherited.json")));
        let thief = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let process = ProcessSpec {
            command: vec!["true".to_owned()],
            directory: "/".into(),
            environment: IndexMap::new(),
            ports: vec![thief.local_addr().unwrap().port()],
            fronted: true,
            resources: Resources::default(),
        };
        let spec = serde_json::json!({
            "name": "api", "kind": "process", "workload": Workload::Process(process), "depends_on": {}, "on_dependency_restart": "ignore",
            "optional": false, "probe": "none", "provision": [], "proof": null, "ready_timeout": { "secs": 1, "nanos": 0 },
            "stop": { "signal": "SIGTERM", "grace": { "secs": 1, "nanos": 0 } }, "restart": { "policy": "on-failure", "attempts": 5 }, "urls": {}
        });
        let spec: ServiceSpec = serde_json::from_value(spec).unwrap();
        assert!(matches!(processes.hold_ports(&spec).await, Err(StartError::Ports(_))));
        drop(thief);
        processes.hold_ports(&spec).await.unwrap();
    }
}
