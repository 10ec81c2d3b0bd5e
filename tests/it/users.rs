//! Two users of one machine: Alice works, and Mallory has been there before. Needs root, to become both.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::{
        fs::{PermissionsExt, chown, symlink},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::world::{TestDaemon, World};

/// No accounts have these numbers, so nobody else's directories are met.
const ALICE: u32 = 54_321;
const MALLORY: u32 = 54_322;
const MARK: &str = "mArK3d-5ecret";

/// Alice's runtime directory is in a place that all tests share, also those of another checkout that are run at the same time. So
/// they use it one after another: who has locked this file.
const ALONE: &str = "/tmp/devenv-users.lock";

/// A directory in which every user may make something, and the binary where every user may run it.
struct Machine {
    root: TempDir,
    _alone: fs::File,
}

impl Machine {
    /// None without root.
    fn new() -> Option<Self> {
        if !fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0) {
            return None;
        }
        let alone = fs::File::options().write(true).create(true).truncate(false).open(ALONE).unwrap();
        alone.lock().unwrap();
        let root = tempfile::Builder::new().prefix("devenv-users-").tempdir().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let (built, program) = (env!("CARGO_BIN_EXE_devenv"), root.path().join("devenv"));
        // Another process copies it: what this one has open for writing could not be executed while another test starts a program.
        let copy = || assert!(Command::new("cp").arg(built).arg(&program).status().unwrap().success());
        fs::hard_link(built, &program).unwrap_or_else(|_| copy());
        Some(Self { root, _alone: alone })
    }

    fn at(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }

    /// A directory of this user, and a file in it.
    fn write(&self, user: u32, path: &str, text: &str) {
        let path = self.at(path);
        for directory in path.ancestors().skip(1).take_while(|directory| *directory != self.root.path()) {
            fs::create_dir_all(directory).unwrap();
            chown(directory, Some(user), Some(user)).unwrap();
        }
        fs::write(&path, text).unwrap();
        chown(&path, Some(user), Some(user)).unwrap();
    }

    fn command(&self, user: u32, directory: &str, line: &str) -> Command {
        let mut command = Command::new(self.at("devenv"));
        command.args(line.split_whitespace()).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", self.at("home"));
        // No engine, so that no daemon stays behind whatever goes wrong.
        command.env("DOCKER_HOST", "unix:///nonexistent");
        command.current_dir(self.at(directory)).uid(user).gid(user).stdin(Stdio::null());
        command
    }

    fn run(&self, user: u32, directory: &str, line: &str) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } = self.command(user, directory, line).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        (status.code(), text(stdout), text(stderr))
    }
}

/// Waits in a directory for a client, as a daemon would, and prints what it is sent.
const FALSE_DAEMON: &str = r#"
import os, socket, sys
directory = sys.argv[1]
os.umask(0)
os.mkdir(directory, int(sys.argv[2], 8))
listener = socket.socket(socket.AF_UNIX)
listener.bind(directory + "/devenv.sock")
listener.listen(8)
print("listening", flush=True)
while True:
    connection, _ = listener.accept()
    connection.settimeout(2)
    print("connected", connection.recv(65536), flush=True)
    connection.close()
"#;

struct FalseDaemon {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl FalseDaemon {
    fn start(directory: &Path, mode: &str) -> Self {
        let mut command = Command::new("python3");
        // The PATH of the tests may lead into a home directory that other users cannot read.
        command.env("PATH", "/usr/bin:/bin");
        command.args(["-c", FALSE_DAEMON]).arg(directory).arg(mode).uid(MALLORY).gid(MALLORY).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        output.read_line(&mut said).unwrap();
        assert_eq!(said, "listening\n");
        Self { child, output }
    }

    /// What it was sent.
    fn end(mut self) -> String {
        std::thread::sleep(Duration::from_millis(100));
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let mut said = String::new();
        self.output.read_to_string(&mut said).unwrap();
        said
    }
}

#[test]
fn another_users_socket_in_the_place_of_the_daemons_is_sent_nothing() {
    let Some(machine) = Machine::new() else { return };
    machine.write(ALICE, "work/profiles/default.yaml", "variables: { TOKEN: mArK3d-5ecret }\nservices: { c: { redis: {} } }\n");
    let place = PathBuf::from(format!("/tmp/devenv-{ALICE}"));
    for mode in ["777", "755"] {
        let _ = fs::remove_dir_all(&place);
        let listener = FalseDaemon::start(&place, mode);
        for line in ["status", "up", "env", "run -- true", "exec c -- true", "plan", "wait", "down"] {
            let (code, stdout, stderr) = machine.run(ALICE, "work", line);
            assert_ne!(code, Some(0), "{line}: {stdout}");
            assert!(stderr.contains("belongs to another user"), "{line}: {stderr}");
        }
        let said = listener.end();
        let _ = fs::remove_dir_all(&place);
        assert_eq!(said, "", "with mode {mode}");
    }
}

#[test]
fn another_users_project_is_not_used_wherever_it_is_found() {
    let Some(machine) = Machine::new() else { return };
    let proof = machine.at("proof");
    let profile = format!("services:\n  x:\n    process: {{ command: [sh, -c, \"id > {}; sleep 60\"] }}\n", proof.display());
    machine.write(MALLORY, "shared/profiles/default.yaml", &profile);
    fs::set_permissions(machine.at("shared"), fs::Permissions::from_mode(0o1777)).unwrap();
    machine.write(ALICE, "shared/work/file", "");
    // What belongs to Alice in a directory that Mallory can write is not hers either.
    machine.write(ALICE, "open/profiles/default.yaml", &profile);
    fs::set_permissions(machine.at("open/profiles"), fs::Permissions::from_mode(0o777)).unwrap();
    for (user, directory) in [(ALICE, "shared/work"), (ALICE, "shared"), (ALICE, "open"), (0, "shared/work")] {
        let validate = format!("validate {}", machine.at(directory).join("profiles/default.yaml").display());
        let validate = validate.replace("work/", "");
        for line in ["up default --yes", &validate, "plan default", "test default -- true", "config default"] {
            let (code, stdout, stderr) = machine.run(user, directory, line);
            assert_ne!(code, Some(0), "{line} in {directory}: {stdout}");
            let reason = ["belongs to another user", "writable by other users"].iter().any(|reason| stderr.contains(reason));
            assert!(reason && stderr.contains("devenv trust"), "{line} in {directory}: {stderr}");
        }
    }
    assert!(!proof.exists(), "a process of another user's profile ran");
}

#[test]
fn what_another_user_can_change_is_no_part_of_a_compose_file_either() {
    let Some(machine) = Machine::new() else { return };
    machine.write(MALLORY, "theirs/c.yaml", "services: { a: { image: x } }\n");
    machine.write(MALLORY, "theirs/.env", "A=1\n");
    let theirs = |name: &str| machine.at("theirs").join(name).display().to_string();
    machine.write(ALICE, "work/include.yaml", &format!("include: [{}]\n", theirs("c.yaml")));
    machine.write(ALICE, "work/based.yaml", &format!("services: {{ a: {{ extends: {{ file: {}, service: a }} }} }}\n", theirs("c.yaml")));
    machine.write(ALICE, "work/env.yaml", &format!("services: {{ a: {{ image: x, env_file: {} }} }}\n", theirs(".env")));
    for (user, name) in [(ALICE, "include"), (ALICE, "based"), (ALICE, "env")] {
        let (code, stdout, stderr) = machine.run(user, "work", &format!("config -f {name}.yaml"));
        assert_ne!(code, Some(0), "{name}: {stdout}");
        assert!(stderr.contains("belongs to another user"), "{name}: {stderr}");
    }
}

#[test]
fn a_bundle_of_another_user_shows_nothing_that_is_not_in_it() {
    let Some(machine) = Machine::new() else { return };
    machine.write(ALICE, "home/hidden", MARK);
    fs::set_permissions(machine.at("home/hidden"), fs::Permissions::from_mode(0o600)).unwrap();
    let world = World::new();
    let daemon = world.up();
    let mut status = daemon.json("status");
    for (number, name) in ["api", "../../home/hidden", "../link"].into_iter().enumerate() {
        status["services"][number]["name"] = name.into();
        status["services"][number]["state"] = "failed".into();
    }
    machine.write(MALLORY, "bundle/status.json", &status.to_string());
    machine.write(MALLORY, "bundle/logs/file", "");
    // In every place from which `show` reads.
    for name in ["logs/api.log", "run.txt", "masked.txt", "versions.txt", "events.ndjson", "link.log"] {
        symlink(machine.at("home/hidden"), machine.at("bundle").join(name)).unwrap();
    }
    let (_, stdout, stderr) = machine.run(ALICE, "home", "bundle show ../bundle");
    assert!(!stdout.contains(MARK) && !stderr.contains(MARK), "{stdout}{stderr}");
}

#[test]
fn archives_of_images_take_no_place_of_a_link_or_device_that_another_user_made() {
    let Some(machine) = Machine::new() else { return };
    let world = World::new();
    let daemon = world.start();
    machine.write(ALICE, "home/kept", "kept");
    machine.write(MALLORY, "trap/file", "");
    symlink(machine.at("home/kept"), machine.at("trap/link.tar")).unwrap();
    symlink("/dev/null", machine.at("trap/null.tar")).unwrap();
    let pipe = machine.at("trap/pipe.tar");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for name in ["trap/link.tar", "trap/null.tar", "trap/pipe.tar"] {
        let ended = daemon.run(&format!("images save {} shop", machine.at(name).display()));
        assert_eq!(ended.code, Some(1), "{name}: {}", ended.stderr);
        assert!(ended.stderr.contains("not a regular file"), "{name}: {}", ended.stderr);
        let ended = daemon.run(&format!("images load {}", machine.at(name).display()));
        assert_ne!(ended.code, Some(0), "{name}: {}", ended.stdout);
    }
    assert_eq!(fs::read_to_string(machine.at("home/kept")).unwrap(), "kept");
    assert!(fs::symlink_metadata(machine.at("trap/null.tar")).unwrap().is_symlink());
}

/// Every command that takes a name which becomes part of a path.
#[test]
fn a_name_that_leads_out_of_the_state_directory_is_refused() {
    let world = World::new();
    let daemon = world.up();
    let before = crate::world::files(world.root()).into_keys().filter(|path| !path.starts_with("state")).collect::<Vec<_>>();
    for line in [
        "fork ../x",
        "snapshot save ../x",
        "snapshot restore ../x",
        "snapshot remove ../x",
        "status --instance ../x",
        "up shop --instance ../x",
    ] {
        refuses(&daemon, line);
    }
    let after = crate::world::files(world.root()).into_keys().filter(|path| !path.starts_with("state")).collect::<Vec<_>>();
    assert_eq!(before, after);
}

#[track_caller]
fn refuses(daemon: &TestDaemon, line: &str) {
    let ended = daemon.run(line);
    assert!(matches!(ended.code, Some(1 | 2)), "{line}: {:?} {}", ended.code, ended.stdout);
}
