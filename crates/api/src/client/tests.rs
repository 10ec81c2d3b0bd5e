//! The client against a small server that uses the daemon's framework, on a real socket.

use std::{io, sync::Arc};

use axum::{
    Json, Router,
    body::Body,
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use futures_util::{SinkExt, StreamExt, TryStreamExt, stream};
use tokio::{net::UnixListener, sync::Notify};
use tokio_util::codec::Framed;

use super::*;
use crate::{DaemonCodec, ExecInput, ExecOutput, LogStream};

struct Daemon {
    client: Client,
    task: tokio::task::JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn serve(router: Router) -> Daemon {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("devenv.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Daemon { client: Client::new(socket).unwrap(), task, _directory: directory }
}

fn target() -> EnvironmentTarget {
    EnvironmentTarget { project: "/p".to_owned(), instance: "default".to_owned() }
}

fn logs() -> LogsRequest {
    LogsRequest { follow: true, ..LogsRequest::of(target()) }
}

fn line(text: &str) -> LogLine {
    LogLine { time: String::new(), service: "db".to_owned(), stream: LogStream::Stdout, text: text.to_owned(), run: 1 }
}

fn exec() -> ExecRequest {
    ExecRequest::of(target(), "db".to_owned(), vec!["cat".to_owned()])
}

#[tokio::test]
async fn says_that_no_daemon_answers_at_a_socket_that_is_not_there() {
    let client = Client::new("/nonexistent/devenv.sock").unwrap();
    let error = client.daemon().await.unwrap_err();
    assert!(matches!(error, ClientError::NotRunning { .. }), "{error:?}");
    assert!(matches!(client.exec(&exec()).await.unwrap_err(), ClientError::NotRunning { .. }));
}

#[tokio::test]
async fn names_the_engine_in_every_request() {
    async fn echo(headers: HeaderMap) -> Response {
        let choice: EngineSelection = serde_json::from_slice(headers[ENGINE_HEADER].as_bytes()).unwrap();
        let error = ApiError::new(ErrorCode::EngineMismatch, format!("{choice:?}"));
        (StatusCode::CONFLICT, Json(ErrorDocument { error })).into_response()
    }
    let daemon = serve(Router::new().route(route::ENVIRONMENTS, get(echo)).route(route::EXEC, post(echo)));
    let choice = EngineSelection { context: Some("größer".to_owned()), ..EngineSelection::default() };
    let client = daemon.client.clone().with_engine(&choice);
    for answer in [client.environments().await.err(), client.exec(&exec()).await.err()] {
        let Some(ClientError::Answered(error)) = answer else { panic!("{answer:?}") };
        assert_eq!((error.code, error.message), (ErrorCode::EngineMismatch, format!("{choice:?}")));
    }
}

#[tokio::test]
async fn a_stream_hands_over_lines_however_they_are_cut() {
    async fn answer() -> Response {
        let whole: String = ["one", "zwei äöü"].map(|text| serde_json::to_string(&line(text)).unwrap() + "\n").concat();
        let (first, rest) = whole.as_bytes().split_at(whole.len() - 8);
        let pieces = [first.to_vec(), rest.to_vec()].map(Ok::<_, io::Error>);
        Body::from_stream(stream::iter(pieces)).into_response()
    }
    let daemon = serve(Router::new().route(route::LOGS, post(answer)));
    let lines: Vec<LogLine> = daemon.client.logs(&logs()).await.unwrap().try_collect().await.unwrap();
    assert_eq!(lines, [line("one"), line("zwei äöü")]);
}

#[tokio::test]
async fn a_daemon_that_dies_in_mid_answer_is_an_error_after_the_lines_that_came() {
    let read = Arc::new(Notify::new());
    let killed = read.clone();
    let answer = move || async move {
        let first = stream::once(async { Ok(serde_json::to_string(&line("one")).unwrap() + "\n") });
        let death = stream::once(async move {
            killed.notified().await;
            Err(io::Error::other("killed"))
        });
        Body::from_stream(first.chain(death)).into_response()
    };
    let daemon = serve(Router::new().route(route::LOGS, post(answer)));
    let mut lines = daemon.client.logs(&logs()).await.unwrap();
    assert_eq!(lines.next().await.unwrap().unwrap(), line("one"));
    read.notify_one();
    assert!(matches!(lines.next().await, Some(Err(ClientError::Lost(_)))));
}

#[tokio::test]
async fn an_answer_to_up_without_its_last_word_is_a_loss() {
    async fn answer() -> Response {
        Body::from("{\"progress\":{\"service\":\"db\",\"message\":\"4 MiB\"}}\n").into_response()
    }
    let daemon = serve(Router::new().route(route::WAIT, post(answer)));
    let request = WaitRequest { target: target(), services: Vec::new(), timeout_ms: None };
    let mut messages = daemon.client.wait(&request).await.unwrap();
    assert!(matches!(messages.message().await, Ok(UpMessage::Progress { .. })));
    assert!(matches!(messages.message().await, Err(ClientError::Lost(_))));
}

#[tokio::test]
async fn an_answer_that_is_no_error_document_is_reported_with_its_status() {
    let daemon = serve(Router::new());
    let Err(ClientError::Answered(error)) = daemon.client.environments().await else { panic!() };
    assert_eq!(error.code, ErrorCode::Internal);
    assert!(error.message.contains("404"), "{}", error.message);
}

#[tokio::test]
async fn exec_carries_bytes_both_ways_after_the_upgrade() {
    async fn echo(mut request: Request) -> Response {
        let upgrade = hyper::upgrade::on(&mut request);
        let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
        let asked: ExecRequest = serde_json::from_slice(&body).unwrap();
        tokio::spawn(async move {
            let connection = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
            let mut frames = Framed::new(connection, DaemonCodec);
            frames.send(ExecOutput::Stderr(asked.command.concat().into())).await.unwrap();
            while let Some(Ok(ExecInput::Stdin(bytes))) = frames.next().await {
                frames.send(ExecOutput::Stdout(bytes)).await.unwrap();
            }
            frames.send(ExecOutput::Exited(7)).await.unwrap();
        });
        let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, EXEC_PROTOCOL)];
        (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
    }
    let daemon = serve(Router::new().route(route::EXEC, post(echo)));
    let mut session = daemon.client.exec(&exec()).await.unwrap();
    let large = Bytes::from(vec![7; 300_000]);
    session.send(ExecInput::Stdin(large.clone())).await.unwrap();
    session.send(ExecInput::StdinEnd).await.unwrap();
    let received: Vec<ExecOutput> = session.try_collect().await.unwrap();
    assert_eq!(received, [ExecOutput::Stderr("cat".into()), ExecOutput::Stdout(large), ExecOutput::Exited(7)]);
}
