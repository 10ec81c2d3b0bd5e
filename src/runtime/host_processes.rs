//! The host processes of one environment, each start under a process shim with a directory of its own: `SERVICE.RUN`.
//!
//! While versions are swapped, and while an old one ends, a service has several. Which of them its connections go to is
//! noted in `SERVICE.serving`, so that a daemon that comes up later keeps that one and ends the others.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, OnceLock},
    time::{Duration, SystemTime},
};

use devenv_api::ShellVariables;
use tokio::task::{JoinHandle, JoinSet};

use super::{
    inherited::Inherited,
    port_proxies::{self, PortProxies, Ports},
};
use crate::{
    log::Logs,
    process::{self, Adopted, Ending, ProcessError, Running, Signal, StartRequest, Supervisor},
    reconcile::{Exit, Handle, ObservedProcess},
    secret::{SecretError, Vault},
    spec::{ProcessSpec, ServiceName, ServiceSpec, Workload},
};

/// For a process that is one too many: it is nobody's, and the one that is kept waits for its ports.
const SURPLUS_GRACE: Duration = Duration::from_secs(1);
/// The variables that pass a process its ports.
const PORT_VARIABLES: [&str; 2] = ["PORT", "DEBUG_PORT"];

pub(crate) struct HostProcesses {
    /// What the markers of all processes of the environment begin with; those of another daemon's begin otherwise.
    marker: String,
    /// Where process shims have their directories.
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
    /// Where it really listens, if the daemon holds its ports.
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

    /// What the markers of a service's processes begin with.
    pub(crate) fn marker(&self, service: &ServiceName) -> String {
        format!("{}/{service}/", self.marker)
    }

    /// Ports that are held for services, whether or not these run.
    pub(crate) fn held_ports(&self) -> Vec<u16> {
        self.proxies.ports()
    }

    /// Takes over the processes that an earlier daemon started, one of each service, and ends all others. Says what became
    /// of each.
    pub(crate) async fn adopt(&self) -> Vec<(ServiceName, ObservedProcess)> {
        let mut found = Vec::new();
        for (name, runs) in self.directories() {
            let serving = self.serving(&name);
            let mut running = BTreeMap::new();
            let mut last = None;
            for (run, directory) in runs {
                match process::adopt(&directory).await {
                    Adopted::Running(process) => {
                        running.insert(run, process);
                    }
                    Adopted::Ended(process, exit) => last = Some((process, code(exit.ending))),
                    Adopted::Lost(process) => last = Some((process, -1)),
                    Adopted::Nothing => remove(&directory),
                }
            }
            let kept = serving.filter(|run| running.contains_key(run)).or_else(|| running.keys().last().copied());
            let kept = kept.and_then(|run| running.remove(&run));
            let mut surplus: JoinSet<()> = running
                .into_values()
                .map(|process| async move {
                    process.stop(Signal::TERM, SURPLUS_GRACE).await;
                    remove(process.directory());
                })
                .collect();
            while surplus.join_next().await.is_some() {}
            match (kept, last) {
                (Some(process), _) => found.push((name.clone(), self.take(&name, process).await)),
                (None, Some((process, code))) => found.push((name, ObservedProcess::Ended { code, run: process.run })),
                (None, None) => {}
            }
        }
        self.sweep_escapees().await;
        found
    }

    async fn take(&self, name: &ServiceName, process: Running) -> ObservedProcess {
        let observed = ObservedProcess::Running { pid: process.pid, run: process.run };
        let ports = read_ports(process.directory());
        let public: Vec<u16> = ports.keys().copied().collect();
        match self.proxies.hold(name, &public).await {
            Ok(()) => self.proxies.serve(name, process.run, &ports),
            // Tried again before it counts as ready.
            Err(error) => tracing::warn!(%error, service = %name, "Cannot listen on the ports of a service yet."),
        }
        self.insert(name, Start { running: process, ports, follower: None });
        observed
    }

    /// Ends what carries our marker and belongs to no process that was taken over.
    async fn sweep_escapees(&self) {
        let kept: Vec<String> = self.lock().values().flat_map(BTreeMap::values).map(|start| start.running.marker().to_owned()).collect();
        let prefix = format!("{}/", self.marker);
        // The runtime has logged a panic in it.
        let _ = tokio::task::spawn_blocking(move || process::sweep_others(&prefix, &kept)).await;
    }

    pub(crate) async fn start(&self, spec: &ServiceSpec, run: u32, vault: &Vault, logs: &Logs) -> Result<String, StartError> {
        let Workload::Process(process) = &spec.workload else { return Ok(String::new()) };
        let shim = self.directory.join(format!("{}.{run}", spec.name));
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
            shim,
        };
        let running = self.supervisor.start(request).await?;
        let pid = running.pid.to_string();
        self.forget_ended(&spec.name);
        self.insert(&spec.name, Start { running, ports, follower: None });
        Ok(pid)
    }

    /// Makes sure that the service's ports are held. One that was adopted may have lost them to another program while no daemon
    /// ran, and nobody would reach it.
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

    /// What the process of this start is given; what it inherits may have changed since it was started.
    pub(crate) fn variables(&self, spec: &ServiceSpec, run: u32, vault: &Vault) -> Result<Vec<(String, String)>, StartError> {
        let inherited = self.inherited.current();
        match &spec.workload {
            Workload::Process(process) => variables(process, &inherited, &self.ports(&spec.name, run), vault),
            // For commands on the host that are about a container.
            Workload::Container(_) => Ok(inherited.0.clone().into_iter().collect()),
        }
    }

    /// Where this start really listens.
    pub(crate) fn ports(&self, service: &ServiceName, run: u32) -> Ports {
        self.lock().get(service).and_then(|starts| starts.get(&run)).map(|start| start.ports.clone()).unwrap_or_default()
    }

    /// The highest number of a start that is known of.
    pub(crate) fn last_run(&self, service: &ServiceName) -> u32 {
        self.lock().get(service).and_then(|starts| starts.keys().last().copied()).unwrap_or_default()
    }

    /// When its newest start that runs began.
    pub(crate) fn started_at(&self, service: &ServiceName) -> Option<SystemTime> {
        self.newest(service).map(|(_, at)| at)
    }

    /// The number of its newest start that runs, and when that began.
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

    /// Ends one start, once those that it serves have been answered.
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

    /// Ends all that there is of the service.
    pub(crate) async fn stop_for_good(&self, spec: &ServiceSpec) -> Result<(), String> {
        let stopped = self.stop(spec).await;
        self.proxies.release(&spec.name);
        let prefix = self.marker(&spec.name);
        // Nothing is to be kept: what escaped its process shim ends too.
        let _ = tokio::task::spawn_blocking(move || process::sweep(&prefix)).await;
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

    /// Drops the state of this process about them. They keep running under their process shims, until the next daemon adopts them.
    pub(crate) fn end(&self) {
        self.lock().clear();
        self.proxies.end();
    }

    /// Waits for the end of a start. Cancel-safe.
    pub(crate) async fn exited(&self, service: &ServiceName, run: u32) -> Exit {
        let code = match self.get(service, run) {
            Some(running) => code(running.exited().await.ending),
            None => -1,
        };
        Exit { code, out_of_memory: false, error: (code == -1).then(|| "exit status unknown: its process shim was killed".to_owned()) }
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
            if !known.contains(&run) && process::has_ended(&directory) {
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

    fn serving(&self, service: &ServiceName) -> Option<u32> {
        fs::read_to_string(self.directory.join(format!("{service}.serving"))).ok()?.trim().parse().ok()
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

/// In a process shim's directory: where its program really listens.
const PORTS: &str = "ports.json";

fn read_ports(directory: &Path) -> Ports {
    fs::read(directory.join(PORTS)).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

fn remove(directory: &Path) {
    if let Err(error) = fs::remove_dir_all(directory) {
        tracing::debug!(%error, path = %directory.display(), "Cannot remove the directory of a process shim.");
    }
}

/// What it inherits (a program on the host needs a `PATH` and a `HOME`), then the service's own. Without one of those it would
/// not be the program that the profile means.
fn variables(process: &ProcessSpec, inherited: &ShellVariables, ports: &Ports, vault: &Vault) -> Result<Vec<(String, String)>, StartError> {
    let is_own = |name: &String| process.environment.contains_key(name);
    let mut variables: Vec<(String, String)> =
        inherited.0.iter().filter(|(name, _)| !is_own(name)).map(|(name, value)| (name.clone(), value.clone())).collect();
    for (name, template) in &process.environment {
        let value = vault.resolve(template).map_err(|source| StartError::Variable { name: name.clone(), source })?;
        let own = value.parse().ok().and_then(|port: u16| ports.get(&port)).filter(|_| PORT_VARIABLES.contains(&name.as_str()));
        variables.push((name.clone(), own.map_or(value, ToString::to_string)));
    }
    Ok(variables)
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
    use indexmap::IndexMap;

    use super::*;
    use crate::spec::{SecretRef, Template};

    fn process(environment: IndexMap<String, Template>) -> ProcessSpec {
        ProcessSpec { command: vec!["true".to_owned()], directory: "/".into(), environment, ports: vec![8080], fronted: true }
    }

    #[test]
    fn a_process_gets_what_the_shell_that_asked_has_and_the_profile_has_the_last_word() {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault::new(directory.path().join("secrets"));
        let inherited =
            ShellVariables(BTreeMap::from([("PATH", "/new/bin"), ("TOKEN", "shell's")].map(|(a, b)| (a.to_owned(), b.to_owned()))));
        let process = process(IndexMap::from([("TOKEN".to_owned(), "profile's".into()), ("PORT".to_owned(), "8080".into())]));
        let given = variables(&process, &inherited, &Ports::from([(8080, 41_000)]), &vault).unwrap();
        let expected = [("PATH", "/new/bin"), ("TOKEN", "profile's"), ("PORT", "41000")];
        assert_eq!(given, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_process_is_not_started_without_a_variable_whose_secret_cannot_be_read() {
        let directory = tempfile::tempdir().unwrap();
        // A file where the directory of secrets should be: nothing can be read or made there, not even by root.
        fs::write(directory.path().join("secrets"), "").unwrap();
        let vault = Vault::new(directory.path().join("secrets"));
        let process = process(IndexMap::from([("TOKEN".to_owned(), Template::secret(SecretRef::new("api", "token")))]));
        let error = variables(&process, &ShellVariables::default(), &Ports::new(), &vault).unwrap_err();
        assert_eq!(error.to_string(), "cannot resolve its variable `TOKEN`");
    }

    #[tokio::test]
    async fn a_service_whose_port_another_program_has_taken_does_not_count_as_ready() {
        let directory = tempfile::tempdir().unwrap();
        let processes = HostProcesses::new("owner", "e", directory.path().into(), Inherited::open(directory.path().join("inherited.json")));
        let thief = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut process = process(IndexMap::new());
        process.ports = vec![thief.local_addr().unwrap().port()];
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
