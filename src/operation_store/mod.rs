//! The records of operations: what each is, its progress, and its pending steps.
//!
//! # Theory of operation
//!
//! Each operation has a file, `operations/ID.json` in the state directory. Before an operation makes or changes anything,
//! the step that undoes it is in the file, synced; when the result is on its environment's record the steps are
//! removed. So whatever dies, the next daemon finds in these files what it has to finish or to undo
//! ([`OperationStore::left`]), and garbage collection finds what must not be touched meanwhile ([`OperationStore::in_flight`]).
//!
//! The last [`KEPT`] operations that have ended stay for `devenv operations`. Background work (golden volumes)
//! records its steps here too, and is not listed. This module carries nothing out: `operation` does.

mod journal;
mod record;
mod step;

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Instant,
};

use devenv_api::{Operation, OperationKind, OperationState};
use devenv_spec::EnvironmentId;
use tokio::sync::broadcast;

use crate::store::{StoreError, create_private, write_atomically, write_unsynced};

pub(crate) use journal::Journal;
pub(crate) use record::{InFlight, Record};
pub(crate) use step::{ServerDatabases, Step};

use record::read;

/// The number of ended operations that are remembered.
const KEPT: usize = 50;
/// The number of leases among them: a test suite makes one for each test.
const KEPT_LEASES: usize = 15;
/// A follower that falls further behind than this misses changes, but never the last one.
const FOLLOWERS_LAG: usize = 256;

/// Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct OperationStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    state: Mutex<Operations>,
    changes: broadcast::Sender<Operation>,
}

#[derive(Debug, Default)]
struct Operations {
    /// Under way, or with pending steps.
    open: BTreeMap<String, Open>,
    /// Oldest first.
    ended: VecDeque<Operation>,
}

#[derive(Debug)]
struct Open {
    record: Record,
    began: Option<Instant>,
    /// Held while the file is written, so that a later change is written later.
    writing: Arc<tokio::sync::Mutex<()>>,
}

impl OperationStore {
    /// Reads the records of earlier daemons.
    pub(crate) fn open(root: &Path) -> Self {
        let directory = root.join("operations");
        let mut operations = Operations::default();
        let mut ended = Vec::new();
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Some(record) = read(&entry.path()) else { continue };
            if record.owes() || !record.operation.state.has_ended() {
                let open = Open { record, began: None, writing: Arc::default() };
                operations.open.insert(open.record.operation.id.clone(), open);
            } else {
                ended.push(record.operation);
            }
        }
        ended.sort_by(|a, b| a.asked_at.cmp(&b.asked_at));
        operations.ended = ended.into();
        let changes = broadcast::channel(FOLLOWERS_LAG).0;
        Self { shared: Arc::new(Shared { directory, state: Mutex::new(operations), changes }) }
    }

    /// The interrupted operations of an earlier daemon. Call it before anything is started.
    pub(crate) fn left(&self) -> Vec<Record> {
        self.lock().open.values().map(|open| open.record.clone()).collect()
    }

    /// Puts an operation on record, waiting or running. Not synced: without pending steps its loss is harmless.
    pub(crate) async fn begin(&self, mut record: Record, runs: bool) -> Result<Operation, StoreError> {
        let began = runs.then(|| record.starts());
        let operation = record.operation.clone();
        self.lock().open.insert(operation.id.clone(), Open { record, began, writing: Arc::default() });
        match self.write(&operation.id, |_| {}).await {
            Ok(()) => Ok(operation),
            Err(error) => {
                self.lock().open.remove(&operation.id);
                Err(error)
            }
        }
    }

    /// Its turn has come.
    pub(crate) async fn run(&self, id: &str) -> Result<(), StoreError> {
        if let Some(open) = self.lock().open.get_mut(id) {
            open.began = Some(open.record.starts());
        }
        self.write(id, |_| {}).await
    }

    /// Call it before the action that these steps undo.
    pub(crate) async fn owe(&self, id: &str, steps: Vec<Step>) -> Result<(), StoreError> {
        self.write(id, |record| record.undo.extend(steps)).await
    }

    /// These steps are done or not needed any more.
    pub(crate) async fn settle(&self, id: &str, steps: &[Step]) -> Result<(), StoreError> {
        self.write(id, |record| {
            record.undo.retain(|step| !steps.contains(step));
            record.finish.retain(|step| !steps.contains(step));
        })
        .await
    }

    /// From here on nothing is undone; this is what is left to do.
    pub(crate) async fn commit(&self, id: &str, finish: Vec<Step>) -> Result<(), StoreError> {
        self.write(id, |record| {
            record.undo.clear();
            record.finish = finish;
            record.committed = true;
        })
        .await
    }

    /// Its record, while it is under way.
    pub(crate) fn record(&self, id: &str) -> Option<Record> {
        self.lock().open.get(id).map(|open| open.record.clone())
    }

    /// Its pending steps: to undo, or to finish.
    pub(crate) fn owed(&self, id: &str) -> Option<Record> {
        self.lock().open.get(id).map(|open| open.record.clone()).filter(Record::owes)
    }

    /// Operations that have ended and still have pending steps in this environment.
    pub(crate) fn owed_in(&self, environment: &EnvironmentId) -> Vec<Record> {
        let is_here = |record: &Record| {
            let mut steps = record.undo.iter().chain(&record.finish);
            record.operation.state.has_ended() && record.owes() && steps.any(|step| step.environment() == Some(environment))
        };
        self.lock().open.values().map(|open| &open.record).filter(|record| is_here(record)).cloned().collect()
    }

    /// Changes what lists show of it. Only in memory: it is written with the next step.
    pub(crate) fn note(&self, id: &str, change: impl FnOnce(&mut Operation)) {
        let mut state = self.lock();
        let Some(open) = state.open.get_mut(id) else { return };
        change(&mut open.record.operation);
        let operation = open.shown();
        drop(state);
        self.tell(operation);
    }

    /// It has ended. What it could not undo stays on record, for the next daemon.
    pub(crate) async fn end(&self, id: &str, outcome: OperationState, message: Option<String>) -> Option<Operation> {
        let written = self.write(id, |record| {
            record.operation.state = outcome;
            record.operation.message = message;
            // The message was about the last step; now it is about the whole.
            record.operation.duration_ms = None;
        });
        if let Err(error) = written.await {
            tracing::error!(%error, operation = id, "Cannot record the end of an operation.");
        }
        let (operation, removed) = {
            let mut state = self.lock();
            let open = state.open.get(id)?;
            let (operation, background, owes) = (open.record.operation.clone(), open.record.background, open.record.owes());
            if owes {
                return Some(operation);
            }
            state.open.remove(id);
            let mut removed = Vec::new();
            if background {
                removed.push(operation.id.clone());
            } else {
                state.ended.push_back(operation.clone());
                removed.extend(state.prune());
            }
            (operation, removed)
        };
        self.remove(removed).await;
        Some(operation)
    }

    /// All that are under way and the last that have ended, in the order of submission.
    pub(crate) fn operations(&self) -> Vec<Operation> {
        let state = self.lock();
        let open = state.open.values().filter(|open| !open.record.background).map(Open::shown);
        let mut all: Vec<Operation> = state.ended.iter().cloned().chain(open).collect();
        all.sort_by(|a, b| a.asked_at.cmp(&b.asked_at));
        all
    }

    pub(crate) fn operation(&self, id: &str) -> Option<Operation> {
        self.operations().into_iter().find(|operation| operation.id == id)
    }

    /// Operations of an environment that have not ended.
    pub(crate) fn under_way(&self, environment: &EnvironmentId) -> Vec<Operation> {
        let state = self.lock();
        let here = |open: &&Open| {
            !open.record.background && !open.record.operation.state.has_ended() && open.record.environments.contains(environment)
        };
        let mut found: Vec<Operation> = state.open.values().filter(here).map(Open::shown).collect();
        found.sort_by(|a, b| a.asked_at.cmp(&b.asked_at));
        found
    }

    /// Read it after the engine was asked for its objects, and before the records are read: an object is listed here before it is made,
    /// until it is on a record.
    pub(crate) fn in_flight(&self) -> InFlight {
        let mut found = InFlight::default();
        for open in self.lock().open.values() {
            let record = &open.record;
            if !record.operation.state.has_ended() {
                found.environments.extend(record.environments.iter().cloned());
            }
            for step in record.undo.iter().chain(&record.finish) {
                found.environments.extend(step.environment().cloned());
                found.volumes.extend(step.volumes().into_iter().cloned());
                found.containers.extend(step.container().map(str::to_owned));
                found.paths.extend(step.path().cloned());
            }
        }
        found
    }

    /// Each operation whenever it changes.
    pub(crate) fn changes(&self) -> broadcast::Receiver<Operation> {
        self.shared.changes.subscribe()
    }

    /// Changes the record and its file. A file with steps is synced: it has to survive a power cut.
    async fn write(&self, id: &str, change: impl FnOnce(&mut Record)) -> Result<(), StoreError> {
        let Some(writing) = self.lock().open.get(id).map(|open| open.writing.clone()) else { return Ok(()) };
        let _writing = writing.lock().await;
        let (record, shown, owed) = {
            let mut state = self.lock();
            let Some(open) = state.open.get_mut(id) else { return Ok(()) };
            let owed = open.record.owes();
            change(&mut open.record);
            let shown = open.shown();
            // The duration is written at the end.
            open.record.operation.duration_ms = shown.duration_ms;
            (open.record.clone(), shown, owed)
        };
        let directory = self.shared.directory.clone();
        let background = record.background;
        let write = move || {
            create_private(&directory)?;
            let text = serde_json::to_vec(&record).expect("a record serializes to JSON");
            let path = directory.join(format!("{}.json", record.operation.id));
            if owed || record.owes() { write_atomically(&path, &text) } else { write_unsynced(&path, &text) }
        };
        let written = tokio::task::spawn_blocking(write).await;
        if !background {
            self.tell(shown);
        }
        // The runtime has reported a panic in it; the state on the disk is unknown.
        written.unwrap_or_else(|_| Err(StoreError::interrupted(&self.shared.directory)))
    }

    async fn remove(&self, ids: Vec<String>) {
        if ids.is_empty() {
            return;
        }
        let directory = self.shared.directory.clone();
        let remove = move || {
            for id in ids {
                if let Err(error) = fs::remove_file(directory.join(format!("{id}.json"))) {
                    tracing::debug!(%error, operation = id, "Cannot remove the file of an operation.");
                }
            }
        };
        // The next daemon reads a remaining file again, and prunes it.
        let _ = tokio::task::spawn_blocking(remove).await;
    }

    fn tell(&self, operation: Operation) {
        // There may be no receiver.
        let _ = self.shared.changes.send(operation);
    }

    fn lock(&self) -> MutexGuard<'_, Operations> {
        self.shared.state.lock().expect("no code panics while it holds this lock")
    }
}

impl Open {
    /// With its duration so far.
    fn shown(&self) -> Operation {
        let mut operation = self.record.operation.clone();
        if let Some(began) = self.began
            && (!operation.state.has_ended() || operation.duration_ms.is_none())
        {
            operation.duration_ms = Some(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX).max(1));
        }
        operation
    }
}

impl Operations {
    /// Forgets the oldest. Returns the ids whose files can be removed.
    fn prune(&mut self) -> Vec<String> {
        let mut removed = Vec::new();
        let is_lease = |operation: &Operation| operation.kind == OperationKind::Lease;
        while self.ended.iter().filter(|operation| is_lease(operation)).count() > KEPT_LEASES {
            let Some(oldest) = self.ended.iter().position(is_lease) else { break };
            removed.extend(self.ended.remove(oldest).map(|operation| operation.id));
        }
        while self.ended.len() > KEPT {
            removed.extend(self.ended.pop_front().map(|operation| operation.id));
        }
        removed
    }
}

#[cfg(test)]
mod tests;
