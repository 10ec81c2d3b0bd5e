//! Test runs: their environment, what they leave, and what is removed when unused.

use std::{fs, process::Command};

use serde_json::Value;

use crate::{
    clients::{sql, try_sql},
    corner::{Corner, docker},
};

const SERVICES: &str = "  db: { postgres: { databases: { app: { owner: app } } } }\n  cache: { redis: { databases: 16 } }\n";

#[test]
fn a_lease_outlives_a_change_of_the_profile() {
    let corner = Corner::with(SERVICES);
    corner.up("test");
    // The command waits for the change; then the private database must still exist, and a later lease is another one.
    let script = "psql -Xq \"$DATABASE_URL\" -c 'create table mine ()' && touch held && while [ ! -e changed ]; do sleep 0.1; done; \
                  psql -XqAt \"$DATABASE_URL\" -c 'select count(*) from mine'";
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| corner.devenv(&["lease", "--", "sh", "-ec", script]));
        corner.until("the lease is held", 60, || corner.project().join("held").exists().then_some(()));
        corner.rewrite(&SERVICES.replace("app: { owner: app }", "app: { owner: app }, other: { owner: app }"));
        corner.up("test");
        for _ in 0..3 {
            corner.ok(&["lease", "--", "true"]);
        }
        fs::write(corner.project().join("changed"), "").unwrap();
        assert_eq!(holder.join().unwrap().expect(0).stdout.trim(), "0");
    });
}

#[test]
fn no_database_is_leased_twice_when_clients_or_the_daemon_die() {
    let corner = Corner::with(SERVICES);
    corner.up("test");
    let mut seen = std::collections::HashSet::new();
    for round in 0..30 {
        // Some end at once, before or after they have received their lease.
        let kill = format!(
            "psql -XqAt \"$DATABASE_URL\" -c 'create table mine (); select current_database()'; [ {round} -lt 15 ] || kill -KILL $PPID"
        );
        let ended = corner.devenv(&["lease", "--", "sh", "-c", &kill]);
        let name = ended.stdout.trim().to_owned();
        // A table of another lease would be an error.
        assert!(!name.is_empty() && seen.insert(name), "{ended:?}");
    }
}

#[test]
fn neither_a_prepared_transaction_nor_a_reader_of_a_slot_keeps_a_private_database() {
    let corner = Corner::with(
        "  db:\n    postgres:\n      settings: { wal_level: logical, max_prepared_transactions: \"4\" }\n      databases: { app: { owner: app } }\n",
    );
    corner.up("test");
    let container = corner.service("db")["container"].as_str().unwrap().to_owned();
    let superuser = |database: &str, statement: &str| {
        docker(&["exec", "-u", "postgres", &container, "psql", "-XqAt", "-d", database, "-c", statement]).expect(0).stdout.trim().to_owned()
    };
    superuser("app", "select pg_create_logical_replication_slot('shared', 'test_decoding')");
    // A slot cannot be made while a transaction is prepared: the server waits for its end.
    let script = "psql -XqAt \"$DATABASE_URL\" -o held.new -c 'select current_database()' && mv held.new held; \
                  while [ ! -e read ]; do sleep 0.1; done; \
                  psql -Xq \"$DATABASE_URL\" -c 'create table mine ()' -c 'begin; insert into mine default values; prepare transaction $$kept$$'; \
                  touch prepared; while [ ! -e released ]; do sleep 0.1; done";
    std::thread::scope(|scope| {
        let holder = scope.spawn(|| corner.devenv(&["lease", "--", "sh", "-ec", script]));
        let held = corner.project().join("held");
        let name = corner.until("the lease is held", 60, || fs::read_to_string(&held).ok()).trim().to_owned();
        superuser(&name, "select pg_create_logical_replication_slot('leased', 'test_decoding')");
        let read = format!(
            "while pg_recvlogical -d {name} --slot leased --start --no-loop -f /dev/null || [ ! -e /tmp/over ]; do sleep 0.1; done"
        );
        docker(&["exec", "-d", "-u", "postgres", &container, "sh", "-c", &read]).expect(0);
        let active = "select active from pg_replication_slots where slot_name = 'leased'";
        corner.until("the slot is read", 20, || (superuser("postgres", active) == "t").then_some(()));
        fs::write(corner.project().join("read"), "").unwrap();
        corner.until("the transaction is prepared", 20, || corner.project().join("prepared").exists().then_some(()));
        assert_eq!(superuser("postgres", "select gid from pg_prepared_xacts"), "kept");
        fs::write(corner.project().join("released"), "").unwrap();
        holder.join().unwrap().expect(0);
        let left = format!("select count(*) from pg_database where datname = '{name}'");
        corner.until("the database is dropped", 30, || (superuser("postgres", &left) == "0").then_some(()));
    });
    superuser("postgres", "copy (select 1) to '/tmp/over'");
    assert_eq!(superuser("postgres", "select string_agg(slot_name, ' ') from pg_replication_slots"), "shared");
    assert_eq!(superuser("postgres", "select count(*) from pg_prepared_xacts"), "0");
    corner.ok(&["lease", "--", "psql", "-XqAt", "-c", "select 1"]);
}

#[test]
fn a_warm_environment_goes_when_nobody_has_used_it() {
    let corner = Corner::with(SERVICES);
    let instance = "warm-test";
    corner.ok(&["test", "test", "--warm", "--", "sh", "-c", "psql -Xq \"$DATABASE_URL\" -c 'create table mine ()'"]);
    let found = |report: &Value| report["removed"].as_array().unwrap().iter().any(|removed| removed["kind"] == "environment");
    assert!(!found(&corner.json(&["gc"])));
    assert!(found(&corner.json(&["gc", "--idle", "0ms", "--dry-run"])));
    assert_eq!(corner.json(&["status", "--instance", instance])["phase"], "ready");
    // A held lease is in use, however long ago it was granted.
    let holding = format!("touch -d yesterday {}; exec {} gc --idle 1h --json", used(&corner), binary());
    let report: Value = serde_json::from_str(corner.ok(&["lease", "--instance", instance, "--", "sh", "-c", &holding]).trim()).unwrap();
    assert!(!found(&report), "{report}");
    // The lease is released shortly after its command has ended.
    corner.until("the environment goes", 30, || found(&corner.json(&["gc", "--idle", "0ms"])).then_some(()));
    assert!(corner.objects().is_empty(), "{:?}", corner.objects());
}

#[test]
fn an_idle_environment_is_taken_down_and_keeps_its_data() {
    let corner = Corner::with(SERVICES);
    corner.up("test");
    sql(&corner.variable("DATABASE_URL"), "create table kept ()");
    assert!(corner.json(&["gc", "--idle", "1h"])["removed"].as_array().unwrap().is_empty());
    let report = corner.json(&["gc", "--idle", "0ms"]);
    assert!(report["removed"][0]["reason"].as_str().unwrap().contains("with its data kept"), "{report}");
    assert_ne!(corner.json(&["status"])["phase"], "ready");
    corner.up("test");
    assert!(try_sql(&corner.variable("DATABASE_URL"), "select from kept").is_ok());
}

fn used(corner: &Corner) -> String {
    let state = corner.project().parent().unwrap().join("state/environments");
    let mut found = fs::read_dir(state).unwrap().flatten().map(|entry| entry.path().join("used")).filter(|path| path.exists());
    found.next().unwrap().display().to_string()
}

fn binary() -> String {
    std::env::var("DEVENV_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_devenv").to_owned())
}

/// A script of the repository, with the binary under test.
fn script(corner: &Corner, path: &str) {
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let root = corner.project().parent().unwrap().to_owned();
    let ended = Command::new("sh")
        .arg(&file)
        .env("DEVENV_BIN", binary())
        .env("DEVENV_STATE_DIR", root.join("state"))
        .env("DEVENV_RUNTIME_DIR", root.join("run"))
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ended.status.success(), "{path}: {}\n{}", text(&ended.stdout), text(&ended.stderr));
}

#[test]
fn the_example_for_pytest_passes() {
    script(&Corner::new(), "examples/tests/python/run.sh");
}

#[test]
fn the_example_for_nodes_own_runner_passes() {
    script(&Corner::new(), "examples/tests/node/run.sh");
}

#[test]
fn the_example_for_vitest_passes() {
    script(&Corner::new(), "examples/tests/vitest/run.sh");
}

#[test]
fn the_example_for_rust_passes() {
    script(&Corner::new(), "examples/tests/rust/run.sh");
}
