//! Containers of the fake engine.

use super::{
    ContainerCreate, ContainerState, EngineError, EngineEvent, FakeEngine, LogChunk, ObservedContainer, Resources, Sidecar,
    state::{Container, missing, refused},
};
use crate::{CreatedMount, EngineEventKind, Labels};

impl Container {
    pub(super) fn runs(&self) -> bool {
        matches!(self.observed.state, ContainerState::Running { .. } | ContainerState::Paused { .. })
    }

    pub(super) fn holds(&self, volume: &str) -> bool {
        self.volumes().iter().any(|name| name == volume)
    }

    pub(super) fn volumes(&self) -> Vec<String> {
        let name = |mount: &CreatedMount| match mount {
            CreatedMount::Volume { name, .. } => Some(name.clone()),
            CreatedMount::Host { .. } | CreatedMount::Memory { .. } => None,
        };
        self.asked.mounts.iter().filter_map(name).collect()
    }
}

impl FakeEngine {
    pub(super) fn add_container(&self, container: &ContainerCreate) -> Result<String, EngineError> {
        let there = self.lock().containers.iter().find(|there| there.observed.name == container.name).map(|there| {
            let as_asked = there.asked.labels == container.labels
                && there.observed.state == ContainerState::Created
                && (&there.asked.network, &there.asked.mounts) == (&container.network, &container.mounts);
            (there.observed.id.clone(), as_asked, there.observed.labels.same_subject(&container.labels))
        });
        match there {
            None => {}
            Some((id, true, _)) => return Ok(id),
            Some((id, false, true)) => self.drop_container(&id),
            Some((_, false, false)) => return Err(refused("create the container", 409, "the name is already in use")),
        }
        let mut state = self.lock();
        if !state.images.contains_key(&container.image) {
            return Err(missing("image", &container.image));
        }
        let id = format!("container-{}", state.next());
        state.containers.push(Container {
            observed: ObservedContainer {
                id: id.clone(),
                name: container.name.clone(),
                labels: container.labels.clone(),
                image: container.image.clone(),
                state: ContainerState::Created,
                started_at: None,
            },
            asked: container.clone(),
            files: Vec::new(),
            output: Vec::new(),
            ignores_signals: false,
        });
        Ok(id)
    }

    /// On its own network; joined namespaces make no difference here.
    pub(super) fn add_sidecar(&self, sidecar: &Sidecar) -> Result<String, EngineError> {
        let network = self.lock().networks.first().map(|network| network.name.clone()).unwrap_or_default();
        self.add_container(&ContainerCreate {
            command: Some(sidecar.command.clone()),
            mounts: sidecar.mounts.clone(),
            network,
            ..bare(&sidecar.name, &sidecar.labels, &sidecar.image)
        })
    }

    pub(super) fn start_container(&self, id: &str) -> Result<(), EngineError> {
        let mut state = self.lock();
        let container = state.container(id)?;
        if container.runs() {
            return Ok(());
        }
        let (id, name, network) = (container.observed.id.clone(), container.observed.name.clone(), container.asked.network.clone());
        let ports: Vec<u16> = container.asked.ports.iter().map(|port| port.host).collect();
        if !state.networks.iter().any(|there| there.name == network || there.id == network) {
            return Err(missing("network", &network));
        }
        let held = |port: &u16| {
            let others = state.containers.iter().filter(|other| other.runs());
            let mut others = others.flat_map(|other| other.asked.ports.iter().map(|port| port.host));
            others.any(|other| other == *port)
        };
        if let Some(port) = ports.iter().copied().find(held) {
            return Err(EngineError::PortTaken { port });
        }
        let (pid, started_at) = (state.next() as u32, Some(state.now()));
        let output = state.output_at_start.get(&name).cloned().unwrap_or_default();
        for volume in state.container(&id)?.volumes() {
            state.initialise(&volume);
        }
        let container = state.container(&id)?;
        container.observed.state = ContainerState::Running { pid };
        container.observed.started_at = started_at;
        drop(state);
        self.emit(&id, EngineEventKind::Started);
        for (stderr, text) in output {
            self.write(&id, stderr, &text);
        }
        self.changed();
        Ok(())
    }

    pub(super) fn set_paused(&self, id: &str, paused: bool) -> Result<(), EngineError> {
        let mut state = self.lock();
        let container = state.container(id)?;
        let id = container.observed.id.clone();
        let (pid, was_paused) = match container.observed.state {
            ContainerState::Running { pid } => (pid, false),
            ContainerState::Paused { pid } => (pid, true),
            _ => return Err(refused("pause or unpause the container", 409, "it is not running")),
        };
        if was_paused == paused {
            return Ok(());
        }
        container.observed.state = if paused { ContainerState::Paused { pid } } else { ContainerState::Running { pid } };
        drop(state);
        self.emit(&id, if paused { EngineEventKind::Paused } else { EngineEventKind::Unpaused });
        Ok(())
    }

    pub(super) fn signal(&self, id: &str, signal: &str) -> Result<(), EngineError> {
        let (runs, ignores_signals) = {
            let mut state = self.lock();
            let container = state.container(id)?;
            (container.runs(), container.ignores_signals)
        };
        let forced = signal == "SIGKILL";
        match (runs, forced) {
            (false, true) => Ok(()),
            (false, false) => Err(refused("send the signal", 409, "the container is not running")),
            (true, forced) => {
                if forced || (!ignores_signals && number(signal).is_some()) {
                    self.end_by(id, signal);
                }
                Ok(())
            }
        }
    }

    /// Ends it as a signal does, if it runs.
    pub(super) fn end_by(&self, id: &str, signal: &str) {
        self.end(id, 128 + number(signal).unwrap_or(15));
    }

    pub(super) fn end(&self, id: &str, code: i64) {
        let mut state = self.lock();
        let finished_at = state.now();
        let Ok(container) = state.container(id) else { return };
        if !container.runs() {
            return;
        }
        container.observed.state = ContainerState::Exited { code, out_of_memory: false, error: None, finished_at };
        let id = container.observed.id.clone();
        drop(state);
        self.emit(&id, EngineEventKind::Died { code });
        self.changed();
    }

    pub(super) fn drop_container(&self, id: &str) {
        self.end(id, 137);
        let mut state = self.lock();
        let Ok(container) = state.container(id) else { return };
        let (id, labels) = (container.observed.id.clone(), container.observed.labels.clone());
        state.containers.retain(|container| container.observed.id != id);
        drop(state);
        // There may be no receiver.
        let _ = self.events.send(Ok(EngineEvent { container: id, labels, kind: EngineEventKind::Removed }));
        self.changed();
    }

    pub(super) fn must_run(&self, id: &str) -> Result<(), EngineError> {
        match self.lock().container(id)?.observed.state {
            ContainerState::Running { .. } => Ok(()),
            _ => Err(refused("run a command in the container", 409, "the container is not running")),
        }
    }

    pub(super) fn emit(&self, id: &str, kind: EngineEventKind) {
        let labels = match self.lock().container(id) {
            Ok(container) => container.observed.labels.clone(),
            Err(_) => return,
        };
        let _ = self.events.send(Ok(EngineEvent { container: id.to_owned(), labels, kind }));
    }

    pub(super) fn write(&self, id: &str, stderr: bool, text: &str) {
        let mut state = self.lock();
        let time = state.now();
        if let Ok(container) = state.container(id) {
            container.output.push(LogChunk { time, stderr, text: text.to_owned() });
        }
        drop(state);
        self.changed();
    }
}

/// A container with only a name, labels and an image.
pub(super) fn bare(name: &str, labels: &Labels, image: &str) -> ContainerCreate {
    ContainerCreate {
        name: name.to_owned(),
        hostname: String::new(),
        labels: labels.clone(),
        image: image.to_owned(),
        entrypoint: None,
        command: None,
        user: None,
        environment: Vec::new(),
        mounts: Vec::new(),
        ports: Vec::new(),
        network: String::new(),
        aliases: Vec::new(),
        resources: Resources::default(),
        shared_memory: None,
        init: false,
        stop_signal: "SIGKILL".to_owned(),
        options: Box::default(),
        mount_options: std::collections::BTreeMap::new(),
        attachments: Vec::new(),
        address: None,
        pid_mode: None,
        ipc_mode: None,
    }
}

/// Whether the signal ends a program by default.
fn number(signal: &str) -> Option<i64> {
    Some(match signal {
        "SIGINT" => 2,
        "SIGQUIT" => 3,
        "SIGKILL" => 9,
        "SIGTERM" => 15,
        _ => return None,
    })
}
