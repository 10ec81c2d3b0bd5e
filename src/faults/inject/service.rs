//! Crashes, stops and restarts: faults of the service as a whole.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use devenv_api::{ApiError, ErrorCode, Witness};
use devenv_engine::ContainerState;
use devenv_kinds::faults::Restart;
use devenv_spec::ServiceName;
use tokio_util::task::AbortOnDropHandle;

use super::super::{agent, undo_log::Undo};
use super::{SIGN, Work, failed, not_seen, seen};
use crate::{reconcile::ServiceAction, runtime::loop_devices};

/// How often to check whether a run has ended: reported times have this precision.
const GRAIN: Duration = Duration::from_millis(10);
/// The engine reports an exit within milliseconds.
const KNOWN: Duration = Duration::from_millis(500);

/// One run of a service, to recognise the next one.
#[derive(Debug, Clone, PartialEq)]
enum Run {
    Container { id: String, started_at: Option<String> },
    Process { pid: u32 },
}

impl Work {
    async fn run(&self) -> Result<Run, ApiError> {
        if let Some(id) = &self.entry.target {
            let seen = self.engine().inspect(id).await.map_err(|error| failed(error.to_string()))?;
            return match seen {
                Some(container) if matches!(container.state, ContainerState::Running { .. } | ContainerState::Paused { .. }) => {
                    Ok(Run::Container { id: id.clone(), started_at: container.started_at })
                }
                _ => Err(failed(format!("{} is not running", self.service.name))),
            };
        }
        match self.pid {
            Some(pid) => Ok(Run::Process { pid }),
            None => Err(failed(format!("{} is not running", self.service.name))),
        }
    }

    /// Waits until the run has ended and the supervisor has noticed, so that the next status is current.
    async fn ended(&self, run: &Run, began: Instant) -> Witness {
        let before = self.seen_by_supervisor();
        let witness = self.end_of(run, began).await;
        let waited = Instant::now();
        while witness.observed && waited.elapsed() < KNOWN && self.seen_by_supervisor() == before {
            tokio::time::sleep(GRAIN).await;
        }
        witness
    }

    /// Whether it is ready, and how often it was restarted.
    fn seen_by_supervisor(&self) -> Option<(devenv_api::ServiceState, u32, Option<u64>)> {
        let status = self.faults.site.handle.status();
        let service = status.services.iter().find(|service| service.name == self.service.name.as_str())?;
        Some((service.state, service.restarts, service.ready_after_ms))
    }

    async fn end_of(&self, run: &Run, began: Instant) -> Witness {
        while began.elapsed() < SIGN.max(self.service.stop.grace + Duration::from_secs(5)) {
            match run {
                Run::Container { id, started_at } => match self.engine().inspect(id).await {
                    Ok(None) => return seen("its container was removed", began),
                    Ok(Some(container)) => match container.state {
                        ContainerState::Exited { code, .. } => return seen(format!("it exited with code {code}"), began),
                        _ if container.started_at != *started_at => return seen("it exited, and was started again", began),
                        _ => {}
                    },
                    Err(_) => {}
                },
                Run::Process { pid } => {
                    if !std::path::Path::new(&format!("/proc/{pid}")).exists() {
                        return seen(format!("process {pid} exited"), began);
                    }
                }
            }
            tokio::time::sleep(GRAIN).await;
        }
        not_seen("it is still running".to_owned())
    }

    async fn verb(&self, verb: ServiceAction) -> Result<(), ApiError> {
        self.faults.site.handle.services(vec![self.service.name.clone()], verb).await.map(|_| ()).map_err(ApiError::from)
    }

    async fn send(&self, run: &Run, signal: &str) -> Result<(), ApiError> {
        match run {
            Run::Container { id, .. } => self.engine().kill(id, signal).await.map_err(|error| failed(error.to_string())),
            Run::Process { pid } => {
                let number = signal_number(signal).ok_or_else(|| ApiError::new(ErrorCode::Usage, format!("`{signal}` is not a signal")))?;
                let pid = i32::try_from(*pid).ok().and_then(rustix::process::Pid::from_raw).ok_or_else(|| failed("it has no process"))?;
                rustix::process::kill_process(pid, number).map_err(|error| failed(error.to_string()))
            }
        }
    }

    pub(super) async fn signal(&mut self, signal: &str, restart: Restart) -> Result<Witness, ApiError> {
        let run = self.run().await?;
        if let Restart::After(_) = restart {
            self.will_undo(Undo::Start { service: self.service.name.clone() })?;
        }
        let began = Instant::now();
        self.send(&run, signal).await?;
        if let Restart::After(_) = restart {
            // The supervisor does not restart a service that is to be stopped.
            self.verb(ServiceAction::Stop).await?;
        }
        // A signal that does not end a program has no effect to observe except that it was sent.
        if matches!(signal.trim_start_matches("SIG"), "HUP" | "USR1" | "USR2" | "WINCH" | "CONT" | "CHLD") {
            return Ok(seen(format!("{signal} was sent"), began));
        }
        Ok(self.ended(&run, began).await)
    }

    pub(super) async fn stop(&mut self) -> Result<Witness, ApiError> {
        let run = self.run().await?;
        self.will_undo(Undo::Start { service: self.service.name.clone() })?;
        let began = Instant::now();
        self.verb(ServiceAction::Stop).await?;
        Ok(self.ended(&run, began).await)
    }

    pub(super) async fn restart(&mut self) -> Result<Witness, ApiError> {
        let run = self.run().await?;
        let began = Instant::now();
        self.verb(ServiceAction::Restart).await?;
        Ok(self.ended(&run, began).await)
    }

    pub(super) async fn crash_loop(&mut self, every: Duration) -> Result<Witness, ApiError> {
        let run = self.run().await?;
        self.will_undo(Undo::Start { service: self.service.name.clone() })?;
        let began = Instant::now();
        self.send(&run, "SIGKILL").await?;
        let witness = self.ended(&run, began).await;
        let (mut views, name, engine) = (self.faults.site.handle.clone(), self.service.name.clone(), self.faults.site.engine.clone());
        self.held_tasks.push(AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                let container = wait_until_it_runs(&mut views, &name).await;
                tokio::time::sleep(every).await;
                if let Some(container) = container {
                    // It may have exited on its own in the meantime.
                    let _ = engine.kill(&container, "SIGKILL").await;
                }
                tokio::time::sleep(GRAIN * 10).await;
            }
        })));
        Ok(witness)
    }

    /// The supervisor recreates it, with new volumes if the old ones are removed too.
    pub(super) async fn remove(&mut self, volumes: bool, restore: bool) -> Result<Witness, ApiError> {
        let (run, container) = (self.run().await?, self.container()?);
        let backup = if restore { Some(self.faults.site.backups.save(&self.record.id, &self.service.name).await?) } else { None };
        self.will_undo(Undo::Start { service: self.service.name.clone() })?;
        if let Some(id) = backup {
            self.will_undo(Undo::Backup { id })?;
        }
        let began = Instant::now();
        let engine_failed = |error: devenv_engine::EngineError| failed(error.to_string());
        if volumes {
            self.verb(ServiceAction::Stop).await?;
        }
        self.engine().remove_container(&container).await.map_err(engine_failed)?;
        let witness = self.ended(&run, began).await;
        if volumes {
            let prefix = format!("{}/", self.service.name);
            for volume in self.record.volumes.iter().filter(|(key, _)| key.starts_with(&prefix)).map(|(_, volume)| volume) {
                self.engine().remove_volume(volume).await.map_err(engine_failed)?;
                // A disk of its own is removed too, or the data would be back with the volume's name.
                loop_devices::discard(&self.faults.site.disks, volume).await.map_err(failed)?;
            }
        }
        Ok(witness)
    }

    /// The file system is stopped first, so that nothing more reaches the disk, then the service. The disk is as it was at
    /// that moment when it is mounted again.
    pub(super) async fn power_cut(&mut self, volume: String) -> Result<Witness, ApiError> {
        let run = self.run().await?;
        let name = agent::name(&self.record, &self.entry.fault.id);
        self.will_undo(Undo::Start { service: self.service.name.clone() })?;
        let began = Instant::now();
        // Stop the server together with its disk: until it is killed it would acknowledge writes
        // that no disk accepts, and a sync that is running while the file system stops may report success.
        let container = self.container()?;
        self.will_undo(Undo::Unpause { container: container.clone() })?;
        self.engine().pause(&container).await.map_err(|error| failed(error.to_string()))?;
        let arguments = vec!["cut".to_owned(), format!("--path={}", agent::VOLUME)];
        let task = agent::Task { arguments, volume: Some(volume), capabilities: &["SYS_ADMIN"], ..agent::Task::default() };
        self.hold(task).await?;
        let ended = self.send(&run, "SIGKILL").await;
        self.verb(ServiceAction::Stop).await?;
        // As long as a process has it mounted, it is not really mounted again.
        self.engine().remove_container(&name).await.map_err(|error| failed(error.to_string()))?;
        self.entry.undo.retain(|undo| !matches!(undo, Undo::Agent { .. } | Undo::Unpause { .. }));
        ended?;
        let mut witness = self.ended(&run, began).await;
        witness.what = format!("the file system was shut down, and {}", witness.what);
        Ok(witness)
    }

    /// An error that the kernel is made to report makes it mount the file system read-only.
    pub(super) fn read_only_disk(&mut self, volume: &str) -> Result<Witness, ApiError> {
        let device =
            loop_devices::device_of(&self.faults.site.disks, volume).ok_or_else(|| failed(format!("the volume {volume} has no device")))?;
        let name = device.rsplit('/').next().unwrap_or_default();
        let container = self.container()?;
        self.will_undo(Undo::Restart { service: self.service.name.clone(), container })?;
        let began = Instant::now();
        let trigger = format!("/sys/fs/ext4/{name}/trigger_fs_error");
        std::fs::write(&trigger, "devenv: a fault was injected\n")
            .map_err(|error| failed(format!("cannot write {trigger}: {error}")).hint("this fault requires root on the engine's host"))?;
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
        let read_only = mounts
            .lines()
            .filter(|line| line.starts_with(&format!("{device} ")))
            .any(|line| super::super::impairments::read_only(line.split(' ').nth(3).unwrap_or_default()));
        Ok(if read_only {
            seen(format!("{device} is mounted read-only"), began)
        } else {
            not_seen(format!("{device} is still mounted read-write"))
        })
    }

    /// The first fault at once, so that there is a witness; the others in a task.
    pub(super) async fn monkey(
        &mut self,
        faults: &[String],
        services: &[ServiceName],
        every: Duration,
        lasting: Duration,
    ) -> Result<Witness, ApiError> {
        let (others, id, seed) = (self.faults.clone(), self.entry.fault.id.clone(), self.entry.spec.seed);
        self.will_undo(Undo::Others { prefix: format!("{id}-") })?;
        let began = Instant::now();
        let (faults, services) = (faults.to_vec(), services.to_vec());
        let nth = move |number: u64| {
            let name = &faults[(mix(seed, number * 2) % faults.len() as u64) as usize];
            let service = services[(mix(seed, number * 2 + 1) % services.len() as u64) as usize].clone();
            devenv_kinds::faults::parse(format!("{id}-{number}"), name, service, &BTreeMap::new(), Some(lasting), seed)
        };
        let first = others.inject_spec(nth(0)?).await?;
        self.held_tasks.push(AbortOnDropHandle::new(tokio::spawn(async move {
            for number in 1.. {
                tokio::time::sleep(every).await;
                if let Ok(spec) = nth(number)
                    && let Err(error) = others.inject_spec(spec).await
                {
                    tracing::info!(reason = %error.message, "A fault that the monkey picked is not possible.");
                }
            }
        })));
        let witness = first.witness.map_or_else(String::new, |witness| witness.what);
        Ok(seen(format!("{} on {}: {witness}", first.fault, first.service), began))
    }
}

async fn wait_until_it_runs(handle: &mut crate::reconcile::Handle, name: &ServiceName) -> Option<String> {
    loop {
        let status = handle.status();
        let service = status.services.iter().find(|service| service.name == name.as_str());
        let runs = service.is_some_and(|service| {
            matches!(
                service.state,
                devenv_api::ServiceState::Starting | devenv_api::ServiceState::Provisioning | devenv_api::ServiceState::Ready
            )
        });
        if runs {
            return service.and_then(|service| service.container.clone());
        }
        tokio::time::sleep(GRAIN).await;
    }
}

/// Reproducible random numbers: `splitmix64`.
fn mix(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn signal_number(name: &str) -> Option<rustix::process::Signal> {
    use rustix::process::Signal;
    Some(match name.trim_start_matches("SIG") {
        "KILL" => Signal::KILL,
        "TERM" => Signal::TERM,
        "INT" => Signal::INT,
        "QUIT" => Signal::QUIT,
        "HUP" => Signal::HUP,
        "ABRT" => Signal::ABORT,
        "USR1" => Signal::USR1,
        "USR2" => Signal::USR2,
        "SEGV" => Signal::SEGV,
        _ => return None,
    })
}
