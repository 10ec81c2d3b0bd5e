//! Errors in terms of devenv, from status codes, messages and broken connections.

use std::sync::LazyLock;

use regex::Regex;

use super::endpoint::Endpoint;
use crate::EngineError;

static ADDRESS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-f:]+\]|::1?):(\d{1,5})").expect("the pattern is a constant"));
static MISSING: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?i)no such (container|image|network|volume|exec instance): ?(\S+)|(network|volume) (\S+) not found|get (\S+): no such volume",
    )
    .expect("the pattern is a constant")
});

/// An answer with a failing status.
pub(super) fn refusal(action: &str, status: u16, message: &str) -> EngineError {
    if let Some(port) = taken_port(message) {
        return EngineError::PortTaken { port };
    }
    if status == 404
        && let Some((what, name)) = missing(message)
    {
        return EngineError::NotFound { what, name };
    }
    EngineError::Refused { action: action.to_owned(), status, message: message.trim().to_owned() }
}

pub(super) fn from_bollard(endpoint: &Endpoint, action: &str, error: bollard::errors::Error) -> EngineError {
    use bollard::errors::Error;
    match error {
        Error::DockerResponseServerError { status_code, message } => refusal(action, status_code, &message),
        Error::DockerStreamError { error } => refusal(action, 500, &error),
        Error::RequestTimeoutError => gone(endpoint, format!("it did not {action} in time")),
        Error::IOError { err } => gone(endpoint, err.to_string()),
        Error::HyperResponseError { err } => gone(endpoint, innermost(&err)),
        Error::HyperLegacyError { err } => gone(endpoint, innermost(&err)),
        Error::SocketNotFoundError(path) => gone(endpoint, format!("{path} does not exist")),
        other => EngineError::Protocol { action: action.to_owned(), message: other.to_string() },
    }
}

pub(super) fn from_wire(endpoint: &Endpoint, action: &str, error: reqwest::Error) -> EngineError {
    if error.is_decode() && !error.is_body() {
        return EngineError::Protocol { action: action.to_owned(), message: innermost(&error) };
    }
    if error.is_timeout() {
        return gone(endpoint, format!("it did not {action} in time"));
    }
    gone(endpoint, innermost(&error))
}

/// There is no connection, or it broke. If the connection to another machine fails, its reason explains more than an interrupted request.
pub(super) fn gone(endpoint: &Endpoint, reason: String) -> EngineError {
    let reason = match endpoint {
        Endpoint::Remote(remote) => remote.trouble().unwrap_or(reason),
        Endpoint::Unix(_) | Endpoint::Tcp(_) => reason,
    };
    EngineError::Unreachable { endpoint: endpoint.to_string(), reason }
}

/// The innermost cause: the outer ones only say that a request failed.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// The host port that is in use, from the messages of engines since 20.10.
fn taken_port(message: &str) -> Option<u16> {
    let taken = ["port is already allocated", "address already in use", "ports are not available"];
    let lower = message.to_lowercase();
    if !taken.iter().any(|words| lower.contains(words)) {
        return None;
    }
    ADDRESS.captures(message)?.get(1)?.as_str().parse().ok()
}

fn missing(message: &str) -> Option<(&'static str, String)> {
    let found = MISSING.captures(message)?;
    let kind = found.get(1).or_else(|| found.get(3)).map_or("volume", |kind| kind.as_str());
    let what = match kind.to_ascii_lowercase().as_str() {
        "container" => "container",
        "image" => "image",
        "network" => "network",
        "volume" => "volume",
        _ => "command",
    };
    let name = found.get(2).or_else(|| found.get(4)).or_else(|| found.get(5))?.as_str();
    Some((what, name.trim_end_matches([',', '.']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_found_in_the_words_of_every_engine() {
        for (message, port) in [
            (
                "driver failed programming external connectivity on endpoint x (0a1b2c): Bind for 127.0.0.1:15432 failed: port is already allocated",
                15432,
            ),
            (
                "driver failed programming external connectivity on endpoint x (9f): Error starting userland proxy: listen tcp4 127.0.0.1:15432: bind: address already in use",
                15432,
            ),
            (
                "failed to set up container networking: driver failed programming external connectivity on endpoint x (f): failed to bind host port for 127.0.0.1:8080:172.17.0.2:80/tcp: address already in use",
                8080,
            ),
            ("failed to bind host port 127.0.0.1:8080/tcp: address already in use", 8080),
            (
                "Ports are not available: exposing port TCP 127.0.0.1:5432 -> 0.0.0.0:0: listen tcp 127.0.0.1:5432: bind: address already in use",
                5432,
            ),
            ("Error starting userland proxy: listen tcp6 [::1]:26379: bind: address already in use", 26379),
        ] {
            assert!(matches!(refusal("start it", 500, message), EngineError::PortTaken { port: found } if found == port), "{message}");
        }
        assert_eq!(taken_port("listen tcp 127.0.0.1:5432: permission denied"), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        for (message, expected) in [
            ("No such container: abc", "container `abc` does not exist"),
            ("No such image: redis:8.0", "image `redis:8.0` does not exist"),
            ("network devenv-x not found", "network `devenv-x` does not exist"),
            ("get devenv-x-data: no such volume", "volume `devenv-x-data` does not exist"),
        ] {
            assert_eq!(refusal("do it", 404, message).to_string(), expected);
        }
        assert_eq!(refusal("do it", 404, "page not found").to_string(), "the engine refused to do it: page not found");
    }
}
