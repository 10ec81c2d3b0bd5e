//! `up --timings`: where the time went, from what the daemon says of each start.

use serde_json::{Value, json};

use crate::world::World;

const PAIR: &str = r#"
services:
  db:
    container: { image: "data:1" }
  api:
    depends_on: { db: ready }
    container: { image: "data:1" }
"#;

fn of<'a>(timings: &'a Value, name: &str) -> &'a Value {
    timings["services"].as_array().unwrap().iter().find(|service| service["name"] == name).unwrap()
}

#[test]
fn up_tells_what_each_service_did_and_which_ones_decided_how_long_it_took() {
    let world = World::new();
    world.write("profiles/pair.yaml", PAIR);
    let daemon = world.start();
    let status = daemon.json("up pair --timings");
    let timings = &status["timings"];
    assert_eq!(timings["critical_path"], json!(["db", "api"]), "{timings}");
    assert_eq!(of(timings, "api")["waited_for"], "db");
    assert_eq!(of(timings, "db")["waited_for"], Value::Null);
    let ready = |name| of(timings, name)["ready_ms"].as_u64().unwrap();
    assert!(timings["asked_ms"].as_u64().unwrap() <= ready("db") && ready("db") <= ready("api"), "{timings}");
    assert!(of(timings, "api")["phases"].as_array().unwrap().iter().any(|part| part["phase"] == "started"), "{timings}");

    assert_eq!(daemon.json("status").get("timings"), None);
    let text = daemon.expect(0, "up pair --timings --instance other").stdout;
    assert!(text.contains("* critical path: db (") && text.contains("then api ("), "{text}");
}

#[test]
fn a_service_that_fails_says_what_it_did_until_then() {
    let world = World::new();
    world.write("profiles/pair.yaml", &PAIR.replacen("data:1", "nowhere:1", 1));
    let daemon = world.start();
    let failed = daemon.expect(1, "up pair --timings");
    assert!(failed.stderr.contains("WAITED FOR") && failed.stderr.contains("api"), "{}", failed.stderr);
}
