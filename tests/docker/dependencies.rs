//! Services that wait for others.

use crate::{
    clients::sql,
    corner::{Corner, named},
};

#[test]
fn a_container_starts_only_when_what_it_depends_on_serves_it() {
    // Without a retry: the first query of the first run decides.
    let corner = Corner::with(
        r#"
  app:
    depends_on: { migrate: completed }
    container: { image: "redis:8.0", command: [sh, -c, "echo serving; exec sleep 86400"] }
    probe: { log: "serving" }
  migrate:
    depends_on: { db: ready }
    restart: { policy: never }
    container: { image: "postgres:17", command: [sh, -c, 'psql -v ON_ERROR_STOP=1 -c "create table migrated ()" "$$DATABASE_URL"'] }
  db:
    postgres: {}
"#,
    );
    let status = corner.up("test");
    assert_eq!(named(&status, "migrate")["state"], "completed");
    assert_eq!(sql(&corner.variable("DATABASE_URL"), "select count(*) from migrated"), ["0"]);
    let at = |service: &str, kind: &str| {
        let events = corner.lines(&["events"]);
        events.iter().find(|event| event["service"] == service && event["kind"] == kind).unwrap()["sequence"].as_u64().unwrap()
    };
    assert!(at("db", "service.ready") < at("migrate", "service.started"));
    assert!(at("migrate", "service.completed") < at("app", "service.started"));
}

/// What it left behind answers for as long as it is given to end.
#[test]
fn a_program_that_has_ended_is_not_ready_although_its_daemon_answers() {
    let corner = Corner::with(
        r#"
  web:
    process: { command: [python3, daemon.py], port: 0 }
    probe: { tcp: {} }
    ready_timeout: 20s
    restart: { policy: always, attempts: 1 }
"#,
    );
    let server = "import os, signal, socket, time\n\
        parent = os.getpid()\n\
        if os.fork():\n    os._exit(0)\n\
        signal.signal(signal.SIGTERM, signal.SIG_IGN)\n\
        while os.getppid() == parent:\n    time.sleep(0.001)\n\
        server = socket.create_server(('127.0.0.1', int(os.environ['PORT'])))\n\
        while True:\n    server.accept()[0].close()\n";
    std::fs::write(corner.project().join("daemon.py"), server).unwrap();
    let ended = corner.devenv(&["up", "test"]).expect(1);
    assert!(ended.stderr.contains("left") && ended.stderr.contains("python3"), "{}", ended.stderr);
    assert_eq!(corner.count("web", "service.ready"), 0);
}

#[test]
fn a_service_that_cannot_start_fails_up_with_its_last_words_and_leaves_the_others_running() {
    let corner = Corner::with(
        r#"
  cache:
    redis: {}
  broken:
    restart: { policy: never }
    container: { image: "redis:8.0", command: [sh, -c, "echo the configuration is missing >&2; exit 78"] }
    # Without one, a container that runs counts as ready, and this one does run for a moment.
    probe: { log: "serving" }
"#,
    );
    let ended = corner.devenv(&["up", "test", "--json"]).expect(1);
    let message = ended.stdout + &ended.stderr;
    assert!(message.contains("broken") && message.contains("78") && message.contains("the configuration is missing"), "{message}");
    // `up` does not wait once it cannot succeed.
    corner.ok(&["wait", "cache", "--timeout", "2m"]);
    assert_eq!(corner.service("broken")["state"], "failed");
}
