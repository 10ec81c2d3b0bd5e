//! The journal through which a running operation records its pending steps.

use super::{OperationStore, Record, Step};
use crate::store::StoreError;
use devenv_api::{AskedBy, OperationKind, OperationState};

/// The record of one operation, for the code that carries it out. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    store: OperationStore,
    id: String,
}

impl OperationStore {
    pub(crate) fn journal(&self, id: &str) -> Journal {
        Journal { store: self.clone(), id: id.to_owned() }
    }

    /// A journal of work that is not listed, such as the making of a golden volume. Ends with [`Journal::end`].
    pub(crate) async fn begin_background(&self, kind: OperationKind) -> Result<Journal, StoreError> {
        let record = Record { background: true, ..Record::new(kind, AskedBy::default(), Vec::new()) };
        let operation = self.begin(record, true).await?;
        Ok(self.journal(&operation.id))
    }
}

impl Journal {
    /// Await it before the action that these steps undo.
    pub(crate) async fn owe(&self, steps: Vec<Step>) -> Result<(), StoreError> {
        self.store.owe(&self.id, steps).await
    }

    /// These steps have been carried out, or are not needed any more.
    pub(crate) async fn settle(&self, steps: &[Step]) -> Result<(), StoreError> {
        self.store.settle(&self.id, steps).await
    }

    /// The result is on record: nothing is undone from here on, and `finish` is what is left to do.
    pub(crate) async fn commit(&self, finish: Vec<Step>) -> Result<(), StoreError> {
        self.store.commit(&self.id, finish).await
    }

    /// Background work is over. Its pending steps stay on record for the next daemon.
    pub(crate) async fn end(self) {
        self.store.end(&self.id, OperationState::Succeeded, None).await;
    }
}
