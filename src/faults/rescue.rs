//! Heals faults without a daemon: what can be undone through the engine alone, by labels and undo logs.
//!
//! For when no daemon can be started. It does not start services; the supervisor does that.

use std::path::Path;

use devenv_api::{ApiError, EnvironmentTarget, ErrorCode, Fault};
use devenv_engine::docker::{self, Selection};
use devenv_spec::{EnvironmentId, Resources};
use jiff::Timestamp;

use super::{
    agent, rfc3339,
    undo_log::{Undo, UndoLog},
};
use crate::{paths::Paths, store::Store};

/// The faults that were undone, and those that need a daemon.
pub(crate) async fn rescue(
    paths: &Paths,
    context: Option<String>,
    target: &EnvironmentTarget,
) -> Result<(Vec<Fault>, Vec<Fault>), ApiError> {
    let failed = |reason: String| ApiError::new(ErrorCode::Failed, reason);
    let store = Store::open(&paths.state).map_err(|error| failed(error.to_string()))?;
    let owner = store.owner().map_err(|error| failed(error.to_string()))?;
    let selection = Selection::read(context, |name| std::env::var(name).ok());
    let engine = docker::connect(&selection).await.map_err(|error| ApiError::new(ErrorCode::NoEngine, error.to_string()))?;
    let records = store.records().map_err(|error| failed(error.to_string()))?;
    let on_record = records.into_iter().find(|record| record.project == Path::new(&target.project) && record.instance == target.instance);
    let id = on_record.map_or_else(|| EnvironmentId::of(owner.as_str(), Path::new(&target.project), &target.instance), |record| record.id);
    let containers = engine.containers(&owner).await.map_err(|error| failed(error.to_string()))?;
    for container in
        containers.iter().filter(|container| container.labels.environment == id && container.labels.role.as_deref() == Some(agent::ROLE))
    {
        engine.remove_container(&container.id).await.map_err(|error| failed(error.to_string()))?;
    }
    let undo_log = UndoLog::of(&store.environment(&id));
    let (mut healed, mut left) = (Vec::new(), Vec::new());
    for mut entry in undo_log.entries().into_iter().filter(|entry| entry.fault.healed_at.is_none()) {
        let mut rest = Vec::new();
        for step in &entry.undo {
            let done = match step {
                Undo::Agent { .. } => true,
                Undo::Unpause { container } => super::undo::gone_is_well(engine.unpause(container).await).is_ok(),
                Undo::Limits { container, cpus, memory } => {
                    let memory = memory.and_then(|bytes| format!("{bytes}B").parse().ok());
                    super::undo::gone_is_well(engine.set_limits(container, &Resources { memory, cpus: *cpus }).await).is_ok()
                }
                Undo::Group { container, cpus, memory } => {
                    super::undo::lift_limits(engine.as_ref(), container, *cpus, *memory).await.is_ok()
                }
                _ => false,
            };
            if !done {
                rest.push(step.clone());
            }
        }
        entry.undo = rest;
        if entry.undo.is_empty() {
            entry.fault.healed_at = Some(rfc3339(Timestamp::now()));
            super::watchdog::end(&undo_log.path(&entry.fault.id), None).await;
            healed.push(entry.fault.clone());
        } else {
            left.push(entry.fault.clone());
        }
        undo_log.save(&entry).map_err(|error| failed(error.to_string()))?;
    }
    Ok((healed, left))
}
