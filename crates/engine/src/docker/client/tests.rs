//! The client against small servers that answer as engines do, on real sockets.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
};

use super::*;

/// An engine that answers every request with the same answer.
fn engine(socket: std::path::PathBuf, status: &'static str, body: &'static str) -> tokio::task::JoinHandle<()> {
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    })
}

async fn outcome(host: &str) -> String {
    let selection = Selection { docker_host: Some(host.to_owned()), ..Selection::default() };
    match connect(&selection).await {
        Ok(engine) => format!("{:?}", engine.info().await.unwrap()),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn a_named_engine_that_does_not_answer_is_reported_with_its_address() {
    let outcome = outcome("unix:///nonexistent/docker.sock").await;
    assert!(outcome.contains("unix:///nonexistent/docker.sock: No such file or directory"), "{outcome}");
    assert!(outcome.contains("selected by DOCKER_HOST, so no other was tried"), "{outcome}");
}

#[tokio::test]
async fn every_socket_that_was_tried_is_reported() {
    let home = tempfile::tempdir().unwrap();
    let error = first_that_answers(&[Endpoint::Unix(home.path().join("a.sock")), Endpoint::Unix(home.path().join("b.sock"))])
        .await
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("a.sock: No such file") && error.contains("b.sock: No such file"), "{error}");
}

#[tokio::test]
async fn an_engine_of_another_age_is_refused_and_others_are_taken() {
    let home = tempfile::tempdir().unwrap();
    for (name, status, body, words) in [
        (
            "new",
            "200 OK",
            r#"{"Version":"29.0","ApiVersion":"1.52","MinAPIVersion":"1.44","Components":[{"Name":"Engine"}],"New":{}}"#,
            r#"kind: "docker", version: "29.0", api: "1.52""#,
        ),
        (
            "podman",
            "200 OK",
            r#"{"Version":"5.2","ApiVersion":"1.41","MinAPIVersion":"1.24","Components":[{"Name":"Podman Engine"}]}"#,
            r#"kind: "podman""#,
        ),
        (
            "old",
            "200 OK",
            r#"{"Version":"18.9","ApiVersion":"1.39","MinAPIVersion":"1.12"}"#,
            "supports API 1.39, but devenv needs 1.41 or newer",
        ),
        ("bad", "400 Bad Request", r#"{"message":"client version 1.41 is too old"}"#, "client version 1.41 is too old"),
        ("odd", "200 OK", "<html>", "cannot decode the engine's answer"),
    ] {
        let socket = home.path().join(name);
        let server = engine(socket.clone(), status, body);
        let outcome = outcome(&format!("unix://{}", socket.display())).await;
        assert!(outcome.contains(words), "{outcome}");
        server.abort();
    }
}

#[tokio::test]
async fn events_end_with_an_error_when_the_engine_goes_away() {
    use futures_util::StreamExt;
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("s");
    let listener = UnixListener::bind(&socket).unwrap();
    let version = r#"{"ApiVersion":"1.41","MinAPIVersion":null}"#;
    let event = r#"{"Type":"container","Action":"start","Actor":{"ID":"c","Attributes":{"dev.devenv.owner":"o"}}}"#;
    let answers = [
        ("GET /version ", format!("Content-Length: {}\r\n\r\n{version}", version.len())),
        ("GET /v1.41/events?since=", format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{event}\n\r\n", event.len() + 1)),
    ];
    let server = tokio::spawn(async move {
        for (asked, answer) in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let count = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..count]);
            assert!(request.starts_with(asked), "{request}");
            stream.write_all(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{answer}").as_bytes()).await.unwrap();
        }
    });
    let selection = Selection { docker_host: Some(format!("unix://{}", socket.display())), ..Selection::default() };
    let engine = connect(&selection).await.unwrap();
    let mut events = engine.events(&crate::OwnerId("o".into()));
    assert_eq!(events.next().await.unwrap().unwrap().container, "c");
    let error = events.next().await.unwrap().unwrap_err();
    assert!(matches!(error, EngineError::Unreachable { .. }), "{error}");
    assert!(events.next().await.is_none());
    server.await.unwrap();
}

/// An engine that reports its version, and handles every other request with `rest`.
fn engine_that<F>(socket: std::path::PathBuf, rest: impl Fn(tokio::net::UnixStream) -> F + Send + 'static) -> tokio::task::JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = UnixListener::bind(socket).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let count = stream.read(&mut request).await.unwrap_or_default();
            if request[..count].starts_with(b"GET /version ") {
                let version = r#"{"ApiVersion":"1.41","MinAPIVersion":null}"#;
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{version}", version.len());
                let _ = stream.write_all(answer.as_bytes()).await;
            } else {
                tokio::spawn(rest(stream));
            }
        }
    })
}

async fn connected(socket: &std::path::Path) -> Arc<dyn Engine> {
    let selection = Selection { docker_host: Some(format!("unix://{}", socket.display())), ..Selection::default() };
    connect(&selection).await.unwrap()
}

#[tokio::test]
async fn a_container_that_cannot_be_frozen_at_the_moment_is_paused_later() {
    use std::sync::atomic::{AtomicUsize, Ordering};

    const BUSY: &str = r#"{"message":"Cannot pause container c: OCI runtime pause failed: unable to freeze: unknown"}"#;
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("s");
    let asked = Arc::<AtomicUsize>::default();
    let requests = asked.clone();
    // Each refusal is followed by a look at the container.
    let answers = [("500 Error", BUSY), ("404 Not Found", "{}"), ("500 Error", BUSY), ("404 Not Found", "{}"), ("204 No Content", "")];
    let server = engine_that(socket.clone(), move |mut stream| {
        let (status, body) = answers[requests.fetch_add(1, Ordering::SeqCst).min(4)];
        async move {
            let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    connected(&socket).await.pause("c").await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 5);
    server.abort();
}

async fn ends_in_time<T>(what: &str, call: impl Future<Output = Result<T, EngineError>>) {
    let answer = tokio::time::timeout(Duration::from_hours(2), call).await;
    match answer.unwrap_or_else(|_| panic!("{what} waits for ever")) {
        Ok(_) => panic!("{what} succeeded"),
        Err(error @ (EngineError::Unreachable { .. } | EngineError::TimedOut { .. })) => {
            let outcome = error.to_string();
            assert!(outcome.contains(" within ") || outcome.contains("in time"), "{what}: {outcome}");
        }
        Err(error) => panic!("{what}: {error}"),
    }
}

#[tokio::test]
async fn no_call_to_an_engine_that_falls_silent_waits_for_ever() {
    use futures_util::{StreamExt, TryStreamExt, stream};

    use crate::{ExecRequest, OwnerId, SessionRequest, UploadFile};

    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("s");
    let server = engine_that(socket.clone(), |stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    });
    let engine = connected(&socket).await;
    // Time is simulated from here on.
    tokio::time::pause();
    let command = vec!["true".to_owned()];
    let exec = ExecRequest { command: command.clone(), ..ExecRequest::default() };
    let session = SessionRequest { command, ..SessionRequest::default() };
    let file = UploadFile { path: "/f".to_owned(), mode: 0o400, uid: 0, gid: 0, content: "x".into() };
    let owner = OwnerId("o".to_owned());
    ends_in_time("containers", engine.containers(&owner)).await;
    ends_in_time("volumes", engine.volumes(&owner)).await;
    ends_in_time("image", engine.image("x:1")).await;
    ends_in_time("user", engine.user("c")).await;
    ends_in_time("upload", engine.upload("c", &[file])).await;
    ends_in_time("start", engine.start("c")).await;
    ends_in_time("stop", engine.stop("c", "SIGTERM", Duration::from_secs(1))).await;
    ends_in_time("kill", engine.kill("c", "SIGKILL")).await;
    ends_in_time("pause", engine.pause("c")).await;
    ends_in_time("unpause", engine.unpause("c")).await;
    ends_in_time("remove_container", engine.remove_container("c")).await;
    ends_in_time("remove_network", engine.remove_network("n")).await;
    ends_in_time("remove_volume", engine.remove_volume("v")).await;
    ends_in_time("inspect", engine.inspect("c")).await;
    ends_in_time("exec", engine.exec("c", exec)).await;
    ends_in_time("exec_session", engine.exec_session("c", session)).await;
    ends_in_time("limits", engine.limits("c")).await;
    ends_in_time("usage", engine.usage("c")).await;
    ends_in_time("events", engine.events(&owner).try_next()).await;
    ends_in_time("logs", engine.logs("c", None, false).try_next()).await;
    ends_in_time("pull", engine.pull("x:1").try_next()).await;
    ends_in_time("save_images", engine.save_images(&["x:1".to_owned()]).try_next()).await;
    ends_in_time("load_images", engine.load_images(stream::empty().boxed())).await;
    server.abort();
}

#[tokio::test]
async fn an_answer_without_an_end_is_given_up_before_it_fills_the_memory() {
    let home = tempfile::tempdir().unwrap();
    let socket = home.path().join("s");
    let server = engine_that(socket.clone(), |mut stream| async move {
        let piece = vec![b' '; 1 << 20];
        let mut written = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
        while written.is_ok() {
            written = stream.write_all(&piece).await;
        }
    });
    let engine = connected(&socket).await;
    let error = engine.inspect("c").await.unwrap_err();
    assert_eq!(error.to_string(), "could not inspect a container: it is larger than 64 MiB");
    server.abort();
}
