//! Ends faults early: on request, and before an operation that they would block.

use devenv_api::{ApiError, ErrorCode, Fault};
use devenv_spec::ServiceName;
use tokio::sync::watch;

use super::{
    Faults, holds_all_processes,
    undo_log::{Entry, Undo},
};

/// Faults that persist are undone while this lives, and injected again afterwards.
pub(crate) struct Lifted(Vec<watch::Sender<usize>>);

impl Drop for Lifted {
    fn drop(&mut self) {
        for lifting in &self.0 {
            lifting.send_modify(|count| *count -= 1);
        }
    }
}

impl Faults {
    /// Undoes faults, all of them if none is named. Returns those that it healed.
    pub(crate) async fn heal(&self, ids: &[String]) -> Result<Vec<Fault>, ApiError> {
        let undo_log = self.undo_log();
        let there: Vec<Entry> = undo_log.entries().into_iter().filter(|entry| entry.fault.healed_at.is_none()).collect();
        for id in ids {
            if undo_log.find(id).is_none() {
                return Err(ApiError::new(ErrorCode::NotFound, format!("fault `{id}` does not exist"))
                    .hint("run `devenv chaos status` to list the faults"));
            }
        }
        let meant = |entry: &&Entry| ids.is_empty() || ids.contains(&entry.fault.id);
        let (mut healed, mut left) = (Vec::new(), Vec::new());
        for entry in there.iter().filter(meant) {
            match self.keeping(&entry.fault.id) {
                Some(mut keeping) => {
                    keeping.end.cancel();
                    // An error means that the fault's task has ended, and the attempt with it.
                    let _ = keeping.over.wait_for(|over| *over).await;
                }
                // No task is left for it: an earlier attempt failed.
                None => self.finish_fault(entry.clone()).await,
            }
            match undo_log.find(&entry.fault.id) {
                Some(after) if after.fault.healed_at.is_some() => healed.push(after.fault),
                _ => left.push(entry.fault.id.clone()),
            }
        }
        if left.is_empty() {
            return Ok(healed);
        }
        Err(ApiError::new(ErrorCode::Failed, format!("faults that could not be undone: {}", left.join(", ")))
            .hint("run `devenv events` to see why, or `devenv restart SERVICE` to restart a service"))
    }

    /// Undoes all faults of services that are to be removed. A fault that restores a backup stays on record: the restore is an operation,
    /// and would wait for the removal, which waits here. `chaos heal` restores the backup when the service exists again.
    pub(crate) async fn heal_before_removal(&self) -> Result<Vec<Fault>, ApiError> {
        let restores = |entry: &Entry| entry.undo.iter().any(|step| matches!(step, Undo::Backup { .. }));
        let entries = self.undo_log().entries().into_iter().filter(|entry| entry.fault.healed_at.is_none() && !restores(entry));
        let ids: Vec<String> = entries.map(|entry| entry.fault.id).collect();
        if ids.is_empty() { Ok(Vec::new()) } else { self.heal(&ids).await }
    }

    /// Undoes faults that stop the processes of these services (of all, if none is named): a paused service could not handle the signal
    /// of a stop or restart. They are healed, because the next run is not paused, except those that
    /// persist: these are injected again once the returned value is dropped and the service is ready.
    pub(crate) async fn lift_halting(&self, names: &[ServiceName]) -> Lifted {
        let halts = |entry: &Entry| entry.fault.healed_at.is_none() && halts(entry);
        let concerned = |entry: &Entry| names.is_empty() || names.contains(&entry.spec.service);
        let entries = self.undo_log().entries().into_iter().filter(|entry| halts(entry) && concerned(entry));
        let (persistent, others): (Vec<Entry>, Vec<Entry>) = entries.partition(Entry::persists);
        let ids: Vec<String> = others.into_iter().map(|entry| entry.fault.id).collect();
        if !ids.is_empty()
            && let Err(error) = self.heal(&ids).await
        {
            tracing::warn!(reason = %error.message, "Cannot undo a fault before its service is stopped.");
        }
        let mut all = Lifted(Vec::new());
        for mut fault in persistent.iter().filter_map(|entry| self.keeping(&entry.fault.id)) {
            fault.lifting.send_modify(|count| *count += 1);
            all.0.push(fault.lifting);
            // An error means that the task has ended, and the fault with it.
            let _ = fault.lifted.wait_for(|lifted| *lifted).await;
        }
        all
    }

    /// Active faults; with `healed`, healed ones too.
    pub(crate) fn list(&self, healed: bool) -> Vec<Fault> {
        let entries = self.undo_log().entries().into_iter().map(|entry| entry.fault);
        entries.filter(|fault| healed || fault.healed_at.is_none()).collect()
    }

    /// The fault that holds the service's main process still: it answers nobody.
    pub(crate) fn halted_by(&self, service: &str) -> Option<String> {
        let mut entries = self.undo_log().entries().into_iter().filter(|entry| entry.is_active_on(service));
        entries.find(halts).map(|entry| entry.fault.id)
    }

    /// The fault that stops all processes of this service, including new ones.
    pub(crate) async fn paused_by(&self, service: &str) -> Option<String> {
        for entry in self.undo_log().entries().into_iter().filter(|entry| entry.is_active_on(service)) {
            if self.described(&entry.spec).await.is_ok_and(|(_, _, injection)| holds_all_processes(&injection.action)) {
                return Some(entry.fault.id);
            }
        }
        None
    }
}

fn halts(entry: &Entry) -> bool {
    matches!(entry.spec.fault.as_str(), "pause" | "freeze")
}
