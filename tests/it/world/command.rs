//! The built binary, which finds the test's daemon at its socket.

use std::{
    io::Read,
    process::{Child, Command, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use devenv_api::{AskedBy, DownRequest, GcRequest, NamedRequest, OperationRequest, ServicesRequest, Submission};
use serde_json::Value;

use super::TestDaemon;

/// Commands of these tests take far less, but not on a machine that does something else. One that waits for what never comes
/// takes longer.
const DEADLINE: Duration = Duration::from_mins(5);

pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl TestDaemon {
    /// The arguments are separated by white space.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_devenv"));
        command.args(line.split_whitespace()).current_dir(&self.project).stdin(Stdio::null());
        for (name, directory) in [("DEVENV_STATE_DIR", "state"), ("DEVENV_RUNTIME_DIR", "run"), ("DEVENV_CONFIG_DIR", "config")] {
            command.env(name, self.root.join(directory));
        }
        for name in ["DOCKER_HOST", "DOCKER_CONTEXT", "DEVENV_ENGINE"] {
            command.env_remove(name);
        }
        command.env("NO_COLOR", "1").stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub(crate) fn spawn(&self, line: &str) -> Running {
        Running { line: line.to_owned(), child: self.command(line).spawn().unwrap() }
    }

    pub(crate) fn run(&self, line: &str) -> Ended {
        self.spawn(line).ended()
    }

    #[track_caller]
    pub(crate) fn expect(&self, code: i32, line: &str) -> Ended {
        let ended = self.run(line);
        assert_eq!(ended.code, Some(code), "{line}\nstdout: {}\nstderr: {}", ended.stdout, ended.stderr);
        ended
    }

    /// Submits an operation as the command line would, without a process: for preparations and checks of a test.
    #[track_caller]
    pub(crate) fn carry_out(&self, line: &str) {
        let (line, instance) = line.split_once(" --instance ").unwrap_or((line, "default"));
        let target = self.target(instance);
        let named = |name: &str| NamedRequest { target: target.clone(), name: name.to_owned() };
        let services = || ServicesRequest { target: target.clone(), services: Vec::new() };
        let request = match line.split(' ').collect::<Vec<_>>()[..] {
            ["down"] => OperationRequest::Down(DownRequest { target, volumes: false }),
            ["down", "--volumes"] => OperationRequest::Down(DownRequest { target, volumes: true }),
            ["start"] => OperationRequest::Start(services()),
            ["stop"] => OperationRequest::Stop(services()),
            ["sleep"] => OperationRequest::Sleep(services()),
            ["wake"] => OperationRequest::Wake(services()),
            ["reset"] => OperationRequest::Reset(services()),
            ["snapshot", "save", name] => OperationRequest::SnapshotSave(named(name)),
            ["snapshot", "remove", name] => OperationRequest::SnapshotRemove(named(name)),
            ["backup"] => OperationRequest::Backup(services()),
            ["gc"] => OperationRequest::Gc(GcRequest::default()),
            ["gc", "--all"] => OperationRequest::Gc(GcRequest { all: true, ..GcRequest::default() }),
            _ => panic!("`{line}` is not known here"),
        };
        let submission = Submission { request, asked_by: AskedBy::default() };
        let _: Value = self.ask(async |client| client.carry_out(&submission).await);
    }

    #[track_caller]
    pub(crate) fn json(&self, line: &str) -> Value {
        let ended = self.expect(0, &format!("{line} --json"));
        serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{line}: {error}: {}", ended.stdout))
    }
}

/// A running command.
pub(crate) struct Running {
    line: String,
    child: Child,
}

impl Running {
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// The first line of its output; the rest stays for [`Self::ended`].
    pub(crate) fn first_line(&mut self) -> String {
        next_line(self.child.stdout.as_mut().unwrap()).expect("a line of output")
    }

    /// Waits until it prints these words among its messages; later ones stay for [`Self::ended`].
    #[track_caller]
    pub(crate) fn until_it_says(&mut self, words: &str) {
        let mut said = Vec::new();
        while let Some(line) = next_line(self.child.stderr.as_mut().unwrap()) {
            if line.contains(words) {
                return;
            }
            said.push(line);
        }
        panic!("`devenv {}` does not say `{words}`: {said:?}", self.line);
    }

    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn wait(&mut self) {
        self.child.wait().unwrap();
    }

    /// Waits for its end. Fails if it takes too long.
    #[track_caller]
    pub(crate) fn ended(mut self) -> Ended {
        let late = Instant::now() + DEADLINE;
        let (stdout, stderr) = (read(self.child.stdout.take().unwrap()), read(self.child.stderr.take().unwrap()));
        let is_late = loop {
            if self.is_over() {
                break false;
            }
            if Instant::now() > late {
                self.child.kill().unwrap();
                break true;
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let status = self.child.wait().unwrap();
        let (stdout, stderr) = (stdout.join().unwrap(), stderr.join().unwrap());
        assert!(!is_late, "`devenv {}` did not end; {stdout}{stderr}", self.line);
        Ended { code: status.code(), stdout, stderr }
    }
}

/// `None` at the end.
#[expect(clippy::unbuffered_bytes, reason = "a buffer would take more than the line")]
fn next_line(pipe: &mut impl Read) -> Option<String> {
    let mut bytes = pipe.bytes().map(Result::unwrap).peekable();
    bytes.peek()?;
    Some(String::from_utf8(bytes.take_while(|byte| *byte != b'\n').collect()).unwrap())
}

/// Reads while the command runs: a full pipe would stop it.
fn read(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        pipe.read_to_string(&mut text).unwrap();
        text
    })
}
