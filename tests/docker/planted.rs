//! Secrets that a user gives, in every way in which one can be given: nobody finds them but those whom they are for.
//!
//! Each way has its mark. The marks are looked for in everything that devenv writes outside of files that are the user's own, in
//! everything that it prints, in what the engine tells of containers and images, and in the arguments of every process.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::corner::{Corner, docker};

/// Where mark N comes from.
const WAYS: [&str; 21] = [
    "a variable with the name of a secret",
    "the password of a URL in a variable",
    "an env_file",
    "a password of a URL in an env_file",
    "a secret from a file",
    "a secret from a command",
    "a secret from the shell",
    "a secret within a longer text",
    "the environment of a service",
    "the password of a URL in the environment of a service",
    "a variable of the shell in the environment of a service",
    "the environment of a process",
    "the content of a secret file",
    "the file of a secret file",
    "a build secret from a file",
    "a build secret from the shell",
    "the password of the URL of an import",
    "a Compose secret from a file",
    "a Compose secret from the environment",
    "the environment in a Compose file",
    "an env_file of a Compose file",
];

/// No mark is a part of another one.
fn mark(way: usize) -> String {
    format!("mArK-{way:02}-s3cr3t")
}

const PROFILE: &str = r#"
env_file: [.env]
variables:
  STRIPE_KEY: MARK00
  OTHER_URL: "amqp://me:MARK01@127.0.0.1/x"
  LICENCE_KEY: "${secret:LICENCE}"
  DEPLOY_TOKEN: "${secret:DEPLOY}"
secrets:
  LICENCE: { file: licence.txt }
  DEPLOY: { command: [cat, deploy.txt] }
  SHELL: { from_env: SHELL_SECRET }
  WORD: { file: word.txt }
services:
  db:
    postgres: { databases: { app: {} } }
  web:
    container:
      build: { context: ./web, secrets: { npm: { file: npm.txt }, pip: { from_env: PIP_SECRET } } }
      secret_files:
        /run/secrets/text: { content: MARK12 }
        /run/secrets/file: { file: file.txt }
    environment:
      SMTP_PASSWORD: MARK08
      BROKER_URL: "amqp://me:MARK09@127.0.0.1/y"
      SHELL_PASSWORD: "${SHELL_PASSWORD}"
      HEADER: "Bearer ${secret:WORD} and more"
      SHELL_TOKEN: "${secret:SHELL}"
  worker:
    process: { command: [sh, -c, "sleep 1000"] }
    environment: { WORKER_TOKEN: MARK11 }
"#;

const COMPOSE: &str = r#"
name: planted
services:
  c:
    image: debian:trixie-slim
    command: [sleep, "1000"]
    environment: { DB_PASSWORD: MARK19 }
    env_file: c.env
    secrets: [from_file, from_environment]
secrets:
  from_file: { file: ./c.txt }
  from_environment: { environment: COMPOSE_SECRET }
"#;

/// The program has its variables, so that nothing is proved by a secret that did not arrive.
const DOCKERFILE: &str = "FROM debian:trixie-slim\n\
    RUN --mount=type=secret,id=npm --mount=type=secret,id=pip test -s /run/secrets/npm && test -s /run/secrets/pip\n\
    CMD [\"sleep\", \"1000\"]\n";

fn filled(text: &str) -> String {
    (0..WAYS.len()).fold(text.to_owned(), |text, way| text.replace(&format!("MARK{way:02}"), &mark(way)))
}

#[test]
fn secrets_that_a_user_gives_in_any_way_are_found_nowhere() {
    let corner = Corner::new();
    let write = |path: &str, text: &str| {
        let path = corner.project().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, filled(text)).unwrap();
    };
    write("profiles/planted.yaml", PROFILE);
    write(".env", "API_TOKEN=MARK02\nMIRROR_URL=https://me:MARK03@example.com/\n");
    for (file, text) in [("licence.txt", "MARK04"), ("deploy.txt", "MARK05"), ("word.txt", "MARK07"), ("file.txt", "MARK13")] {
        write(file, text);
    }
    write("web/Dockerfile", DOCKERFILE);
    write("npm.txt", "MARK14");
    let shell = [("SHELL_SECRET", mark(6)), ("SHELL_PASSWORD", mark(10)), ("PIP_SECRET", mark(15)), ("COMPOSE_SECRET", mark(18))];
    let run = |line: &[&str]| corner.devenv_with_variables(line, &shell);

    run(&["up", "planted", "--yes"]).expect(0);
    let has = |service: &str, variable: &str, way: usize| {
        let script = format!("printf %s \"${variable}\"");
        let value = run(&["exec", service, "--", "sh", "-c", &script]).expect(0).stdout;
        assert!(value.contains(&mark(way)), "{}: `{variable}` of {service} is {value:?}", WAYS[way]);
    };
    for (variable, way) in
        [("SMTP_PASSWORD", 8), ("BROKER_URL", 9), ("SHELL_PASSWORD", 10), ("HEADER", 7), ("SHELL_TOKEN", 6), ("STRIPE_KEY", 0)]
    {
        has("web", variable, way);
    }
    for (file, way) in [("text", 12), ("file", 13)] {
        let text = run(&["exec", "web", "--", "cat", &format!("/run/secrets/{file}")]).expect(0).stdout;
        assert!(text.contains(&mark(way)), "{text}");
    }
    let mut seen = Seen::default();
    let bundle = corner.project().join("bundle");
    seen.look(&corner, &run, "planted", &["db", "web", "worker"]);
    let url = format!("postgres://me:{}@127.0.0.1:1/none", mark(16));
    seen.printed("import", &run(&["import", "db", &url]));
    seen.printed("test", &run(&["test", "planted", "--yes", "--bundle", bundle.to_str().unwrap(), "--", "false"]));
    seen.files(&bundle, true);
    seen.look(&corner, &run, "planted", &["db"]);
    run(&["backup", "db"]).expect(0);
    run(&["snapshot", "save", "one"]).expect(0);
    seen.files(&corner.state(), false);
    seen.files(&corner.run_directory(), false);
    run(&["snapshot", "remove", "one"]).expect(0);
    run(&["down", "--volumes"]).expect(0);

    write("compose.yaml", COMPOSE);
    write("c.txt", "MARK17");
    write("c.env", "C_TOKEN=MARK20\n");
    let compose = ["up", "-f", "compose.yaml", "--instance", "compose", "--yes"];
    seen.printed("up -f", &run(&compose).expect(0));
    let compose = |line: &[&str]| run(&[&["--instance", "compose"], line].concat());
    for (script, way) in [
        ("printf %s $DB_PASSWORD", 19),
        ("printf %s $C_TOKEN", 20),
        ("cat /run/secrets/from_file", 17),
        ("cat /run/secrets/from_environment", 18),
    ] {
        let value = compose(&["exec", "c", "--", "sh", "-c", script]).expect(0).stdout;
        assert!(value.contains(&mark(way)), "{}: {value:?}", WAYS[way]);
    }
    seen.look(&corner, &compose, "compose.yaml", &["c"]);
    seen.files(&corner.state(), false);
    seen.files(&corner.run_directory(), false);
    compose(&["down", "--volumes"]).expect(0);
    assert!(seen.0.is_empty(), "{} secrets were found:\n{}", seen.0.len(), seen.0.join("\n"));
}

/// Where marks were found.
#[derive(Default)]
struct Seen(Vec<String>);

impl Seen {
    fn text(&mut self, place: &str, text: &str) {
        for (way, name) in WAYS.iter().enumerate() {
            if let Some(at) = text.find(&mark(way)) {
                let before = &text[text.floor_char_boundary(at.saturating_sub(60))..at];
                self.0.push(format!("{name}: in {place}, after {before:?}"));
            }
        }
    }

    fn printed(&mut self, line: &str, ended: &crate::corner::Ended) {
        self.text(&format!("what `{line}` prints"), &ended.stdout);
        self.text(&format!("the messages of `{line}`"), &ended.stderr);
    }

    /// Everything that can be asked of a running environment, of the engine, and of this machine.
    fn look(&mut self, corner: &Corner, run: &dyn Fn(&[&str]) -> crate::corner::Ended, profile: &str, services: &[&str]) {
        let mut lines = vec![
            vec!["status"],
            vec!["list"],
            vec!["plan", profile],
            vec!["config", profile],
            vec!["events"],
            vec!["operations"],
            vec!["ledger"],
            vec!["snapshot", "list"],
            vec!["validate", profile],
            vec!["doctor"],
            vec!["daemon", "status"],
        ];
        lines.extend(services.iter().map(|service| vec!["why", *service]));
        for line in lines {
            self.printed(&line.join(" "), &run(&line));
            let json = [&line[..], &["--json"]].concat();
            self.printed(&json.join(" "), &run(&json));
        }
        self.printed("env --redact", &run(&["env", "--redact"]));
        let containers = docker(&["ps", "-aq", "--filter", &format!("label=dev.devenv.owner={}", corner.owner().unwrap().trim())]).stdout;
        for container in containers.split_whitespace() {
            self.text("docker inspect", &docker(&["inspect", container]).stdout);
            let image = docker(&["inspect", "--format", "{{.Image}}", container]).stdout;
            self.text("docker image inspect", &docker(&["image", "inspect", image.trim()]).stdout);
            self.text("docker history", &docker(&["history", "--no-trunc", image.trim()]).stdout);
        }
        let processes = Command::new("ps").args(["-eo", "args", "-ww"]).output().unwrap().stdout;
        self.text("ps", &String::from_utf8_lossy(&processes));
    }

    /// Files below a directory; those that nobody else can read count only if `private` ones are looked into.
    fn files(&mut self, directory: &Path, private: bool) {
        let mut left: Vec<PathBuf> = vec![directory.to_owned()];
        while let Some(path) = left.pop() {
            let data = fs::symlink_metadata(&path).unwrap();
            if data.is_dir() {
                left.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            } else if data.is_file() && (private || data.mode() & 0o077 != 0) {
                self.text(
                    &format!("{} (mode {:o})", path.display(), data.mode() & 0o777),
                    &String::from_utf8_lossy(&fs::read(&path).unwrap()),
                );
            }
        }
    }
}
