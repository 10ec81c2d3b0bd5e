//! Data as users work with it: applied, reset, snapshot, backed up, moved, forked and brought back, through the real binary.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    clients::{redis, sql},
    corner::{Corner, docker},
};

const DATABASE: &str = r#"
  db:
    postgres:
      version: "17"
      databases: { app: { owner: app } }
      init: [init-scripts/postgres]
      seed: [seed-data/demo/postgres]
"#;
const CACHE: &str = r#"
  cache:
    redis: { version: "8.0", persistence: { aof: always, rdb: "60 1" }, seed: [seed-data/demo/redis] }
"#;

const DATABASE_ALONE: &str = "  db:\n    postgres: { version: \"17\", databases: { app: { owner: app } } }\n";
const CACHE_ALONE: &str = "  cache:\n    redis: { version: \"8.0\", persistence: { aof: always, rdb: \"60 1\" } }\n";
const FILES: &str = "  files:\n    s3: { buckets: [docs] }\n";

fn write(corner: &Corner, path: &str, content: impl AsRef<[u8]>) {
    let path = corner.project().join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn remove(corner: &Corner, path: &str) {
    fs::remove_file(corner.project().join(path)).unwrap();
}

/// A project with two tables, a data set, and the given files.
fn corner(services: &str) -> Corner {
    let corner = Corner::with(services);
    write(
        &corner,
        "init-scripts/postgres/01-tables.sql",
        "CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL);\nCREATE TABLE note (t text);\n",
    );
    let rows: String = (0..1000).map(|id| format!("{id},name {id}\n")).collect();
    write(&corner, "seed-data/demo/postgres/item.csv", format!("id,name\n{rows}"));
    write(&corner, "seed-data/demo/redis/queue.redis", "RPUSH jobs one two three\nSET kept 1\n");
    corner
}

fn one(corner: &Corner, query: &str) -> String {
    sql(&corner.variable("DB_APP_URL"), query).pop().unwrap_or_default()
}

const DIGEST: &str = "select md5(string_agg(item::text, '' order by id)) from item";

fn entry(corner: &Corner, path: &str) -> Value {
    let ledger = corner.json(&["ledger"]);
    let found = ledger["entries"].as_array().unwrap().iter().find(|entry| entry["path"].as_str().unwrap().ends_with(path));
    found.unwrap_or_else(|| panic!("no {path}: {ledger}")).clone()
}

/// The files that show that a golden volume, or its spare copy, is complete.
fn golden(corner: &Corner, what: &str) -> usize {
    let files = fs::read_dir(corner.state().join("golden")).into_iter().flatten().flatten();
    let named = files.filter(|file| file.path().extension().is_some_and(|extension| extension == what));
    named.filter(|file| what != "json" || fs::read_to_string(file.path()).unwrap_or_default().contains("\"complete\":true")).count()
}

#[test]
fn a_reset_starts_from_the_golden_volume_on_the_same_address_and_undo_brings_the_former_data_back() {
    let corner = corner(DATABASE);
    corner.up("test");
    corner
        .until("a golden volume and its spare copy", 60, || (golden(&corner, "json") == 1 && golden(&corner, "spare") == 1).then_some(()));
    let (seeded, address) = (one(&corner, DIGEST), corner.variable("DB_APP_URL"));
    one(&corner, "update item set name = 'mine' where id < 10; drop table note");
    let mine = one(&corner, DIGEST);
    for round in 0..3 {
        corner.ok(&["reset", "db"]);
        assert_eq!((one(&corner, DIGEST), corner.variable("DB_APP_URL")), (seeded.clone(), address.clone()), "round {round}");
        assert_eq!(one(&corner, "select count(*)::text from note"), "0");
        assert_eq!(entry(&corner, "item.csv")["state"], "applied");
    }
    let log = fs::read_to_string(corner.state().join("daemon.log")).unwrap();
    assert_eq!(log.matches("Volume filled from a golden one.").count(), 3, "{log}");
    corner.ok(&["snapshot", "save", "seeded"]);
    one(&corner, "delete from item");
    corner.ok(&["reset", "db"]);
    corner.ok(&["undo"]);
    assert_eq!(one(&corner, "select count(*)::text from item"), "0", "the data before the last reset");
    corner.ok(&["snapshot", "restore", "seeded"]);
    assert_eq!(one(&corner, DIGEST), seeded);
    assert_ne!(seeded, mine);
    corner.ok(&["snapshot", "remove", "seeded"]);
}

#[test]
fn the_lines_of_an_edited_script_that_differ_from_what_was_applied_are_known() {
    let path = "init-scripts/postgres/01-tables.sql";
    let corner = corner(DATABASE);
    corner.up("test");
    let shown = |corner: &Corner| {
        let changes = corner.json(&["ledger", "diff", path]);
        let script = changes["scripts"][0].clone();
        let line = |line: &Value| format!("{} {}", line["change"].as_str().unwrap(), line["text"].as_str().unwrap());
        (script["lines"].as_array().unwrap().iter().map(line).collect::<Vec<_>>(), script["incomplete"].clone())
    };
    assert_eq!(shown(&corner), (vec![], Value::Null));
    write(&corner, path, "CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL);\nCREATE TABLE note (t text, at timestamptz);\n");
    let expected = [
        "same CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL);",
        "removed CREATE TABLE note (t text);",
        "added CREATE TABLE note (t text, at timestamptz);",
    ];
    assert_eq!(shown(&corner), (expected.map(str::to_owned).to_vec(), Value::Null));
    corner.ok(&["ledger", "accept", path]);
    assert_eq!(shown(&corner), (vec![], Value::Null));
    corner.devenv(&["ledger", "diff", "none.sql"]).expect(1);
}

#[test]
fn writes_right_after_ready_are_never_in_a_golden_volume() {
    let corner = corner(DATABASE);
    corner.up("test");
    // As early as possible: the copy is being made.
    one(&corner, "insert into item values (-1, 'mine')");
    corner.until("the copy is whole or given up", 60, || (golden(&corner, "json") + golden(&corner, "overtaken") > 0).then_some(()));
    corner.ok(&["reset", "db"]);
    assert_eq!(one(&corner, "select count(*)::text from item"), "1000");
    // The second first start makes its copy before clients can write.
    corner.until("a golden volume", 60, || (golden(&corner, "json") == 1).then_some(()));
    one(&corner, "insert into item values (-1, 'mine')");
    corner.ok(&["reset", "db"]);
    assert_eq!(one(&corner, "select count(*)::text from item"), "1000");
}

#[test]
fn a_first_start_that_was_cut_off_half_way_begins_again() {
    let corner = corner(DATABASE);
    for _ in 0..4 {
        let mut client = corner.spawn(&["up", "test"]);
        let container = corner.until("the container runs", 60, || {
            let status = corner.json(&["status"]);
            let found = status["services"].as_array()?.iter().find(|service| service["name"] == "db")?["container"].as_str()?.to_owned();
            docker(&["inspect", "-f", "{{.State.Running}}", &found]).stdout.starts_with("true").then_some(found)
        });
        corner.kill_daemon();
        docker(&["kill", "-s", "KILL", &container]).expect(0);
        client.wait().unwrap();
        corner.up("test");
        assert_eq!(one(&corner, "select count(*)::text from item"), "1000");
        corner.ok(&["down", "--volumes"]);
        corner.ok(&["gc", "--all"]);
    }
}

#[test]
fn snapshots_are_listed_restored_by_their_checksum_and_removed() {
    let corner = corner(&format!("{DATABASE}{CACHE}"));
    corner.up("test");
    one(&corner, "update item set name = 'changed' where id < 500");
    redis(&corner.variable("REDIS_URL"), &["SET", "kept", "changed"]);
    let changed = one(&corner, DIGEST);
    corner.ok(&["snapshot", "save", "changed"]);
    corner.devenv(&["snapshot", "save", "changed"]).expect(1);
    one(&corner, "delete from item");
    redis(&corner.variable("REDIS_URL"), &["DEL", "kept"]);
    corner.ok(&["snapshot", "restore", "changed"]);
    assert_eq!((one(&corner, DIGEST), redis(&corner.variable("REDIS_URL"), &["GET", "kept"])), (changed, "changed".to_owned()));
    let listed = corner.json(&["snapshot", "list"]);
    assert_eq!(listed["snapshots"][0]["name"], "changed");
    assert_eq!(listed["snapshots"][0]["services"].as_array().unwrap().len(), 2);

    let owner = fs::read_to_string(corner.state().join("owner")).unwrap();
    let filter = format!("label=dev.devenv.owner={}", owner.trim());
    let volumes = docker(&["volume", "ls", "-q", "--filter", &filter]).stdout;
    let saved =
        volumes.lines().find(|name| name.contains("-snapshot-changed-") && name.ends_with("db-data")).expect("a volume of the snapshot");
    let mountpoint = docker(&["volume", "inspect", "-f", "{{.Mountpoint}}", saved]).stdout;
    fs::write(Path::new(mountpoint.trim()).join("pgdata/PG_VERSION"), "17\n\n").unwrap();
    let refused = corner.devenv(&["snapshot", "restore", "changed"]).expect(1);
    assert!(refused.stderr.contains("checksum"), "{}", refused.stderr);
    corner.ok(&["snapshot", "remove", "changed"]);
    corner.devenv(&["snapshot", "restore", "changed"]).expect(1);
}

#[test]
fn a_backup_is_practised_and_restored_after_everything_else_is_gone() {
    let corner = corner(&format!("{DATABASE}{CACHE}"));
    corner.up("test");
    one(&corner, "insert into item values (-1, 'mine')");
    redis(&corner.variable("REDIS_URL"), &["RPUSH", "jobs", "mine"]);
    let mine = one(&corner, DIGEST);
    corner.ok(&["backup"]);
    let drill = corner.json(&["backup", "drill"]);
    assert!(
        drill["verified"] == true && drill["rto_ms"].as_u64().unwrap() < 3_600_000 && drill["rpo_ms"].as_u64().unwrap() < 86_400_000,
        "{drill}"
    );
    corner.ok(&["down", "--volumes"]);
    corner.ok(&["gc", "--all"]);
    corner.up("test");
    assert_eq!(one(&corner, "select count(*)::text from item"), "1000");
    assert_eq!(corner.json(&["backup", "restore", "latest"])["verified"], true);
    assert_eq!((one(&corner, DIGEST), redis(&corner.variable("REDIS_URL"), &["LLEN", "jobs"])), (mine, "4".to_owned()));
}

/// Helper containers read and write volumes: for golden ones, backups of files, and dumps that a server reads at its start.
#[test]
fn data_is_reset_backed_up_and_restored_without_root() {
    let corner = Corner::without_root(&format!("{DATABASE_ALONE}{CACHE_ALONE}{FILES}"));
    corner.up("test");
    corner.until("a golden volume", 60, || (golden(&corner, "json") == 1).then_some(()));
    one(&corner, "create table item (id int); insert into item values (7)");
    redis(&corner.variable("REDIS_URL"), &["SET", "kept", "mine"]);
    let made = corner.json(&["backup"]);
    assert!(made["services"].as_array().unwrap().iter().any(|part| part["files"][0]["name"] == "files.tar"), "{made}");
    corner.ok(&["reset"]);
    let log = fs::read_to_string(corner.state().join("daemon.log")).unwrap();
    assert!(log.contains("Volume filled from a golden one."), "{log}");
    assert_eq!(one(&corner, "select count(*)::text from pg_tables where tablename = 'item'"), "0");
    let restored = corner.json(&["backup", "restore", "latest"]);
    assert_eq!((restored["verified"].as_bool(), restored["services"].as_array().unwrap().len()), (Some(true), 3), "{restored}");
    let found = (one(&corner, "select id::text from item"), redis(&corner.variable("REDIS_URL"), &["GET", "kept"]));
    assert_eq!(found, ("7".to_owned(), "mine".to_owned()));
}

#[test]
fn data_is_exported_and_imported_from_a_file_and_from_an_address_that_no_argument_shows() {
    let corner = corner(DATABASE);
    corner.up("test");
    one(&corner, "update item set name = 'mine' where id = 1");
    let mine = one(&corner, DIGEST);
    corner.ok(&["export", "db", "app.dump"]);
    one(&corner, "delete from item");
    let imported = corner.json(&["import", "db", "app.dump"]);
    assert_eq!((imported["verified"].as_bool(), one(&corner, DIGEST)), (Some(true), mine));

    let theirs = Corner::with(DATABASE);
    write(&theirs, "init-scripts/postgres/01-tables.sql", "CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL);\n");
    write(&theirs, "seed-data/demo/postgres/item.csv", "id,name\n7,theirs\n");
    theirs.up("test");
    let address = theirs.variable("DB_APP_URL");
    write(&corner, "address", format!("{address}\n"));
    let quiet = corner.devenv(&["import", "db", "--url-file", "address"]).expect(0);
    assert!(!quiet.stderr.contains("arguments"), "{}", quiet.stderr);
    assert_eq!(one(&corner, "select string_agg(name, ',') from item"), "theirs");
    one(&corner, "delete from item");
    corner.devenv_with_input(&["import", "db", "-"], &address).expect(0);
    assert_eq!(one(&corner, "select string_agg(name, ',') from item"), "theirs");
    let warned = corner.devenv(&["import", "db", &address]).expect(0);
    assert!(warned.stderr.contains("a password that every user of this machine can read"), "{}", warned.stderr);
    corner.devenv(&["import", "db"]).expect(2);
}

#[test]
fn a_fork_has_the_data_and_goes_its_own_way() {
    let corner = corner(DATABASE);
    corner.up("test");
    one(&corner, "insert into item values (-1, 'mine')");
    let mine = one(&corner, DIGEST);
    corner.ok(&["fork", "other"]);
    corner.ok(&["up", "test", "--instance", "other"]);
    let theirs = corner.variables(&["--instance", "other"])["DB_APP_URL"].as_str().unwrap().to_owned();
    assert_ne!(theirs, corner.variable("DB_APP_URL"));
    assert_eq!(sql(&theirs, DIGEST), [mine.as_str()]);
    sql(&theirs, "delete from item");
    assert_eq!(one(&corner, DIGEST), mine);
}

#[test]
fn the_ledger_of_a_redis_that_may_evict_anything_outlives_its_key_and_not_its_data() {
    let services = r#"
  cache:
    redis: { version: "8.0", persistence: { aof: always, rdb: never }, maxmemory: 64MiB, policy: allkeys-lru, seed: [seed-data/demo/redis] }
"#;
    let corner = corner(services);
    corner.up("test");
    let url = corner.variable("REDIS_URL");
    let jobs = || redis(&url, &["LLEN", "jobs"]);
    assert_eq!(jobs(), "3");
    redis(&url, &["DEL", "devenv:ledger"]);
    corner.ok(&["restart", "cache"]);
    assert_eq!((jobs(), entry(&corner, "queue.redis")["state"].as_str()), ("3".to_owned(), Some("applied")));
    redis(&url, &["FLUSHALL"]);
    corner.ok(&["restart", "cache"]);
    assert_eq!((jobs(), entry(&corner, "queue.redis")["state"].as_str()), ("3".to_owned(), Some("applied")));
}

/// Through a packer of the host.
fn packed(packer: &str, text: &str) -> Vec<u8> {
    let mut child = Command::new(packer).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}

#[test]
fn scripts_are_unpacked_whatever_they_were_packed_with() {
    let corner = corner(DATABASE);
    write(&corner, "init-scripts/postgres/02-packed.sql.gz", packed("gzip", "CREATE TABLE gz AS SELECT 1 AS x;\n"));
    write(&corner, "init-scripts/postgres/03-packed.sql.xz", packed("xz", "CREATE TABLE xz AS SELECT 2 AS x;\n"));
    write(&corner, "init-scripts/postgres/04-packed.sql.zst", packed("zstd", "CREATE TABLE zst AS SELECT 3 AS x;\n"));
    let rows: String = (0..50_000).map(|row| format!("note {row}\n")).collect();
    write(&corner, "seed-data/demo/postgres/note.csv.zst", packed("zstd", &format!("t\n{rows}")));
    corner.up("test");
    assert_eq!(one(&corner, "select (gz.x + xz.x + zst.x)::text from gz, xz, zst"), "6");
    assert_eq!(one(&corner, "select count(*)::text from note"), "50000");
    assert_eq!(entry(&corner, "note.csv.zst")["rows"], 50_000);
    write(&corner, "seed-data/demo/postgres/torn.sql.xz", &packed("xz", "SELECT 1;\n")[..20]);
    let message = corner.devenv(&["seed"]).expect(1);
    assert!(message.stderr.contains("torn.sql.xz"), "{}", message.stderr);
    assert_ne!(entry(&corner, "torn.sql.xz")["state"], "applied");
}

#[test]
fn a_failing_script_of_every_kind_is_reported_at_its_line_and_never_recorded_as_done() {
    let events = "  events:\n    kafka: { seed: [seed-data/demo/kafka] }\n";
    let corner = corner(&format!("{DATABASE}{CACHE}{events}"));
    write(&corner, "seed-data/demo/kafka/first.jsonl", "{\"topic\": \"orders\", \"value\": 1}\n");
    corner.up("test");
    for (path, content, message) in [
        ("postgres/bad.sql", &b"SELECT 1;\nINSERT INTO item VALUES (1, nothing);\n"[..], "bad.sql:2"),
        ("postgres/bad.sh", b"psql -c 'SELECT 1'\nfalse\n", "bad.sh"),
        ("postgres/note.csv", b"t\nfine\n\"open\n", "note.csv"),
        ("postgres/bad.dump", b"PGDMPgarbage", "bad.dump"),
        ("redis/bad.redis", b"SET a 1\nINCR jobs\n", "bad.redis:2"),
        (
            "redis/bad.jsonl",
            b"{\"key\": \"a\", \"type\": \"string\", \"value\": \"1\"}\n{\"key\": \"b\", \"type\": \"nonsense\", \"value\": 1}\n",
            "bad.jsonl:2",
        ),
        ("kafka/bad.jsonl", b"{\"topic\": \"orders\", \"value\": 1}\n{\"topic\": 2}\n", "bad.jsonl:2"),
        ("kafka/bad.kafka.yaml", b"topics:\n  orders: { partition: 3 }\n", "bad.kafka.yaml:2"),
    ] {
        let path = format!("seed-data/demo/{path}");
        write(&corner, &path, content);
        let failed = corner.devenv(&["seed"]).expect(1);
        assert!(failed.stderr.contains(message), "{path}: {}", failed.stderr);
        let state = entry(&corner, &path)["state"].clone();
        // For a Redis file the commands before the line stay applied.
        assert!(["failed", "pending", "interrupted"].iter().any(|known| state == *known), "{path}: {state}");
        remove(&corner, &path);
    }
    assert_eq!(one(&corner, "select count(*)::text from note"), "0", "half a data set stayed");
    corner.ok(&["seed"]);
}
