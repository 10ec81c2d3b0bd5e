//! What a fault does, as data: `src/faults` does it.

use std::time::Duration;

use devenv_spec::{OfKind, ServiceName};
use serde::{Deserialize, Serialize};

/// One fault, ready to be injected.
#[derive(Debug, Clone, PartialEq)]
pub struct Injection {
    pub action: Action,
    /// What proves that it took effect.
    pub expected: ExpectedEffect,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// A signal to the main process; `restart` says who starts it again.
    Signal {
        signal: String,
        restart: Restart,
    },
    /// Stopped as by `devenv stop`, started at the end.
    Stop,
    /// Restarted as by `devenv restart`.
    Restart,
    /// Killed whenever it runs.
    CrashLoop {
        every: Duration,
    },
    /// Removes the container, which is then recreated, with its volumes if `volumes`; with `restore` a backup is made first and
    /// restored at the end.
    Remove {
        volumes: bool,
        restore: bool,
    },
    /// Kills the daemon itself; the next daemon finds the service unchanged.
    DaemonDeath,
    /// Stops threads.
    Suspend(Suspended),
    /// Rules and a proxy in its network namespace.
    Network(Network),
    /// Lower resource limits.
    Limits {
        cpus: Option<f64>,
        memory: Option<u64>,
    },
    Disk(Disk),
    /// A fault that only one kind of server knows, defined by its kind.
    OfKind(OfKind),
    /// Other faults of this list, one after another, each for a while.
    Monkey {
        faults: Vec<String>,
        services: Vec<ServiceName>,
        every: Duration,
        lasting: Duration,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// By the supervisor, according to the service's restart policy.
    Policy,
    /// Not before this time, then whatever the policy.
    After(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Suspended {
    /// Every process of the container.
    All,
    /// Its main process.
    Main,
}

/// What happens to traffic.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Network {
    pub rules: Vec<Rule>,
    /// New connections go through a proxy that does this to them.
    pub toxic: Option<Toxic>,
    /// Existing connections are reset, so that all go through the proxy.
    pub reset_existing: bool,
    /// Some packets of the service are corrupted, duplicated or delayed.
    pub packets: Option<Packets>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Packets {
    /// The service's own.
    pub ports: Vec<u16>,
    #[serde(rename = "harm")]
    pub packet_fault: PacketFault,
    /// The percentage of packets.
    pub chance: f64,
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PacketFault {
    /// Sent twice.
    Duplicate,
    /// One bit is flipped.
    Corrupt,
    /// Sent this much later, so that other packets overtake it.
    Reorder(Duration),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    pub hook: RuleHook,
    pub peer: Peer,
    /// The service's own ports; empty means all traffic.
    pub ports: Vec<u16>,
    /// Of TCP, only attempts to connect (`true`), or everything else (`false`).
    pub connecting: Option<bool>,
    /// The percentage; decided for each packet, or for each connection.
    pub chance: Option<f64>,
    pub by_connection: bool,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleHook {
    Input,
    Output,
}

/// Whose traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Peer {
    Anybody,
    /// What comes through the published ports.
    Host,
    /// The other services of the environment.
    Services,
    Service(ServiceName),
    /// Name servers, by port 53.
    Resolver,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    Drop,
    /// Resets TCP connections, and answers other packets with "unreachable".
    Reject,
}

/// What a proxy does to a connection. Up is towards the service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Toxic {
    pub ports: Vec<u16>,
    /// Microseconds, in each direction.
    pub delay_up: u64,
    pub delay_down: u64,
    pub jitter_up: u64,
    pub jitter_down: u64,
    /// Bytes per second; 0 is no limit.
    pub rate_up: u64,
    pub rate_down: u64,
    /// Closed after this many bytes; 0 is no limit.
    pub limit_up: u64,
    pub limit_down: u64,
    /// The delay before the end of a connection is forwarded, in microseconds.
    pub close_delay: u64,
    /// Drops everything silently.
    pub hole_up: bool,
    pub hole_down: bool,
    /// The percentage of connections.
    pub chance: f64,
    pub seed: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disk {
    /// Data that was not synced is lost.
    PowerCut {
        restart_after: Duration,
    },
    /// Fills the disk except for this many bytes.
    Full {
        leave: u64,
    },
    ReadOnly,
}

/// The observation that proves that a fault took effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExpectedEffect {
    /// The run before the fault has ended.
    Ended,
    /// A request to the port gets no answer: disconnected, refused or silent.
    NoAnswer,
    /// The same for a request from another service: requests from the host are not affected.
    NoAnswerWithin(Peer),
    /// The service's own name look-ups get no answer.
    NoNames,
    /// This many bytes per second: a longer answer takes longer.
    Thin(u64),
    /// An answer takes at least this much longer.
    Slower(Duration),
    /// The action itself proves it: what was requested of the service was done and is observed.
    Effect,
}
