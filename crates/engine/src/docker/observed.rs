//! Decodes answers about containers into what is observed. Only fields that we use are named, and every one may be absent.

use std::collections::HashMap;

use serde::Deserialize;

use crate::{ContainerCreate, ContainerState, CreatedMount, Labels, ObservedContainer};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ContainerDocument {
    pub(super) id: String,
    name: String,
    state: StateDocument,
    config: ConfigDocument,
    host_config: HostDocument,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct StateDocument {
    status: String,
    paused: bool,
    running: bool,
    #[serde(rename = "OOMKilled")]
    out_of_memory: bool,
    pid: u32,
    exit_code: i64,
    error: Option<String>,
    started_at: Option<String>,
    finished_at: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ConfigDocument {
    image: String,
    user: String,
    labels: Option<HashMap<String, String>>,
    stop_signal: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct HostDocument {
    network_mode: String,
    mounts: Option<Vec<MountDocument>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct MountDocument {
    source: String,
    target: String,
}

impl ContainerDocument {
    /// The signal that ends it: its own, else its image's, else the usual one.
    pub(super) fn stop_signal(&self) -> &str {
        self.config.stop_signal.as_deref().filter(|signal| !signal.is_empty()).unwrap_or("SIGTERM")
    }

    /// Whether the same request made it and it has never run: its labels name the spec, and its volumes and network,
    /// which a spec does not contain, are compared too.
    pub(super) fn is_as_asked(&self, asked: &ContainerCreate) -> bool {
        let wanted = asked.mounts.iter().filter_map(|mount| match mount {
            CreatedMount::Volume { name, target, .. } => Some((name.as_str(), target.as_str())),
            CreatedMount::Host { .. } | CreatedMount::Memory { .. } => None,
        });
        let has: Vec<_> = self.host_config.mounts.iter().flatten().map(|mount| (mount.source.as_str(), mount.target.as_str())).collect();
        self.labels().as_ref() == Some(&asked.labels)
            && self.state() == ContainerState::Created
            && self.host_config.network_mode == asked.network
            && { wanted }.all(|mount| has.contains(&mount))
    }

    pub(super) fn labels(&self) -> Option<Labels> {
        Labels::parse(self.config.labels.as_ref()?)
    }

    /// The requested or the image's user: a name or a number, with a group or without.
    pub(super) fn user(&self) -> &str {
        &self.config.user
    }

    pub(super) fn name(&self) -> &str {
        self.name.trim_start_matches('/')
    }

    pub(super) fn state(&self) -> ContainerState {
        let state = &self.state;
        match state.status.as_str() {
            "created" => ContainerState::Created,
            "running" | "paused" if state.paused || state.status == "paused" => ContainerState::Paused { pid: state.pid },
            "running" if state.running => ContainerState::Running { pid: state.pid },
            "exited" => ContainerState::Exited {
                code: state.exit_code,
                out_of_memory: state.out_of_memory,
                error: state.error.clone().filter(|error| !error.is_empty()),
                finished_at: state.finished_at.clone().unwrap_or_default(),
            },
            other => ContainerState::Other(other.to_owned()),
        }
    }

    /// `None` if it has no owner label of devenv.
    pub(super) fn observed(&self) -> Option<ObservedContainer> {
        Some(ObservedContainer {
            id: self.id.clone(),
            name: self.name().to_owned(),
            labels: self.labels()?,
            image: self.config.image.clone(),
            state: self.state(),
            // The engine writes the year 1 for "never".
            started_at: self.state.started_at.clone().filter(|time| !time.starts_with("0001-")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(json: &str) -> ContainerState {
        let document = format!(r#"{{"Id":"1","Name":"/x","State":{json},"Config":{{"Image":"i","Labels":null}}}}"#);
        serde_json::from_str::<ContainerDocument>(&document).unwrap().state()
    }

    #[test]
    fn states_are_read_even_if_they_are_new() {
        assert_eq!(state(r#"{"Status":"created"}"#), ContainerState::Created);
        assert_eq!(state(r#"{"Status":"running","Running":true,"Pid":7}"#), ContainerState::Running { pid: 7 });
        assert_eq!(state(r#"{"Status":"paused","Running":true,"Paused":true,"Pid":7}"#), ContainerState::Paused { pid: 7 });
        assert_eq!(state(r#"{"Status":"initialized","Novelty":[1]}"#), ContainerState::Other("initialized".into()));
        assert_eq!(state(r#"{"Status":"removing"}"#), ContainerState::Other("removing".into()));
        assert_eq!(
            state(r#"{"Status":"exited","ExitCode":137,"OOMKilled":true,"Error":"","FinishedAt":"t"}"#),
            ContainerState::Exited { code: 137, out_of_memory: true, error: None, finished_at: "t".into() }
        );
    }
}
