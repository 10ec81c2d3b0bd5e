//! Restores and imports that are killed or cancelled in the middle, on real servers: all of the new data, or all of the old.

use std::{
    process::{Child, Command},
    thread,
    time::Duration,
};

use crate::{
    clients::{redis, sql, try_sql},
    corner::Corner,
};

const DATABASES: &str = r#"
  db:
    postgres:
      version: "17"
      databases: { app: { owner: app }, shop: { owner: app } }
"#;
const CACHE: &str = r#"
  cache:
    redis: { version: "8.0", persistence: { aof: always, rdb: "60 1" } }
"#;
/// Enough for a restore to take a while.
const ROWS: u32 = 100_000;

struct Data {
    corner: Corner,
    urls: [String; 2],
}

impl Data {
    fn new(services: &str) -> Self {
        let corner = Corner::with(services);
        corner.up("test");
        let urls = ["DB_APP_URL", "DB_SHOP_URL"].map(|name| corner.variable(name));
        for url in &urls {
            sql(url, "create table mark (t text); insert into mark values ('old')");
            sql(url, &format!("create table bulk as select g, repeat(md5(g::text), 4) as t from generate_series(1, {ROWS}) g"));
        }
        Self { corner, urls }
    }

    fn mark(&self, mark: &str) {
        for url in &self.urls {
            sql(url, &format!("update mark set t = '{mark}'"));
        }
    }

    /// The marks of both databases; the server may refuse clients for a moment.
    fn marks(&self) -> [String; 2] {
        self.urls.each_ref().map(|url| self.corner.until("the database answers", 60, || try_sql(url, "select t from mark").ok()?.pop()))
    }

    fn beside(&self) -> usize {
        let found = try_sql(&self.urls[0], "select count(*)::text from pg_database where datname ~ ' (restored|former) '");
        found.ok().and_then(|mut rows| rows.pop()).and_then(|count| count.parse().ok()).unwrap_or_default()
    }

    /// A daemon's process.
    fn daemon(&self) -> String {
        self.corner.json(&["daemon", "status"])["pid"].as_u64().expect("a daemon runs").to_string()
    }

    fn recovered(&self) -> [String; 2] {
        // Starts the next daemon, if this one was killed.
        self.corner.until("nothing is in progress", 120, || {
            let operations = self.corner.json(&["operations"]);
            let ended = |operation: &serde_json::Value| operation["state"] != "running" && operation["state"] != "waiting";
            operations["operations"].as_array()?.iter().all(ended).then_some(())
        });
        self.corner.until("the environment is ready", 60, || (self.corner.json(&["status"])["phase"] == "ready").then_some(()));
        let marks = self.marks();
        assert_eq!(self.beside(), 0, "a database is left");
        marks
    }
}

fn kill(signal: &str, process: &str) {
    assert!(Command::new("kill").args([signal, process]).status().unwrap().success());
}

fn exit_code(mut client: Child) -> Option<i32> {
    client.wait().unwrap().code()
}

#[test]
fn a_restore_of_two_databases_and_a_cache_that_is_killed_in_the_swap_restores_all_or_nothing() {
    let data = Data::new(&format!("{DATABASES}{CACHE}"));
    let cache = data.corner.variable("REDIS_URL");
    redis(&cache, &["SET", "mark", "old"]);
    data.corner.ok(&["backup"]);
    let mut seen = std::collections::BTreeSet::new();
    for milliseconds in [0, 60, 120, 200, 400, 1000] {
        let new = format!("after-{milliseconds}");
        data.mark(&new);
        redis(&cache, &["SET", "mark", &new]);
        let daemon = data.daemon();
        let client = data.corner.spawn(&["backup", "restore", "latest"]);
        // From here on the second database is made, then both are counted, compared and swapped.
        data.corner.until("both are staged", 60, || (data.beside() == 2).then_some(()));
        thread::sleep(Duration::from_millis(milliseconds));
        kill("-KILL", &daemon);
        exit_code(client);
        let [app, shop] = data.recovered();
        let mark = data.corner.until("the cache answers", 30, || Some(redis(&cache, &["GET", "mark"])));
        assert!(app == shop && shop == mark, "{milliseconds} ms: {app}, {shop}, {mark}");
        assert!(app == "old" || app == new, "{milliseconds} ms: {app}");
        seen.insert(app == "old");
    }
    data.corner.ok(&["backup", "restore", "latest"]);
    assert_eq!(data.recovered(), ["old", "old"]);
    assert!(!seen.is_empty());
}

#[test]
fn an_import_that_gets_ctrl_c_leaves_the_old_data() {
    let data = Data::new(DATABASES);
    let place = data.corner.project().join("dumps");
    std::fs::create_dir(&place).unwrap();
    data.corner.ok(&["export", "db", "dumps"]);
    data.mark("mine");
    let client = data.corner.spawn(&["import", "db", "dumps"]);
    data.corner.until("one is staged", 60, || (data.beside() > 0).then_some(()));
    kill("-INT", &client.id().to_string());
    assert_eq!(exit_code(client), Some(130));
    assert_eq!(data.recovered(), ["mine", "mine"]);
    assert_eq!(data.corner.json(&["backup", "list"])["backups"].as_array().unwrap().len(), 1, "the backup before it stays");
    data.corner.ok(&["import", "db", "dumps"]);
    assert_eq!(data.recovered(), ["old", "old"]);
}

#[test]
fn a_large_redis_seed_that_is_cut_off_again_and_again_applies_each_command_once() {
    const COMMANDS: u32 = 200_000;
    let seeded = "  cache:\n    redis: { version: \"8.0\", seed: [seed] }\n";
    let corner = Corner::with("  cache:\n    redis: { version: \"8.0\" }\n");
    corner.up("test");
    let url = corner.variable("REDIS_URL");
    let seed = corner.project().join("seed");
    std::fs::create_dir(&seed).unwrap();
    std::fs::write(seed.join("01-count.redis"), "INCR counter\n".repeat(COMMANDS as usize)).unwrap();
    corner.rewrite(seeded);
    let counted = || redis(&url, &["GET", "counter"]).parse().unwrap_or(0);
    let mut cut = 0;
    for part in [1, COMMANDS / 4, COMMANDS / 2] {
        // Starts the next daemon.
        corner.json(&["operations"]);
        let daemon = corner.json(&["daemon", "status"])["pid"].as_u64().expect("a daemon runs").to_string();
        let client = corner.spawn(&["up", "test"]);
        corner.until("a part of the seed is applied", 60, || (counted() >= part).then_some(()));
        kill("-KILL", &daemon);
        exit_code(client);
        cut += u32::from(counted() < COMMANDS);
    }
    assert!(cut > 0, "every run had ended before it was cut off");
    corner.up("test");
    assert_eq!(counted(), COMMANDS);
    let entries = corner.json(&["ledger"]);
    assert!(entries["entries"].as_array().unwrap().iter().any(|entry| entry["state"] == "applied"), "{entries}");
    corner.up("test");
    assert_eq!(counted(), COMMANDS);
}
