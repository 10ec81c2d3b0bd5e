//! Probes: questions in a service's own protocol, asked from the host at its published port.
//!
//! The reconciler asks through [`runner`]; nobody else does. A probe holds no connection and leaves no task behind: what
//! it opens is driven inside its own future, so dropping that future ends everything.

mod exec;
mod http;
mod jaeger;
mod kafka;
pub mod kafka_wire;
mod log;
pub mod postgres;
#[cfg(all(test, feature = "docker-tests"))]
pub mod real_tests;
pub mod redis;
mod runner;
mod tcp;

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use devenv_engine::Engine;
use devenv_secrets::{Vault, tls};
use devenv_spec::Probe;
use futures_util::stream::BoxStream;
use tokio::{net::TcpStream, time::timeout};

pub use runner::{NotReady, Schedule, until_ready, watchful};

/// How long one question may take before a busy machine is suspected and the next one gets more.
pub const ATTEMPT: Duration = Duration::from_secs(2);

/// What a probe needs besides its question.
#[derive(Clone)]
pub struct ProbeContext {
    pub vault: Vault,
    /// The certificate that servers with TLS are verified by.
    pub authority: Option<PathBuf>,
    pub target: ExecTarget,
    pub lines: Lines,
}

/// Where a command of a probe runs.
#[derive(Clone)]
pub enum ExecTarget {
    Container {
        engine: Arc<dyn Engine>,
        id: String,
        /// Besides the container's own.
        environment: Vec<(String, String)>,
    },
    Process {
        directory: PathBuf,
        environment: Vec<(String, String)>,
    },
}

/// Opens the lines of this start of the service, from its first one on; the stream goes on while the service runs.
pub type Lines = Arc<dyn Fn() -> BoxStream<'static, String> + Send + Sync>;

/// The proof of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    pub evidence: String,
    /// Which life of the server it is of: another one after each of its starts. Nothing where servers do not tell.
    pub life: Option<String>,
}

/// Why there is no receipt, in the server's own words where it had some.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct ProbeFailure {
    pub what: String,
    /// The service spoke its protocol and said no; false if nothing of it was heard.
    pub answered: bool,
}

impl Receipt {
    fn of(evidence: impl Into<String>) -> Self {
        Self { evidence: evidence.into(), life: None }
    }
}

impl ProbeFailure {
    fn silent(what: impl Into<String>) -> Self {
        Self { what: what.into(), answered: false }
    }

    fn said(what: impl Into<String>) -> Self {
        Self { what: what.into(), answered: true }
    }
}

/// Asks once.
pub async fn ask(probe: &Probe, cx: &ProbeContext) -> Result<Receipt, ProbeFailure> {
    ask_within(probe, cx, ATTEMPT).await
}

/// Asks once and waits no longer than `limit`.
async fn ask_within(probe: &Probe, cx: &ProbeContext, limit: Duration) -> Result<Receipt, ProbeFailure> {
    if let Probe::Log { pattern } = probe {
        // Reads until its limit by itself: what it has read until then is worth telling.
        return log::ask(pattern, &cx.lines, limit).await;
    }
    timeout(limit, question(probe, cx))
        .await
        .unwrap_or_else(|_| Err(ProbeFailure::silent(format!("no answer{} within {limit:?}", place(probe)))))
}

async fn question(probe: &Probe, cx: &ProbeContext) -> Result<Receipt, ProbeFailure> {
    match probe {
        Probe::None => Ok(Receipt::of("running, and nothing to ask")),
        Probe::Postgres { port, user, password, database, tls } => {
            let login = postgres::Login { port: *port, user, password: reveal(cx, password)?, database, tls: trust(*tls, cx)? };
            postgres::ask_server(&login).await
        }
        Probe::Pgbouncer { port, user, password, database } => {
            let login = postgres::Login { port: *port, user, password: reveal(cx, password)?, database, tls: None };
            postgres::ask_pooler(&login).await
        }
        Probe::Redis { port, user, password, tls } => redis::ask(*port, user, &reveal(cx, password)?, trust(*tls, cx)?).await,
        Probe::Kafka { port } => kafka::ask(*port).await,
        Probe::Jaeger { health, query, otlp_http } => jaeger::ask(*health, *query, *otlp_http).await,
        Probe::Http { port, path, status } => http::ask(*port, path, *status).await,
        Probe::Tcp { port } => tcp::ask(*port).await,
        Probe::Log { .. } => Err(ProbeFailure::silent("a log is read with a limit of its own")),
        Probe::Exec { command } => exec::ask(command, &cx.target).await,
    }
}

fn place(probe: &Probe) -> String {
    match probe {
        Probe::Postgres { port, .. }
        | Probe::Pgbouncer { port, .. }
        | Probe::Redis { port, .. }
        | Probe::Kafka { port }
        | Probe::Http { port, .. }
        | Probe::Tcp { port } => format!(" from 127.0.0.1:{port}"),
        Probe::Jaeger { health, .. } => format!(" from 127.0.0.1:{health}"),
        Probe::Exec { command } => format!(" from `{}`", command.join(" ")),
        Probe::None | Probe::Log { .. } => String::new(),
    }
}

fn reveal(cx: &ProbeContext, secret: &devenv_spec::SecretRef) -> Result<String, ProbeFailure> {
    cx.vault.reveal(secret).map_err(|error| ProbeFailure::silent(error.to_string()))
}

fn trust(encrypts: bool, cx: &ProbeContext) -> Result<Option<rustls::ClientConfig>, ProbeFailure> {
    tls::trust(encrypts, cx.authority.as_deref()).map_err(|error| ProbeFailure::silent(error.to_string()))
}

/// A connection to the published port. It proves nothing yet: docker-proxy accepts before the server listens, and hangs
/// up a moment later.
async fn connect(port: u16) -> Result<TcpStream, ProbeFailure> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| unreachable(port, &error))?;
    stream.set_nodelay(true).map_err(|error| unreachable(port, &error))?;
    Ok(stream)
}

fn unreachable(port: u16, error: &io::Error) -> ProbeFailure {
    ProbeFailure::silent(io_words(&format_args!("127.0.0.1:{port}"), error))
}

/// An error of the network, in words that say what it means for a service that is starting.
fn io_words(place: &dyn fmt::Display, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("nothing listens on {place}"),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            format!("{place} closed the connection before it answered")
        }
        _ => format!("cannot reach {place}: {error}"),
    }
}
