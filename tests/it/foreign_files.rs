//! Files outside of a project that the project names, by a path or by a link: their text is never shown, `plan` lists them, and
//! what devenv writes for its user goes through no link.

use std::{
    fs,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Command, Output},
};

use tempfile::TempDir;

const MARK: &str = "mArK3d-5ecret";

/// A project, and beside it a file of the user's own.
struct Place {
    root: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { root: tempfile::tempdir().unwrap() };
        fs::create_dir_all(place.at("project/profiles")).unwrap();
        fs::write(place.at("hidden"), format!("root:{MARK}:20000\n{MARK}\n")).unwrap();
        place
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.at("project").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text.replace("HIDDEN", &self.at("hidden").display().to_string())).unwrap();
    }

    fn link(&self, path: &str) {
        let path = self.at("project").join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(self.at("hidden"), path).unwrap();
    }

    fn run(&self, line: &str) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_devenv"));
        command.args(line.split_whitespace()).current_dir(self.at("project")).env("DOCKER_HOST", "unix:///nonexistent");
        for (variable, directory) in [("DEVENV_STATE_DIR", "state"), ("DEVENV_RUNTIME_DIR", "run"), ("DEVENV_CONFIG_DIR", "config")] {
            command.env(variable, self.at(directory));
        }
        let Output { status, stdout, stderr } = command.output().unwrap();
        (status.code(), String::from_utf8_lossy(&stdout).into_owned() + &String::from_utf8_lossy(&stderr))
    }
}

#[test]
fn no_error_shows_a_line_of_a_file_outside_of_the_project() {
    let place = Place::new();
    place.link("profiles/link.yaml");
    place.write("profiles/extends.yaml", "extends: [HIDDEN]\nservices: {}\n");
    place.write("profiles/extends-link.yaml", "extends: [link]\nservices: {}\n");
    place.write("profiles/variables.yaml", "env_file: [HIDDEN]\nservices: {}\n");
    place.link("chaos/link.yaml");
    place.link("devenv.lock");
    place.write("include.yaml", "include: [HIDDEN]\nservices: { a: { image: x } }\n");
    place.write("based.yaml", "services: { a: { extends: { file: HIDDEN, service: x } } }\n");
    place.write("env.yaml", "services: { a: { image: x, env_file: HIDDEN } }\n");
    place.write("config.yaml", "services: { a: { image: x, configs: [c] } }\nconfigs: { c: { file: HIDDEN } }\n");
    for line in [
        "validate profiles/link.yaml",
        "validate profiles/link.yaml --json",
        "validate profiles/extends.yaml",
        "validate profiles/extends-link.yaml",
        "validate profiles/variables.yaml",
        "config link",
        "plan extends",
        "profiles",
        "chaos run link --dry-run",
        "fetch variables",
        "plan -f include.yaml",
        "config -f include.yaml",
        "plan -f based.yaml",
        "plan -f env.yaml",
        "config -f config.yaml",
        "render compose -f config.yaml",
    ] {
        let (_, said) = place.run(line);
        assert!(!said.contains(MARK), "{line}: {said}");
    }
    let (code, said) = place.run("validate profiles/extends.yaml");
    assert!(code == Some(2) && said.contains("hidden:1:1") && said.contains("its text is not shown"), "{said}");
    // What the user names is the user's own to see.
    let (_, said) = place.run(&format!("validate {}", place.at("hidden").display()));
    assert!(said.contains(MARK), "{said}");
}

#[test]
fn what_devenv_writes_for_its_user_goes_through_no_link() {
    let place = Place::new();
    place.write("profiles/default.yaml", "services: { c: { redis: {} } }\n");
    fs::create_dir(place.at("trap")).unwrap();
    for name in ["compose.yaml", "devenv.1", "devenv-up.1"] {
        symlink(place.at("hidden"), place.at("trap").join(name)).unwrap();
    }
    let trap = place.at("trap").display().to_string();
    for line in [format!("render compose default --output {trap}"), format!("man --output {trap}")] {
        let (code, said) = place.run(&line);
        assert!(code != Some(0) && said.contains("not a regular file"), "{line}: {said}");
    }
    assert!(fs::read_to_string(place.at("hidden")).unwrap().contains(MARK));
    let (code, said) = place.run(&format!("render compose default --output {}", place.at("out").display()));
    assert!(code == Some(0) && place.at("out/compose.yaml").exists(), "{said}");
}
