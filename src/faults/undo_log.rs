//! What was done to services and how to undo it, on disk before it is done: one small file for each fault.
//!
//! A killed daemon leaves it behind; the next one reads it, and undoes or keeps the faults in it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use devenv_api::Fault;
use devenv_kinds::faults::FaultSpec;
use devenv_spec::{OfKind, ServiceName};
use serde::{Deserialize, Serialize};

use crate::{
    blocking,
    store::{StoreError, create_private, write_atomically},
};

const VERSION: u32 = 1;
/// The number of healed faults that are remembered for reports.
const REMEMBERED: usize = 200;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    version: u32,
    pub(super) fault: Fault,
    pub(super) spec: FaultSpec,
    /// In the order in which they are carried out.
    pub(super) undo: Vec<Undo>,
    /// The container at the time of injection.
    pub(super) target: Option<String>,
    /// Identifies that run among others.
    #[serde(default)]
    pub(super) run: Option<String>,
}

/// One undo step. Each may be repeated, and then finds nothing to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Undo {
    /// Remove the fault agent, and with it everything that the kernel holds for it.
    #[serde(rename = "holder")]
    Agent {
        name: String,
    },
    Unpause {
        container: String,
    },
    Limits {
        container: String,
        cpus: Option<f64>,
        memory: Option<u64>,
    },
    /// Limits that the engine does not know of are taken away.
    Group {
        container: String,
        cpus: bool,
        memory: bool,
    },
    Start {
        service: ServiceName,
    },
    /// Restart the service without its consent: a server may refuse to stop while it cannot write.
    Restart {
        service: ServiceName,
        container: String,
    },
    /// Restore the backup, and verify it.
    Backup {
        id: String,
    },
    /// Another daemon replaces this one.
    Daemon {
        pid: u32,
    },
    /// End these faults first.
    Others {
        prefix: String,
    },
    /// A step that only one kind of server knows, under its name; its value names the service.
    #[serde(untagged)]
    OfKind(OfKind),
}

impl Entry {
    pub(super) fn new(fault: Fault, spec: FaultSpec, target: Option<String>, run: Option<String>) -> Self {
        Self { version: VERSION, fault, spec, undo: Vec::new(), target, run }
    }

    /// Injected again into the target's next run.
    pub(super) fn persists(&self) -> bool {
        self.spec.parameters.flag("persist")
    }

    /// Limits are for the service: a container that replaces its target is limited too.
    pub(super) fn limits(&self) -> bool {
        self.undo.iter().any(|undo| matches!(undo, Undo::Limits { .. } | Undo::Group { .. }))
    }

    /// Whether it has been injected and not been undone.
    pub(super) fn is_active_on(&self, service: &str) -> bool {
        self.fault.healed_at.is_none() && self.spec.service.as_str() == service
    }

    /// The name of its fault agent, if it has one.
    pub(super) fn agent(&self) -> Option<&str> {
        self.undo.iter().find_map(|undo| match undo {
            Undo::Agent { name } => Some(name.as_str()),
            _ => None,
        })
    }

    /// When it must be over, if it has a duration.
    pub(super) fn heals_at(&self) -> Option<jiff::Timestamp> {
        self.fault.heals_at.as_ref()?.parse().ok()
    }
}

/// The undo log of one environment.
#[derive(Debug, Clone)]
pub(super) struct UndoLog {
    directory: PathBuf,
}

impl UndoLog {
    pub(super) fn of(environment: &Path) -> Self {
        Self { directory: environment.join("faults") }
    }

    /// On the disk when this returns.
    pub(super) fn save(&self, entry: &Entry) -> Result<(), StoreError> {
        create_private(&self.directory)?;
        let text = serde_json::to_vec(entry).expect("an entry serializes to JSON");
        blocking::in_place(|| write_atomically(&self.path(&entry.fault.id), &text))
    }

    /// All entries in the order of injection. Logs unreadable files, and skips them.
    pub(super) fn entries(&self) -> Vec<Entry> {
        blocking::in_place(|| self.read_entries())
    }

    fn read_entries(&self) -> Vec<Entry> {
        let Ok(files) = fs::read_dir(&self.directory) else { return Vec::new() };
        let mut entries: Vec<Entry> = files
            .flatten()
            .filter(|file| file.path().extension().is_some_and(|extension| extension == "json"))
            .filter_map(|file| {
                match fs::read(file.path())
                    .map_err(|error| error.to_string())
                    .and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()))
                {
                    Ok(entry) => Some(entry),
                    Err(error) => {
                        tracing::warn!(%error, path = %file.path().display(), "Cannot read an entry of the undo log of faults.");
                        None
                    }
                }
            })
            .collect();
        entries.sort_by(|a: &Entry, b: &Entry| (&a.fault.injected_at, &a.fault.id).cmp(&(&b.fault.injected_at, &b.fault.id)));
        entries
    }

    pub(super) fn find(&self, id: &str) -> Option<Entry> {
        blocking::in_place(|| fs::read(self.path(id))).ok().and_then(|text| serde_json::from_slice(&text).ok())
    }

    pub(super) fn forget(&self, id: &str) {
        match fs::remove_file(self.path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(%error, id, "Cannot remove an entry of the undo log of faults.");
            }
            _ => {}
        }
    }

    /// Removes the oldest entries that have been undone.
    pub(super) fn prune(&self) {
        let healed: Vec<Entry> = self.entries().into_iter().filter(|entry| entry.fault.healed_at.is_some()).collect();
        for entry in healed.iter().take(healed.len().saturating_sub(REMEMBERED)) {
            self.forget(&entry.fault.id);
        }
    }

    pub(super) fn path(&self, id: &str) -> PathBuf {
        self.directory.join(format!("{id}.json"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn an_entry_reads_back_as_it_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let undo_log = UndoLog::of(directory.path());
        assert!(undo_log.entries().is_empty());
        let spec = devenv_kinds::faults::parse("f1", "partition", "db".parse().unwrap(), &BTreeMap::new(), None, 7).unwrap();
        let fault = Fault {
            id: "f1".into(),
            fault: "partition".into(),
            service: "db".into(),
            parameters: spec.parameters.to_json(),
            injected_at: "2026-01-01T00:00:00Z".into(),
            heals_at: None,
            witness: None,
            healed_at: None,
        };
        let mut entry = Entry::new(fault, spec, Some("c1".into()), None);
        entry.undo.push(Undo::Agent { name: "h".into() });
        undo_log.save(&entry).unwrap();
        let read = undo_log.entries();
        assert_eq!((read.len(), &read[0].undo, &read[0].spec), (1, &entry.undo, &entry.spec));
        undo_log.forget("f1");
        assert!(undo_log.find("f1").is_none());
    }

    #[test]
    fn a_journal_that_is_slow_to_read_does_not_hold_a_thread_of_the_runtime() {
        let directory = tempfile::tempdir().unwrap();
        let undo_log = UndoLog::of(directory.path());
        create_private(&directory.path().join("faults")).unwrap();
        let slow = undo_log.path("f1");
        rustix::fs::mknodat(rustix::fs::CWD, &slow, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR, 0)
            .unwrap();
        let reads = undo_log.clone();
        blocking::lets_others_go_on(|| async move { assert!(reads.entries().is_empty()) }, move || fs::write(slow, "nothing").unwrap());
    }

    #[test]
    fn steps_of_the_former_version_are_read_and_written_as_they_were_and_a_kind_undoes_its_own() {
        for text in [
            r#"{"holder":{"name":"h"}}"#,
            r#"{"redis-settings":{"service":"cache","settings":[["maxmemory","0"]]}}"#,
            r#"{"redis-saves":{"service":"cache","volume":"v","mode":"755"}}"#,
            r#"{"redis-unpause":{"service":"cache"}}"#,
            r#"{"postgres-writable":{"service":"db"}}"#,
            r#"{"kafka-topic":{"service":"events","topic":"devenv-fill"}}"#,
        ] {
            let step: Undo = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&step).unwrap(), text);
            if let Undo::OfKind(step) = step {
                assert!(devenv_kinds::faults::of_step(&step).is_some(), "{text}");
            }
        }
    }
}
