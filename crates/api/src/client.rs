//! The client: one method for each route, over the daemon's unix socket.
//!
//! It never starts a daemon and never retries; that is up to the caller. Long answers are [`Stream`]s of NDJSON
//! lines. If the daemon dies in the middle of an answer, the client returns [`ClientError::Lost`]. It sends nothing to a socket
//! that another user could own.

mod peer;
mod stream;
mod upgrade;
pub(crate) mod usable;

pub use usable::unusable;

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use reqwest::Method;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::net::UnixStream;
use tokio_util::codec::{Framed, FramedParts};

use crate::{
    AcceptRequest, AgentCall, ApiError, ArchiveRequest, Backups, BundleFile, BundleRequest, DaemonStatus, EnvironmentTarget, ErrorCode,
    ErrorDocument, Event, EventsRequest, ExecRequest, Fault, Faults, FaultsRequest, FetchMessage, FetchRequest, HealRequest, Images,
    Impairments, ImpairmentsRequest, InjectRequest, Ledger, LedgerChanges, LogLine, LogsRequest, Metrics, MetricsRequest, Operation,
    OperationMessage, OperationTarget, Operations, Outline, OutlineRequest, Plan, ProduceRequest, Produced, QueryRequest, Rows,
    RowsRequest, Secrets, SetSecretRequest, Snapshots, Status, Submission, TerminalCodec, Traces, TracesRequest, UiOpened, UiRequest,
    UpMessage, UpRequest, Variables, VariablesRequest, WaitRequest, Why, WhyRequest, route,
};

pub use stream::Stream;

/// The header in which every request names the engine that the client selects: an [`EngineSelection`] as JSON.
pub const ENGINE_HEADER: &str = "x-devenv-engine";

/// The protocol to which the connection of `exec` is upgraded.
pub const EXEC_PROTOCOL: &str = "devenv-exec";

/// In bytes. Longer lines are refused; the daemon cuts log lines far below this.
const LONGEST_LINE: usize = 16 * 1024 * 1024;

/// The engine that a client selects; all `None` means the one that the daemon uses.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EngineSelection {
    /// `--context`.
    pub context: Option<String>,
    /// `DOCKER_HOST`.
    pub docker_host: Option<String>,
    /// `DOCKER_CONTEXT`.
    pub docker_context: Option<String>,
    /// `DOCKER_TLS_VERIFY`.
    #[serde(default)]
    pub docker_tls_verify: Option<String>,
    /// `DOCKER_CERT_PATH`.
    #[serde(default)]
    pub docker_cert_path: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no daemon answers at {}", socket.display())]
    NotRunning { socket: PathBuf },
    /// Another user could own the other end.
    #[error("{} {reason}: it is not used", path.display())]
    Foreign { path: PathBuf, reason: String },
    /// The connection broke before the answer was complete: the daemon has died.
    #[error("the daemon stopped before it answered")]
    Lost(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The daemon refused the request, or failed to carry it out.
    #[error(transparent)]
    Answered(ApiError),
    /// The answer is not from a devenv daemon, or from one of another version.
    #[error("cannot decode the daemon's answer: {detail}")]
    Unexpected { detail: String },
}

/// Talks to the daemon of one runtime directory.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    socket: PathBuf,
    engine: Option<String>,
}

/// The two halves of a running `exec`: a sink of [`crate::ExecInput`] and a stream of [`crate::ExecOutput`].
pub type ExecSession = Framed<UnixStream, TerminalCodec>;

impl Client {
    /// Does not connect yet.
    pub fn new(socket: impl Into<PathBuf>) -> Result<Self, ClientError> {
        let socket = socket.into();
        let http = reqwest::Client::builder()
            .unix_socket(socket.as_path())
            .no_proxy()
            .build()
            .map_err(|error| ClientError::Unexpected { detail: error.to_string() })?;
        Ok(Self { http, socket, engine: None })
    }

    /// Selects the engine; a daemon that uses another refuses every request with `engine-mismatch`.
    #[must_use]
    pub fn with_engine(mut self, selection: &EngineSelection) -> Self {
        self.engine = serde_json::to_string(selection).ok().map(|json| ascii(&json));
        self
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether a daemon listens. An error if that could be another user's.
    pub async fn reachable(&self) -> Result<bool, ClientError> {
        match peer::connect(&self.socket).await {
            Ok(_) => Ok(true),
            Err(ClientError::NotRunning { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub async fn daemon(&self) -> Result<DaemonStatus, ClientError> {
        self.get(route::DAEMON).await
    }

    /// The daemon exits soon after the answer; services keep running.
    pub async fn stop_daemon(&self) -> Result<(), ClientError> {
        self.post::<_, serde_json::Value>(route::DAEMON_STOP, &serde_json::json!({})).await.map(|_| ())
    }

    pub async fn environments(&self) -> Result<Vec<Status>, ClientError> {
        self.get(route::ENVIRONMENTS).await
    }

    pub async fn status(&self, target: &EnvironmentTarget) -> Result<Status, ClientError> {
        self.post(route::STATUS, target).await
    }

    /// Submits an operation and follows it. The operation goes on when the stream is dropped.
    pub async fn submit(&self, submission: &Submission) -> Result<Stream<OperationMessage>, ClientError> {
        self.stream(route::SUBMIT, submission).await
    }

    /// Submits an operation and waits for its result, for callers that show no progress.
    pub async fn carry_out<R: DeserializeOwned>(&self, submission: &Submission) -> Result<R, ClientError> {
        let mut messages = self.submit(submission).await?;
        loop {
            match messages.message().await? {
                OperationMessage::Done { result, .. } => {
                    return serde_json::from_value(result).map_err(|error| ClientError::Unexpected { detail: error.to_string() });
                }
                OperationMessage::Failed { error, .. } => return Err(ClientError::Answered(error)),
                OperationMessage::Accepted(_) | OperationMessage::Event(_) | OperationMessage::Progress { .. } => {}
            }
        }
    }

    /// The operations under way, and the last that ended.
    pub async fn operations(&self) -> Result<Operations, ClientError> {
        self.get(route::OPERATIONS).await
    }

    /// Each operation whenever it changes, beginning with those under way.
    pub async fn follow_operations(&self) -> Result<Stream<Operation>, ClientError> {
        self.stream(route::OPERATIONS_FOLLOW, &serde_json::json!({})).await
    }

    /// Asks an operation to stop. It ends a little later; its own stream reports how.
    pub async fn cancel_operation(&self, id: &str) -> Result<Operation, ClientError> {
        self.post(route::CANCEL, &OperationTarget { id: id.to_owned() }).await
    }

    pub async fn plan(&self, request: &UpRequest) -> Result<Plan, ClientError> {
        self.post(route::PLAN, request).await
    }

    pub async fn wait(&self, request: &WaitRequest) -> Result<Stream<UpMessage>, ClientError> {
        self.stream(route::WAIT, request).await
    }

    pub async fn logs(&self, request: &LogsRequest) -> Result<Stream<LogLine>, ClientError> {
        self.stream(route::LOGS, request).await
    }

    pub async fn events(&self, request: &EventsRequest) -> Result<Stream<Event>, ClientError> {
        self.stream(route::EVENTS, request).await
    }

    pub async fn variables(&self, request: &VariablesRequest) -> Result<Variables, ClientError> {
        let variables: Variables = self.post(route::VARIABLES, request).await?;
        usable::check(&variables.variables, |variable| &variable.value)?;
        Ok(variables)
    }

    pub async fn why(&self, request: &WhyRequest) -> Result<Why, ClientError> {
        self.post(route::WHY, request).await
    }

    pub async fn ledger(&self, target: &EnvironmentTarget) -> Result<Ledger, ClientError> {
        self.post(route::LEDGER, target).await
    }

    pub async fn accept(&self, request: &AcceptRequest) -> Result<Ledger, ClientError> {
        self.post(route::LEDGER_ACCEPT, request).await
    }

    /// How the files of a script differ from what was applied of them.
    pub async fn ledger_changes(&self, request: &AcceptRequest) -> Result<LedgerChanges, ClientError> {
        self.post(route::LEDGER_CHANGES, request).await
    }

    /// Applies a script again from its beginning.
    pub async fn run_again(&self, request: &AcceptRequest) -> Result<Ledger, ClientError> {
        self.post(route::LEDGER_RUN, request).await
    }

    /// The secrets of an environment, without values; none of an environment that does not exist.
    pub async fn secrets(&self, target: &EnvironmentTarget) -> Result<Secrets, ClientError> {
        self.post(route::SECRETS, target).await
    }

    pub async fn set_secret(&self, request: &SetSecretRequest) -> Result<Secrets, ClientError> {
        self.post(route::SECRETS_SET, request).await
    }

    pub async fn snapshots(&self, target: &EnvironmentTarget) -> Result<Snapshots, ClientError> {
        self.post(route::SNAPSHOTS, target).await
    }

    pub async fn backups(&self, target: &EnvironmentTarget) -> Result<Backups, ClientError> {
        self.post(route::BACKUPS, target).await
    }

    /// What a server holds.
    pub async fn outline(&self, request: &OutlineRequest) -> Result<Outline, ClientError> {
        self.post(route::OUTLINE, request).await
    }

    pub async fn rows(&self, request: &RowsRequest) -> Result<Rows, ClientError> {
        self.post(route::ROWS, request).await
    }

    /// The rows of one statement that only reads.
    pub async fn query(&self, request: &QueryRequest) -> Result<Rows, ClientError> {
        self.post(route::QUERY, request).await
    }

    /// Records that an agent has called a tool.
    pub async fn note_call(&self, call: &AgentCall) -> Result<(), ClientError> {
        self.post(route::AGENT, call).await
    }

    pub async fn produce(&self, request: &ProduceRequest) -> Result<Produced, ClientError> {
        self.post(route::PRODUCE, request).await
    }

    pub async fn traces(&self, request: &TracesRequest) -> Result<Traces, ClientError> {
        self.post(route::TRACES, request).await
    }

    pub async fn metrics(&self, request: &MetricsRequest) -> Result<Metrics, ClientError> {
        self.post(route::METRICS, request).await
    }

    /// Returns once the effect of the fault was observed, or was not observed in time.
    pub async fn inject(&self, request: &InjectRequest) -> Result<Fault, ClientError> {
        self.post(route::CHAOS_INJECT, request).await
    }

    /// Whether the fault can be injected, as far as that is known without injecting it.
    pub async fn check_fault(&self, request: &InjectRequest) -> Result<(), ClientError> {
        self.post(route::CHAOS_CHECK, request).await
    }

    /// Pulls the images that are missing; the last message lists all that were asked for.
    pub async fn fetch_images(&self, request: &FetchRequest) -> Result<Stream<FetchMessage>, ClientError> {
        self.stream(route::IMAGES_FETCH, request).await
    }

    pub async fn save_images(&self, request: &ArchiveRequest) -> Result<Images, ClientError> {
        self.post(route::IMAGES_SAVE, request).await
    }

    /// The images that were in the archive.
    pub async fn load_images(&self, request: &ArchiveRequest) -> Result<Images, ClientError> {
        self.post(route::IMAGES_LOAD, request).await
    }

    /// Undoes faults, and returns those that were undone.
    pub async fn heal(&self, request: &HealRequest) -> Result<Faults, ClientError> {
        self.post(route::CHAOS_HEAL, request).await
    }

    pub async fn faults(&self, request: &FaultsRequest) -> Result<Faults, ClientError> {
        self.post(route::CHAOS_STATUS, request).await
    }

    /// What faults have changed of the services now.
    pub async fn impairments(&self, request: &ImpairmentsRequest) -> Result<Vec<Impairments>, ClientError> {
        self.post(route::CHAOS_IMPAIRMENTS, request).await
    }

    /// Logs, events and records of an environment without secrets, as chunks of files.
    pub async fn bundle(&self, request: &BundleRequest) -> Result<Stream<BundleFile>, ClientError> {
        self.stream(route::BUNDLE, request).await
    }

    /// Serves the page in the browser until the stream is dropped. One message: its address.
    pub async fn ui(&self, request: &UiRequest) -> Result<Stream<UiOpened>, ClientError> {
        self.stream(route::UI, request).await
    }

    /// Runs a command in a service.
    pub async fn exec(&self, request: &ExecRequest) -> Result<ExecSession, ClientError> {
        let (connection, received) = self.upgrade(route::EXEC, EXEC_PROTOCOL, request).await?;
        let mut parts = FramedParts::new::<crate::ExecInput>(connection, TerminalCodec);
        parts.read_buf = received;
        Ok(Framed::from_parts(parts))
    }

    async fn get<R: DeserializeOwned>(&self, path: &str) -> Result<R, ClientError> {
        read(self.send(Method::GET, path, None::<&()>).await?).await
    }

    async fn post<B: Serialize, R: DeserializeOwned>(&self, path: &str, body: &B) -> Result<R, ClientError> {
        read(self.send(Method::POST, path, Some(body)).await?).await
    }

    async fn stream<B: Serialize, T: DeserializeOwned + Send + 'static>(&self, path: &str, body: &B) -> Result<Stream<T>, ClientError> {
        Ok(Stream::of(self.send(Method::POST, path, Some(body)).await?))
    }

    /// Returns the answer's head; a failing status is an error.
    async fn send<B: Serialize>(&self, method: Method, path: &str, body: Option<&B>) -> Result<reqwest::Response, ClientError> {
        peer::check_place(&self.socket)?;
        let mut request = self.http.request(method, format!("http://devenv{path}"));
        if let Some(engine) = &self.engine {
            request = request.header(ENGINE_HEADER, engine);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request
            .send()
            .await
            .map_err(|error| if error.is_connect() { ClientError::NotRunning { socket: self.socket.clone() } } else { lost(error) })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        Err(refusal(status.as_u16(), &response.bytes().await.map_err(lost)?))
    }
}

async fn read<R: DeserializeOwned>(response: reqwest::Response) -> Result<R, ClientError> {
    let bytes: Bytes = response.bytes().await.map_err(lost)?;
    parse(&bytes)
}

fn parse<R: DeserializeOwned>(bytes: &[u8]) -> Result<R, ClientError> {
    serde_json::from_slice(bytes).map_err(|error| ClientError::Unexpected { detail: error.to_string() })
}

fn refusal(status: u16, body: &[u8]) -> ClientError {
    let error = serde_json::from_slice::<ErrorDocument>(body).map(|document| document.error);
    ClientError::Answered(error.unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(body);
        ApiError::new(ErrorCode::Internal, format!("the daemon answered with status {status}: {}", text.trim()))
            .hint("if the daemon is of another version, run `devenv daemon stop`; the next command starts the new one")
    }))
}

fn lost(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> ClientError {
    ClientError::Lost(error.into())
}

/// Escapes every character beyond ASCII, because a header allows no others.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for unit in json.encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii() => text.push(char::from(byte)),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\u{unit:04x}");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests;
