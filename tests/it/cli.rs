//! The built binary, where it needs no engine: its output, and the exit codes that scripts rely on.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

/// An empty project with its own directories and without an engine.
struct Place(TempDir);

struct Ended {
    code: i32,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(place.project().join("profiles")).unwrap();
        place
    }

    fn project(&self) -> PathBuf {
        self.0.path().join("project")
    }

    fn write(&self, path: &str, text: &str) -> &Self {
        let path = self.project().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_devenv"));
        command.args(line.split_whitespace()).current_dir(self.project()).stdin(Stdio::null());
        for (name, directory) in [("DEVENV_STATE_DIR", "state"), ("DEVENV_RUNTIME_DIR", "run"), ("DEVENV_CONFIG_DIR", "config")] {
            command.env(name, self.0.path().join(directory));
        }
        command.env("NO_COLOR", "1").env("DOCKER_HOST", "unix:///nowhere/docker.sock").env_remove("DOCKER_CONTEXT");
        command
    }

    fn run(&self, line: &str) -> Ended {
        let output = self.command(line).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ended { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    #[track_caller]
    fn expect(&self, code: i32, line: &str) -> Ended {
        let ended = self.run(line);
        assert_eq!(ended.code, code, "{line}\nstdout: {}\nstderr: {}", ended.stdout, ended.stderr);
        ended
    }
}

impl Ended {
    /// One document on one line.
    #[track_caller]
    fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "{}", self.stdout);
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

const BAD: &str = "services:\n  db:\n    postgres: { versoin: \"17\" }\n    ready_timeout: soon\n";

#[test]
fn validate_reports_every_problem_with_its_position_and_exits_with_2() {
    let place = Place::new();
    place.write("profiles/bad.yaml", BAD).write("profiles/good.yaml", "services:\n  db:\n    postgres: {}\n");
    let ended = place.expect(2, "validate profiles/bad.yaml --json");
    let problems = ended.json()["problems"].as_array().unwrap().clone();
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert_eq!((&problems[0]["line"], &problems[0]["column"]), (&Value::from(3), &Value::from(17)));
    assert!(problems[0]["hint"].as_str().unwrap().contains("version"), "{}", problems[0]);
    assert_eq!(problems[1]["line"], 4);
    assert!(ended.stderr.contains("bad.yaml:3:17"), "{}", ended.stderr);

    assert_eq!(place.expect(0, "validate profiles/good.yaml --json").json()["problems"], Value::Array(Vec::new()));
    place.expect(2, "validate profiles/good.yaml profiles/bad.yaml");
    place.expect(2, "validate profiles/missing.yaml");
}

#[test]
fn config_prints_the_whole_profile_and_where_a_value_is_from() {
    let place = Place::new();
    place.write("profiles/shop.yaml", "extends: [data]\nservices:\n  db:\n    postgres: { version: \"16\" }\n");
    let config = place.expect(0, "config shop --json").json();
    assert_eq!(config["services"]["db"]["postgres"]["version"], "16");
    assert!(config["services"]["cache"]["redis"].is_object());
    let explained = place.expect(0, "config shop --explain services.db.postgres.version").stdout;
    assert!(explained.contains("shop.yaml:4"), "{explained}");
    assert_eq!(place.expect(0, "config shop --images").stdout, "postgres:16\nredis:8.0\n");
    place.expect(2, "config shop --explain services.nobody");
}

#[test]
fn profiles_are_the_projects_the_users_and_the_built_in_ones() {
    let place = Place::new();
    place
        .write("profiles/shop.yaml", "description: the shop's\nextends: [data]\n")
        .write("../config/profiles/mine.yaml", "extends: [data]\n");
    let profiles = place.expect(0, "profiles --json").json()["profiles"].as_array().unwrap().clone();
    let of = |name: &str| profiles.iter().find(|profile| profile["name"] == name).unwrap_or_else(|| panic!("{name}: {profiles:?}")).clone();
    assert_eq!(of("shop")["description"], "the shop's");
    assert_eq!(of("default")["source"], "built-in");
    assert_ne!(of("mine")["source"], of("shop")["source"]);
}

#[test]
fn completions_are_made_for_every_shell_and_bash_takes_its_own() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "nushell", "elvish", "powershell"] {
        assert!(place.expect(0, &format!("completions {shell}")).stdout.contains("devenv"));
    }
    let script = place.0.path().join("completions");
    fs::write(&script, place.run("completions bash").stdout).unwrap();
    assert!(Command::new("bash").arg("-n").arg(&script).status().unwrap().success());
    place.expect(2, "completions cmd");
}

#[test]
fn wrong_usage_is_exit_2_and_a_document_with_json() {
    let place = Place::new();
    for line in [
        "",
        "upp",
        "up --bogus",
        "up --timeout 3",
        "down a b",
        "logs --grep",
        "--instance a/b status",
        "daemon",
        "exec-x db",
        "up ./missing.yaml",
        "up nosuch",
    ] {
        place.expect(2, line);
    }
    assert_eq!(place.expect(2, "up --timeout 3 --json").json()["error"]["code"], "usage");
    let unknown = place.expect(2, "up nosuch --json");
    assert_eq!(unknown.json()["error"]["code"], "invalid-profile");
    assert!(unknown.stderr.contains("nosuch"), "{}", unknown.stderr);

    place.write("profiles/bad.yaml", BAD);
    let invalid = place.expect(2, "up bad --json").json();
    assert_eq!(invalid["error"]["problems"].as_array().unwrap().len(), 2, "{invalid}");
}

#[test]
fn an_engine_that_does_not_answer_is_exit_3_for_every_command_that_needs_one() {
    let place = Place::new();
    for line in [
        "up data",
        "down",
        "status",
        "list",
        "plan data",
        "logs",
        "events",
        "env",
        "start db",
        "stop db",
        "restart db",
        "wait",
        "why db",
        "gc",
    ] {
        let ended = place.expect(3, &format!("{line} --json"));
        let error = ended.json()["error"].clone();
        assert_eq!(error["code"], "no-engine", "{line}");
        assert!(error["message"].as_str().unwrap().contains("unix:///nowhere/docker.sock"), "{error}");
        assert!(error["hint"].as_str().unwrap().contains("devenv doctor"), "{error}");
        assert!(ended.stderr.contains("no container engine answers"), "{}", ended.stderr);
    }
    let nothing_runs = place.expect(0, "daemon status --json").json();
    assert_eq!(nothing_runs["running"], false);
}

#[test]
fn run_and_exec_keep_125_for_devenvs_own_failures() {
    let place = Place::new();
    for line in ["run -- true", "exec db -- true", "run", "exec db", "run --bogus", "exec --bogus db true"] {
        place.expect(125, line);
    }
    assert_eq!(place.expect(125, "run --json -- true").json()["error"]["code"], "no-engine");
}

#[test]
fn doctor_names_problems_and_their_remedies() {
    let place = Place::new();
    let checks = place.expect(3, "doctor --json").json()["checks"].as_array().unwrap().clone();
    let engine = checks.iter().find(|check| check["name"] == "engine").unwrap();
    assert_eq!(engine["status"], "fail");
    assert!(engine["fix"].as_str().is_some_and(|fix| !fix.is_empty()), "{engine}");
    assert!(checks.iter().any(|check| check["name"] == "state directory" && check["status"] == "ok"), "{checks:?}");
}

#[test]
fn commands_without_a_daemon_start_none_and_need_no_engine() {
    let place = Place::new();
    for line in [
        "validate /dev/null",
        "config data",
        "profiles",
        "daemon status",
        "daemon stop",
        "completions fish",
        "--version",
        "--help",
        "up --help",
    ] {
        let ended = place.run(line);
        assert!(matches!(ended.code, 0 | 2), "{line}: {}", ended.stderr);
        assert!(!place.0.path().join("run/devenv.sock").exists(), "{line} started a daemon");
    }
}

#[test]
fn help_lists_every_exit_code_and_variable_of_the_reference() {
    let help = Place::new().expect(0, "--help").stdout;
    let reference = |page: &str| fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/reference").join(page)).unwrap();
    let first_cells = |page: &str| -> Vec<String> {
        let text = reference(page);
        let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| exit") && !line.starts_with("| name"));
        rows.map(|row| row.split('|').nth(1).unwrap().trim().trim_matches('`').to_owned()).collect()
    };
    for word in [first_cells("exit-codes.md"), first_cells("environment-variables.md")].concat() {
        assert!(help.contains(&word), "{word}");
    }
    let commands = reference("commands.md");
    // The commands come before the codes and variables, whose text may wrap.
    for line in help.split("Exit codes:").next().unwrap().lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let word = line.split_whitespace().next().unwrap();
        if word.chars().all(|c| c.is_ascii_lowercase()) {
            assert!(commands.contains(&format!("### `devenv {word}")), "{word}");
        }
    }
}

#[test]
fn a_reader_that_closes_the_output_ends_the_command_quietly() {
    let place = Place::new();
    let mut child = place.command("completions bash").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert!(matches!(ended.status.code(), Some(0 | 141)), "{:?}", ended.status);
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "");
}

#[test]
fn tests_and_scenarios_do_not_start_while_a_connection_may_lead_elsewhere() {
    let place = Place::new();
    let remote = "postgres://app:x@db.example.com/prod";
    place
        .write(
            "profiles/d.yaml",
            &format!("override: [DATABASE_URL]\nvariables: {{ DATABASE_URL: \"{remote}\" }}\nservices:\n  db:\n    postgres: {{}}\n"),
        )
        .write("profiles/e.yaml", "override: [PGHOST]\nenv_file: [.env]\nservices:\n  db:\n    postgres: {}\n")
        .write(".env", "PGHOST=db.example.com\n");
    for (profile, variable) in [("d", "DATABASE_URL"), ("e", "PGHOST")] {
        place.write(
            "chaos/x.yaml",
            &format!(
                "description: x\nprofile: {profile}\nseed: 1\ndeadline: 20s\nworkload:\n  rows: {{ postgres-rows: {{ service: db, database: db, clients: 1 }} }}\n\
                 timeline:\n  - {{ id: cut, at: 1s, for: 1s, fault: pause, on: db }}\nchecks: {{ rows.lost: {{ max: 0 }} }}\n"
            ),
        );
        for (code, line) in [(125, format!("test {profile} -- touch ran")), (1, "chaos run chaos/x.yaml".to_owned())] {
            let ended = place.expect(code, &line);
            assert!(
                ended.stderr.contains("does not run while the profile overrides") && ended.stderr.contains(variable),
                "{}",
                ended.stderr
            );
            assert!(!ended.stderr.contains(remote) && !place.project().join("ran").exists());
        }
    }
}
