//! A private corner in which a test runs the binary: its own state, runtime and project directory, and nothing is left when it is dropped.

use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) struct Corner {
    root: TempDir,
    /// The group of the engine's socket, for a user who is not root and may use the engine.
    group: Option<u32>,
}

/// How much longer everything may take on a machine that does something else.
const BUSY: u32 = 6;

/// `nobody`.
const NOT_ROOT: u32 = 65534;

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    fn of(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

impl Corner {
    /// With only the built-in profiles.
    pub(crate) fn new() -> Self {
        let corner = Self { root: tempfile::Builder::new().prefix("devenv-test-").tempdir().unwrap(), group: None };
        fs::create_dir_all(corner.project().join("profiles")).unwrap();
        corner
    }

    /// With the services as the profile `test`.
    pub(crate) fn with(services: &str) -> Self {
        let corner = Self::new();
        corner.rewrite(services);
        corner
    }

    /// All its commands run without root, in the group of the engine's socket.
    pub(crate) fn without_root(services: &str) -> Self {
        let mut corner = Self::with(services);
        let group = fs::metadata("/var/run/docker.sock").unwrap().gid();
        let owner = format!("{NOT_ROOT}:{group}");
        assert!(Command::new("chown").arg("-R").arg(owner).arg(corner.root.path()).status().unwrap().success());
        corner.group = Some(group);
        corner
    }

    pub(crate) fn rewrite(&self, services: &str) {
        fs::write(self.project().join("profiles/test.yaml"), format!("services:\n{services}")).unwrap();
    }

    pub(crate) fn project(&self) -> PathBuf {
        self.root.path().join("project")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    pub(crate) fn run_directory(&self) -> PathBuf {
        self.root.path().join("run")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match self.group {
            None => Command::new(binary()),
            Some(group) => {
                let mut command = Command::new("setpriv");
                command.args([format!("--reuid={NOT_ROOT}"), format!("--regid={group}"), "--clear-groups".to_owned(), binary()]);
                command.env("HOME", self.root.path());
                command
            }
        };
        command.args(arguments).current_dir(self.project()).stdin(Stdio::null());
        command.env("DEVENV_STATE_DIR", self.state()).env("DEVENV_RUNTIME_DIR", self.root.path().join("run"));
        command.env("DEVENV_CONFIG_DIR", self.root.path().join("config")).env("NO_COLOR", "1");
        command
    }

    pub(crate) fn devenv(&self, line: &[&str]) -> Ended {
        Ended::of(self.command(line).output().unwrap())
    }

    pub(crate) fn devenv_with_variables(&self, line: &[&str], variables: &[(&str, String)]) -> Ended {
        Ended::of(self.command(line).envs(variables.iter().map(|(name, value)| (name, value))).output().unwrap())
    }

    /// A program of this name for [`Self::shell`], and for a daemon that a shell starts.
    pub(crate) fn program(&self, name: &str, script: &str) {
        executable(&self.programs().join(name), script);
    }

    fn programs(&self) -> PathBuf {
        let programs = self.root.path().join("bin");
        fs::create_dir_all(&programs).unwrap();
        programs
    }

    /// Lines of a shell in which `devenv` is the binary under test.
    pub(crate) fn shell(&self, script: &str) -> Ended {
        let programs = self.programs();
        if !programs.join("devenv").exists() {
            std::os::unix::fs::symlink(fs::canonicalize(binary()).unwrap(), programs.join("devenv")).unwrap();
        }
        let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
        let variables: Vec<_> =
            self.command(&[]).get_envs().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned()))).collect();
        let mut shell = Command::new("bash");
        shell.args(["-c", script]).current_dir(self.project()).stdin(Stdio::null()).envs(variables).env("PATH", path);
        Ended::of(shell.output().unwrap())
    }

    /// A command that runs in the background, with its output discarded.
    pub(crate) fn spawn(&self, line: &[&str]) -> Child {
        self.command(line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    pub(crate) fn devenv_with_input(&self, line: &[&str], input: &str) -> Ended {
        let mut command = self.command(line);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Ended::of(child.wait_with_output().unwrap())
    }

    /// A command that must succeed. Returns its output.
    #[track_caller]
    pub(crate) fn ok(&self, line: &[&str]) -> String {
        self.devenv(line).expect(0).stdout
    }

    #[track_caller]
    pub(crate) fn json(&self, line: &[&str]) -> Value {
        self.devenv(&[line, &["--json"]].concat()).expect(0).json()
    }

    #[track_caller]
    pub(crate) fn lines(&self, line: &[&str]) -> Vec<Value> {
        self.ok(&[line, &["--json"]].concat()).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// `up`, after which every service that is not optional must be ready, or completed.
    #[track_caller]
    pub(crate) fn up(&self, profile: &str) -> Value {
        let status = self.json(&["up", profile]);
        assert_eq!(status["phase"], "ready", "{status}");
        for service in status["services"].as_array().unwrap() {
            let good = service["state"] == "ready" || service["state"] == "completed" || service["optional"] == true;
            assert!(good, "{service}");
        }
        status
    }

    #[track_caller]
    pub(crate) fn variable(&self, name: &str) -> String {
        self.variables(&[])[name].as_str().unwrap_or_else(|| panic!("no variable {name}")).to_owned()
    }

    #[track_caller]
    pub(crate) fn variables(&self, more: &[&str]) -> Value {
        self.devenv(&[&["env", "--format", "json"], more].concat()).expect(0).json()
    }

    #[track_caller]
    pub(crate) fn service(&self, name: &str) -> Value {
        named(&self.json(&["status"]), name)
    }

    /// The engine's whole description of every container, and the arguments and variables of every process of this machine, contain
    /// none of the environment's secrets.
    #[track_caller]
    pub(crate) fn tells_no_secret(&self) {
        let status = self.json(&["status"]);
        let environment = status["environment"].as_str().unwrap();
        let directory = self.root.path().join("state/environments").join(environment).join("secrets");
        let mut secrets = Vec::new();
        for service in fs::read_dir(&directory).into_iter().flatten() {
            for file in fs::read_dir(service.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                // All clients may read a certificate.
                if path.extension().is_none_or(|extension| extension != "crt") {
                    secrets.push((path.clone(), fs::read_to_string(&path).unwrap().trim().to_owned()));
                }
            }
        }
        let filter = format!("label=dev.devenv.environment={environment}");
        let containers = docker(&["ps", "-aq", "--filter", &filter]).stdout;
        let inspect = [&["inspect"], &containers.split_whitespace().collect::<Vec<_>>()[..]].concat();
        let mut message = docker(&inspect).expect(0).stdout;
        assert!(message.contains("devenv-"), "{message}");
        for process in fs::read_dir("/proc").unwrap() {
            message.push_str(&fs::read_to_string(process.unwrap().path().join("cmdline")).unwrap_or_default());
        }
        for (path, secret) in secrets {
            // In JSON a key is one line.
            let secret = secret.replace('\n', "\\n");
            assert!(secret.len() >= 32 && !message.contains(&secret), "{} is told", path.display());
        }
    }

    /// How often this happened to the service.
    pub(crate) fn count(&self, service: &str, kind: &str) -> usize {
        self.lines(&["events"]).iter().filter(|event| event["service"] == service && event["kind"] == kind).count()
    }

    /// The seconds are those of a machine that does nothing else; a busy one gets more.
    #[track_caller]
    pub(crate) fn until<T>(&self, what: &str, seconds: u64, mut probe: impl FnMut() -> Option<T>) -> T {
        let deadline = Instant::now() + BUSY * Duration::from_secs(seconds);
        loop {
            if let Some(found) = probe() {
                return found;
            }
            assert!(Instant::now() < deadline, "{what}: not within {BUSY} times {seconds} s; status: {}", self.ok(&["status", "--json"]));
            thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn kill_daemon(&self) {
        let pid = self.json(&["daemon", "status"])["pid"].as_u64().expect("a daemon runs");
        assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
    }

    pub(crate) fn owner(&self) -> Option<String> {
        fs::read_to_string(self.state().join("owner")).ok()
    }

    /// The engine's objects of this corner: containers, networks, volumes.
    pub(crate) fn objects(&self) -> Vec<String> {
        let Some(owner) = self.owner() else { return Vec::new() };
        let filter = format!("label=dev.devenv.owner={}", owner.trim());
        [&["ps", "-aq"][..], &["network", "ls", "-q"], &["volume", "ls", "-q"]]
            .iter()
            .flat_map(|list| {
                docker(&[*list, &["--filter", &filter]].concat()).stdout.lines().map(|id| format!("{} {id}", list[0])).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Processes of this corner: their variables or arguments name it.
    fn processes(&self) -> Vec<String> {
        let root = self.root.path().to_str().unwrap();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
            let holds = |file: &str| fs::read(entry.path().join(file)).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(root));
            if pid != std::process::id() && (holds("environ") || holds("cmdline")) {
                found.push(format!("process {pid}"));
            }
        }
        found
    }
}

impl Drop for Corner {
    fn drop(&mut self) {
        let ends: Vec<Ended> =
            [&["down", "--all", "--volumes"][..], &["gc", "--all"], &["daemon", "stop"]].iter().map(|line| self.devenv(line)).collect();
        let deadline = Instant::now() + Duration::from_mins(1);
        while !self.processes().is_empty() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        let left = [self.objects(), self.processes()].concat();
        for object in &left {
            // The next test must still find a clean machine.
            let _ = match object.split_once(' ') {
                Some(("ps", id)) => docker(&["rm", "-f", "-v", id]),
                Some(("network", id)) => docker(&["network", "rm", id]),
                Some(("volume", id)) => docker(&["volume", "rm", "-f", id]),
                Some((_, pid)) => Ended::of(Command::new("kill").args(["-KILL", pid]).output().unwrap()),
                None => continue,
            };
        }
        if !thread::panicking() {
            assert!(left.is_empty(), "left behind: {left:?}; {ends:?}");
        }
    }
}

/// Writes a program for a shell to run.
pub(crate) fn executable(path: &Path, script: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("#!/usr/bin/env bash\nset -e\n{script}\n")).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The binary to test.
pub(crate) fn binary() -> String {
    std::env::var("DEVENV_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_devenv").to_owned())
}

#[track_caller]
pub(crate) fn named(status: &Value, name: &str) -> Value {
    let mut services = status["services"].as_array().unwrap().iter();
    services.find(|service| service["name"] == name).unwrap_or_else(|| panic!("no service {name}: {status}")).clone()
}

/// The containers of a status by service, for comparison.
pub(crate) fn containers(status: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    status["services"].as_array().unwrap().iter().map(|service| (text(&service["name"]), text(&service["container"]))).collect()
}

pub(crate) fn docker(arguments: &[&str]) -> Ended {
    Ended::of(Command::new("docker").args(arguments).output().unwrap())
}
