//! Any requests to a daemon in this process, on an engine in memory: it answers each in time, and nothing in it panics.
//!
//! The first byte chooses the route, the rest is the body, in which `@PROJECT@` stands for a project's directory; or all of it is what
//! a client sends. As root, the daemon's threads give up their rights first, since requests name files.
#![no_main]

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    sync::{Arc, OnceLock, mpsc},
    time::{Duration, Instant},
};

use devenv_api::{Announcement, route};
use devenv_engine::fake::FakeEngine;
use devenv_fuzz::{runtime, split_first};
use tempfile::TempDir;

const ROUTES: &[&str] = &[
    route::STATUS,
    route::PLAN,
    route::WAIT,
    route::LOGS,
    route::EVENTS,
    route::VARIABLES,
    route::WHY,
    route::EXEC,
    route::LEASE,
    route::HOLD,
    route::BUNDLE,
    route::LEDGER,
    route::LEDGER_ACCEPT,
    route::LEDGER_RUN,
    route::SNAPSHOTS,
    route::BACKUPS,
    route::CHAOS_INJECT,
    route::CHAOS_CHECK,
    route::CHAOS_HEAL,
    route::CHAOS_STATUS,
    route::CHAOS_IMPAIRMENTS,
    route::OPERATIONS_FOLLOW,
    route::SUBMIT,
    route::CANCEL,
    route::IMAGES_FETCH,
    route::IMAGES_SAVE,
    route::IMAGES_LOAD,
    route::DAEMON,
    route::ENVIRONMENTS,
    route::OPERATIONS,
    route::OPENAPI,
    route::OUTLINE,
    route::ROWS,
    route::QUERY,
    route::PRODUCE,
    route::TRACES,
    route::METRICS,
    route::AGENT,
    route::UI,
];
const NOBODY: libc::uid_t = 65_534;
/// An answer may be a stream that lasts.
const PATIENCE: Duration = Duration::from_millis(20);
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

static WORLD: OnceLock<TempDir> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let world = WORLD.get_or_init(start).path();
    let (which, rest) = split_first(bytes);
    let said = match ROUTES.get(usize::from(which)) {
        None => rest.to_vec(),
        Some(path) => {
            let project = world.join("project").display().to_string();
            let body = String::from_utf8_lossy(rest).replace("@PROJECT@", &project);
            let method = if [route::DAEMON, route::ENVIRONMENTS, route::OPERATIONS, route::OPENAPI].contains(path) { "GET" } else { "POST" };
            format!(
                "{method} {path} HTTP/1.1\r\nhost: devenv\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes()
        }
    };
    ask(world, &said, false);
    // Whatever that was, the daemon goes on answering.
    let head = ask(world, format!("GET {} HTTP/1.1\r\nhost: devenv\r\nconnection: close\r\n\r\n", route::DAEMON).as_bytes(), true);
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
});

/// The beginning of the answer. What must be answered is a whole request.
fn ask(world: &Path, said: &[u8], must_answer: bool) -> Vec<u8> {
    let began = Instant::now();
    let mut stream = UnixStream::connect(world.join("run/devenv.sock")).expect("the daemon accepts connections");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout that is not zero");
    // It may have hung up on what is no HTTP.
    let _ = stream.write_all(said);
    let mut head = vec![0; 4096];
    loop {
        match stream.read(&mut head) {
            Ok(length) => {
                head.truncate(length);
                return head;
            }
            // The fuzzer's own timer interrupts it.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                assert!(began.elapsed() < ANSWERS_WITHIN, "no answer within {ANSWERS_WITHIN:?}");
                if !must_answer {
                    return Vec::new();
                }
            }
            Err(_) => return Vec::new(),
        }
    }
}

/// A project, and a daemon on a thread of its own.
fn start() -> TempDir {
    // The fuzzer's own `main` leaves this signal at its default, and the daemon may hang up on what is no HTTP.
    // SAFETY: no handler is installed.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let world =
        tempfile::Builder::new().prefix("devenv-fuzz").tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a directory");
    for name in ["", "project", "project/profiles", "volumes", "state", "run"] {
        let path = world.path().join(name);
        fs::create_dir_all(&path).expect("a directory can be made");
        let _ = std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY));
    }
    let (state, run) = (world.path().join("state"), world.path().join("run"));
    let engine = FakeEngine::with_volumes_in(FakeEngine::new().with_image("data:1").with_image("api:1"), &world.path().join("volumes"));
    let (announced, announcement) = mpsc::channel();
    std::thread::spawn(move || {
        // SAFETY: the bare system calls change this thread alone, and those that it starts.
        unsafe {
            libc::syscall(libc::SYS_setresgid, NOBODY, NOBODY, NOBODY);
            libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY);
        }
        let announce = move |announcement| announced.send(announcement).expect("the target waits for it");
        let ended = runtime().block_on(devenv::hosted::run(Arc::new(engine), &state, &run, announce));
        panic!("the daemon has ended: {ended:?}");
    });
    match announcement.recv().expect("a daemon announces whether it serves") {
        Announcement::Ready => world,
        other => panic!("the daemon does not serve: {other:?}"),
    }
}
