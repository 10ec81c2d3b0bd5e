//! On which volumes the environment's data is, and what happens to the former ones.

use std::{collections::BTreeMap, time::Duration};

use devenv_api::{ApiError, ErrorCode};
use devenv_spec::{MountSource, ServiceName};
use jiff::Timestamp;

use super::Actor;
use crate::{
    event::NewEvent,
    reconcile::{
        handle::{CommandError, Undone},
        state::{Lifecycle, Network, Operation, Service},
    },
    store::{Goal, SnapshotRecord, Trashed, age},
};

impl Actor {
    /// Moves services to these volumes; their former ones go to the trash. Returns the revision that has done it.
    pub(super) fn move_to(&mut self, volumes: BTreeMap<String, String>, why: String) -> Result<u64, CommandError> {
        let former = self.exchange(volumes, &why);
        if !former.is_empty() {
            self.record.trash.push(Trashed { at: Timestamp::now().to_string(), volumes: former });
        }
        self.save()?;
        Ok(self.revision + 1)
    }

    pub(super) fn add_snapshot(&mut self, name: String, snapshot: SnapshotRecord) -> Result<(), ApiError> {
        if self.record.snapshots.contains_key(&name) {
            return Err(ApiError::new(ErrorCode::Conflict, format!("snapshot `{name}` already exists"))
                .hint(format!("run `devenv snapshot remove {name}` to remove it")));
        }
        self.record.snapshots.insert(name.clone(), snapshot);
        if let Err(error) = self.save() {
            self.record.snapshots.remove(&name);
            return Err(CommandError::Store(error).into());
        }
        Ok(())
    }

    /// Brings back what was last put into the trash. The current data goes to the other end of the trash, so that the next undo
    /// brings back what was put there before.
    pub(super) fn undo(&mut self) -> Result<Undone, ApiError> {
        let is_up = self.state.goal == Goal::Up;
        if !is_up && !self.state.services.values().all(|service| service.life == Lifecycle::Absent) {
            return Err(ApiError::new(ErrorCode::Conflict, "the environment is stopping")
                .hint("try again when it has stopped; see `devenv status`"));
        }
        let Some(trashed) = self.record.trash.pop() else {
            return Err(ApiError::new(ErrorCode::NotFound, "nothing to undo")
                .hint("volumes of `devenv reset` and `devenv down --volumes` are kept for 24 hours"));
        };
        let volumes: Vec<String> = trashed.volumes.keys().cloned().collect();
        let replaced = self.exchange(trashed.volumes, "undo");
        if !replaced.is_empty() {
            self.record.trash.insert(0, Trashed { at: Timestamp::now().to_string(), volumes: replaced });
        }
        self.save().map_err(|error| ApiError::from(CommandError::Store(error)))?;
        self.events.emit(NewEvent::new("volumes.restored", format!("restored volumes from the trash: {}", volumes.join(", "))));
        Ok(Undone { volumes, revision: is_up.then_some(self.revision + 1) })
    }

    /// The volumes to replace these with. Services that have one are recreated with the other.
    fn exchange(&mut self, volumes: BTreeMap<String, String>, why: &str) -> BTreeMap<String, String> {
        let cause = self.events.emit(NewEvent::new("volumes.moved", format!("{why} was requested")));
        let mut former = BTreeMap::new();
        for (key, volume) in volumes {
            let service = key.split('/').next().and_then(|name| name.parse::<ServiceName>().ok());
            if let Some(had) = self.record.volumes.insert(key.clone(), volume) {
                former.insert(key, had);
            }
            let Some(owner) = service else { continue };
            let shares = |service: &Service| {
                let mut mounts = service.spec.container().into_iter().flat_map(|container| &container.mounts);
                mounts.any(|mount| matches!(&mount.source, MountSource::Shared { service, .. } if *service == owner))
            };
            let affected: Vec<ServiceName> = self
                .state
                .services
                .iter()
                .filter(|(name, service)| **name == owner || shares(service))
                .map(|(name, _)| name.clone())
                .collect();
            for name in affected {
                let Some(service) = self.state.services.get_mut(&name) else { continue };
                service.moved = true;
                service.came_back = true;
                service.cause = Some(cause);
                service.second_chance();
                if !self.record.moved.contains(&name) {
                    self.record.moved.push(name.clone());
                }
                if matches!(service.operation, Some(Operation::Settle | Operation::Swap)) {
                    self.stop_watching(&name);
                }
            }
        }
        former
    }

    pub(super) fn empty_trash(&mut self, older_than: Duration) -> Vec<String> {
        // A volume without a readable time is kept until everything is removed.
        let expired = |trashed: &Trashed| age(&trashed.at).unwrap_or_default() >= older_than;
        let gone = self.record.trash.extract_if(.., |trashed| expired(trashed)).flat_map(|trashed| trashed.volumes.into_values()).collect();
        self.save_quietly();
        gone
    }

    /// Once nothing is left, the volumes go to their destination and the services are forgotten.
    pub(super) fn finish_down(&mut self) {
        let gone = self.state.services.values().all(|service| service.life == Lifecycle::Absent && service.operation.is_none());
        if self.state.goal == Goal::Up
            || !gone
            || self.state.network != Network::Absent
            || self.state.services.is_empty() && self.record.goal != Goal::DownWithVolumes
        {
            return;
        }
        if self.record.goal == Goal::DownWithVolumes {
            let volumes = std::mem::take(&mut self.record.volumes);
            if !volumes.is_empty() {
                self.record.trash.push(Trashed { at: Timestamp::now().to_string(), volumes });
            }
            self.record.goal = Goal::Down;
            self.state.goal = Goal::Down;
        }
        self.record.applied.clear();
        self.state.services.clear();
        self.save_quietly();
        self.events.emit(NewEvent::new("environment.down", "the environment is stopped"));
    }
}
