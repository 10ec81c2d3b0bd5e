//! PURE: a validated scenario: all names exist, all times and fault parameters are valid.

use std::{collections::BTreeMap, time::Duration};

use devenv_spec::OfKind;

use crate::condition::Condition;
use devenv_faults::Undoing;

/// The names of work that any service can have.
pub(crate) const HTTP: &str = "http";
pub(crate) const COMMAND: &str = "command";

#[derive(Debug, Clone)]
pub struct Scenario {
    /// The name in the file.
    pub name: String,
    pub description: Option<String>,
    pub seed: u64,
    pub deadline: Duration,
    pub workloads: Vec<Workload>,
    pub steady: Vec<Condition>,
    pub timeline: Vec<Entry>,
    pub stop_if: Vec<Condition>,
    pub checks: Vec<Check>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    pub name: String,
    /// The service that it concerns; `None` for a command that concerns no service.
    pub service: Option<String>,
    pub clients: u32,
    /// Operations per second of all clients together.
    pub rate: f64,
    pub task: Task,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Task {
    /// Work that a kind of service defines, by its name, with its fields.
    OfKind(OfKind),
    Http {
        path: String,
        status: u16,
    },
    Command {
        command: Vec<String>,
    },
}

#[derive(Debug, Clone)]
pub struct Entry {
    pub id: String,
    pub start: Start,
    pub lasting: Option<Duration>,
    /// A random delay between zero and this is added to `start`.
    pub spread: Duration,
    pub fault: String,
    pub undone_by: Undoing,
    /// It ends by its own parameters, although it would have to be undone.
    pub ends_itself: bool,
    pub on: String,
    pub parameters: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
pub enum Start {
    At(Duration),
    After { id: String, moment: Moment, delay: Duration },
    When(Condition),
}

/// An event of an entry that another entry may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    Injected,
    Healed,
    Recovered,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// As written in the file.
    pub name: String,
    pub claim: Claim,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Claim {
    /// Acknowledged and not stored any more: at most this many, or the last of this time.
    Lost {
        workload: String,
        most: Option<u64>,
        window: Option<Duration>,
    },
    /// Lost although a later one of the same client is stored.
    Holes {
        workload: String,
        most: u64,
    },
    /// Stored more than once.
    Duplicates {
        workload: String,
        most: u64,
    },
    /// Stored although nobody wrote it.
    Unexpected {
        workload: String,
        most: u64,
    },
    /// From the fault to ready.
    Recovery {
        id: String,
        most: Duration,
    },
    /// The fraction of the time in which a service answered, apart from these faults.
    Available {
        service: String,
        least: f64,
        except: Vec<String>,
    },
    Command {
        command: Vec<String>,
    },
}

impl Moment {
    pub const ALL: [(&'static str, Self); 3] = [("injected", Self::Injected), ("healed", Self::Healed), ("recovered", Self::Recovered)];

    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, moment)| *moment == self).map_or("", |(word, _)| word)
    }
}

impl Task {
    pub fn kind(&self) -> &str {
        match self {
            Self::OfKind(work) => &work.kind,
            Self::Http { .. } => HTTP,
            Self::Command { .. } => COMMAND,
        }
    }

    /// Whether what it writes can be read back, so that losses can be found.
    pub fn keeps(&self) -> bool {
        !matches!(self, Self::Http { .. } | Self::Command { .. })
    }
}

impl Entry {
    /// Must be ended explicitly: without a duration it lasts to the end of the timeline.
    pub fn lasts(&self) -> bool {
        self.lasting.is_none() && !self.ends_itself && matches!(self.undone_by, Undoing::Kernel | Undoing::Lease)
    }
}
