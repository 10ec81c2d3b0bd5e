//! The fault kinds: one file each, one trait; data in, data out.
//!
//! A kind says what it can be told, what is to be done ([`Action`]), what proves that it bit ([`Sign`]) and how it is
//! undone ([`Undoing`]). `daemon/faults` does it; nothing here acts. A new kind is a file, and its line in [`KINDS`].

mod action;
mod parameter;
mod value;

// The kinds.
mod bandwidth;
mod blackhole;
mod corrupt;
mod cpu;
mod crash_loop;
mod disk_full;
mod disk_read_only;
mod dns;
mod duplicate;
mod freeze;
mod kafka_fill;
mod kafka_pause;
mod kill;
mod latency;
mod limit_data;
mod loss;
mod memory;
mod monkey;
mod partition;
mod pause;
mod postgres_exhaust;
mod postgres_lock;
mod postgres_read_only;
mod postgres_terminate;
mod power_cut;
mod redis_flush;
mod redis_memory;
mod redis_pause;
mod redis_save_failure;
mod refuse;
mod remove;
mod reorder;
mod reset;
mod restart;
mod slow_close;
mod stop;

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

pub(crate) use action::{
    Action, Disk, Injection, Kafka, Network, Peer, Postgres, Redis, Restart, Rule, RuleHook, Sign, Suspended, Toxic, Verdict,
};
pub(crate) use parameter::{Form, Parameter};
pub(crate) use value::{Value, Values};

use crate::spec::{ServiceName, ServiceSpec};

/// One way of breaking one service.
pub(crate) trait FaultKind: Sync {
    fn name(&self) -> &'static str;
    /// One sentence for people.
    fn about(&self) -> &'static str;
    fn undone_by(&self) -> Undoing;
    fn parameters(&self) -> &'static [Parameter] {
        &[]
    }
    /// What is to be done to this target; a refusal says why it cannot be.
    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal>;
}

/// How a fault ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Undoing {
    /// The kernel undoes it the moment its holder is gone, however that ends.
    Kernel,
    /// Somebody has to undo it: the daemon at its time, the next daemon, or `chaos heal`. What it was is in the journal.
    Lease,
    /// The service itself does, at its time.
    Itself,
    /// There is nothing to undo: the supervisor brings the service back.
    Nothing,
}

/// Whom a fault is about.
pub(crate) struct Target<'a> {
    pub(crate) spec: &'a ServiceSpec,
    /// Every service of the environment.
    pub(crate) services: &'a [ServiceName],
    pub(crate) seed: u64,
}

/// A fault as it was asked for, with everything checked that can be checked without looking at the service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FaultSpec {
    pub(crate) id: String,
    pub(crate) fault: String,
    pub(crate) service: ServiceName,
    pub(crate) parameters: Values,
    /// How long it lasts; `None` is the kind's default.
    #[serde(rename = "for")]
    pub(crate) duration: Option<Duration>,
    pub(crate) seed: u64,
}

/// What is wrong with a fault that was asked for. Names what is wrong, so that a file's line can be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidFault {
    #[error("there is no fault `{name}`")]
    Unknown { name: String, hint: String },
    #[error("the fault `{fault}` has no parameter `{name}`")]
    UnknownParameter { fault: String, name: String, hint: String },
    #[error("`{name}` of the fault `{fault}` is `{value}`, which is not {expected}")]
    Value { fault: String, name: String, value: String, expected: String },
}

/// Why a fault cannot be injected there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct Refusal {
    pub(crate) reason: String,
    pub(crate) hint: Option<String>,
}

/// What a fault lasts that nobody gave a time.
pub(crate) const DEFAULT_DURATION: Duration = Duration::from_mins(5);

/// Every kind there is, in the order in which they are shown.
pub(crate) const KINDS: &[&dyn FaultKind] = &[
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
    &postgres_terminate::PostgresTerminate,
    &postgres_exhaust::PostgresExhaust,
    &postgres_lock::PostgresLock,
    &postgres_read_only::PostgresReadOnly,
    &redis_pause::RedisPause,
    &redis_memory::RedisMemory,
    &redis_save_failure::RedisSaveFailure,
    &redis_flush::RedisFlush,
    &kafka_fill::KafkaFill,
    &kafka_pause::KafkaPause,
    &remove::Remove,
    &duplicate::Duplicate,
    &corrupt::Corrupt,
    &reorder::Reorder,
];

pub(crate) fn find(name: &str) -> Option<&'static dyn FaultKind> {
    KINDS.iter().copied().find(|kind| kind.name() == name)
}

impl FaultSpec {
    /// From words: `parameters` are in their textual form.
    pub(crate) fn parse(
        id: impl Into<String>,
        fault: &str,
        service: ServiceName,
        parameters: &BTreeMap<String, String>,
        duration: Option<Duration>,
        seed: u64,
    ) -> Result<Self, InvalidFault> {
        let kind = find(fault).ok_or_else(|| {
            let near = nearest(fault, KINDS.iter().map(|kind| kind.name()));
            let hint = near.map_or_else(
                || "`devenv chaos faults` lists them".to_owned(),
                |near| format!("did you mean `{near}`? `devenv chaos faults` lists them"),
            );
            InvalidFault::Unknown { name: fault.to_owned(), hint }
        })?;
        let parameters = Values::parse(kind, parameters)?;
        Ok(Self { id: id.into(), fault: fault.to_owned(), service, parameters, duration, seed })
    }

    pub(crate) fn kind(&self) -> Option<&'static dyn FaultKind> {
        find(&self.fault)
    }
}

impl InvalidFault {
    pub(crate) fn hint(&self) -> Option<&str> {
        match self {
            Self::Unknown { hint, .. } | Self::UnknownParameter { hint, .. } => Some(hint),
            Self::Value { .. } => None,
        }
    }

    /// The parameter that is wrong, if one is.
    pub(crate) fn parameter(&self) -> Option<&str> {
        match self {
            Self::Unknown { .. } => None,
            Self::UnknownParameter { name, .. } | Self::Value { name, .. } => Some(name),
        }
    }
}

impl Refusal {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: None }
    }

    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl Undoing {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Lease => "lease",
            Self::Itself => "itself",
            Self::Nothing => "nothing",
        }
    }
}

impl Target<'_> {
    /// For faults that work on namespaces and engines: a process of the host has none.
    pub(crate) fn container(&self, fault: &str) -> Result<&crate::spec::ContainerSpec, Refusal> {
        self.spec.container().ok_or_else(|| {
            Refusal::new(format!("`{fault}` needs a container, and {} is a process of the host", self.spec.name))
                .hint("`kill`, `stop` and `restart` work for processes")
        })
    }

    /// For faults of one kind of server.
    pub(crate) fn of_kind(&self, fault: &str, kinds: &[&str]) -> Result<(), Refusal> {
        if kinds.contains(&self.spec.kind.as_str()) {
            return Ok(());
        }
        Err(Refusal::new(format!("`{fault}` is for {}, and {} is {}", kinds.join(" and "), self.spec.name, self.spec.kind)))
    }

    /// Ports that the service listens on, in its container.
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.spec.container().map(|container| container.ports.iter().map(|port| port.container).collect()).unwrap_or_default()
    }
}

/// The catalogue, for `chaos faults`.
pub(crate) fn catalogue() -> devenv_api::FaultCatalogue {
    let faults = KINDS.iter().map(|kind| devenv_api::FaultDescription {
        name: kind.name().to_owned(),
        about: kind.about().to_owned(),
        undone_by: kind.undone_by().as_str().to_owned(),
        parameters: kind
            .parameters()
            .iter()
            .map(|parameter| devenv_api::FaultParameter {
                name: parameter.name.to_owned(),
                form: parameter.form.words(),
                default: parameter.default.map(str::to_owned),
                about: parameter.about.to_owned(),
            })
            .collect(),
    });
    devenv_api::FaultCatalogue { faults: faults.collect() }
}

/// `from`.
fn peer(values: &Values, target: &Target<'_>) -> Result<Peer, Refusal> {
    Ok(match values.text("from").unwrap_or("all") {
        "all" => Peer::Anybody,
        "host" => Peer::Host,
        "services" => Peer::Services,
        name => match target.services.iter().find(|service| service.as_str() == name) {
            Some(service) if *service == target.spec.name => return Err(Refusal::new(format!("{service} cannot be cut off from itself"))),
            Some(service) => Peer::Service(service.clone()),
            None => {
                let refusal = Refusal::new(format!("`from` is `{name}`, and there is no such service"));
                return Err(refusal.hint("it is `all`, `host`, `services`, or a service of the environment"));
            }
        },
    })
}

/// What can be seen from the host, where the daemon is.
fn network_sign(peer: &Peer) -> Sign {
    match peer {
        Peer::Anybody | Peer::Host => Sign::NoAnswer,
        Peer::Services | Peer::Service(_) | Peer::Resolver => Sign::RulesInPlace,
    }
}

/// Whether up, and whether down.
fn ways(values: &Values) -> (bool, bool) {
    (!values.is("direction", "down"), !values.is("direction", "up"))
}

/// Whether it happens to every connection.
fn certain(values: &Values) -> bool {
    values.percent("probability").is_none_or(|chance| chance >= 100.0)
}

fn through_proxy(values: &Values, target: &Target<'_>, toxic: Toxic) -> Action {
    let toxic = Toxic { ports: target.ports(), chance: values.percent("probability").unwrap_or(100.0), seed: target.seed, ..toxic };
    Action::Network(Network { rules: Vec::new(), toxic: Some(toxic), reset_existing: values.is("connections", "all") })
}

/// For faults of disks: the service has to have one of its own.
fn faultable(fault: &str, target: &Target<'_>) -> Result<(), Refusal> {
    let container = target.container(fault)?;
    if container.mounts.iter().any(|mount| mount.device.is_some()) {
        return Ok(());
    }
    Err(Refusal::new(format!("`{fault}` needs a disk of {}'s own", target.spec.name))
        .hint("give it one in the profile: `storage: { faultable: true, size: 2GiB }` (it needs root on the engine's host; `devenv doctor` says whether that is so)"))
}

fn no_netem(fault: &str) -> Refusal {
    Refusal::new(format!("`{fault}` needs the kernel's network emulator (sch_netem), which devenv does not drive"))
        .hint("`loss`, `latency` and `reset` need no emulator")
}

fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, _)| *distance <= 3)
        .min()
        .map(|(_, known)| known)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{ContainerSpec, Workload};

    fn parse(fault: &str, parameters: &[(&str, &str)]) -> Result<FaultSpec, InvalidFault> {
        let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        FaultSpec::parse("f1", fault, "cache".parse().unwrap(), &parameters, None, 7)
    }

    fn service(kind: &str) -> ServiceSpec {
        let json = serde_json::json!({
            "name": "cache", "kind": kind, "workload": Workload::Container(ContainerSpec::new("redis:8.0")), "depends_on": {}, "on_dependency_restart": "ignore",
            "optional": false, "probe": "none", "provision": [], "proof": null, "ready_timeout": { "secs": 1, "nanos": 0 },
            "stop": { "signal": "SIGTERM", "grace": { "secs": 1, "nanos": 0 } }, "restart": { "policy": "on-failure", "attempts": 5 }, "urls": {}
        });
        serde_json::from_value(json).unwrap()
    }

    fn describe(fault: &str, kind: &str, parameters: &[(&str, &str)]) -> Result<Injection, Refusal> {
        let spec = parse(fault, parameters).unwrap();
        let services = ["cache".parse().unwrap(), "db".parse().unwrap()];
        spec.kind().unwrap().describe(&spec.parameters, &Target { spec: &service(kind), services: &services, seed: 7 })
    }

    #[test]
    fn every_fault_of_the_contract_is_there_and_its_defaults_are_valid() {
        let names = "monkey kill stop restart crash-loop pause freeze partition refuse reset loss latency bandwidth slow-close limit-data blackhole cpu memory \
            disk-full power-cut disk-read-only dns postgres-terminate postgres-exhaust postgres-lock postgres-read-only redis-pause redis-memory \
            redis-save-failure redis-flush kafka-fill kafka-pause remove duplicate corrupt reorder";
        assert_eq!(KINDS.iter().map(|kind| kind.name()).collect::<Vec<_>>(), names.split_whitespace().collect::<Vec<_>>());
        for kind in KINDS {
            parse(kind.name(), &[]).unwrap_or_else(|error| panic!("{}: {error}", kind.name()));
        }
    }

    #[test]
    fn what_is_wrong_with_a_fault_is_told_with_what_was_meant() {
        let told = |result: Result<FaultSpec, InvalidFault>| {
            let error = result.unwrap_err();
            format!("{error} / {} / {}", error.hint().unwrap_or_default(), error.parameter().unwrap_or_default())
        };
        insta::assert_snapshot!(told(parse("kil", &[])), @"there is no fault `kil` / did you mean `kill`? `devenv chaos faults` lists them / ");
        insta::assert_snapshot!(told(parse("latency", &[("dely", "1s")])), @"the fault `latency` has no parameter `dely` / did you mean `delay`? / dely");
        insta::assert_snapshot!(told(parse("latency", &[("delay", "80")])), @"`delay` of the fault `latency` is `80`, which is not a duration such as `80ms` /  / delay");
        insta::assert_snapshot!(told(parse("partition", &[("style", "dorp")])), @"`style` of the fault `partition` is `dorp`, which is not `drop`, `reject` /  / style");
        insta::assert_snapshot!(told(parse("loss", &[("probability", "130%")])), @"`probability` of the fault `loss` is `130%`, which is not a percentage such as `30%` /  / probability");
    }

    #[test]
    fn a_delay_in_both_directions_is_what_a_round_trip_takes_longer() {
        let toxic = |direction| match describe("latency", "redis", &[("delay", "80ms"), ("jitter", "20ms"), ("direction", direction)])
            .unwrap()
            .action
        {
            Action::Network(Network { toxic: Some(toxic), .. }) => (toxic.delay_up, toxic.delay_down, toxic.jitter_up, toxic.jitter_down),
            other => panic!("{other:?}"),
        };
        assert_eq!(toxic("both"), (40_000, 40_000, 10_000, 10_000));
        assert_eq!(toxic("up"), (80_000, 0, 20_000, 0));
        assert_eq!(toxic("down"), (0, 80_000, 0, 20_000));
    }

    #[test]
    fn a_fault_that_cannot_bite_there_is_refused_with_the_reason() {
        let reason = |fault, kind, parameters: &[(&str, &str)]| describe(fault, kind, parameters).unwrap_err().reason;
        assert_eq!(reason("postgres-lock", "redis", &[]), "`postgres-lock` is for postgres, and cache is redis");
        assert_eq!(reason("power-cut", "redis", &[]), "`power-cut` needs a disk of cache's own");
        assert_eq!(reason("partition", "redis", &[("from", "nobody")]), "`from` is `nobody`, and there is no such service");
        assert_eq!(reason("partition", "redis", &[("from", "cache")]), "cache cannot be cut off from itself");
        assert_eq!(
            reason("reorder", "redis", &[]),
            "`reorder` needs the kernel's network emulator (sch_netem), which devenv does not drive"
        );
        assert_eq!(reason("monkey", "redis", &[("faults", "kill,monkey")]), "`monkey` is no fault for a monkey");
    }

    #[test]
    fn a_spec_reads_back_from_its_journal() {
        let spec = parse("latency", &[("delay", "80ms"), ("probability", "30%")]).unwrap();
        let text = serde_json::to_string(&spec).unwrap();
        assert_eq!(serde_json::from_str::<FaultSpec>(&text).unwrap(), spec);
        insta::assert_snapshot!(spec.parameters.to_json().to_string(), @r#"{"connections":"new","delay":"80ms","direction":"both","jitter":"0ms","probability":"30%"}"#);
    }
}
