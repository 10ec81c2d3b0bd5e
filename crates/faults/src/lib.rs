//! The faults of any service: one file each, one trait; data in, data out.
//!
//! A kind declares its parameters, what to do ([`Action`]), how its effect is observed ([`ExpectedEffect`]) and how it is
//! undone ([`Undoing`]). `src/faults` acts on them; nothing here acts. Faults of one kind of server are in the folder of that
//! kind; a new one for any service is a file here, and its line in [`GENERIC`].

mod action;
mod error;
mod parameter;
#[cfg(test)]
mod tests;
mod traffic;
mod value;

// The kinds.
mod bandwidth;
mod blackhole;
mod corrupt;
mod cpu;
mod crash_loop;
mod daemon_death;
mod disk_full;
mod disk_read_only;
mod dns;
mod duplicate;
mod freeze;
mod kill;
mod latency;
mod limit_data;
mod loss;
mod memory;
mod monkey;
mod partition;
mod pause;
mod power_cut;
mod refuse;
mod remove;
mod reorder;
mod reset;
mod restart;
mod slow_close;
mod stop;

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

pub use action::{
    Action, Disk, ExpectedEffect, Injection, Network, PacketFault, Packets, Peer, Restart, Rule, RuleHook, Suspended, Toxic, Verdict,
};
pub use parameter::{Form, Parameter};
pub use value::{Value, Values};

use devenv_spec::{ServiceName, ServiceSpec};

/// One way of breaking one service.
pub trait FaultKind: Sync {
    fn name(&self) -> &'static str;
    /// One sentence for people.
    fn about(&self) -> &'static str;
    fn undone_by(&self) -> Undoing;
    fn parameters(&self) -> &'static [Parameter] {
        &[]
    }
    /// Whether it lasts for its duration although there is nothing to undo.
    fn lasts(&self, _values: &Values) -> bool {
        false
    }
    /// What is to be done to this target. A refusal says why it is impossible.
    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal>;
}

/// How a fault ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Undoing {
    /// The kernel undoes it as soon as the fault agent ends, for whatever reason.
    Kernel,
    /// Must be undone explicitly: by the daemon after its duration, by the next daemon, or by `chaos heal`. The journal records it.
    Lease,
    /// The service itself does, at its time.
    Itself,
    /// There is nothing to undo: the supervisor restarts the service.
    Nothing,
}

/// The target of a fault.
pub struct Target<'a> {
    pub spec: &'a ServiceSpec,
    /// Every service of the environment.
    pub services: &'a [ServiceName],
    /// The names of all known faults.
    pub faults: &'a [&'static str],
    pub seed: u64,
}

/// A requested fault, checked as far as possible without the service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FaultSpec {
    pub id: String,
    pub fault: String,
    pub service: ServiceName,
    pub parameters: Values,
    /// How long it lasts; `None` is the kind's default.
    #[serde(rename = "for")]
    pub duration: Option<Duration>,
    pub seed: u64,
}

/// A problem of a requested fault. Names the parameter, so that the line in a file can be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFault {
    #[error("unknown fault `{name}`")]
    Unknown { name: String, hint: String },
    #[error("the fault `{fault}` has no parameter `{name}`")]
    UnknownParameter { fault: String, name: String, hint: String },
    #[error("`{name}` of the fault `{fault}` is `{value}`, but must be {expected}")]
    Value { fault: String, name: String, value: String, expected: String },
}

/// Why a fault cannot be injected into this target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    pub reason: String,
    pub hint: Option<String>,
}

/// The duration of a fault without one.
pub const DEFAULT_DURATION: Duration = Duration::from_mins(5);

/// The faults that any service can have, in the order in which they are listed.
pub const GENERIC: &[&dyn FaultKind] = &[
    &monkey::Monkey,
    &kill::Kill,
    &stop::Stop,
    &restart::Restart,
    &crash_loop::CrashLoop,
    &pause::Pause,
    &freeze::Freeze,
    &partition::Partition,
    &refuse::Refuse,
    &reset::Reset,
    &loss::Loss,
    &latency::Latency,
    &bandwidth::Bandwidth,
    &slow_close::SlowClose,
    &limit_data::LimitData,
    &blackhole::Blackhole,
    &cpu::Cpu,
    &memory::Memory,
    &disk_full::DiskFull,
    &power_cut::PowerCut,
    &disk_read_only::DiskReadOnly,
    &dns::Dns,
    &remove::Remove,
    &daemon_death::DaemonDeath,
    &duplicate::Duplicate,
    &corrupt::Corrupt,
    &reorder::Reorder,
];

impl FaultSpec {
    /// Parses text: `parameters` are in their textual form.
    pub fn parse(
        id: impl Into<String>,
        kind: &dyn FaultKind,
        service: ServiceName,
        parameters: &BTreeMap<String, String>,
        duration: Option<Duration>,
        seed: u64,
    ) -> Result<Self, InvalidFault> {
        let parameters = Values::parse(kind, parameters)?;
        Ok(Self { id: id.into(), fault: kind.name().to_owned(), service, parameters, duration, seed })
    }
}

impl InvalidFault {
    /// No known fault has this name.
    pub fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Self {
        let hint = nearest(name, known).map_or_else(
            || "run `devenv chaos faults` to list them".to_owned(),
            |near| format!("did you mean `{near}`? run `devenv chaos faults` to list them"),
        );
        Self::Unknown { name: name.to_owned(), hint }
    }

    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Unknown { hint, .. } | Self::UnknownParameter { hint, .. } => Some(hint),
            Self::Value { .. } => None,
        }
    }

    /// The invalid parameter, if it is one.
    pub fn parameter(&self) -> Option<&str> {
        match self {
            Self::Unknown { .. } => None,
            Self::UnknownParameter { name, .. } | Self::Value { name, .. } => Some(name),
        }
    }
}

impl Refusal {
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: None }
    }

    pub fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl Undoing {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Lease => "lease",
            Self::Itself => "itself",
            Self::Nothing => "nothing",
        }
    }
}

impl Target<'_> {
    /// For faults that need namespaces and the engine: a process on the host has neither.
    pub fn container(&self, fault: &str) -> Result<&devenv_spec::ContainerSpec, Refusal> {
        self.spec.container().ok_or_else(|| {
            Refusal::new(format!("`{fault}` needs a container, but {} is a process on the host", self.spec.name))
                .hint("use `kill`, `stop` or `restart` for processes")
        })
    }

    /// For faults of one kind of server: the service must declare something of that kind.
    pub fn of_kind(&self, fault: &str, kind: &str) -> Result<(), Refusal> {
        if self.spec.provision.iter().any(|declared| declared.kind == kind) {
            return Ok(());
        }
        Err(Refusal::new(format!("`{fault}` is for {kind}, but {} is {}", self.spec.name, self.spec.kind)))
    }

    /// Ports that the service listens on, in its container.
    pub fn ports(&self) -> Vec<u16> {
        self.spec.container().map(|container| container.ports.iter().map(|port| port.container).collect()).unwrap_or_default()
    }
}

/// For faults of disks: the service must have a disk of its own.
fn faultable(fault: &str, target: &Target<'_>) -> Result<(), Refusal> {
    let container = target.container(fault)?;
    if container.mounts.iter().any(|mount| mount.device.is_some()) {
        return Ok(());
    }
    Err(Refusal::new(format!("`{fault}` needs {} to have its own disk", target.spec.name)).hint(
        "set `storage: { faultable: true, size: 2GiB }` in the profile (requires root on the engine's host; run `devenv doctor` to check)",
    ))
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, _)| *distance <= 3)
        .min()
        .map(|(_, known)| known)
}
