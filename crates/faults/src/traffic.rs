//! What faults of traffic have in common: the source, the direction, and the proxy.

use super::{Action, ExpectedEffect, Injection, Network, PacketFault, Packets, Peer, Refusal, Rule, RuleHook, Target, Toxic, Values};

/// `from`.
pub(super) fn peer(values: &Values, target: &Target<'_>) -> Result<Peer, Refusal> {
    Ok(match values.text("from").unwrap_or("all") {
        "all" => Peer::Anybody,
        "host" => Peer::Host,
        "services" => Peer::Services,
        name => match target.services.iter().find(|service| service.as_str() == name) {
            Some(service) if *service == target.spec.name => return Err(Refusal::new(format!("{service} cannot be cut off from itself"))),
            Some(service) => Peer::Service(service.clone()),
            None => {
                let refusal = Refusal::new(format!("`from` is `{name}`, but there is no such service"));
                return Err(refusal.hint("use `all`, `host`, `services`, or a service of the environment"));
            }
        },
    })
}

/// The effect that the daemon, which is on the host, can observe.
pub(super) fn network_sign(peer: &Peer) -> ExpectedEffect {
    match peer {
        Peer::Anybody | Peer::Host => ExpectedEffect::NoAnswer,
        Peer::Services | Peer::Service(_) => ExpectedEffect::NoAnswerWithin(peer.clone()),
        Peer::Resolver => ExpectedEffect::NoNames,
    }
}

/// Whether up, and whether down.
pub(super) fn ways(values: &Values) -> (bool, bool) {
    (!values.is("direction", "down"), !values.is("direction", "up"))
}

/// Whether every connection is affected.
pub(super) fn certain(values: &Values) -> bool {
    values.percent("probability").is_none_or(|chance| chance >= 100.0)
}

pub(super) fn through_proxy(values: &Values, target: &Target<'_>, toxic: Toxic) -> Action {
    let toxic = Toxic { ports: target.ports(), chance: values.percent("probability").unwrap_or(100.0), seed: target.seed, ..toxic };
    Action::Network(Network { toxic: Some(toxic), reset_existing: values.is("connections", "all"), ..Network::default() })
}

/// A share of the packets that the service sends from its ports.
pub(super) fn faulty_packets(values: &Values, target: &Target<'_>, packet_fault: PacketFault) -> Injection {
    let chance = values.percent("probability").unwrap_or(100.0);
    let packets = Packets { ports: target.ports(), packet_fault, chance, seed: target.seed };
    Injection { action: Action::Network(Network { packets: Some(packets), ..Network::default() }), expected: ExpectedEffect::Effect }
}

/// The rule for each affected direction.
pub(super) fn each_way(values: &Values, rule: impl Fn(RuleHook) -> Rule) -> Vec<Rule> {
    let (up, down) = ways(values);
    [(up, RuleHook::Input), (down, RuleHook::Output)].into_iter().filter(|(meant, _)| *meant).map(|(_, hook)| rule(hook)).collect()
}
