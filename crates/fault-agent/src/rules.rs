//! Translates rules in text form to the firewall's expressions.
//!
//! A rule is a list of words with commas between: `in,peer=172.20.0.1/32,port=6379,new,chance=3000,seed=7,drop`.

use std::{net::Ipv4Addr, os::fd::OwnedFd};

use crate::{
    expression::{
        EQUAL, LESS, NOT_EQUAL, REGISTER, TCP, UDP, bitwise, compare, expression, in_network_order, interface, meta, transport, verdict,
    },
    netlink::{Batch, Hook, INET, attribute, nested, number},
    packets, proxy,
};

const IN: Hook<'_> = Hook { chain: "in", kind: "filter", number: 1, priority: -200, device: None };
const OUT: Hook<'_> = Hook { chain: "out", kind: "filter", number: 3, priority: -200, device: None };
/// Before the engine redirects queries to its resolver.
const OUT_EARLY: Hook<'_> = Hook { chain: "out", kind: "filter", number: 3, priority: -350, device: None };
const REDIRECT: Hook<'_> = Hook { chain: "redirect", kind: "nat", number: 0, priority: -100, device: None };

/// The table of the rules, and its state.
pub struct Held {
    _tables: Vec<OwnedFd>,
}

/// Sets everything up; `rest` contains the `--rule=…` and the proxy's options.
pub fn hold(table: &str, rest: &[String]) -> Result<Held, String> {
    let mut batch = Batch::new(table, INET);
    let rules: Vec<Vec<&str>> =
        rest.iter().filter_map(|argument| argument.strip_prefix("--rule=")).map(|rule| rule.split(',').collect()).collect();
    let resolver = rules.iter().any(|words| words.contains(&"resolver"));
    if rules.iter().any(|words| words[0] == "in") {
        batch.chain(IN);
    }
    if rules.iter().any(|words| words[0] == "out") {
        batch.chain(if resolver { OUT_EARLY } else { OUT });
    }
    for words in &rules {
        for expressions in expressions(words)? {
            batch.rule(words[0], &expressions);
        }
    }
    if let Some(options) = proxy::Options::parse(rest)? {
        let port = proxy::serve(&options)?;
        batch.chain(REDIRECT);
        for target in &options.ports {
            let mut parts = vec![meta(6), compare(NOT_EQUAL, &interface("lo"))];
            // Only connections of this family can be asked for their original destination.
            parts.extend([meta(15), compare(EQUAL, &[2])]);
            parts.extend([meta(16), compare(EQUAL, &[TCP]), transport(2, 2), compare(EQUAL, &target.to_be_bytes())]);
            parts.push(expression("immediate", &[number(1, REGISTER), nested(2, &[attribute(1, &port.to_be_bytes())])]));
            parts.push(expression("redir", &[number(1, REGISTER)]));
            batch.rule(REDIRECT.chain, &parts);
        }
    }
    let mut tables = vec![batch.apply()?];
    if let Some(options) = packets::Options::parse(rest)? {
        tables.push(packets::divert(table, options)?);
    }
    Ok(Held { _tables: tables })
}

/// A rule in text form is one or more of the firewall's: `reject` answers TCP differently from other packets.
fn expressions(words: &[&str]) -> Result<Vec<Vec<Vec<u8>>>, String> {
    let incoming = words[0] == "in";
    let value = |name: &str| words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let setting =
        |name: &str| value(name).map(|text| text.parse::<u32>().map_err(|_| format!("`{name}={text}` is not a number"))).transpose();
    let mut common = Vec::new();
    if words.contains(&"resolver") {
        // The engine's resolver is at 127.0.0.11, within the namespace.
        return Ok([UDP, TCP]
            .into_iter()
            .map(|protocol| vec![meta(16), compare(EQUAL, &[protocol]), transport(2, 2), compare(EQUAL, &53u16.to_be_bytes()), verdict(0)])
            .collect());
    }
    // Traffic of the service with itself is not part of the network.
    common.extend([meta(if incoming { 6 } else { 7 }), compare(NOT_EQUAL, &interface("lo"))]);
    for (name, operator) in [("peer", EQUAL), ("not-peer", NOT_EQUAL)] {
        let Some(peer) = value(name) else { continue };
        let (address, bits) = network(peer)?;
        common.extend([meta(15), compare(EQUAL, &[2])]);
        common.push(expression("payload", &[number(1, REGISTER), number(2, 1), number(3, if incoming { 12 } else { 16 }), number(4, 4)]));
        let mask = if bits == 0 { 0 } else { u32::MAX << (32 - bits) };
        common.push(bitwise(&mask.to_be_bytes()));
        common.push(compare(operator, &(u32::from(address) & mask).to_be_bytes()));
    }
    let port = setting("port")?;
    let tcp_only = port.is_some() || words.contains(&"new") || words.contains(&"old");
    if tcp_only {
        common.extend([meta(16), compare(EQUAL, &[TCP])]);
    }
    if let Some(port) = port {
        common.extend([transport(if incoming { 2 } else { 0 }, 2), compare(EQUAL, &(port as u16).to_be_bytes())]);
    }
    if words.contains(&"new") || words.contains(&"old") {
        // SYN without ACK is an attempt to connect.
        common.extend([transport(13, 1), bitwise(&[0x12]), compare(if words.contains(&"new") { EQUAL } else { NOT_EQUAL }, &[0x02])]);
    }
    if words.contains(&"old") && !incoming {
        // The answer to an attempt, and our own resets, pass.
        common.extend([transport(13, 1), bitwise(&[0x04]), compare(EQUAL, &[0])]);
        common.extend([transport(13, 1), bitwise(&[0x12]), compare(NOT_EQUAL, &[0x12])]);
    }
    if let Some(chance) = setting("chance")? {
        match setting("seed")? {
            // The same for every packet of a connection, identified by the client's port.
            Some(seed) => {
                common.push(transport(if incoming { 0 } else { 2 }, 2));
                common.push(expression(
                    "hash",
                    &[number(1, REGISTER), number(2, REGISTER), number(3, 2), number(4, 10_000), number(5, seed), number(7, 0)],
                ));
            }
            None => common.push(expression("numgen", &[number(1, REGISTER), number(2, 10_000), number(3, 1)])),
        }
        common.push(in_network_order());
        common.push(compare(LESS, &chance.to_be_bytes()));
    }
    let with = |parts: &[Vec<u8>]| [common.clone(), parts.to_vec()].concat();
    let reset = expression("reject", &[number(1, 1)]);
    let unreachable = expression("reject", &[number(1, 2), attribute(2, &[1])]);
    match words.last() {
        Some(&"drop") => Ok(vec![with(&[verdict(0)])]),
        Some(&"reject") if tcp_only => Ok(vec![with(&[reset])]),
        Some(&"reject") => {
            let mut tcp = vec![meta(16), compare(EQUAL, &[TCP])];
            if !incoming {
                // Our own resets to the other side go out this way.
                tcp.extend([transport(13, 1), bitwise(&[0x04]), compare(EQUAL, &[0])]);
            }
            tcp.push(reset);
            Ok(vec![with(&tcp), with(&[meta(16), compare(EQUAL, &[UDP]), unreachable])])
        }
        other => Err(format!("`{other:?}` is not a verdict")),
    }
}

fn network(text: &str) -> Result<(Ipv4Addr, u32), String> {
    let (address, bits) = text.split_once('/').unwrap_or((text, "32"));
    let wrong = || format!("`{text}` is not a network");
    let bits: u32 = bits.parse().map_err(|_| wrong())?;
    if bits > 32 {
        return Err(wrong());
    }
    Ok((address.parse().map_err(|_| wrong())?, bits))
}
