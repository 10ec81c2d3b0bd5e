//! The record of one environment: its goal, and what the engine's labels cannot hold.

use std::{collections::BTreeMap, path::PathBuf};

use devenv_spec::{EnvironmentId, EnvironmentSpec, ServiceName, Workload};
use indexmap::IndexMap;
use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::VERSION;

/// The record of one environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) id: EnvironmentId,
    pub(crate) project: PathBuf,
    pub(crate) instance: String,
    /// The last request, with which a new daemon continues.
    pub(crate) goal: Goal,
    /// The environment as last requested.
    pub(crate) spec: Option<EnvironmentSpec>,
    pub(crate) subnet: Option<Ipv4Net>,
    /// Host ports by service and container port; they are kept across `down`.
    #[serde(default)]
    pub(crate) ports: BTreeMap<ServiceName, BTreeMap<u16, u16>>,
    /// Engine volumes by service and short name.
    #[serde(default)]
    pub(crate) volumes: BTreeMap<String, String>,
    /// Counts the volumes made, so that each gets a unique name.
    #[serde(default)]
    pub(crate) generation: u32,
    /// Volumes that `down --volumes` removed and `undo` can bring back, newest last.
    #[serde(default)]
    pub(crate) trash: Vec<Trashed>,
    #[serde(default)]
    pub(crate) snapshots: BTreeMap<String, SnapshotRecord>,
    /// Services whose container still uses a volume that does not belong to them any more.
    #[serde(default)]
    pub(crate) moved: Vec<ServiceName>,
    /// The workload that each existing container was made from: a plan compares with it.
    #[serde(default)]
    pub(crate) applied: BTreeMap<ServiceName, Workload>,
    /// It belongs to a connection: a daemon that finds it removes it.
    #[serde(default)]
    pub(crate) ephemeral: bool,
    /// It was created for test runs, and nothing is lost with it: `gc` removes it when it has been unused for a while.
    #[serde(default)]
    pub(crate) warm: bool,
    /// Services of a running environment that `stop` has stopped.
    #[serde(default)]
    pub(crate) stopped: Vec<ServiceName>,
    /// Services of a running environment that sleep until a client needs them.
    #[serde(default)]
    pub(crate) asleep: Vec<ServiceName>,
    /// Services whose container is paused because they sleep, or is about to be.
    #[serde(default)]
    pub(crate) frozen: Vec<ServiceName>,
}

/// The goal of an environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Goal {
    Up,
    Down,
    DownWithVolumes,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Trashed {
    /// RFC 3339.
    pub(crate) at: String,
    pub(crate) volumes: BTreeMap<String, String>,
}

/// A named copy of an environment's data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotRecord {
    /// RFC 3339.
    pub(crate) created_at: String,
    /// The copies, by the key of the original.
    pub(crate) volumes: BTreeMap<String, String>,
    /// In the order of `volumes`.
    pub(crate) services: Vec<devenv_api::SnapshotPart>,
}

impl SnapshotRecord {
    /// As clients see it.
    pub(crate) fn shown(&self, name: &str) -> devenv_api::Snapshot {
        devenv_api::Snapshot {
            name: name.to_owned(),
            created_at: self.created_at.clone(),
            services: self.services.clone(),
            size: self.services.iter().map(|part| part.size).sum(),
        }
    }
}

impl Record {
    /// Every volume that it names: in use, in the trash, and in snapshots.
    pub(crate) fn all_volumes(&self) -> impl Iterator<Item = &String> {
        let trash = self.trash.iter().flat_map(|trashed| trashed.volumes.values());
        let snapshots = self.snapshots.values().flat_map(|snapshot| snapshot.volumes.values());
        self.volumes.values().chain(trash).chain(snapshots)
    }

    pub(crate) fn new(id: EnvironmentId, project: PathBuf, instance: String) -> Self {
        Self {
            version: VERSION,
            id,
            project,
            instance,
            goal: Goal::Down,
            spec: None,
            subnet: None,
            ports: BTreeMap::new(),
            volumes: BTreeMap::new(),
            generation: 0,
            trash: Vec::new(),
            snapshots: BTreeMap::new(),
            moved: Vec::new(),
            applied: BTreeMap::new(),
            ephemeral: false,
            warm: false,
            stopped: Vec::new(),
            asleep: Vec::new(),
            frozen: Vec::new(),
        }
    }

    /// What an operation on one service needs to know of its environment: not the other services, of which there may be hundreds.
    pub(crate) fn for_operation(&self) -> Self {
        let spec = self.spec.as_ref().map(|spec| EnvironmentSpec {
            id: spec.id.clone(),
            project: spec.project.clone(),
            instance: spec.instance.clone(),
            profile: spec.profile.clone(),
            subnet: spec.subnet,
            planned: spec.planned,
            metrics_address: spec.metrics_address,
            services: IndexMap::new(),
            networks: spec.networks.clone(),
            variables: IndexMap::new(),
            overridden: Vec::new(),
        });
        let (subnet, volumes) = (self.subnet, self.volumes.clone());
        Self { goal: self.goal, spec, subnet, volumes, ..Self::new(self.id.clone(), self.project.clone(), self.instance.clone()) }
    }

    /// The engine's name of a service's volume, assigned now if it has none.
    pub(crate) fn volume(&mut self, service: &ServiceName, name: &str) -> String {
        let key = format!("{service}/{name}");
        if let Some(known) = self.volumes.get(&key) {
            return known.clone();
        }
        let made = self.reserve(&key);
        self.volumes.insert(key, made.clone());
        made
    }

    /// A name for another volume under this key, which was never used before.
    pub(crate) fn reserve(&mut self, key: &str) -> String {
        self.generation += 1;
        format!("devenv-{}-{}-{}", self.id, key.replace('/', "-"), self.generation)
    }
}

/// The age of that time, for expiry. A time in the future was written by a wrong clock and has no age.
pub(crate) fn age(at: &str) -> Option<std::time::Duration> {
    let since = jiff::Timestamp::now().duration_since(at.parse::<jiff::Timestamp>().ok()?);
    Some(std::time::Duration::try_from(since).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_record_of_the_version_before_kinds_had_values_of_their_own_is_read_and_every_kind_understands_its_part() {
        let text = include_str!("../../tests/fixtures/records/environment.json");
        let record: Record = serde_json::from_str(text).unwrap();
        let spec = record.spec.as_ref().unwrap();
        let mut seen = Vec::new();
        for service in spec.services.values() {
            for probe in [Some(&service.probe), service.proof.as_ref()].into_iter().flatten() {
                if let devenv_spec::Probe::OfKind(question) = probe {
                    assert!(devenv_kinds::probe::port(probe).is_some(), "{question:?}");
                    seen.push(question.kind.as_str());
                }
            }
            for declared in &service.provision {
                assert!(devenv_kinds::of(declared).is_some_and(|kind| kind.provisions().is_some()), "{declared:?}");
            }
            if let Some(set) = &service.scripts {
                assert!(devenv_kinds::of(&set.target).is_some_and(|kind| kind.scripts().is_some()), "{set:?}");
            }
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen, ["jaeger", "kafka", "pgbouncer", "postgres", "redis"]);
        let again: serde_json::Value = serde_json::to_value(spec).unwrap();
        let before: serde_json::Value = serde_json::from_str(text).unwrap();
        for (name, service) in before["spec"]["services"].as_object().unwrap() {
            for part in ["probe", "provision", "scripts", "proof", "workload"] {
                assert_eq!(again["services"][name][part], service[part], "{name}: {part}");
            }
        }
    }

    #[test]
    fn what_an_operation_gets_of_a_record_does_not_grow_with_the_other_services() {
        let record: Record = serde_json::from_str(include_str!("../../tests/fixtures/records/environment.json")).unwrap();
        let part = record.for_operation();
        assert!(part.applied.is_empty() && part.ports.is_empty());
        let names = |record: &Record| (record.id.clone(), record.project.clone(), record.instance.clone(), record.subnet);
        assert_eq!((names(&part), &part.volumes), (names(&record), &record.volumes));
        let (spec, whole) = (part.spec.unwrap(), record.spec.unwrap());
        assert!(spec.services.is_empty() && spec.variables.is_empty() && !whole.services.is_empty());
        assert_eq!((spec.id, spec.networks), (whole.id, whole.networks));
    }

    #[test]
    fn a_time_in_the_future_has_no_age() {
        let hour = jiff::SignedDuration::from_hours(1);
        let (past, future) = (jiff::Timestamp::now() - hour, jiff::Timestamp::now() + hour);
        assert!(age(&past.to_string()).unwrap() >= std::time::Duration::from_hours(1));
        assert_eq!(age(&future.to_string()).unwrap(), std::time::Duration::ZERO);
        assert_eq!(age("yesterday"), None);
    }

    #[test]
    fn a_volume_made_after_the_trash_has_another_name() {
        let mut record = Record::new(EnvironmentId::of("owner", Path::new("/p/shop"), "default"), "/p/shop".into(), "default".into());
        let service: ServiceName = "db".parse().unwrap();
        let first = record.volume(&service, "data");
        assert_eq!(first, record.volume(&service, "data"));
        record.volumes.clear();
        assert_ne!(first, record.volume(&service, "data"));
    }
}
