//! What is to be done, as data: `daemon/faults` does it.

use std::time::Duration;

use devenv_spec::{OfKind, ServiceName};
use serde::{Deserialize, Serialize};

/// One fault, ready to be done.
#[derive(Debug, Clone, PartialEq)]
pub struct Injection {
    pub action: Action,
    /// What proves that it bit.
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
    /// Stopped as `devenv stop` does, started at the end.
    Stop,
    /// Restarted as `devenv restart` does.
    Restart,
    /// Killed whenever it runs.
    CrashLoop {
        every: Duration,
    },
    /// Removes the container, which is then recreated, with its volumes if `volumes`; with `restore` a backup is created first and
    /// put back in the end.
    Remove {
        volumes: bool,
        restore: bool,
    },
    /// The daemon itself is killed; the next one finds the service as it was.
    DaemonDeath,
    /// Threads are held still.
    Suspend(Suspended),
    /// Rules and a proxy in its network namespace.
    Network(Network),
    /// Less of the machine.
    Limits {
        cpus: Option<f64>,
        memory: Option<u64>,
    },
    Disk(Disk),
    /// What only one kind of server knows, as its kind says.
    OfKind(OfKind),
    /// Others of this list, one after another, each for a while.
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
    /// By the supervisor, as the service's policy says.
    Policy,
    /// Not before this time, then whatever the policy says.
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
    /// Connections that exist already are reset, so that all there are go through the proxy.
    pub reset_existing: bool,
    /// Some of what the service sends does not arrive as it was sent.
    pub packets: Option<Packets>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Packets {
    /// The service's own.
    pub ports: Vec<u16>,
    #[serde(rename = "harm")]
    pub packet_fault: PacketFault,
    /// Of a hundred, how many.
    pub chance: f64,
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PacketFault {
    /// It is sent twice.
    Duplicate,
    /// A bit of it is another.
    Corrupt,
    /// It is sent so much later, so that others overtake it.
    Reorder(Duration),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    pub hook: RuleHook,
    pub peer: Peer,
    /// The service's own ports; none means all traffic.
    pub ports: Vec<u16>,
    /// Of TCP, only attempts to connect (`true`), or only what is not one (`false`).
    pub connecting: Option<bool>,
    /// Of a hundred, how many; decided for each packet, or for each connection.
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
    /// Microseconds, each way.
    pub delay_up: u64,
    pub delay_down: u64,
    pub jitter_up: u64,
    pub jitter_down: u64,
    /// Bytes a second; 0 is no limit.
    pub rate_up: u64,
    pub rate_down: u64,
    /// Closed after this many bytes; 0 is no limit.
    pub limit_up: u64,
    pub limit_down: u64,
    /// Delay of the end of a connection, in microseconds.
    pub close_delay: u64,
    /// Drops everything silently.
    pub hole_up: bool,
    pub hole_down: bool,
    /// Of a hundred connections, how many.
    pub chance: f64,
    pub seed: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Disk {
    /// What was not synced is lost.
    PowerCut {
        restart_after: Duration,
    },
    /// All but this many bytes are taken.
    Full {
        leave: u64,
    },
    ReadOnly,
}

/// What is looked for as the proof that a fault bit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExpectedEffect {
    /// The run that was there has ended.
    Ended,
    /// A request to the port gets no answer: disconnected, refused or silent.
    NoAnswer,
    /// The same for a question from another service: the host's way is not affected.
    NoAnswerWithin(Peer),
    /// The service's own questions for names get no answer.
    NoNames,
    /// So many bytes a second: what is longer takes longer.
    Thin(u64),
    /// An answer takes at least this much longer.
    Slower(Duration),
    /// Its effect answers for itself: what was asked of the service was done and is seen.
    Effect,
}
