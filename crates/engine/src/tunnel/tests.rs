//! With the real relay as a process, if it could be built.

use std::{os::unix::fs::PermissionsExt, process::Stdio};

use futures_util::{FutureExt, TryStreamExt};
use tokio::{
    net::{TcpListener, TcpStream},
    process::{Child, Command},
};
use tokio_util::io::ReaderStream;

use super::*;

const LIMIT: Duration = Duration::from_mins(1);

struct Relay {
    tunnel: Tunnel,
    process: Child,
    _directory: tempfile::TempDir,
}

async fn relay() -> Option<Relay> {
    let program = devenv_programs::fault_agent();
    if program.is_empty() {
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("holder");
    std::fs::write(&path, program).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(&path);
    command.arg("relay").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    // Another test may be starting a program while the file was open for writing.
    let mut process = loop {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => tokio::task::yield_now().await,
            started => break started.unwrap(),
        }
    };
    let output = ReaderStream::new(process.stdout.take().unwrap());
    let broken = |error: io::Error| EngineError::Protocol { action: "read".to_owned(), message: error.to_string() };
    let session = ExecSession {
        input: Box::pin(process.stdin.take().unwrap()),
        output: output.map_ok(|content| (ExecStream::Stdout, content)).map_err(broken).boxed(),
        resize: Arc::new(|_| std::future::ready(Ok(())).boxed()),
        exit_code: std::future::ready(Ok(0)).boxed(),
    };
    let tunnel = Tunnel::over(session);
    timeout(LIMIT, tunnel.answers()).await.unwrap().unwrap();
    Some(Relay { tunnel, process, _directory: directory })
}

async fn server() -> (TcpListener, SocketAddrV4) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let std::net::SocketAddr::V4(address) = listener.local_addr().unwrap() else { panic!("it is an IPv4 address") };
    (listener, address)
}

async fn connected(relay: &Relay, listener: &TcpListener, to: SocketAddrV4) -> (DuplexStream, TcpStream) {
    let (near, far) = tokio::join!(relay.tunnel.connect(to), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

#[tokio::test]
async fn connections_carry_their_data_and_the_end_of_each_direction() {
    let Some(relay) = relay().await else { return };
    let (listener, address) = server().await;
    let work = async {
        for size in [0, 1, LONGEST + 1, 3 * WINDOW] {
            let (mut near, mut far) = connected(&relay, &listener, address).await;
            let sent: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let echo = tokio::spawn(async move {
                let mut received = Vec::new();
                far.read_to_end(&mut received).await.unwrap();
                // Its own direction is still open.
                far.write_all(&received).await.unwrap();
            });
            near.write_all(&sent).await.unwrap();
            near.shutdown().await.unwrap();
            let mut back = Vec::new();
            near.read_to_end(&mut back).await.unwrap();
            assert!(back == sent, "{} of {size} bytes", back.len());
            echo.await.unwrap();
        }
    };
    timeout(LIMIT, work).await.unwrap();
}

#[tokio::test]
async fn a_reader_that_is_slow_delays_no_other_connection() {
    let Some(relay) = relay().await else { return };
    let (listener, address) = server().await;
    let work = async {
        let (_slow, mut flood) = connected(&relay, &listener, address).await;
        let flooding = tokio::spawn(async move {
            let content = vec![0; 1 << 20];
            while flood.write_all(&content).await.is_ok() {}
        });
        for _ in 0..20 {
            let (mut near, mut far) = connected(&relay, &listener, address).await;
            far.write_all(b"answer").await.unwrap();
            let mut text = [0; 6];
            near.read_exact(&mut text).await.unwrap();
            assert_eq!(&text, b"answer");
        }
        flooding.abort();
    };
    timeout(LIMIT, work).await.unwrap();
}

#[tokio::test]
async fn a_port_on_which_nobody_listens_refuses() {
    let Some(relay) = relay().await else { return };
    let (listener, address) = server().await;
    drop(listener);
    let error = timeout(LIMIT, relay.tunnel.connect(address)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(relay.tunnel.is_open());
}

#[tokio::test]
async fn a_connection_that_is_dropped_is_closed_at_the_other_end() {
    let Some(relay) = relay().await else { return };
    let (listener, address) = server().await;
    let (near, mut far) = timeout(LIMIT, connected(&relay, &listener, address)).await.unwrap();
    drop(near);
    let mut rest = Vec::new();
    // Closed or reset.
    let _ = timeout(LIMIT, far.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.is_empty());
}

#[tokio::test]
async fn a_relay_that_dies_closes_every_connection_and_is_reported() {
    let Some(mut relay) = relay().await else { return };
    let (listener, address) = server().await;
    let (mut near, _far) = timeout(LIMIT, connected(&relay, &listener, address)).await.unwrap();
    relay.process.start_kill().unwrap();
    let mut rest = Vec::new();
    let _ = timeout(LIMIT, near.read_to_end(&mut rest)).await.unwrap();
    assert!(timeout(LIMIT, relay.tunnel.lost()).await.unwrap().contains("relay"));
    assert!(!relay.tunnel.is_open() && relay.tunnel.connect(address).await.is_err());
}

#[tokio::test]
async fn a_relay_ends_with_its_tunnel() {
    let Some(relay) = relay().await else { return };
    let Relay { tunnel, mut process, _directory } = relay;
    drop(tunnel);
    assert!(timeout(LIMIT, process.wait()).await.unwrap().unwrap().success());
}
