//! Real servers that sleep: the first query wakes them, and none is lost.
#![expect(clippy::print_stderr, reason = "measurements, shown with --nocapture")]

use std::{
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    clients::{patient_redis as redis, sql, try_sql},
    corner::Corner,
    prometheus::asked,
};

/// Wakes of each server in each mode.
const WAKES: usize = 25;

fn profile(sleep: &str) -> String {
    // A corner's profile begins with its services.
    format!("  db:\n    postgres: {{ databases: {{ orders: {{ owner: orders }} }} }}\n  cache:\n    redis: {{}}\nsleep: {sleep}\n")
}

fn state(corner: &Corner, service: &str) -> String {
    let status = corner.json(&["status"]);
    let services = status["services"].as_array().unwrap();
    let found = services.iter().find(|known| known["name"] == service).unwrap();
    found["state"].as_str().unwrap().to_owned()
}

#[test]
fn the_first_query_wakes_a_server_and_is_answered() {
    for mode in ["freeze", "stop"] {
        let corner = Corner::with(&profile(&format!("{{ mode: {mode} }}")));
        corner.up("test");
        let (orders, cache) = (corner.variable("DB_ORDERS_URL"), corner.variable("REDIS_URL"));
        sql(&orders, "create table kept (x int); insert into kept values (7)");
        redis(&cache, &["SET", "k", "v"]);
        let (mut queries, mut questions) = (Vec::new(), Vec::new());
        for _ in 0..WAKES {
            let slept = corner.json(&["sleep"]);
            assert_eq!(slept["phase"], "asleep", "{slept}");
            // The clients are in this process, which is not the daemon.
            let began = Instant::now();
            assert_eq!(sql(&orders, "select x from kept"), ["7"], "{mode}");
            queries.push(began.elapsed());
            assert_eq!((state(&corner, "db"), state(&corner, "cache")), ("ready".to_owned(), "asleep".to_owned()), "{mode}");
            let began = Instant::now();
            assert_eq!(redis(&cache, &["GET", "k"]), "v", "{mode}");
            questions.push(began.elapsed());
        }
        eprintln!("{mode}: first query of PostgreSQL {}, of Redis {}", shown(&mut queries), shown(&mut questions));
        corner.ok(&["sleep"]);
        corner.ok(&["daemon", "stop"]);
        let status: Value = corner.json(&["status"]);
        assert_eq!(status["phase"], "asleep", "the next daemon leaves it asleep");
        assert_eq!(sql(&orders, "select x from kept"), ["7"], "{mode}");
        corner.ok(&["sleep"]);
        corner.kill_daemon();
        let status: Value = corner.json(&["status"]);
        assert_eq!(status["phase"], "asleep", "so does one after a daemon that was killed");
        assert_eq!(redis(&cache, &["GET", "k"]), "v", "{mode}");
        assert_eq!(sql(&orders, "select x from kept"), ["7"], "{mode}");
        corner.ok(&["sleep"]);
        corner.ok(&["up", "test"]);
        assert_eq!(corner.variable("DB_ORDERS_URL"), orders, "the ports that the daemon holds itself are kept");
        corner.ok(&["sleep"]);
        assert!(corner.ok(&["exec", "cache", "--", "echo", "hello"]).contains("hello"), "{mode}");
    }
}

#[test]
fn servers_fall_asleep_when_nobody_uses_them_while_their_probes_and_metrics_go_on() {
    let corner = Corner::with(&profile("{ after: 3s }"));
    corner.up("test");
    let late = Instant::now() + Duration::from_mins(2);
    while corner.json(&["status"])["phase"] != "asleep" {
        assert!(Instant::now() < late, "it stays awake: {}", corner.json(&["status"]));
        thread::sleep(Duration::from_millis(200));
    }
    let woken = corner.count("db", "service.wakes");
    thread::sleep(Duration::from_secs(5));
    assert_eq!(corner.count("db", "service.wakes"), woken, "probes and metrics wake nothing");
    assert_eq!(sql(&corner.variable("DB_ORDERS_URL"), "select 1"), ["1"]);
}

/// The wake goes on in the next daemon; only who was connected to the one that was killed must connect again.
#[test]
fn a_daemon_that_is_killed_while_a_service_wakes_leaves_the_rest_to_the_next_one() {
    for mode in ["freeze", "stop"] {
        let corner = Corner::with(&profile(&format!("{{ mode: {mode} }}")));
        corner.up("test");
        let orders = corner.variable("DB_ORDERS_URL");
        sql(&orders, "create table kept (x int); insert into kept values (7)");
        for pause in [0, 5, 20, 60, 150, 400] {
            corner.ok(&["sleep"]);
            let client = thread::spawn({
                let orders = orders.clone();
                move || try_sql(&orders, "select x from kept")
            });
            // Somewhere before, in or after the wake, whatever else the machine does.
            thread::sleep(Duration::from_millis(pause));
            corner.kill_daemon();
            // Served before, or cut off: it does not wait for a daemon that is no more.
            if let Ok(rows) = client.join().unwrap() {
                assert_eq!(rows, ["7"], "{mode}, killed after {pause} ms");
            }
            corner.ok(&["status"]);
            assert_eq!(sql(&orders, "select x from kept"), ["7"], "{mode}, killed after {pause} ms");
            assert_eq!(state(&corner, "db"), "ready", "{mode}, killed after {pause} ms");
        }
        corner.ok(&["wait"]);
        assert_eq!(corner.variable("DB_ORDERS_URL"), orders);
    }
}

#[test]
fn scrapes_of_prometheus_keep_no_server_awake_and_wake_none() {
    let corner = Corner::with(
        "  db:\n    sleep: { after: 3s }\n    postgres: { databases: { orders: { owner: orders } } }\n  \
         cache:\n    sleep: { after: 3s, mode: freeze }\n    redis: {}\n  metrics:\n    prometheus: {}\n",
    );
    corner.up("test");
    let prometheus = corner.variable("PROMETHEUS_URL");
    for job in ["db", "cache"] {
        let up = format!("up{{job=\"{job}\"}} == 1");
        // It may have fallen asleep before the first scrape.
        corner.until(&up, 60, || {
            corner.ok(&["wake"]);
            asked(&prometheus, &up)
        });
    }
    corner.until("both sleep", 60, || (state(&corner, "db") == "asleep" && state(&corner, "cache") == "asleep").then_some(()));
    let woken = || ["db", "cache"].map(|service| corner.count(service, "service.wakes"));
    let (before, scraped) = (woken(), asked(&prometheus, SCRAPES).unwrap_or_default());
    corner.until("more scrapes", 60, || asked(&prometheus, SCRAPES).filter(|now| *now >= scraped + 3.0));
    assert_eq!((woken(), state(&corner, "db"), state(&corner, "cache")), (before, "asleep".to_owned(), "asleep".to_owned()));
    assert_eq!(state(&corner, "metrics"), "ready");
    assert_eq!(sql(&corner.variable("DB_ORDERS_URL"), "select 1"), ["1"]);
}

#[test]
fn over_the_budget_for_memory_sleeps_what_nobody_uses_and_nothing_else() {
    let corner = Corner::with("  cache:\n    sleep: {}\n    redis: {}\n");
    // For the daemon, which this command starts.
    corner.devenv_with_variables(&["up", "test"], &[("DEVENV_MEMORY_BUDGET", "1MiB".to_owned())]).expect(0);
    corner.ok(&["up", "test", "--instance", "other"]);
    let phase = |instance: &str| corner.json(&["status", "--instance", instance])["phase"].as_str().unwrap().to_owned();
    let port = corner.service("cache")["ports"][0]["host"].as_u64().unwrap();
    // A client that is connected and silent, as a pool may be.
    let client = TcpStream::connect(("127.0.0.1", u16::try_from(port).unwrap())).unwrap();
    corner.until("the unused environment sleeps", 90, || (phase("other") == "asleep").then_some(()));
    assert_eq!(phase("default"), "ready", "a client is connected to it");
    drop(client);
    corner.until("the other one sleeps, once it is unused", 90, || (phase("default") == "asleep").then_some(()));
}

/// How often Prometheus has scraped `db`, within its last hour.
const SCRAPES: &str = "count_over_time(up{job=\"db\"}[1h])";

fn shown(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() * share / 100).min(times.len() - 1)].as_millis();
    format!("median {} ms, p95 {} ms, max {} ms", at(50), at(95), at(100))
}
