//! Secrets that a profile declares: read by `up`, listed without their values, set by hand.

use std::{io::Write, process::Stdio};

use serde_json::Value;

use crate::world::{TestDaemon, World};

const PROFILE: &str = r#"
secrets:
  A: { from_env: DEVENV_TEST_NOT_SET }
  B: { file: b.txt }
  C: { generate: 40 }
services:
  api:
    container: { image: "api:1" }
    environment: { A: "${secret:A}", B: "${secret:B}", C: "${secret:C}" }
"#;

fn world() -> World {
    let world = World::new();
    world.write("profiles/s.yaml", PROFILE);
    world.write("b.txt", "b-value\n");
    world
}

/// The exit code and what was printed.
fn set(daemon: &TestDaemon, line: &str, value: &str) -> (Option<i32>, String) {
    let mut child = daemon.command(line).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(value.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    (output.status.code(), format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

fn source(daemon: &TestDaemon, name: &str) -> Value {
    let listed = daemon.json("secrets list");
    let all = listed["secrets"].as_array().unwrap();
    all.iter().find(|secret| secret["name"] == name).map_or(Value::Null, |secret| secret["source"].clone())
}

#[test]
fn a_secret_without_a_value_ends_up_with_its_variable_and_one_that_was_set_needs_no_source() {
    let world = world();
    let daemon = world.start();
    assert_eq!(daemon.json("secrets list")["secrets"], Value::Array(Vec::new()));
    let refused = daemon.expect(2, "up s");
    assert!(refused.stderr.contains("DEVENV_TEST_NOT_SET") && refused.stderr.contains("devenv secrets set A"), "{}", refused.stderr);

    let (code, printed) = set(&daemon, "secrets set A --profile s", "a-value\n");
    assert_eq!(code, Some(0), "{printed}");
    assert!(!printed.contains("a-value"), "{printed}");
    daemon.expect(0, "up s");
    for (name, wanted) in [("A", "set"), ("B", "file"), ("C", "generate")] {
        assert_eq!(source(&daemon, name), wanted, "{name}");
    }
    let listed = daemon.expect(0, "secrets list");
    let known = daemon.expect(0, "env --service api --for container --format json").stdout;
    for value in ["a-value", "b-value"] {
        assert!(!listed.stdout.contains(value) && known.contains(value), "{}{known}", listed.stdout);
    }

    // The daemon's successor knows it too; without it, the source is asked again.
    drop(daemon);
    let daemon = world.start();
    assert_eq!(source(&daemon, "A"), "set");
    daemon.expect(0, "up s");
    daemon.expect(0, "secrets set A --unset");
    assert!(daemon.expect(2, "up s").stderr.contains("DEVENV_TEST_NOT_SET"));
}

#[test]
fn only_a_secret_of_the_profile_is_set_and_not_to_nothing() {
    let world = world();
    let daemon = world.start();
    let (code, printed) = set(&daemon, "secrets set AA --profile s", "x");
    assert_eq!(code, Some(1), "{printed}");
    assert!(printed.contains("declares no secret `AA`"), "{printed}");
    for value in ["", "\n"] {
        let (code, printed) = set(&daemon, "secrets set A --profile s", value);
        assert_eq!(code, Some(2), "{printed}");
        assert!(printed.contains("is empty"), "{printed}");
    }
    let (code, printed) = set(&daemon, "secrets set A --profile s", &"x".repeat(70_000));
    assert_eq!(code, Some(2), "{printed}");
}
