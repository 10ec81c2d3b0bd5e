//! Compose files on a real engine: what runs around a service's life, files where nothing can be written, signals of images, and what
//! images are built from.

use std::{
    fs,
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    thread,
};

use crate::{
    clients::{redis, sql, try_sql},
    corner::{Corner, binary},
};

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

#[test]
fn an_image_of_another_service_is_built_first_and_mounted_anew_when_its_files_change() {
    let corner = with(&format!(
        r#"
services:
  base: {{ build: base, image: "test-base:1", command: [sh, -c, "{IDLE}"] }}
  web:
    build:
      dockerfile_inline: |
        FROM base
        RUN cp /data/word /copied
      additional_contexts: {{ base: "service:base" }}
    command: [sh, -c, "{IDLE}"]
  reader:
    image: debian:trixie-slim
    command: [sh, -c, "{IDLE}"]
    volumes:
      - {{ type: image, source: "test-base:1", target: /part, read_only: true, image: {{ subpath: data }} }}
      - {{ type: image, source: "test-base:1", target: /all }}
"#
    ));
    let word = |text: &str| {
        fs::create_dir_all(corner.project().join("base")).unwrap();
        let dockerfile = format!("FROM debian:trixie-slim\nRUN mkdir /data && echo {text} > /data/word && chown 7:8 /data/word\n");
        fs::write(corner.project().join("base/Dockerfile"), dockerfile).unwrap();
    };
    word("one");
    corner.ok(&["up", "--yes"]);
    let read = |service: &str, file: &str| corner.ok(&["exec", service, "--", "cat", file]);
    assert_eq!(
        (read("web", "/copied"), read("reader", "/part/word"), read("reader", "/all/data/word")),
        ("one\n".into(), "one\n".into(), "one\n".into())
    );
    assert_eq!(corner.ok(&["exec", "reader", "--", "stat", "-c", "%u %g", "/part/word"]), "7 8\n");
    assert_ne!(corner.devenv(&["exec", "reader", "--", "touch", "/part/x"]).code, 0);
    corner.ok(&["exec", "reader", "--", "touch", "/all/mine"]);
    corner.ok(&["restart", "reader"]);
    corner.ok(&["exec", "reader", "--", "test", "-e", "/all/mine"]);
    let before = corner.service("reader")["container"].clone();
    corner.ok(&["up", "--yes"]);
    assert_eq!(corner.service("reader")["container"], before, "nothing has changed");
    word("two");
    corner.ok(&["up", "--yes"]);
    assert_eq!(
        (read("web", "/copied"), read("reader", "/part/word"), read("reader", "/all/data/word")),
        ("two\n".into(), "two\n".into(), "two\n".into())
    );
    assert_ne!(corner.devenv(&["exec", "reader", "--", "test", "-e", "/all/mine"]).code, 0, "the volume is made anew");
}

#[test]
fn an_image_is_built_from_a_git_repository_and_again_when_its_branch_moves() {
    let corner = Corner::new();
    let repository = corner.project().join("served/app");
    fs::create_dir_all(repository.join("web")).unwrap();
    let git = |words: &[&str]| {
        let identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org", "-c", "commit.gpgsign=false"];
        let output = Command::new("git").arg("-C").arg(&repository).args(identity).args(words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    let commit = |text: &str| {
        fs::write(repository.join("web/Dockerfile"), "FROM debian:trixie-slim\nCOPY word /word\nCMD [\"sleep\", \"infinity\"]\n").unwrap();
        fs::write(repository.join("web/word"), text).unwrap();
        git(&["add", "."]);
        git(&["commit", "--quiet", "--message", text]);
    };
    git(&["init", "--quiet", "--initial-branch", "main"]);
    commit("one");
    let address = format!("git://{}/app", serve(&corner.project().join("served")));
    fs::remove_dir(corner.project().join("profiles")).unwrap();
    let file = format!("services:\n  web: {{ build: '{address}#main:web' }}\n");
    fs::write(corner.project().join("compose.yaml"), file).unwrap();
    corner.ok(&["up", "--yes"]);
    let read = || corner.ok(&["exec", "web", "--", "cat", "/word"]);
    assert_eq!(read(), "one");
    commit("two");
    corner.ok(&["up", "--yes"]);
    assert_eq!(read(), "two");
    let file = format!("services:\n  web: {{ build: '{address}#other:web' }}\n");
    fs::write(corner.project().join("compose.yaml"), file).unwrap();
    let ended = corner.devenv(&["up", "--yes"]).expect(1);
    assert!(ended.stderr.contains("cannot be built from the repository") && ended.stderr.contains("other"), "{}", ended.stderr);
}

/// Serves the repositories in a directory, on a port that is taken for the whole test. Returns the address.
fn serve(directory: &Path) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let base = format!("--base-path={}", directory.display());
    thread::spawn(move || {
        for connection in listener.incoming() {
            let connection = connection.unwrap();
            let output = Stdio::from(std::os::fd::OwnedFd::from(connection.try_clone().unwrap()));
            let input = Stdio::from(std::os::fd::OwnedFd::from(connection));
            let mut daemon = Command::new("git");
            daemon.args(["daemon", "--inetd", "--export-all", &base]).stdin(input).stdout(output).stderr(Stdio::null());
            assert!(daemon.status().is_ok());
        }
    });
    address
}

/// `compose_settings.json` is what Docker Compose 5 makes of the same files, as `docker inspect` shows it. To record it again:
/// `benches/compose_compare.py --record tests/docker/compose_settings.json`, which builds Docker Compose from its Go module.
#[test]
fn containers_have_the_settings_that_docker_compose_gives_them() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/compose_compare.py");
    let recorded = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/docker/compose_settings.json");
    let output = Command::new("python3").args([script, "--binary", &binary(), "--recorded", recorded]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(said.lines().filter(|line| line.contains(" containers, ")).count(), 4, "{said}");
}

#[test]
fn databases_of_the_file_have_leases_and_test_takes_the_file() {
    let corner = with(
        "services:\n  Shop_DB:\n    image: postgres:17\n    secrets: [pw]\n    ports: ['5432']\n    \
         environment: { POSTGRES_USER: ada, POSTGRES_PASSWORD_FILE: /run/secrets/pw, POSTGRES_DB: shop }\n  \
         cache: { image: 'redis:8.0', ports: ['6379'] }\nsecrets: { pw: { file: pw.txt } }\n",
    );
    fs::write(corner.project().join("pw.txt"), "p w\n").unwrap();
    corner.ok(&["up"]);
    let (shared, cache) = (corner.variable("DATABASE_URL"), corner.variable("REDIS_URL"));
    sql(&shared, "create table item (id int); insert into item values (1)");
    redis(&cache, &["SET", "key", "shared"]);
    let leased = |number: &str| {
        let script =
            format!("printf '%s %s' \"$DATABASE_URL\" \"$REDIS_URL\" > new; mv new url-{number}; until [ -e done ]; do sleep 0.1; done");
        let child = corner.spawn(&["lease", "--", "sh", "-c", &script]);
        let path = corner.project().join(format!("url-{number}"));
        let urls = corner.until("a lease is granted", 30, || fs::read_to_string(&path).ok());
        let (database, cache) = urls.split_once(' ').unwrap();
        (child, database.to_owned(), cache.to_owned())
    };
    let (mut first, database, number) = leased("1");
    assert_ne!(database, shared);
    assert_eq!(sql(&database, "select count(*) from item; drop table item; select current_user"), ["1", "ada"]);
    assert_eq!(redis(&number, &["DBSIZE"]), "0");
    // What was written since is in the next one.
    sql(&shared, "insert into item values (2)");
    let (mut second, database, _) = corner.until("the server has counted the row", 30, || {
        let _ = fs::remove_file(corner.project().join("url-2"));
        let (child, database, number) = leased("2");
        if sql(&database, "select count(*) from item") == ["2"] {
            return Some((child, database, number));
        }
        let mut child = child;
        child.kill().unwrap();
        child.wait().unwrap();
        None
    });
    assert_eq!(redis(&cache, &["GET", "key"]), "shared");
    fs::write(corner.project().join("done"), "").unwrap();
    assert!(first.wait().unwrap().success() && second.wait().unwrap().success());
    corner.until("the copy is gone", 30, || try_sql(&database, "select 1").is_err().then_some(()));
    assert_eq!(sql(&shared, "select count(*) from item"), ["2"]);

    let variables = corner.ok(&["test", "--", "env"]);
    assert!(variables.contains("SHOP_DB_URL=postgres://ada:p%20w@"), "{variables}");
}
