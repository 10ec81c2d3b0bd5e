//! The commands on an environment that is up, with the exit codes that scripts rely on.

use crate::{
    clients::{redis, sql},
    corner::Corner,
};

#[test]
fn services_stop_start_restart_and_are_waited_for() {
    let corner = Corner::new();
    corner.up("data");
    let container = corner.service("cache")["container"].clone();

    corner.ok(&["stop", "cache"]);
    assert_eq!(corner.service("cache")["state"], "stopped");
    assert_eq!(corner.service("db")["state"], "ready");
    let output = corner.devenv(&["wait", "cache"]).expect(1);
    assert!(output.stderr.contains("devenv start cache"), "nobody waits for what nobody starts: {}", output.stderr);
    corner.ok(&["wait", "db", "--timeout", "2m"]);

    corner.ok(&["start", "cache"]);
    assert_eq!(redis(&corner.variable("REDIS_URL"), &["PING"]), "PONG");
    corner.ok(&["restart", "cache"]);
    assert_eq!(redis(&corner.variable("REDIS_URL"), &["PING"]), "PONG");
    assert_eq!(corner.service("cache")["container"], container);
    let why = corner.ok(&["why", "cache"]);
    assert!(why.contains("restart was requested"), "{why}");

    let error = corner.devenv(&["restart", "nobody", "--json"]).expect(1).json();
    assert_eq!(error["error"]["code"], "not-found");
    corner.devenv(&["why", "nobody"]).expect(1);
}

#[test]
fn exec_and_run_hand_through_input_output_and_exit_codes() {
    let corner = Corner::new();
    corner.up("data");
    corner.devenv(&["exec", "cache", "--", "sh", "-c", "exit 7"]).expect(7);
    corner.devenv(&["exec", "cache", "--", "/no/such/program"]).expect(127);
    corner.devenv(&["exec", "cache", "--", "/etc/passwd"]).expect(126);
    corner.devenv(&["exec", "nobody", "--", "true"]).expect(125);
    let ended = corner.devenv_with_input(&["exec", "db", "--", "sh", "-c", "cat; echo aside >&2"], "through\n").expect(0);
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("through\n", "aside\n"));

    corner.devenv(&["run", "--", "sh", "-c", "exit 5"]).expect(5);
    corner.devenv(&["run", "--", "/no/such/program"]).expect(127);
    corner.devenv(&["run", "--", "/tmp"]).expect(126);
    let url = corner.ok(&["run", "--", "printenv", "DATABASE_URL"]);
    assert_eq!(sql(url.trim(), "select 1"), ["1"]);
    assert!(corner.devenv(&["run", "--", "sh", "-c", "kill -TERM $$"]).code != 0);
}

#[test]
fn secrets_are_printed_by_env_alone() {
    let corner = Corner::new();
    corner.up("data");
    let secrets = [corner.variable("PGPASSWORD"), corner.variable("CACHE_PASSWORD")];
    assert!(secrets.iter().all(|secret| secret.len() >= 32));
    let inspected =
        ["db", "cache"].map(|name| crate::corner::docker(&["inspect", corner.service(name)["container"].as_str().unwrap()]).stdout);
    let output = [
        corner.ok(&["status", "--json"]),
        corner.ok(&["plan", "data", "--json"]),
        corner.ok(&["config", "data", "--json"]),
        corner.ok(&["events", "--json"]),
        corner.ok(&["logs", "--json"]),
        corner.ok(&["env", "--redact"]),
        inspected.concat(),
    ];
    for secret in &secrets {
        assert!(output.iter().all(|text| !text.contains(secret)));
    }
}

#[test]
fn an_expired_time_limit_has_its_own_exit_code_and_leaves_services_running() {
    let corner = Corner::with(
        r#"
  cache:
    redis: {}
  never:
    container: { image: "redis:8.0", command: [sleep, "86400"] }
    probe: { log: "never said" }
"#,
    );
    let error = corner.devenv(&["up", "test", "--timeout", "3s", "--json"]).expect(4).json();
    assert_eq!(error["error"]["code"], "timed-out");
    // On a busy machine it may not have been ready by then; it keeps starting.
    corner.ok(&["wait", "cache"]);
    assert_eq!(corner.service("cache")["state"], "ready");
}
