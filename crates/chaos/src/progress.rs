//! How far each entry of the timeline is: written by the entry's task, read by the other entries and by the runner.

use std::cell::RefCell;

use devenv_api::Fault;
use tokio::sync::watch;

/// How far one entry is.
#[derive(Debug, Clone, Default)]
pub(crate) struct EntryProgress {
    pub phase: Phase,
    /// When the injection was requested, and when it was answered, in microseconds of the run.
    pub asked_us: Option<u64>,
    pub injected_us: Option<u64>,
    /// When the fault became active, as the daemon reports it.
    pub fault_us: Option<u64>,
    pub healed_us: Option<u64>,
    pub recovered_us: Option<u64>,
    /// The supervisor reported a state of the service other than ready.
    pub left_ready: bool,
    pub fault: Option<Fault>,
    pub refused: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waits for an event of another entry.
    #[default]
    WaitsForAnother,
    /// Waits for its time, or for a condition.
    Waits,
    /// Injected, and to be healed or recovered.
    Acts,
    /// Injected, and lasts until the timeline ends.
    Lasts,
    Over,
}

/// The progress of all entries, and a signal for every change of it.
pub(crate) struct ProgressBoard {
    entries: RefCell<Vec<EntryProgress>>,
    changed: watch::Sender<()>,
    /// True once the faults that last to the end of the timeline are to be healed.
    release: watch::Sender<bool>,
}

impl EntryProgress {
    pub(crate) fn witnessed(&self) -> bool {
        self.fault.as_ref().and_then(|fault| fault.witness.as_ref()).is_some_and(|witness| witness.observed)
    }
}

impl ProgressBoard {
    pub(crate) fn new(entries: usize) -> Self {
        Self {
            entries: RefCell::new(vec![EntryProgress::default(); entries]),
            changed: watch::Sender::new(()),
            release: watch::Sender::new(false),
        }
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&[EntryProgress]) -> T) -> T {
        read(&self.entries.borrow())
    }

    pub(crate) fn write(&self, index: usize, write: impl FnOnce(&mut EntryProgress)) {
        write(&mut self.entries.borrow_mut()[index]);
        self.changed.send_replace(());
    }

    /// Waits until `look` returns something.
    pub(crate) async fn until<T>(&self, look: impl Fn(&[EntryProgress]) -> Option<T>) -> T {
        let mut changed = self.changed.subscribe();
        loop {
            if let Some(found) = self.read(&look) {
                return found;
            }
            // The sender is this board, so there is always another.
            let _ = changed.changed().await;
        }
    }

    /// Whether only faults that last to the end are left.
    pub(crate) fn only_lasting_ones_left(&self) -> bool {
        let over = |progress: &EntryProgress| matches!(progress.phase, Phase::Over | Phase::Lasts | Phase::WaitsForAnother);
        self.read(|entries| entries.iter().all(over) && entries.iter().any(|entry| entry.phase == Phase::Lasts))
    }

    /// Waits for [`Self::release`].
    pub(crate) async fn released(&self) {
        let mut release = self.release.subscribe();
        // The sender is this board, so there is always another.
        let _ = release.wait_for(|released| *released).await;
    }

    /// Lets the entries that last until the end of the timeline be healed.
    pub(crate) fn release(&self) {
        self.release.send_replace(true);
    }
}
