//! Disks that never answer, and pipes where files are expected: what meets them fails in time, and everything else goes on.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use devenv_api::{AskedBy, Client, OperationRequest, Submission, UpRequest};
use devenv_profile::{LoadRequest, load};
use serde_json::Value;

use crate::world::World;

/// Opens the kernel's device for file systems, mounts one, and answers nothing until its input ends.
const MOUNT: &str = r#"exec 3<>/dev/fuse
mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 silent "$1" && echo mounted && read -r _
umount -l "$1""#;

/// A mount whose file system answers nothing.
struct Silent(Child);

impl Silent {
    fn at(directory: &Path) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", MOUNT, "sh"]).arg(directory).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "mounted\n");
        Self(child)
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Whether this process may mount file systems of its own: it has the capability for it, and the kernel has the device.
fn can_mount() -> bool {
    const SYS_ADMIN: u64 = 1 << 21;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let capabilities = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    capabilities.is_some_and(|held| held & SYS_ADMIN != 0) && fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").is_ok()
}

#[test]
fn a_disk_that_does_not_answer_holds_up_only_those_who_need_it() {
    if !can_mount() {
        return;
    }
    let world = World::new();
    world.write("profiles/built.yaml", "services:\n  web:\n    container: { build: { context: ./image } }\n");
    world.write("image/Dockerfile", "FROM data:1\n");
    let project = world.project().canonicalize().unwrap();
    let request = LoadRequest { project: &project, profile: "built", environment: &BTreeMap::new(), user_directory: None, trusted: true };
    let document = serde_json::to_value(load::load(&request).ok().unwrap().profile).unwrap();
    let daemon = world.up();
    let silent = Silent::at(&project.join("image"));

    let (target, socket) = (daemon.target("other"), world.root().join("run/devenv.sock"));
    let up = UpRequest::of(target, "built".to_owned(), document);
    let asked = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let submission = Submission { request: OperationRequest::Up(up), asked_by: AskedBy::default() };
        runtime.block_on(async { Client::new(socket).unwrap().carry_out::<Value>(&submission).await })
    });
    let client = daemon.spawn("plan built");

    // The daemon has one thread here, so these do not end if the disk holds that up.
    daemon.expect(0, "status");
    daemon.expect(0, "restart api");

    let error = asked.join().unwrap().unwrap_err().to_string();
    assert!(error.contains("the disk says nothing of") && error.contains("image"), "{error}");
    let client = client.ended();
    assert_eq!(client.code, Some(1), "{}", client.stderr);
    assert!(client.stderr.contains("could not be read within"), "{}", client.stderr);
    drop(silent);
}

fn pipe(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

const BUILT: &str = "services:\n  web:\n    container: { build: { context: ./built } }\n";

/// Each with the files that are pipes.
const PIPES: &[(&str, &[&str], i32)] = &[
    ("env_file: [pipe]\nservices: {}\n", &["pipe"], 2),
    ("secrets: { TOKEN: { file: pipe } }\nservices:\n  a: { container: { image: \"api:1\" } }\n", &["pipe"], 2),
    ("services:\n  a:\n    container: { image: \"api:1\", config_files: { /etc/x: { file: ./pipe } } }\n", &["pipe"], 2),
    ("services:\n  a:\n    container: { image: \"api:1\", secret_files: { /etc/x: { file: ./pipe } } }\n", &["pipe"], 2),
    (BUILT, &["built/Dockerfile"], 1),
    (BUILT, &["built/Dockerfile.dockerignore"], 1),
    (BUILT, &["built/.dockerignore"], 1),
    // Not what an image holds, so it is left out.
    (BUILT, &["built/within"], 0),
    ("services:\n  web:\n    container: { build: { context: ./built, secrets: { token: { file: ./pipe } } } }\n", &["pipe"], 1),
    // A pipe can be mounted and is no file to watch.
    ("services:\n  a:\n    container: { image: \"api:1\", volumes: [{ source: ./pipe, target: /p }] }\n", &["pipe"], 0),
    (
        "services:\n  a:\n    container: { image: \"api:1\" }\n    watch: [{ paths: [src], on_change: restart }]\n",
        &["src/pipe", "src/.gitignore", ".gitignore", ".dockerignore"],
        0,
    ),
];

#[test]
fn a_pipe_in_the_place_of_a_file_that_a_profile_names_holds_up_nobody() {
    for (number, (profile, pipes, code)) in PIPES.iter().enumerate() {
        let world = World::new();
        world.write("profiles/p.yaml", profile);
        if pipes != &["built/Dockerfile"] {
            world.write("built/Dockerfile", "FROM data:1\n");
        }
        pipes.iter().for_each(|path| pipe(&world.project().join(path)));
        let daemon = world.start();
        let ended = daemon.run("up p --timeout 10m");
        assert!(ended.code == Some(*code) || (*code == 2 && ended.code == Some(1)), "{number}: {:?} {}", ended.code, ended.stderr);
        assert!(*code == 0 || ended.stderr.contains("is not a regular file"), "{number}: {}", ended.stderr);
        daemon.expect(0, "status");
    }
}

/// Each with whether it can be used all the same: files of secrets and configs are mounted, as Compose does it.
const COMPOSE: &[(&str, bool)] = &[
    ("include: [pipe]\nservices: { a: { image: \"api:1\" } }\n", false),
    ("services: { a: { extends: { file: pipe, service: b } } }\n", false),
    ("services: { a: { image: \"api:1\", env_file: pipe } }\n", false),
    ("services: { a: { image: \"api:1\", secrets: [s] } }\nsecrets: { s: { file: pipe } }\n", true),
    ("services: { a: { image: \"api:1\", configs: [c] } }\nconfigs: { c: { file: pipe } }\n", true),
];

#[test]
fn a_pipe_in_the_place_of_a_file_that_a_compose_file_names_holds_up_nobody() {
    let world = World::new();
    pipe(&world.project().join("pipe"));
    let daemon = world.start();
    for (number, (text, is_usable)) in COMPOSE.iter().enumerate() {
        world.write("c.yaml", text);
        let ended = daemon.run("up -f c.yaml --timeout 10m");
        assert_eq!(ended.code == Some(0), *is_usable, "{number}: {}", ended.stderr);
        assert!(*is_usable || ended.stderr.contains("is not a regular file"), "{number}: {}", ended.stderr);
    }
    let named = PathBuf::from("pipe").display().to_string();
    assert!(daemon.run(&format!("up -f {named}")).code != Some(0), "as the Compose file itself");
    daemon.expect(0, "status");
}

#[test]
fn a_pipe_in_the_place_of_a_dump_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let dump = directory.path().join("dump");
    pipe(&dump);
    for name in ["redis", "postgres"] {
        let dump = dump.clone();
        let (done, is_done) = std::sync::mpsc::channel();
        std::thread::spawn(move || done.send(devenv_kinds::find(name).unwrap().transfers().unwrap().check(&dump)));
        let checked = is_done.recv_timeout(Duration::from_mins(1)).unwrap_or_else(|_| panic!("{name} waits for the pipe"));
        assert!(checked.unwrap_err().0.contains("is not a regular file"), "{name}");
    }
}

#[test]
fn a_pipe_in_the_place_of_certificates_is_refused_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = directory.path().join("ca.pem");
    pipe(&certificates);
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || done.send(devenv_secrets::tls::client(&certificates).map(drop)));
    let read = is_done.recv_timeout(Duration::from_mins(1)).expect("it does not wait for the pipe");
    let error = read.unwrap_err().to_string();
    assert!(error.contains("is not a regular file"), "{error}");
}
