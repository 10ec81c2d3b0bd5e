use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

fn remote() -> Remote {
    Remote::over_ssh(SshAddress::parse("box").unwrap(), None)
}

/// The two ends of a connection.
async fn connection() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

fn halves(stream: TcpStream) -> Halves {
    let (read, write) = stream.into_split();
    (Box::new(read), Box::new(write))
}

#[tokio::test]
async fn an_answer_arrives_after_the_input_has_ended() {
    let (mut client, near) = UnixStream::pair().unwrap();
    let (far, mut engine) = connection().await;
    let serving = tokio::spawn(async move { pump(&Arc::new(near), halves(far), &remote()).await });
    client.write_all(b"input").await.unwrap();
    client.shutdown().await.unwrap();
    let mut text = String::new();
    timeout(LIMIT, engine.read_to_string(&mut text)).await.unwrap().unwrap();
    assert_eq!(text, "input");
    engine.write_all(b"answer").await.unwrap();
    drop(engine);
    text.clear();
    timeout(LIMIT, client.read_to_string(&mut text)).await.unwrap().unwrap();
    assert_eq!(text, "answer");
    assert!(matches!(timeout(LIMIT, serving).await.unwrap().unwrap(), Ended::Closed { answered: true }));
}

#[tokio::test]
async fn a_client_that_leaves_ends_a_silent_stream() {
    let (mut client, near) = UnixStream::pair().unwrap();
    let (far, _engine) = connection().await;
    let serving = tokio::spawn(async move { pump(&Arc::new(near), halves(far), &remote()).await });
    client.write_all(b"follow").await.unwrap();
    drop(client);
    assert!(matches!(timeout(LIMIT, serving).await.unwrap().unwrap(), Ended::Left));
}

#[tokio::test]
async fn the_reason_of_a_failure_is_kept_until_a_connection_succeeds() {
    let remote = remote();
    let (_client, near) = UnixStream::pair().unwrap();
    let (far, engine) = connection().await;
    drop(engine);
    let ended = timeout(LIMIT, pump(&Arc::new(near), halves(far), &remote)).await.unwrap();
    assert!(matches!(ended, Ended::Closed { answered: false }));
    remote.note(Some("no route".to_owned()));
    assert_eq!(remote.trouble().as_deref(), Some("no route"));
    let (_client, near) = UnixStream::pair().unwrap();
    let (far, mut engine) = connection().await;
    engine.write_all(b"answer").await.unwrap();
    drop(engine);
    timeout(LIMIT, pump(&Arc::new(near), halves(far), &remote)).await.unwrap();
    assert_eq!(remote.trouble(), None);
}

#[tokio::test]
async fn a_connection_that_is_cut_off_is_told_from_one_that_ended() {
    let remote = remote();
    let (mut client, near) = UnixStream::pair().unwrap();
    let (far, mut engine) = connection().await;
    engine.write_all(b"a part").await.unwrap();
    let serving = tokio::spawn(async move { pump(&Arc::new(near), halves(far), &remote).await });
    let mut part = [0; 6];
    timeout(LIMIT, client.read_exact(&mut part)).await.unwrap().unwrap();
    // With data that nobody reads, the system resets the connection.
    client.write_all(b"unread").await.unwrap();
    timeout(LIMIT, engine.peek(&mut part)).await.unwrap().unwrap();
    drop(engine);
    assert!(matches!(timeout(LIMIT, serving).await.unwrap().unwrap(), Ended::Broke(_)));
}

#[test]
fn directories_of_killed_processes_are_removed() {
    let all = tempfile::tempdir().unwrap();
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    let pid = gone.id();
    gone.wait().unwrap();
    let (left, own) = (format!("{PREFIX}{pid}-abc"), format!("{PREFIX}{}-abc", std::process::id()));
    for name in [&left, &own, "devenv-engine-other"] {
        std::fs::create_dir(all.path().join(name)).unwrap();
    }
    remove_left(all.path());
    assert!(!all.path().join(left).exists() && all.path().join(own).exists() && all.path().join("devenv-engine-other").exists());
}

#[test]
fn the_directory_of_the_socket_is_for_its_user_alone() {
    let all = tempfile::tempdir().unwrap();
    let directory = private_directory(all.path()).unwrap();
    assert_eq!(std::fs::metadata(directory.path()).unwrap().permissions().mode() & 0o777, 0o700);
}
