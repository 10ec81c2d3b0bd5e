//! The recipes for CI: each is parsed as the service parses it, and its commands are run.

use std::{fs, os::unix::fs::symlink, process::Command};

use serde_yaml::Value;

use crate::corner::Corner;

const TEST: &str = r#"test "$(psql -XqAt "$DATABASE_URL" -c "select 7")" = 7 && redis-cli --no-auth-warning -u "$REDIS_URL" ping"#;

fn recipe(name: &str) -> String {
    let path = format!("{}/examples/ci/{name}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn texts(list: &Value) -> Vec<String> {
    list.as_sequence().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect()
}

/// Runs the commands one after the other, as a job does, once with a test that succeeds and once with one that fails.
fn run(commands: &[String]) {
    assert!(commands.iter().any(|command| command.contains("devenv test")), "{commands:?}");
    let corner = Corner::new();
    let profile = "services:\n  db: { postgres: {} }\n  cache: { redis: {} }\n";
    fs::write(corner.project().join("profiles/ci.yaml"), profile).unwrap();
    let root = corner.project().parent().unwrap().to_owned();
    fs::create_dir(root.join("bin")).unwrap();
    let binary = std::env::var("DEVENV_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_devenv").to_owned());
    symlink(fs::canonicalize(binary).unwrap(), root.join("bin/devenv")).unwrap();
    let job = |test: &str| {
        let path = format!("{}:{}", root.join("bin").display(), std::env::var("PATH").unwrap());
        let ended = Command::new("sh")
            .args(["-exc", &commands.join("\n")])
            .current_dir(corner.project())
            .env("PATH", path)
            .env("DEVENV_STATE_DIR", root.join("state"))
            .env("DEVENV_RUNTIME_DIR", root.join("run"))
            .env("TEST_COMMAND", test)
            .output()
            .unwrap();
        (ended.status.code(), String::from_utf8_lossy(&ended.stderr).into_owned())
    };
    let (code, said) = job(TEST);
    assert_eq!(code, Some(0), "{said}");
    assert!(!corner.project().join("devenv-bundle").exists(), "a bundle of a run that passed");
    let (code, said) = job("exit 9");
    assert_eq!(code, Some(9), "{said}");
    assert!(corner.project().join("devenv-bundle/junit.xml").exists(), "{said}");
}

#[test]
fn the_recipe_for_github_holds() {
    let file: Value = serde_yaml::from_str(&recipe("github-actions.yml")).unwrap();
    let steps = file["jobs"]["test"]["steps"].as_sequence().unwrap();
    let commands: Vec<String> = steps
        .iter()
        .filter(|step| step["name"].as_str() != Some("Install devenv"))
        .filter_map(|step| step["run"].as_str().map(str::to_owned))
        .collect();
    run(&commands);
}

#[test]
fn the_recipe_for_gitlab_holds() {
    let file: Value = serde_yaml::from_str(&recipe("gitlab-ci.yml")).unwrap();
    run(&texts(&file["test"]["script"]));
}

#[test]
fn the_recipe_for_jenkins_holds() {
    let text = recipe("Jenkinsfile");
    let commands: Vec<String> =
        text.lines().filter_map(|line| line.split_once("sh '")?.1.rsplit_once('\'').map(|(command, _)| command.to_owned())).collect();
    assert_eq!(commands.len(), 3, "{commands:?}");
    // The last one is `post`, which runs whatever happened to the others.
    run(&commands[..2]);
}
