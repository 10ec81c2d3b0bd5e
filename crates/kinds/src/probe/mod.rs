//! Probes: requests in a service's own protocol, sent from the host to its published port.
//!
//! The reconciler probes through [`runner`]; nothing else does. A probe keeps no connection open and leaves no task behind: what
//! it opens is driven inside its own future, so dropping that future ends everything.

mod exec;
pub(crate) mod http;
mod log;
#[cfg(all(test, feature = "docker-tests"))]
pub mod real_tests;
mod runner;
mod tcp;

use std::{fmt, io, time::Duration};

use devenv_spec::Probe;
use tokio::{net::TcpStream, time::timeout};

use crate::capability::ServiceKind;
pub use crate::capability::{ExecTarget, Lines, ProbeContext, ProbeFailure, ProbeSuccess};

pub use runner::{NotReady, Schedule, until_ready, watchful};

/// How long one request may take before a busy machine is suspected and the next one gets more time.
pub const ATTEMPT: Duration = Duration::from_secs(2);

/// Sends one request.
pub async fn ask(probe: &Probe, cx: &ProbeContext) -> Result<ProbeSuccess, ProbeFailure> {
    ask_within(probe, cx, ATTEMPT).await
}

/// Sends one request and waits no longer than `limit`.
async fn ask_within(probe: &Probe, cx: &ProbeContext, limit: Duration) -> Result<ProbeSuccess, ProbeFailure> {
    if let Probe::Log { pattern } = probe {
        // It keeps its own limit, so that it can report what it has read until then.
        return log::ask(pattern, &cx.lines, limit).await;
    }
    timeout(limit, question(probe, cx))
        .await
        .unwrap_or_else(|_| Err(ProbeFailure::silent(format!("no answer{} within {limit:?}", place(probe)))))
}

async fn question(probe: &Probe, cx: &ProbeContext) -> Result<ProbeSuccess, ProbeFailure> {
    match probe {
        Probe::None => Ok(ProbeSuccess::of("running, without a probe")),
        Probe::Http { port, path, status } => http::ask(*port, path, *status).await,
        Probe::Tcp { port } => tcp::ask(*port).await,
        Probe::Log { .. } => Err(ProbeFailure::silent("log probes have their own limit")),
        Probe::Exec { command } => exec::ask(command, &cx.target).await,
        Probe::OfKind(question) => match crate::of(question).and_then(ServiceKind::probes) {
            Some(probes) => probes.ask(question, cx).await,
            None => Err(ProbeFailure::silent(format!("the kind `{}` has no probe of its own in this version", question.kind))),
        },
    }
}

/// The host port of the request, if it has one.
pub fn port(probe: &Probe) -> Option<u16> {
    match probe {
        Probe::Http { port, .. } | Probe::Tcp { port } => Some(*port),
        Probe::OfKind(question) => crate::of(question).and_then(ServiceKind::probes)?.port(question),
        Probe::Exec { .. } | Probe::None | Probe::Log { .. } => None,
    }
}

/// Bytes that the service answers before any login, `padding` bytes longer if that is given; `None` if it answers none.
pub fn greeting(probe: &Probe, padding: Option<usize>) -> Option<Vec<u8>> {
    match (probe, padding) {
        (Probe::OfKind(question), padding) => crate::of(question).and_then(ServiceKind::probes)?.greeting(padding),
        (Probe::Http { .. }, padding) => Some(http::greeting(padding)),
        (Probe::Tcp { .. } | Probe::Exec { .. } | Probe::None | Probe::Log { .. }, Some(_)) => None,
        (Probe::Tcp { .. } | Probe::Exec { .. } | Probe::None | Probe::Log { .. }, None) => Some(http::greeting(None)),
    }
}

/// Whether the failure shows that the server's data was made with another password than this environment's.
pub fn is_wrong_password(probe: &Probe, failure: &ProbeFailure) -> bool {
    match probe {
        Probe::OfKind(question) => {
            crate::of(question).and_then(ServiceKind::probes).is_some_and(|probes| probes.is_wrong_password(failure))
        }
        Probe::None | Probe::Http { .. } | Probe::Tcp { .. } | Probe::Log { .. } | Probe::Exec { .. } => false,
    }
}

fn place(probe: &Probe) -> String {
    match (probe, port(probe)) {
        (Probe::Exec { command }, _) => format!(" from `{}`", command.join(" ")),
        (_, Some(port)) => format!(" from 127.0.0.1:{port}"),
        (_, None) => String::new(),
    }
}

/// A connection to the published port. It proves nothing yet: docker-proxy accepts before the server listens, and closes it
/// a moment later.
pub(crate) async fn connect(port: u16) -> Result<TcpStream, ProbeFailure> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|error| unreachable(port, &error))?;
    stream.set_nodelay(true).map_err(|error| unreachable(port, &error))?;
    Ok(stream)
}

pub(crate) fn unreachable(port: u16, error: &io::Error) -> ProbeFailure {
    ProbeFailure::silent(io_words(&format_args!("127.0.0.1:{port}"), error))
}

/// A network error, in words that explain it for a service that is starting.
pub(crate) fn io_words(place: &dyn fmt::Display, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => format!("nothing listens on {place}"),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            format!("{place} closed the connection before it answered")
        }
        _ => format!("cannot reach {place}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::spec::KafkaProbe;

    #[test]
    fn a_long_question_says_its_own_length_where_the_protocol_wants_it() {
        let length = |words: &[u8]| u32::from_be_bytes(words[..4].try_into().unwrap()) as usize;
        let kafka = greeting(&KafkaProbe { port: 1, login: None }.into_probe(), Some(300)).unwrap();
        assert_eq!((length(&kafka), &kafka[12..14]), (kafka.len() - 4, &300u16.to_be_bytes()[..]));
        let http = greeting(&Probe::Http { port: 1, path: "/".to_owned(), status: 200 }, Some(64)).unwrap();
        assert!(http.ends_with(b"xx\r\n\r\n") && http.len() > 64);
        assert_eq!(greeting(&Probe::Tcp { port: 1 }, Some(64)), None);
    }
}
