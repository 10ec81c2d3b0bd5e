//! Secrets reach those who need them, and cannot be read through the engine.

use crate::corner::Corner;

#[test]
fn a_container_of_the_product_has_its_secrets_and_the_engine_does_not_show_them() {
    let corner = Corner::with(
        r#"
  db:
    postgres: {}
  shell:
    depends_on: { db: ready }
    container: { image: "debian:trixie-slim", user: www-data, command: ["sh", "-c", "trap 'echo bye; exit 0' TERM; echo user=$$(id -u) length=$${#PGPASSWORD}; while :; do sleep 0.1; done"] }
  own-entrypoint:
    container: { image: "redis:8.0" }
  without-shell:
    container: { image: "jaegertracing/jaeger:2.13.0", expose: [16686] }
    probe: { http: { path: / } }
  asks:
    depends_on: { db: ready }
    container: { image: "debian:trixie-slim", entrypoint: [sleep], command: [infinity] }
    probe: { exec: [sh, -c, "test $${#PGPASSWORD} = 32"] }
"#,
    );
    corner.up("test");
    corner.tells_no_secret();
    corner.until("the program has spoken", 10, || corner.ok(&["logs", "shell"]).contains("user=33 length=32").then_some(()));

    // The engine does not pass them to commands, so `exec` does.
    assert_eq!(corner.ok(&["exec", "shell", "--", "sh", "-c", "echo ${#PGPASSWORD}"]).trim(), "32");
    assert_eq!(corner.ok(&["exec", "own-entrypoint", "--", "redis-cli", "PING"]).trim(), "PONG");
    assert_eq!(corner.service("shell")["reason"], "running; it has no `probe`, so its readiness is unknown");
    assert!(corner.service("without-shell")["reason"].is_null());

    // Signals reach the program itself, and it runs again after a restart.
    corner.ok(&["restart", "shell"]);
    let logs = corner.ok(&["logs", "shell"]);
    assert!(logs.contains("bye"), "{logs}");
    corner.until("the program has spoken again", 10, || (corner.ok(&["logs", "shell"]).matches("length=32").count() == 2).then_some(()));
    corner.tells_no_secret();
}

#[test]
fn a_program_that_is_not_in_the_image_is_reported_as_missing() {
    let corner = Corner::with(
        r#"
  db:
    postgres: {}
  broken:
    container: { image: "debian:trixie-slim", command: [no-such-program] }
    restart: { policy: never }
"#,
    );
    let ended = corner.devenv(&["up", "test"]).expect(1);
    assert!(ended.stderr.contains("no-such-program"), "{}", ended.stderr);
    assert!(ended.stderr.contains("127"), "{}", ended.stderr);
}
