//! Connects to the running daemon, or starts one and waits for its first line.
//!
//! A daemon reports on its stdout, in one line, whether it serves, so no client polls a socket. Only a client
//! that lost the race against the daemon of another one has no line to wait for.

use std::{
    fs::{self, OpenOptions},
    io::{Read, Seek, SeekFrom},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::Stdio,
    time::Duration,
};

use devenv_api::{Announcement, ApiError, Client, ClientError, EngineSelection, ErrorCode};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
    time::Instant,
};

use super::failure::{Failure, internal};
use crate::paths::Paths;

/// Adopting running services takes well under a second; a busy engine may take much longer to answer.
const START_DEADLINE: Duration = Duration::from_mins(1);
/// A daemon answers in less than a millisecond; one that is stopped or starved never does.
const GREETING: Duration = Duration::from_secs(15);
/// From this size on, the log of earlier daemons is renamed.
const LOG_LIMIT: u64 = 10 * 1024 * 1024;

/// The running daemon, if any. Nothing is started.
pub(super) async fn running(paths: &Paths, engine: &EngineSelection) -> Result<Option<Client>, Failure> {
    paths.check_owner()?;
    let Some(client) = listening(paths, engine).await? else { return Ok(None) };
    // A daemon that is being killed accepts connections for some milliseconds more, and answers none of them.
    match tokio::time::timeout(GREETING, client.daemon()).await {
        Ok(Err(ClientError::NotRunning { .. } | ClientError::Lost(_))) => Ok(None),
        // Whatever else it answers, it is alive; a refusal would be repeated.
        Ok(_) => Ok(Some(client)),
        Err(_) => Err(silent(paths).into()),
    }
}

/// The client of the running daemon: its socket is in the runtime directory, or where the daemon of the state directory has it
/// (started by a shell with another runtime directory).
async fn listening(paths: &Paths, engine: &EngineSelection) -> Result<Option<Client>, Failure> {
    let recorded = paths.recorded_daemon().map(|daemon| daemon.socket);
    for socket in [Some(paths.socket()), recorded].into_iter().flatten() {
        let client = Client::new(socket)?.with_engine(engine);
        // A file without a listener refuses at once. The next daemon removes it: only the holder of the lock may.
        if client.reachable().await? {
            return Ok(Some(client));
        }
    }
    Ok(None)
}

/// The running daemon, or a new one.
pub(super) async fn connect(paths: &Paths, engine: &EngineSelection) -> Result<Client, Failure> {
    let binary = std::env::current_exe().map_err(|error| internal("cannot find devenv's own executable", error))?;
    connect_or_start(paths, engine, &binary).await
}

async fn connect_or_start(paths: &Paths, engine: &EngineSelection, binary: &Path) -> Result<Client, Failure> {
    if let Some(client) = running(paths, engine).await? {
        return Ok(client);
    }
    paths.create()?;
    let deadline = Instant::now() + START_DEADLINE;
    let mut pause = Duration::from_millis(5);
    loop {
        match start(paths, engine, binary, deadline).await? {
            Announcement::Ready => return Ok(Client::new(paths.socket())?.with_engine(engine)),
            Announcement::Error(error) => return Err(error.into()),
            Announcement::Running => {}
        }
        // Another daemon holds the lock: it serves already, is starting, or is ending. Which of them
        // shows only at the socket and at the lock, so both are tried again, with growing pauses.
        if let Some(client) = running(paths, engine).await? {
            return Ok(client);
        }
        if Instant::now() + pause > deadline {
            return Err(too_late(paths).into());
        }
        tokio::time::sleep(pause).await;
        if let Some(client) = running(paths, engine).await? {
            return Ok(client);
        }
        pause = (pause * 2).min(Duration::from_millis(500));
    }
}

/// Starts a daemon that outlives this process, and waits for its announcement.
async fn start(paths: &Paths, engine: &EngineSelection, binary: &Path, deadline: Instant) -> Result<Announcement, Failure> {
    let log = paths.daemon_log();
    put_aside(&log);
    let stderr = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&log)
        .map_err(|error| internal(&format!("cannot open {}", log.display()), error))?;
    let said_before = stderr.metadata().map(|metadata| metadata.len()).unwrap_or_default();

    let mut command = Command::new(binary);
    if let Some(context) = &engine.context {
        command.args(["--context", context]);
    }
    command
        .args(["daemon", "run"])
        .current_dir("/")
        // Out of reach of the terminal's Ctrl-C.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr);
    let mut child = command.spawn().map_err(|error| internal(&format!("cannot run {}", binary.display()), error))?;
    let stdout = child.stdout.take().expect("stdout is a pipe");

    let mut line = String::new();
    let read = tokio::time::timeout_at(deadline, BufReader::new(stdout).read_line(&mut line)).await;
    match read {
        Err(_) => Err(too_late(paths).into()),
        Ok(Err(error)) => Err(internal("cannot read from the daemon that was started", error).into()),
        Ok(Ok(_)) => serde_json::from_str(&line).map_err(|_| died(&log, said_before).into()),
    }
}

fn silent(paths: &Paths) -> ApiError {
    let words = format!("the daemon at {} accepts connections but does not answer", paths.socket().display());
    ApiError::new(ErrorCode::Failed, words).hint(format!("see its log, {}", paths.daemon_log().display()))
}

fn too_late(paths: &Paths) -> ApiError {
    ApiError::new(
        ErrorCode::Failed,
        format!("the daemon at {} is not ready after {} s", paths.socket().display(), START_DEADLINE.as_secs()),
    )
    .hint(match paths.recorded_daemon() {
        Some(daemon) => format!(
            "run `kill {}` to end that daemon: its environments keep running, and the next command takes them over; its log is {}",
            daemon.pid,
            paths.daemon_log().display()
        ),
        None => format!("see its log, {}; run `devenv doctor` to check this machine", paths.daemon_log().display()),
    })
}

fn died(log: &Path, said_before: u64) -> ApiError {
    let words = last_words(log, said_before);
    let words = if words.is_empty() { String::new() } else { format!(":\n{words}") };
    ApiError::new(ErrorCode::Internal, format!("the daemon stopped during its start{words}"))
        .hint(format!("see its log, {}", log.display()))
}

/// The last ten lines of this daemon's log.
fn last_words(log: &Path, said_before: u64) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = fs::File::open(log) {
        let _ = file.seek(SeekFrom::Start(said_before)).and_then(|_| file.take(1 << 20).read_to_end(&mut bytes));
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}

/// Keeps one older log. If it cannot be renamed, it just grows.
fn put_aside(log: &Path) {
    if fs::metadata(log).is_ok_and(|metadata| metadata.len() > LOG_LIMIT) {
        let _ = fs::rename(log, log.with_extension("log.1"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_words_are_those_of_this_daemon_alone() {
        let directory = tempfile::tempdir().unwrap();
        let log = directory.path().join("daemon.log");
        let before = "of an earlier daemon\n";
        let own = (0..12).fold(String::new(), |text, n| text + "line " + &n.to_string() + "\n");
        fs::write(&log, format!("{before}{own}")).unwrap();
        let words = last_words(&log, before.len() as u64);
        assert!(words.starts_with("line 2\n") && words.ends_with("line 11"), "{words}");
    }

    fn paths(root: &Path) -> Paths {
        Paths { state: root.join("state"), runtime: root.into(), config: root.into() }
    }

    #[tokio::test]
    async fn a_socket_that_nobody_listens_at_is_no_daemon() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        // Bound, but without a listener: a dropped listener may live on in a child that another test forks.
        let socket = rustix::net::socket(rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM, None).unwrap();
        rustix::net::bind(&socket, &rustix::net::SocketAddrUnix::new(paths.socket()).unwrap()).unwrap();
        assert!(paths.socket().exists());
        assert!(running(&paths, &EngineSelection::default()).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_daemon_with_another_runtime_directory_is_found_by_its_state_directory() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths { state: root.path().join("state"), runtime: root.path().join("run"), config: root.path().into() };
        let engine = EngineSelection::default();
        let found = async || listening(&paths, &engine).await.unwrap().map(|client| client.socket().to_owned());
        assert_eq!(found().await, None);
        fs::create_dir(&paths.state).unwrap();
        let socket = root.path().join("other.sock");
        let record = crate::paths::DaemonRecord { pid: 1, socket: socket.clone() };
        fs::write(paths.state_lock(), serde_json::to_vec(&record).unwrap()).unwrap();
        assert_eq!(found().await, None, "nobody listens there");
        let _listener = tokio::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(found().await, Some(socket));
        fs::write(paths.state_lock(), "").unwrap();
        assert_eq!(found().await, None, "a former version's lock is empty");
    }

    #[tokio::test]
    async fn a_daemon_that_dies_before_it_answers_is_no_daemon() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        let listener = tokio::net::UnixListener::bind(paths.socket()).unwrap();
        let dying = async {
            for _ in 0..2 {
                drop(listener.accept().await.unwrap());
            }
        };
        let (found, ()) = tokio::join!(async { running(&paths, &EngineSelection::default()).await }, dying);
        assert!(found.unwrap().is_none());
    }

    /// A script that acts as the daemon, and the client's result.
    async fn started(root: &Path, script: &str) -> Result<Client, Failure> {
        let binary = root.join("daemon.sh");
        // Written by a child, because a test that forks at this moment would keep it open, and it could not be run.
        let text = format!("#!/bin/sh\n{script}\n");
        let written =
            std::process::Command::new("sh").args(["-c", r#"printf %s "$1" > "$2"; chmod +x "$2""#, "sh", &text]).arg(&binary).status();
        assert!(written.unwrap().success());
        let paths = Paths { state: root.join("state"), runtime: root.join("run"), config: root.into() };
        let engine = EngineSelection { context: Some("colima".to_owned()), ..EngineSelection::default() };
        connect_or_start(&paths, &engine, &binary).await
    }

    fn words(outcome: Result<Client, Failure>) -> ApiError {
        match outcome {
            Err(Failure::Told(error)) => error,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_daemon_that_announces_that_it_serves_is_taken_at_its_word_and_lives_on() {
        let root = tempfile::tempdir().unwrap();
        let script = r#"echo "$@" >&2; echo '{"ready":true}'; exec sleep 1"#;
        let client = started(root.path(), script).await.unwrap();
        assert_eq!(client.socket(), root.path().join("run/devenv.sock"));
        assert_eq!(fs::read_to_string(root.path().join("state/daemon.log")).unwrap(), "--context colima daemon run\n");
    }

    #[tokio::test]
    async fn the_error_that_a_daemon_announces_is_the_commands_own() {
        let root = tempfile::tempdir().unwrap();
        let error = words(started(root.path(), r#"echo '{"error":{"code":"no-engine","message":"none at x"}}'"#).await);
        assert_eq!((error.code, error.message.as_str()), (ErrorCode::NoEngine, "none at x"));
    }

    #[tokio::test]
    async fn a_daemon_that_dies_silently_is_reported_with_its_last_output() {
        let root = tempfile::tempdir().unwrap();
        let error = words(started(root.path(), "echo 'out of luck' >&2; kill -9 $$").await);
        assert!(error.message.ends_with("out of luck"), "{}", error.message);
    }

    #[tokio::test]
    async fn the_loser_of_the_race_uses_the_winners_daemon_as_soon_as_it_serves() {
        let root = tempfile::tempdir().unwrap();
        let runtime = root.path().join("run");
        fs::create_dir(&runtime).unwrap();
        let socket = runtime.join("devenv.sock");
        let winner = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            axum::serve(tokio::net::UnixListener::bind(socket).unwrap(), axum::Router::new()).await
        };
        tokio::select! {
            served = winner => panic!("{served:?}"),
            client = started(root.path(), r#"echo '{"running":true}'"#) => drop(client.unwrap()),
        }
    }
}
