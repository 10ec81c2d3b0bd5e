//! Faults take effect where they should, only there, and come back only if requested.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    clients::redis,
    corner::{Corner, docker, named},
};

const SERVICES: &str = r#"
  cache:
    redis: { persistence: { aof: everysec } }
  other:
    redis: { persistence: { aof: never, rdb: never } }
"#;

/// A connection that stays open, with the duration of its requests.
struct Line(BufReader<TcpStream>);

impl Line {
    fn to(corner: &Corner) -> Self {
        let port = corner.variable("CACHE_PORT").parse().unwrap();
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut line = Self(BufReader::new(stream));
        assert_eq!(line.ask(&format!("AUTH default {}", corner.variable("CACHE_PASSWORD"))).unwrap(), "+OK");
        line
    }

    fn ask(&mut self, words: &str) -> std::io::Result<String> {
        self.0.get_mut().write_all(format!("{words}\r\n").as_bytes())?;
        let mut answer = String::new();
        match self.0.read_line(&mut answer)? {
            0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(answer.trim_end().to_owned()),
        }
    }

    /// Makes the server send this many bytes, which must arrive unchanged.
    fn load(&mut self, bytes: usize) {
        self.ask(&format!("SETRANGE load {} x", bytes - 1)).unwrap();
        assert_eq!(self.ask("GET load").unwrap(), format!("${bytes}"));
        let mut value = vec![1; bytes + 2];
        self.0.read_exact(&mut value).unwrap();
        assert!(value[..bytes - 1].iter().all(|byte| *byte == 0) && value.ends_with(b"x\r\n"));
    }

    /// Of several requests: any one may be slow because of what else the machine does.
    fn quickest(&mut self) -> Duration {
        (0..5).map(|_| self.time()).min().unwrap()
    }

    fn time(&mut self) -> Duration {
        let began = Instant::now();
        assert_eq!(self.ask("PING").unwrap(), "+PONG");
        began.elapsed()
    }
}

fn inject(corner: &Corner, line: &[&str]) -> Value {
    let fault = corner.json(&[&["chaos", "inject"], line].concat());
    assert_eq!(fault["witness"]["observed"], true, "{fault}");
    fault
}

#[test]
fn all_connections_means_those_too_that_are_idle_while_the_fault_comes() {
    let corner = Corner::with(SERVICES);
    corner.up("test");
    let (mut kept, mut idle) = (Line::to(&corner), Line::to(&corner));
    inject(&corner, &["latency", "cache", "--for", "60s", "--set", "delay=1s", "--set", "connections=new"]);
    assert!(kept.quickest() < Duration::from_millis(900), "a connection that was there is to be left alone");
    corner.ok(&["chaos", "heal"]);

    inject(&corner, &["latency", "cache", "--for", "60s", "--set", "delay=1s", "--set", "connections=all"]);
    assert!(idle.ask("PING").is_err(), "an idle connection got past the proxy");
    assert!(Line::to(&corner).time() >= Duration::from_secs(1));
    corner.ok(&["chaos", "heal"]);
    assert!(Line::to(&corner).quickest() < Duration::from_millis(900));

    let none = corner.devenv(&[
        "chaos",
        "inject",
        "latency",
        "cache",
        "--for",
        "60s",
        "--set",
        "delay=1s",
        "--set",
        "probability=0%",
        "--set",
        "connections=all",
        "--json",
    ]);
    assert_eq!(none.expect(1).json()["witness"]["observed"], false);
    assert!(kept.quickest() < Duration::from_millis(900), "what happens to no connection happened to this one");
    corner.ok(&["chaos", "heal"]);
}

#[test]
fn an_effect_that_only_another_service_or_the_target_can_see_is_observed_from_there() {
    let corner = Corner::with(SERVICES);
    corner.up("test");
    let cut = inject(&corner, &["partition", "cache", "--for", "60s", "--set", "from=other"]);
    let message = cut["witness"]["what"].as_str().unwrap();
    assert!(message.starts_with("from other: no answer within"), "{message}");
    assert_eq!(redis(&corner.variable("CACHE_URL"), &["PING"]), "PONG", "the host suffers too");
    let names = inject(&corner, &["dns", "cache", "--for", "60s"]);
    assert!(names["witness"]["what"].as_str().unwrap().starts_with("from cache: the request was blocked by the firewall"), "{names}");
    corner.ok(&["chaos", "heal"]);
    let thin = inject(&corner, &["bandwidth", "cache", "--for", "60s", "--set", "rate=16KiB/s"]);
    assert!(thin["witness"]["what"].as_str().unwrap().starts_with("an answer takes"), "{thin}");
    corner.ok(&["chaos", "heal"]);
    assert_eq!(corner.json(&["chaos", "status"])["faults"], serde_json::json!([]));
}

#[test]
fn a_fault_that_persists_is_there_again_after_its_target_restarted_and_another_is_not() {
    let corner = Corner::with(SERVICES);
    corner.up("test");
    inject(&corner, &["latency", "cache", "--for", "90s", "--set", "delay=1s", "--set", "persist=true"]);
    corner.ok(&["restart", "cache"]);
    corner.until("it is there again", 30, || (corner.count("cache", "fault.injected-again") == 1).then_some(()));
    assert!(Line::to(&corner).time() >= Duration::from_secs(1));
    corner.ok(&["chaos", "heal"]);

    inject(&corner, &["latency", "cache", "--for", "90s", "--set", "delay=1s"]);
    corner.ok(&["restart", "cache"]);
    corner.until("it is over", 30, || corner.json(&["chaos", "status"])["faults"].as_array().unwrap().is_empty().then_some(()));
    assert!(Line::to(&corner).quickest() < Duration::from_millis(900));
}

#[test]
fn the_daemon_s_own_death_is_witnessed_by_the_next_one() {
    let corner = Corner::with(SERVICES);
    let before = corner.up("test");
    let daemon = corner.json(&["daemon", "status"])["pid"].clone();
    let death = inject(&corner, &["daemon-death", "cache"]);
    assert!(death["healed_at"].is_string(), "{death}");
    assert_ne!(corner.json(&["daemon", "status"])["pid"], daemon);
    let container = named(&before, "cache")["container"].as_str().unwrap().to_owned();
    assert_eq!(docker(&["inspect", "-f", "{{.State.Running}}", &container]).expect(0).stdout.trim(), "true");
}

/// A counter of this machine's TCP, which receives what services send: from `/proc/net/snmp` or `netstat`.
fn counted(name: &str) -> u64 {
    let text = ["snmp", "netstat"].map(|file| std::fs::read_to_string(format!("/proc/net/{file}")).unwrap()).concat();
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    let find = |pair: &[Vec<&str>]| {
        let at = pair[0].iter().position(|word| *word == name).filter(|_| ["Tcp:", "TcpExt:"].contains(&pair[0][0]))?;
        Some(pair[1][at].parse().unwrap())
    };
    lines.chunks(2).find_map(find).unwrap_or_else(|| panic!("no counter {name}"))
}

#[test]
fn packets_are_spoilt_on_their_way_and_no_longer_than_their_holder_lives() {
    const BYTES: usize = 8_000_000;
    let corner = Corner::with(SERVICES);
    corner.up("test");
    let mut line = Line::to(&corner);
    let mut counts = |name: &str| {
        let before = counted(name);
        line.load(BYTES);
        counted(name) - before
    };
    for (fault, counter) in [("corrupt", "InCsumErrors"), ("duplicate", "TCPDSACKOldSent"), ("reorder", "TCPOFOQueue")] {
        let id = inject(&corner, &[fault, "cache", "--for", "60s"])["id"].as_str().unwrap().to_owned();
        assert!(counts(counter) > 100, "{fault}: every tenth of thousands of packets is to be one");
        // Silently, as in a crash.
        let holder = docker(&["ps", "-q", "--filter", &format!("name=-fault-{id}")]).expect(0).stdout;
        docker(&["kill", holder.trim()]).expect(0);
        let after = counts(counter);
        assert!(after < 100, "{fault}: {after} packets after its holder is gone");
        corner.ok(&["chaos", "heal"]);
    }
}

const FILLING: &str = "description: Records arrive while a topic fills
profile: test
seed: 1
deadline: 120s
workload:
  records: { kafka-records: { service: events, clients: 2, rate: 50/s } }
timeline:
  - { id: full, at: 1s, for: 2s, fault: kafka-fill, on: events, set: { bytes: 4MiB } }
checks:
  records.lost: { max: 0 }
  records.unexpected: { max: 0 }
";

#[test]
fn a_workload_and_a_fault_reach_a_broker_that_asks_for_passwords() {
    let corner = Corner::with("  events:\n    kafka: { auth: scram }\n");
    std::fs::create_dir_all(corner.project().join("chaos")).unwrap();
    std::fs::write(corner.project().join("chaos/filling.yaml"), FILLING).unwrap();
    corner.up("test");
    let report = corner.devenv(&["chaos", "run", "filling", "--json"]).expect(0).json();
    assert_eq!(report["verdict"], "pass", "{report}");
    assert!(report["workloads"][0]["acknowledged"].as_u64().is_some_and(|count| count > 50), "{report}");
}
