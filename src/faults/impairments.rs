//! The state of services as far as faults change it: read before and after, so that healing is observed and not assumed.

use std::{fs, path::Path};

use devenv_api::{ApiError, Impairments};
use devenv_engine::ContainerState;
use devenv_processes::cgroup::Group;
use devenv_spec::{ServiceName, Size};
use futures_util::future::try_join_all;

use super::{Faults, agent, device_volume};
use crate::{runtime::loop_devices, store::Record};

impl Faults {
    pub(crate) async fn impairments(&self, services: &[String]) -> Result<Vec<Impairments>, ApiError> {
        let record = self.site.handle.record().await.map_err(ApiError::from)?;
        let services = services.iter().filter_map(|name| name.parse().ok());
        try_join_all(services.map(|service| self.impairments_of(&record, service))).await
    }

    async fn impairments_of(&self, record: &Record, service: ServiceName) -> Result<Impairments, ApiError> {
        let mut impairments = Impairments {
            service: service.to_string(),
            runs: false,
            paused: false,
            cpus: None,
            memory: None,
            rules: None,
            disks: Vec::new(),
        };
        let status = self.site.handle.status();
        let container = status.services.iter().find(|seen| seen.name == service.as_str()).and_then(|seen| seen.container.clone());
        let Some(container) = container else { return Ok(impairments) };
        let no_engine = |error: devenv_engine::EngineError| crate::error::no_engine(&error);
        let (paused, pid) = match self.engine().inspect(&container).await.map_err(no_engine)?.map(|seen| seen.state) {
            Some(ContainerState::Running { pid }) => (false, pid),
            Some(ContainerState::Paused { pid }) => (true, pid),
            _ => return Ok(impairments),
        };
        let limits = self.engine().limits(&container).await.map_err(no_engine)?;
        impairments.runs = true;
        impairments.paused = paused || held(pid);
        let group = Group::of(&container, pid).map(|group| group.limits()).unwrap_or_default();
        impairments.cpus = limits.cpus.or(group.cpus);
        impairments.memory = limits.memory.map(Size::bytes).or(group.memory);
        impairments.rules = self.rules(record, &service, container).await;
        let device = device_volume(record, &service).and_then(|volume| loop_devices::device_of(&self.site.disks, &volume));
        impairments.disks.extend(device.and_then(|device| mounted(&device)));
        Ok(impairments)
    }

    /// The tables in the container's network namespace; `None` if no fault agent can be started to read them.
    async fn rules(&self, record: &Record, service: &ServiceName, container: String) -> Option<Vec<String>> {
        let id = format!("look-{service}");
        let task = agent::Task {
            arguments: vec!["look".to_owned()],
            network_of: Some(container),
            capabilities: &["NET_ADMIN"],
            ..agent::Task::default()
        };
        match self.run_agent(record, service, &id, task).await.0 {
            Ok(said) => Some(said.split_whitespace().map(str::to_owned).collect()),
            Err(error) => {
                tracing::info!(%error, %service, "Cannot read the firewall rules of a service.");
                None
            }
        }
    }
}

/// Whether its main process is stopped, or held by a tracer. Visible only on the engine's own host.
fn held(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("State:")).is_some_and(|state| matches!(state.trim().chars().next(), Some('t' | 'T')))
}

/// `read-only` or `writable`, with the device.
fn mounted(device: &str) -> Option<String> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let options = mounts.lines().find_map(|line| line.strip_prefix(device)?.strip_prefix(' ')?.split(' ').nth(2).map(str::to_owned))?;
    Some(if read_only(&options) { "read-only" } else { "writable" }.to_owned()).filter(|_| Path::new(device).exists())
}

/// The options of a mount as the kernel lists them.
pub(super) fn read_only(options: &str) -> bool {
    options.split(',').any(|option| option == "ro" || option == "emergency_ro")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_system_that_gave_up_is_read_only() {
        assert!(read_only("ro,relatime") && read_only("rw,emergency_ro,errors=remount-ro"));
        assert!(!read_only("rw,relatime,errors=remount-ro"));
    }
}
