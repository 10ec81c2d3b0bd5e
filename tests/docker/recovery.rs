//! Killed services are restarted, and a killed daemon is replaced by one that takes over.

use crate::{
    clients::{redis, sql, try_sql},
    corner::{Corner, containers, docker, named},
};

const WORKERS: &str = r#"
  cache:
    redis: {}
  db:
    depends_on: { cache: ready }
    postgres: {}
  worker:
    depends_on: { cache: ready }
    process: { command: [sleep, "86400"] }
"#;

#[test]
fn a_killed_service_comes_back_and_dependants_that_want_it_restart_once() {
    let corner = Corner::with(WORKERS);
    let before = corner.up("test");
    let worker = named(&before, "worker")["pid"].clone();
    docker(&["kill", named(&before, "cache")["container"].as_str().unwrap()]).expect(0);
    let cache = corner.until("the cache is back", 20, || {
        Some(corner.service("cache")).filter(|cache| cache["state"] == "ready" && cache["restarts"] == 1)
    });
    assert_eq!(redis(&corner.variable("REDIS_URL"), &["PING"]), "PONG");
    corner.until("the worker is another process", 20, || {
        Some(corner.service("worker")).filter(|now| now["state"] == "ready" && now["pid"] != worker)
    });
    corner.ok(&["wait", "--timeout", "2m"]);

    assert_eq!(corner.count("worker", "service.restart-due"), 1);
    assert_eq!(corner.count("worker", "service.started"), 2, "{}", corner.ok(&["events"]));
    // A database client reconnects; the kind's default is to leave it alone.
    assert_eq!(corner.count("db", "service.started"), 1);
    let message = corner.ok(&["why", "cache"]);
    assert!(message.contains("137") || message.contains("SIGKILL"), "{message}\n{cache}");
    let why = corner.ok(&["why", "worker"]);
    assert!(why.contains("cache"), "{why}");
}

#[test]
fn after_a_killed_daemon_the_next_adopts_running_services_and_repairs_the_others() {
    let corner = Corner::with(WORKERS);
    let before = corner.up("test");
    corner.kill_daemon();
    let after = corner.json(&["status"]);
    assert_eq!(containers(&after), containers(&before));
    assert_eq!(named(&after, "worker")["pid"], named(&before, "worker")["pid"]);
    corner.until("ready again", 10, || (corner.json(&["status"])["phase"] == "ready").then_some(()));
    assert_eq!(corner.count("cache", "service.started"), 1);

    corner.kill_daemon();
    docker(&["kill", named(&before, "cache")["container"].as_str().unwrap()]).expect(0);
    corner.until("mended by the next one", 20, || (corner.json(&["status"])["phase"] == "ready").then_some(()));
    assert_eq!(redis(&corner.variable("REDIS_URL"), &["PING"]), "PONG");
}

#[test]
fn a_restarted_database_is_ready_when_its_client_gets_in_and_gets_back_what_was_changed_by_hand() {
    let corner = Corner::with(
        r#"
  db:
    postgres: { databases: { app: { owner: app }, audit: { owner: audit } } }
"#,
    );
    corner.up("test");
    let (app, audit) = (corner.variable("DB_APP_URL"), corner.variable("DB_AUDIT_URL"));
    sql(&audit, "ALTER ROLE audit PASSWORD 'changed by hand'");
    corner.ok(&["restart", "db"]);
    assert_eq!(sql(&app, "SELECT 1"), ["1"]);
    corner.until("the password is the declared one again", 30, || try_sql(&audit, "SELECT 1").ok());
    corner.until("it is reported", 30, || corner.ok(&["events"]).contains("password of the role `audit`").then_some(()));
    assert_ready_before_it_was_checked(&corner);

    // The client whose success is the proof: it is never ready before that gets in.
    sql(&app, "ALTER ROLE app PASSWORD 'changed by hand'");
    corner.ok(&["restart", "db"]);
    assert_eq!(sql(&app, "SELECT 1"), ["1"]);
}

#[test]
fn a_restarted_mariadb_is_ready_when_its_client_gets_in() {
    let corner = Corner::with(
        r#"
  db:
    mariadb: { databases: { app: { owner: app }, audit: { owner: audit } } }
"#,
    );
    corner.up("test");
    corner.ok(&["restart", "db"]);
    assert_ready_before_it_was_checked(&corner);
}

/// The last start waited for the client's login alone.
fn assert_ready_before_it_was_checked(corner: &Corner) {
    let events = corner.lines(&["events"]);
    let last = events.iter().rev().find(|event| event["kind"] == "service.ready").unwrap();
    let phases: Vec<&str> = last["data"]["phases"].as_array().unwrap().iter().filter_map(|part| part["phase"].as_str()).collect();
    assert!(phases.contains(&"answered") && !phases.contains(&"provisioned"), "{last}");
}

#[test]
fn logs_are_kept_over_restarts_and_recreations() {
    let corner = Corner::new();
    corner.up("data");
    corner.ok(&["restart", "cache"]);
    corner.ok(&["down"]);
    corner.up("data");
    let runs: std::collections::BTreeSet<u64> = corner.lines(&["logs", "cache"]).iter().map(|line| line["run"].as_u64().unwrap()).collect();
    assert_eq!(Vec::from_iter(runs), [1, 2, 3]);
}
