//! The routes of the socket that the page may use, called in this process.

use std::sync::Arc;

use axum::{
    Json,
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use devenv_api::{
    ApiError, AskedBy, ErrorCode, ErrorDocument, OperationKind, OperationRequest, Submission, Variables, VariablesRequest, route,
};
use serde::Deserialize;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::Page;
use crate::server::failure::Failed;

/// In bytes. The page asks short questions.
const LONGEST_QUESTION: usize = 1 << 20;
/// In bytes. Of the answers that are read here.
const LONGEST_ANSWER: usize = 16 << 20;

/// Answered without a body in the question.
const LISTS: &[&str] = &[route::ENVIRONMENTS, route::USAGE, route::OPERATIONS, route::DAEMON];

/// Neither files of this machine nor programs can be named in any of these.
const QUESTIONS: &[&str] = &[
    route::STATUS,
    route::EVENTS,
    route::LOGS,
    route::WHY,
    route::LEDGER,
    route::LEDGER_ACCEPT,
    route::LEDGER_RUN,
    route::LEDGER_CHANGES,
    route::SNAPSHOTS,
    route::BACKUPS,
    route::CHAOS_INJECT,
    route::CHAOS_HEAL,
    route::CHAOS_STATUS,
    route::SUBMIT,
    route::CANCEL,
    route::OUTLINE,
    route::ROWS,
    route::QUERY,
    route::PRODUCE,
    route::TRACES,
    route::METRICS,
];

/// The operations that the page may submit: those that need no profile, and name no file.
const OPERATIONS: &[OperationKind] = &[
    OperationKind::Down,
    OperationKind::Start,
    OperationKind::Stop,
    OperationKind::Restart,
    OperationKind::Sleep,
    OperationKind::Wake,
    OperationKind::Reset,
    OperationKind::SnapshotSave,
    OperationKind::SnapshotRestore,
    OperationKind::SnapshotRemove,
    OperationKind::Undo,
    OperationKind::Backup,
    OperationKind::BackupRestore,
    OperationKind::Gc,
];

pub(super) async fn forward(State(page): State<Arc<Page>>, request: Request) -> Result<Response, Failed> {
    let path = request.uri().path().strip_prefix("/api").unwrap_or_default().to_owned();
    if LISTS.contains(&path.as_str()) {
        return Ok(page.ask(Method::GET, &path, Vec::new()).await);
    }
    if !QUESTIONS.contains(&path.as_str()) {
        return Ok(StatusCode::NOT_FOUND.into_response());
    }
    let mut body = to_bytes(request.into_body(), LONGEST_QUESTION).await.map_err(|_| too_long())?.to_vec();
    if path == route::SUBMIT {
        body = submission(&body)?;
    }
    Ok(page.ask(Method::POST, &path, body).await)
}

/// Variables, and which of them to reveal.
#[derive(Deserialize)]
pub(super) struct Revealed {
    #[serde(flatten)]
    request: VariablesRequest,
    #[serde(default)]
    reveal: Option<String>,
}

/// Variables with their secrets masked, but for the one that is revealed.
pub(super) async fn variables(State(page): State<Arc<Page>>, Json(asked): Json<Revealed>) -> Result<Response, Failed> {
    let body = serde_json::to_vec(&asked.request).map_err(unusable)?;
    let answer = page.ask(Method::POST, route::VARIABLES, body).await;
    if !answer.status().is_success() {
        return Ok(answer);
    }
    let bytes = to_bytes(answer.into_body(), LONGEST_ANSWER).await.map_err(unusable)?;
    let known: Variables = serde_json::from_slice(&bytes).map_err(unusable)?;
    let shown: serde_json::Map<String, Value> = known
        .variables
        .into_iter()
        .map(|(name, variable)| {
            let is_secret = variable.value != variable.redacted;
            let value = if asked.reveal.as_deref() == Some(name.as_str()) { variable.value } else { variable.redacted };
            (name, json!({ "value": value, "secret": is_secret }))
        })
        .collect();
    Ok(Json(json!({ "variables": shown })).into_response())
}

/// A submission without its requester, whom the page does not choose.
#[derive(Deserialize)]
struct Asked {
    request: OperationRequest,
}

/// With who asks for it.
fn submission(body: &[u8]) -> Result<Vec<u8>, ApiError> {
    let wrong = |message: String| ApiError::new(ErrorCode::Usage, message);
    let Asked { request } = serde_json::from_slice(body).map_err(|error| wrong(format!("cannot read the operation: {error}")))?;
    let kind = request.kind();
    if !OPERATIONS.contains(&kind) {
        return Err(wrong(format!("the page cannot submit `{kind}`")).hint(format!("run `devenv {kind}` in a terminal")));
    }
    let asked_by = AskedBy { command: "devenv ui".to_owned(), ..AskedBy::default() };
    serde_json::to_vec(&Submission { request, asked_by }).map_err(|error| wrong(error.to_string()))
}

impl Page {
    async fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> Response {
        let request = Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json").body(Body::from(body));
        match request {
            Ok(request) => self.router.clone().oneshot(request).await.into_response(),
            Err(_) => StatusCode::BAD_REQUEST.into_response(),
        }
    }
}

/// Browsers report every failing status as an error of the page, but a refusal is an answer like any other: its document says so.
pub(super) async fn refusals(response: Response) -> Response {
    let status = response.status();
    if status.as_u16() < 400 || status == StatusCode::FORBIDDEN {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let bytes = to_bytes(body, LONGEST_ANSWER).await.unwrap_or_default();
    if serde_json::from_slice::<ErrorDocument>(&bytes).is_ok() {
        parts.status = StatusCode::OK;
        return Response::from_parts(parts, Body::from(bytes));
    }
    let error = match status {
        StatusCode::NOT_FOUND => ApiError::new(ErrorCode::Usage, "the daemon has no such route for the page"),
        _ => ApiError::new(ErrorCode::Usage, String::from_utf8_lossy(&bytes).trim().to_owned()),
    };
    Json(ErrorDocument { error }).into_response()
}

fn too_long() -> ApiError {
    ApiError::new(ErrorCode::Usage, format!("the request is longer than {LONGEST_QUESTION} bytes"))
}

fn unusable(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::Internal, format!("cannot read the answer for the page: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_submits_operations_of_services_and_none_that_names_a_file_or_a_profile() {
        let target = json!({ "project": "/p", "instance": "default" });
        let restart =
            json!({ "request": { "restart": { "target": target, "services": ["db"] } }, "asked_by": { "command": "someone else" } });
        let passed: Value = serde_json::from_slice(&submission(restart.to_string().as_bytes()).unwrap()).unwrap();
        assert_eq!(passed["asked_by"]["command"], "devenv ui");
        let import = json!({ "request": { "import": { "target": target, "service": "db", "place": "/etc/passwd" } } });
        assert!(submission(import.to_string().as_bytes()).unwrap_err().message.contains("cannot submit `import`"));
        assert!(submission(b"{}").is_err());
    }
}
