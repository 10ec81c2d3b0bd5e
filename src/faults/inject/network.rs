//! Traffic: rules and a proxy in the target's network namespace.

use std::time::{Duration, Instant};

use devenv_api::{ApiError, Witness};
use devenv_kinds::faults::{ExpectedEffect, FaultSpec, Network, PacketFault, Packets, Peer, Rule, RuleHook, Toxic, Verdict};

use super::super::{
    Faults, agent,
    observe::{ProbeOutcome, Question, milliseconds},
};
use super::{PATIENCE, SIGN, Work, failed, not_seen, seen};
use crate::store::Record;

/// The number of probes that are sent to observe a chance.
const TRIES: u32 = 60;
/// An answer that takes this much longer is no coincidence.
const CLEARLY: Duration = Duration::from_millis(20);

impl Work {
    pub(super) async fn network(&mut self, network: &Network, expected: &ExpectedEffect) -> Result<Witness, ApiError> {
        let container = self.container()?;
        // In the kernel only these rules have this name, and a table's name must be short.
        let mut arguments = vec!["network".to_owned(), format!("--table=devenv-{}", self.entry.fault.id), self.time_to_live()];
        for rule in &network.rules {
            arguments.extend(self.rule(rule, &container).await?);
        }
        // A proxy that affects no connection gets none, and resets none.
        if let Some(toxic) = network.toxic.as_ref().filter(|toxic| toxic.chance > 0.0) {
            arguments.push(proxy(toxic));
            if network.reset_existing {
                arguments.extend(resets(&toxic.ports));
            }
        }
        let harmed = network.packets.as_ref().filter(|packets| packets.chance > 0.0);
        arguments.extend(harmed.map(packets));
        let question = self.question().await;
        let asker = match (expected, &question) {
            (ExpectedEffect::NoAnswerWithin(peer), Some((question, _))) => self.asker_of(peer, question).await?,
            (ExpectedEffect::NoNames, _) => Some(self.asker_for_names(&container).await?),
            _ => None,
        };
        let began = Instant::now();
        let task = match harmed {
            Some(_) => packets_task(arguments, Some(container.clone())),
            None => agent::Task { arguments, network_of: Some(container.clone()), capabilities: &["NET_ADMIN"], ..agent::Task::default() },
        };
        self.hold(task).await?;
        if let Some(asker) = asker {
            return self.silence(asker, began).await;
        }
        let Some((question, before)) = question else {
            return Ok(not_seen("it did not answer before the fault either, so the effect cannot be observed"));
        };
        Ok(match expected {
            ExpectedEffect::NoAnswer => self.no_answer(&question, before, began).await,
            ExpectedEffect::Slower(least) => self.slower(&question, before, *least, began).await,
            // A process on the host connects from the host.
            ExpectedEffect::NoAnswerWithin(_) => self.no_answer(&question, before, began).await,
            ExpectedEffect::Thin(rate) => match question.long(*rate) {
                Some(long) if long.takes_at(*rate) >= CLEARLY => self.slower(&long, before, long.takes_at(*rate), began).await,
                _ => self.hit(&question, began).await,
            },
            ExpectedEffect::Effect if network.toxic.is_some() || network.packets.is_some() => self.hit(&question, began).await,
            ExpectedEffect::Effect | ExpectedEffect::Ended | ExpectedEffect::NoNames => self.by_chance(&question, before, began).await,
        })
    }

    async fn rule(&self, rule: &Rule, container: &str) -> Result<Vec<String>, ApiError> {
        let mut words = vec![
            match rule.hook {
                RuleHook::Input => "in",
                RuleHook::Output => "out",
            }
            .to_owned(),
        ];
        let attachments = self.engine().attachments(container).await.map_err(|error| failed(error.to_string()))?;
        let own = attachments.first().ok_or_else(|| failed(format!("{} is not connected to a network", self.service.name)))?;
        let gateway = || own.gateway.ok_or_else(|| failed("the network has no gateway, so there is no traffic from the host"));
        match &rule.peer {
            Peer::Anybody => {}
            Peer::Host => words.push(format!("peer={}/32", gateway()?)),
            Peer::Services => {
                words.push(format!("peer={}/{}", own.address, own.prefix));
                if let Some(gateway) = own.gateway {
                    words.push(format!("not-peer={gateway}/32"));
                }
            }
            Peer::Service(name) => {
                let status = self.faults.site.handle.status();
                let peer =
                    status.services.iter().find(|service| service.name == name.as_str()).and_then(|service| service.container.clone());
                let address = match peer {
                    Some(peer) => self
                        .engine()
                        .attachments(&peer)
                        .await
                        .map_err(|error| failed(error.to_string()))?
                        .first()
                        .map(|attachment| attachment.address),
                    // A process on the host connects from there.
                    None => Some(gateway()?),
                };
                let address = address.ok_or_else(|| failed(format!("{name} is not running, so it has no address")))?;
                words.push(format!("peer={address}/32"));
            }
            Peer::Resolver => words.push("resolver".to_owned()),
        }
        words.extend(rule.connecting.map(|new| if new { "new" } else { "old" }.to_owned()));
        if let Some(chance) = rule.chance {
            words.push(format!("chance={}", (chance * 100.0).round()));
            if rule.by_connection {
                words.push(format!("seed={}", self.entry.spec.seed as u32));
            }
        }
        let verdict = match rule.verdict {
            Verdict::Drop => "drop",
            Verdict::Reject => "reject",
        };
        let with = |port: Option<&u16>| {
            let port = port.map(|port| format!(",port={port}")).unwrap_or_default();
            format!("--rule={}{port},{verdict}", words.join(","))
        };
        Ok(if rule.ports.is_empty() { vec![with(None)] } else { rule.ports.iter().map(|port| with(Some(port))).collect() })
    }

    async fn slower(&self, question: &Question, before: Duration, least: Duration, began: Instant) -> Witness {
        let mut last = String::new();
        while began.elapsed() < SIGN.max(least * 3) {
            match question.ask(least * 4 + Duration::from_secs(2)).await {
                ProbeOutcome::Answer(time) if time >= before + least * 4 / 5 => {
                    return seen(format!("an answer takes {}, before the fault {}", milliseconds(time), milliseconds(before)), began);
                }
                heard => last = heard.to_string(),
            }
        }
        not_seen(format!("{last}; before, an answer took {}", milliseconds(before)))
    }

    /// The fault agent reports when the first affected connection or packet has been seen.
    async fn hit(&self, question: &Question, began: Instant) -> Witness {
        let name = agent::name(&self.record, &self.entry.fault.id);
        for _ in 0..TRIES {
            let heard = question.ask(Duration::from_millis(300)).await;
            if agent::has_hit(self.engine(), &name).await {
                return seen(format!("it occurred during a request: {heard}"), began);
            }
        }
        not_seen(format!("it did not occur in {TRIES} requests"))
    }

    async fn by_chance(&self, question: &Question, before: Duration, began: Instant) -> Witness {
        let late = PATIENCE.max(before * 3);
        for tries in 1..=TRIES {
            match question.ask(late).await {
                ProbeOutcome::Answer(time) if time < Duration::from_millis(180).max(before * 3) => {}
                heard => return seen(format!("attempt {tries}: {heard}; before, an answer took {}", milliseconds(before)), began),
            }
        }
        not_seen(format!("all {TRIES} attempts were answered as before"))
    }
}

/// Connections that bypass the proxy are reset, at the next packet in either direction and as long as the fault
/// lasts: an idle connection would survive a single reset. Connections of the proxy use its port,
/// and the proxy connects to the service over loopback. Only IPv4 is redirected to the proxy, so only that is reset.
fn resets(ports: &[u16]) -> impl Iterator<Item = String> {
    ports.iter().flat_map(|port| ["in", "out"].map(|way| format!("--rule={way},old,peer=0.0.0.0/0,port={port},reject")))
}

/// With the capability that a fault agent needs to get at packets.
fn packets_task(arguments: Vec<String>, network_of: Option<String>) -> agent::Task {
    let (capabilities, devices) = (&["NET_ADMIN", "NET_RAW"], &["/dev/net/tun"]);
    agent::Task { arguments, network_of, capabilities, devices, ..agent::Task::default() }
}

impl Faults {
    /// Whether the engine's kernel can queue packets to a program: tried in a namespace without traffic.
    pub(in crate::faults) async fn check_packets(&self, record: &Record, spec: &FaultSpec) -> Result<(), ApiError> {
        let id = format!("{}-rehearsal", spec.id);
        let arguments = ["network", "--table=devenv-rehearsal", "--packets=device=lo,chance=0", "--ttl-ms=10000"].map(str::to_owned);
        let (tried, _) = self.run_agent(record, &spec.service, &id, packets_task(arguments.to_vec(), None)).await;
        tried.map(drop).map_err(|error| {
            failed(format!("`{}` cannot be injected here: {error}", spec.fault)).hint("run `devenv doctor` to see what packet faults need")
        })
    }
}

fn packets(packets: &Packets) -> String {
    let mut words = vec![match packets.packet_fault {
        PacketFault::Duplicate => "duplicate".to_owned(),
        PacketFault::Corrupt => "corrupt".to_owned(),
        PacketFault::Reorder(delay) => format!("reorder={}", delay.as_micros()),
    }];
    words.extend(packets.ports.iter().map(|port| format!("port={port}")));
    words.push(format!("chance={}", (packets.chance * 100.0).round()));
    words.push(format!("seed={}", packets.seed));
    format!("--packets={}", words.join(","))
}

fn proxy(toxic: &Toxic) -> String {
    let mut words: Vec<String> = toxic.ports.iter().map(|port| format!("port={port}")).collect();
    let counters = [
        ("delay-up", toxic.delay_up),
        ("delay-down", toxic.delay_down),
        ("jitter-up", toxic.jitter_up),
        ("jitter-down", toxic.jitter_down),
        ("rate-up", toxic.rate_up),
        ("rate-down", toxic.rate_down),
        ("limit-up", toxic.limit_up),
        ("limit-down", toxic.limit_down),
        ("hole-up", u64::from(toxic.hole_up)),
        ("hole-down", u64::from(toxic.hole_down)),
        ("close-delay", toxic.close_delay),
    ];
    words.extend(counters.iter().filter(|(_, count)| *count > 0).map(|(name, count)| format!("{name}={count}")));
    words.push(format!("chance={}", (toxic.chance * 100.0).round()));
    words.push(format!("seed={}", toxic.seed));
    format!("--proxy={}", words.join(","))
}
