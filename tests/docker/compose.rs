//! Compose files on a real engine: what runs around a service's life, files where nothing can be written, and signals of images.

use std::fs;

use crate::corner::Corner;

const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 0.1; done";

fn with(text: &str) -> Corner {
    let corner = Corner::new();
    fs::remove_dir(corner.project().join("profiles")).unwrap();
    fs::write(corner.project().join("compose.yaml"), text).unwrap();
    corner
}

#[test]
fn hooks_run_once_for_each_start_whichever_daemon_sees_it() {
    let corner = with(&format!(
        r#"
services:
  web:
    image: debian:trixie-slim
    command: [sh, -c, "{IDLE}"]
    volumes: ["v:/v"]
    pre_start: [{{ command: [sh, -c, "echo before >> /v/log"] }}]
    post_start: [{{ command: [sh, -c, "echo started $$WHO >> /v/log; echo said"], environment: [WHO=you], user: root }}]
    pre_stop: [{{ command: [sh, -c, "echo stopping >> /v/log"] }}]
  reader: {{ image: "debian:trixie-slim", command: [sleep, infinity], volumes_from: ["web:ro"] }}
volumes: {{ v: }}
"#
    ));
    let log = || corner.ok(&["exec", "reader", "--", "cat", "/v/log"]);
    corner.ok(&["up"]);
    assert_eq!(log(), "before\nstarted you\n");
    assert!(corner.ok(&["logs", "web"]).contains("said"));
    corner.ok(&["daemon", "stop"]);
    corner.ok(&["wait"]);
    assert_eq!(log(), "before\nstarted you\n", "the next daemon runs nothing again");
    corner.ok(&["restart", "web"]);
    assert_eq!(log(), "before\nstarted you\nstopping\nstarted you\n");
    let refused = corner.devenv(&["exec", "reader", "--", "touch", "/v/x"]);
    assert_ne!(refused.code, 0, "the other service's volume is read-only there");
}

#[test]
fn a_hook_that_fails_after_the_start_is_named_with_its_output() {
    let corner = with(
        "services:\n  web:\n    image: debian:trixie-slim\n    command: sleep infinity\n    post_start: [{ command: [sh, -c, 'echo no such table; exit 3'] }]\n",
    );
    let ended = corner.devenv(&["up"]).expect(1);
    assert!(ended.stderr.contains("post_start") && ended.stderr.contains("exited with code 3"), "{}", ended.stderr);
}

#[test]
fn files_and_secrets_reach_a_container_that_nothing_can_be_written_to() {
    let corner = with(
        r#"
services:
  web:
    image: debian:trixie-slim
    command: [sh, -c, "echo password is $$DB_PASSWORD; sleep infinity"]
    read_only: true
    user: "1000"
    tmpfs: [/run]
    environment: { DB_PASSWORD: hunter2 }
    secrets: [{ source: key, mode: 0400, uid: "1000" }]
    configs: [{ source: app, target: /etc/app.conf }]
secrets: { key: { environment: PATH } }
configs: { app: { content: "conf\n" } }
"#,
    );
    corner.ok(&["up"]);
    assert_eq!(
        corner.ok(&["exec", "web", "--", "sh", "-c", "cat /etc/app.conf; test -s /run/secrets/key && echo readable"]),
        "conf\nreadable\n"
    );
    corner.until("the program has its secret", 10, || corner.ok(&["logs", "web"]).contains("password is hunter2").then_some(()));
    assert_ne!(corner.devenv(&["exec", "web", "--", "touch", "/x"]).code, 0);
    corner.ok(&["restart", "web"]);
}

#[test]
fn a_container_is_stopped_by_the_signal_of_its_image_and_shares_the_hosts_name() {
    let corner = with(
        r#"
services:
  web: { build: . }
  host: { image: "debian:trixie-slim", command: [sleep, infinity], uts: host }
"#,
    );
    let program = "trap 'echo quit; exit 0' QUIT; trap 'echo term; exit 0' TERM; while :; do sleep 0.1; done";
    fs::write(
        corner.project().join("Dockerfile"),
        format!("FROM debian:trixie-slim\nSTOPSIGNAL SIGQUIT\nCMD [\"sh\", \"-c\", \"{program}\"]\n"),
    )
    .unwrap();
    corner.ok(&["up", "--yes"]);
    corner.ok(&["stop", "web"]);
    corner.until("its last words", 10, || corner.ok(&["logs", "web"]).contains("quit").then_some(()));
}
