//! Undoes faults: each step may be repeated, and a service that does not exist any more needs no healing.

use std::time::Duration;

use devenv_api::Compared;
use devenv_engine::{ContainerState, Engine, EngineError};
use devenv_processes::cgroup::Group;
use devenv_spec::{Resources, ServiceName};

use super::{
    Faults,
    site::Undone,
    undo_log::{Entry, Undo},
};
use crate::reconcile::{CommandError, Handle, ServiceAction};

const ATTEMPTS: u32 = 5;
/// The time limit of a start, after which its fault counts as healed anyway.
const SETTLED: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(200);

impl Faults {
    /// Carries out all steps of the entry, in order. Returns the reason if something could not be undone.
    pub(super) async fn undo(&self, entry: &Entry) -> Result<(), String> {
        let mut failures = Vec::new();
        for step in &entry.undo {
            let mut pause = FIRST_PAUSE;
            for attempt in 1..=ATTEMPTS {
                match self.undo_step(step).await {
                    Ok(()) => break,
                    Err(reason) if attempt == ATTEMPTS => failures.push(reason),
                    Err(_) => {
                        tokio::time::sleep(pause).await;
                        pause *= 2;
                    }
                }
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
    }

    async fn undo_step(&self, step: &Undo) -> Result<(), String> {
        let engine = self.engine();
        match step {
            Undo::Agent { name } => {
                engine.remove_container(name).await.map_err(|error| error.to_string())?;
                match engine.inspect(name).await.map_err(|error| error.to_string())? {
                    None => Ok(()),
                    Some(_) => Err(format!("the fault agent {name} is still running")),
                }
            }
            Undo::Unpause { container } => gone_is_well(engine.unpause(container).await),
            Undo::Limits { container, cpus, memory } => {
                let memory = memory.and_then(|bytes| format!("{bytes}B").parse().ok());
                gone_is_well(engine.set_limits(container, &Resources { memory, cpus: *cpus }).await)
            }
            Undo::Group { container, cpus, memory } => lift_limits(engine, container, *cpus, *memory).await,
            Undo::Start { service } => services(&self.site.handle, service, ServiceAction::Start).await,
            Undo::Restart { service, container } => {
                let restart = services(&self.site.handle, service, ServiceAction::Restart);
                let end = async {
                    // Only once the supervisor knows that its end is wanted; a process that has ended already needs no signal.
                    tokio::time::sleep(FIRST_PAUSE).await;
                    gone_is_well(engine.kill(container, "SIGKILL").await)
                };
                let (restarted, ended) = tokio::join!(restart, end);
                restarted.and(ended)
            }
            Undo::OfKind(step) => {
                let faults = devenv_kinds::faults::of_step(step).ok_or_else(|| format!("no kind can undo `{}`", step.kind))?;
                match Undone::of(self, step).await? {
                    Some(mut site) => faults.undo(step, &mut site).await,
                    None => Err("the service no longer exists".to_owned()),
                }
            }
            Undo::Backup { id } => {
                let restored = self.site.backups.restore(&self.site.environment, id).await.map_err(|error| error.message)?;
                let missing: Vec<String> = restored.iter().flat_map(missing).collect();
                if missing.is_empty() { Ok(()) } else { Err(format!("missing compared with the backup {id}: {}", missing.join(", "))) }
            }
            // Only the next daemon runs this, so the old one has ended.
            Undo::Daemon { .. } => Ok(()),
            Undo::Others { prefix } => {
                let theirs: Vec<String> =
                    self.list(false).into_iter().map(|fault| fault.id).filter(|id| id.starts_with(prefix.as_str())).collect();
                if theirs.is_empty() {
                    return Ok(());
                }
                Box::pin(self.heal(&theirs)).await.map(|_| ()).map_err(|error| error.message)
            }
        }
    }
}

/// A container that was started again meanwhile is under no limit of its former group.
pub(super) async fn lift_limits(engine: &dyn Engine, container: &str, cpus: bool, memory: bool) -> Result<(), String> {
    let seen = engine.inspect(container).await.map_err(|error| error.to_string())?;
    let Some(ContainerState::Running { pid } | ContainerState::Paused { pid }) = seen.map(|seen| seen.state) else { return Ok(()) };
    match Group::of(container, pid) {
        Some(group) => group.lift(cpus, memory).map_err(|error| format!("cannot take the limits of its control group away: {error}")),
        None => Err("its control group cannot be written any more".to_owned()),
    }
}

async fn services(handle: &Handle, service: &ServiceName, verb: ServiceAction) -> Result<(), String> {
    match handle.services(vec![service.clone()], verb).await {
        Ok(revision) => {
            // The fault is healed when the start is over, not when it was requested; a service with another fault may take longer.
            let settled = handle.until_settled(revision, std::slice::from_ref(service));
            let _ = tokio::time::timeout(SETTLED, settled).await;
            Ok(())
        }
        Err(CommandError::NotUp | CommandError::NoService(_)) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Contents of the backup that are missing. Clients write again before it is counted: there may be more, but never less.
fn missing(compared: &Compared) -> Vec<String> {
    let there = |name: &str| compared.after.iter().find(|has| has.name == name).map_or(0, |has| has.rows);
    let gone = compared.before.iter().filter(|had| there(&had.name) < had.rows);
    gone.map(|had| format!("{} of {} rows in {}/{}", had.rows - there(&had.name), had.rows, compared.service, had.name)).collect()
}

/// A container that does not run, or does not exist, has no limits and is not paused.
pub(super) fn gone_is_well(result: Result<(), EngineError>) -> Result<(), String> {
    match result {
        Ok(()) | Err(EngineError::NotFound { .. } | EngineError::Refused { status: 404 | 409, .. }) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use devenv_api::Content;

    use super::*;

    #[test]
    fn restored_data_may_have_grown_but_not_shrunk() {
        let content = |rows| vec![Content { name: "db0".to_owned(), rows, checksum: None }];
        let compared = |before, after| Compared { service: "cache".to_owned(), before, after, differences: Vec::new() };
        assert!(missing(&compared(content(7), content(9))).is_empty());
        assert_eq!(missing(&compared(content(7), content(4))), ["3 of 7 rows in cache/db0"]);
        assert_eq!(missing(&compared(content(7), Vec::new())), ["7 of 7 rows in cache/db0"]);
    }
}
