//! Adopts the processes of an earlier daemon: one of each service stays, all others end.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use devenv_processes::{Adopted, Running, Signal};
use devenv_spec::ServiceName;
use tokio::task::JoinSet;

use super::{HostProcesses, PORTS, Start, code, remove};
use crate::{reconcile::ObservedProcess, runtime::port_proxies::Ports};

/// The grace of a surplus process: it has no owner, and the one that is kept waits for its ports.
const SURPLUS_GRACE: Duration = Duration::from_secs(1);

impl HostProcesses {
    /// Adopts the processes of an earlier daemon, one of each service, and ends all others. Returns what happened to each.
    /// of each.
    pub(crate) async fn adopt(&self) -> Vec<(ServiceName, ObservedProcess)> {
        let mut found = Vec::new();
        for (name, runs) in self.directories() {
            let serving = self.serving(&name);
            let mut running = BTreeMap::new();
            let mut last = None;
            for (run, directory) in runs {
                match devenv_processes::adopt(&directory).await {
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

    /// Ends processes with our marker that were not adopted.
    async fn sweep_escapees(&self) {
        let kept: Vec<String> = self.lock().values().flat_map(BTreeMap::values).map(|start| start.running.marker().to_owned()).collect();
        let prefix = format!("{}/", self.marker);
        // The runtime has logged a panic in it.
        let _ = tokio::task::spawn_blocking(move || devenv_processes::sweep_others(&prefix, &kept)).await;
    }

    fn serving(&self, service: &ServiceName) -> Option<u32> {
        fs::read_to_string(self.directory.join(format!("{service}.serving"))).ok()?.trim().parse().ok()
    }
}

fn read_ports(directory: &Path) -> Ports {
    fs::read(directory.join(PORTS)).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}
