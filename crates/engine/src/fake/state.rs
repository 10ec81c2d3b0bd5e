//! The state of the fake engine: its objects, and what a test has scripted.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    path::PathBuf,
    time::Duration,
};

use super::{
    ComposeProject, ContainerCreate, EngineError, LogChunk, ObservedContainer, ObservedNetwork, ObservedVolume, PullProgress, UploadFile,
    UsedSubnet,
};

#[derive(Default)]
pub(super) struct State {
    pub(super) images: BTreeMap<String, String>,
    pub(super) pullable: BTreeMap<String, Vec<PullProgress>>,
    pub(super) networks: Vec<ObservedNetwork>,
    pub(super) foreign_subnets: Vec<ipnet::IpNet>,
    pub(super) volumes: Vec<ObservedVolume>,
    /// What Docker Compose has made, by project.
    pub(super) compose: BTreeMap<String, ComposeProject>,
    pub(super) containers: Vec<Container>,
    pub(super) failures: HashMap<String, VecDeque<EngineError>>,
    pub(super) delays: HashMap<String, Duration>,
    pub(super) calls: Vec<String>,
    pub(super) output_at_start: HashMap<String, Vec<(bool, String)>>,
    /// The containers that are being worked on, by mark.
    pub(super) marks: BTreeMap<u64, (String, String)>,
    pub(super) overlaps: Vec<String>,
    pub(super) gone: bool,
    /// The directory of all volumes. Without it volumes have no files.
    pub(super) root: Option<PathBuf>,
    /// The mount points that it reports are those of another machine.
    pub(super) elsewhere: bool,
    pub(super) interceptor: Option<super::calls::Interceptor>,
    pub(super) calls_made: u64,
    /// Ids, processes and time stamps, each used once.
    pub(super) count: u64,
}

#[derive(Clone)]
pub(super) struct Container {
    pub(super) asked: ContainerCreate,
    pub(super) observed: ObservedContainer,
    pub(super) files: Vec<UploadFile>,
    pub(super) output: Vec<LogChunk>,
    pub(super) ignores_signals: bool,
}

impl State {
    pub(super) fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    pub(super) fn now(&mut self) -> String {
        let count = self.next();
        format!("2026-01-01T{:02}:{:02}:{:02}.{:09}Z", count / 3_600_000, count / 60_000 % 60, count / 1000 % 60, count % 1000 * 1_000_000)
    }

    pub(super) fn used_subnets(&self) -> Vec<UsedSubnet> {
        let foreign = self.foreign_subnets.iter().map(|subnet| UsedSubnet { subnet: *subnet, network: "foreign".to_owned(), labels: None });
        let ours = self.networks.iter().filter_map(|network| {
            let subnet = ipnet::IpNet::V4(network.subnet?);
            Some(UsedSubnet { subnet, network: network.name.clone(), labels: Some(network.labels.clone()) })
        });
        foreign.chain(ours).collect()
    }

    pub(super) fn container(&mut self, id: &str) -> Result<&mut Container, EngineError> {
        let found = self.containers.iter_mut().find(|container| container.observed.id == id || container.observed.name == id);
        found.ok_or_else(|| missing("container", id))
    }
}

pub(super) fn missing(what: &'static str, name: &str) -> EngineError {
    EngineError::NotFound { what, name: name.to_owned() }
}

pub(super) fn refused(action: &str, status: u16, message: &str) -> EngineError {
    EngineError::Refused { action: action.to_owned(), status, message: message.to_owned() }
}
