use std::process::{Command, Stdio};

use futures_util::{FutureExt, TryFutureExt};

use super::*;

const LIMIT: Duration = Duration::from_secs(30);

/// Answers each byte with the same one.
async fn server() -> (u16, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut from, mut to) = socket.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    (port, tasks)
}

async fn front(backend: u16) -> (u16, Arc<Clients>, Front) {
    let clients = Arc::new(Clients::new(Arc::default()));
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let connect: Connect = Arc::new(move || TcpStream::connect(("127.0.0.1", backend)).map_ok(Either::Left).boxed());
    let front = Front::bind(port, clients.clone(), connect).await.unwrap();
    (port, clients, front)
}

/// A client in another process that sends a line, prints the answer, and stays until its input ends.
fn client(port: u16) -> std::process::Child {
    let script = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{port}; echo hello >&3; read -r answer <&3; echo $answer; while read -r line; do echo $line >&3; read -r answer <&3; echo $answer; done"
    );
    Command::new("bash").args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

async fn line(from: &mut std::process::Child) -> String {
    use std::io::BufRead;
    let mut output = std::io::BufReader::new(from.stdout.take().unwrap());
    let (line, output) = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        (line, output)
    })
    .await
    .unwrap();
    from.stdout = Some(output.into_inner());
    line.trim().to_owned()
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn a_client_waits_for_a_sleeping_service_calls_it_and_is_served() {
    let (backend, _server) = server().await;
    let (port, clients, _front) = front(backend).await;
    clients.set(Gate::Serve);
    clients.set(Gate::Asleep);
    assert!(!clients.calls());
    let mut child = client(port);
    until("it calls", || clients.calls()).await;
    assert_eq!(clients.unused_for(false), None, "a client that waits uses it");
    clients.set(Gate::Wait);
    assert!(!clients.calls(), "it is on its way");
    clients.set(Gate::Serve);
    assert_eq!(line(&mut child).await, "hello");
    assert_eq!(clients.unused_for(false), None);
    until("an answered client whose connection survives does not use it", || clients.unused_for(true).is_some()).await;
    drop(child.stdin.take());
    child.wait().unwrap();
    until("it is closed", || clients.unused_for(false).is_some()).await;
}

#[tokio::test]
async fn a_byte_through_an_open_connection_calls_a_frozen_service() {
    use std::io::Write;
    let (backend, _server) = server().await;
    let (port, clients, _front) = front(backend).await;
    clients.set(Gate::Serve);
    let mut child = client(port);
    assert_eq!(line(&mut child).await, "hello");
    clients.set(Gate::Asleep);
    assert!(!clients.calls());
    writeln!(child.stdin.as_mut().unwrap(), "again").unwrap();
    until("it calls", || clients.calls()).await;
    clients.set(Gate::Serve);
    assert!(!clients.calls());
    assert_eq!(line(&mut child).await, "again");
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[tokio::test]
async fn a_connection_of_this_process_passes_a_closed_gate_counts_for_nothing_and_wakes_nothing() {
    let (backend, _server) = server().await;
    let (port, clients, _front) = front(backend).await;
    clients.set(Gate::Serve);
    clients.set(Gate::Wait);
    let mut probe = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    probe.write_all(b"?").await.unwrap();
    let mut byte = [0];
    timeout(LIMIT, probe.read_exact(&mut byte)).await.unwrap().unwrap();
    assert!(clients.unused_for(false).is_some() && clients.unused_for(true).is_some());
    clients.set(Gate::Asleep);
    let mut refused = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    assert_eq!(timeout(LIMIT, refused.read(&mut byte)).await.unwrap().unwrap_or_default(), 0);
    assert!(!clients.calls());
}

#[tokio::test]
async fn a_connection_that_is_closed_at_once_wakes_nothing_unless_something_was_sent() {
    let (backend, _server) = server().await;
    let (port, clients, _front) = front(backend).await;
    clients.set(Gate::Serve);
    clients.set(Gate::Asleep);
    for _ in 0..20 {
        drop(TcpStream::connect(("127.0.0.1", port)).await.unwrap());
    }
    // Served in the order of their coming, and this one is answered.
    let mut last = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    assert_eq!(timeout(LIMIT, last.read(&mut [0])).await.unwrap().unwrap_or_default(), 0);
    until("nothing is left open", || clients.unused_for(false).is_some()).await;
    assert!(!clients.calls());
    let script = format!("echo hello > /dev/tcp/127.0.0.1/{port}");
    assert!(Command::new("bash").args(["-c", &script]).status().unwrap().success());
    until("what was sent calls", || clients.calls()).await;
}

#[tokio::test]
async fn a_call_while_a_gate_is_held_is_forgotten_if_the_service_stays_awake() {
    use std::io::Write;
    let (backend, _server) = server().await;
    let (port, clients, _front) = front(backend).await;
    clients.set(Gate::Serve);
    let mut child = client(port);
    assert_eq!(line(&mut child).await, "hello");
    clients.hold(true);
    writeln!(child.stdin.as_mut().unwrap(), "again").unwrap();
    assert_eq!(line(&mut child).await, "again");
    until("it calls", || clients.called.load(Ordering::SeqCst)).await;
    clients.hold(false);
    clients.set(Gate::Asleep);
    assert!(!clients.calls());
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[tokio::test]
async fn a_gate_that_is_held_closed_lets_nobody_through_until_it_is_let_go() {
    let (backend, _server) = server().await;
    let (port, clients, _front) = front(backend).await;
    clients.set(Gate::Serve);
    clients.hold(true);
    let mut child = client(port);
    until("it waits", || clients.waiting.load(Ordering::SeqCst) == 1).await;
    assert!(!clients.calls(), "nothing sleeps yet");
    clients.set(Gate::Asleep);
    assert!(clients.calls());
    clients.set(Gate::Serve);
    clients.hold(false);
    assert_eq!(line(&mut child).await, "hello");
    drop(child.stdin.take());
    child.wait().unwrap();
}
