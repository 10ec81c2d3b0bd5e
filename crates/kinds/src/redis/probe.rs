//! Redis: AUTH and PING succeed, and no data is left to load.

use std::{net::Ipv4Addr, sync::Arc};

use ::redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, aio::MultiplexedConnection};
use async_trait::async_trait;
use devenv_spec::OfKind;
use futures_util::{
    FutureExt,
    future::{self, BoxFuture, Either},
};

use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{RedisKind, spec::RedisProbe};
use crate::{
    capability::Probes,
    limited::{LONGEST_ANSWER, Limited},
    probe::{ProbeContext, ProbeFailure, ProbeSuccess, connect},
};

/// The server refused, or did not answer.
pub enum SessionError {
    Unreachable(ProbeFailure),
    Redis(RedisError),
}

impl From<RedisError> for SessionError {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

#[async_trait]
impl Probes for RedisKind {
    async fn ask(&self, question: &OfKind, cx: &ProbeContext) -> Result<ProbeSuccess, ProbeFailure> {
        let RedisProbe { port, user, password, tls } = question.decode()?;
        ask(port, &user, &cx.reveal(&password)?, cx.trust(tls)?).await
    }

    fn port(&self, question: &OfKind) -> Option<u16> {
        question.decode().ok().map(|probe: RedisProbe| probe.port)
    }

    fn greeting(&self, padding: Option<usize>) -> Option<Vec<u8>> {
        Some(match padding {
            None => b"PING\r\n".to_vec(),
            Some(padding) => format!("PING {}\r\n", "x".repeat(padding)).into_bytes(),
        })
    }
}

async fn ask(port: u16, user: &str, password: &str, tls: Option<rustls::ClientConfig>) -> Result<ProbeSuccess, ProbeFailure> {
    let persistence = session(port, user, password, tls, |mut connection| async move {
        ::redis::cmd("PING").query_async::<()>(&mut connection).await?;
        Ok(::redis::cmd("INFO").arg("persistence").query_async::<String>(&mut connection).await)
    })
    .await;
    match persistence {
        // A user without the right to INFO has still been answered, and a server that loads refuses its PING.
        Ok(Err(error)) if error.code() == Some("NOPERM") => Ok(ProbeSuccess::of(format!("PONG as {}", shown(user)))),
        Ok(Err(error)) => Err(failure(port, SessionError::Redis(error))),
        Ok(Ok(persistence)) => judge(&persistence).map(|()| ProbeSuccess::of(format!("PONG as {}, nothing to load", shown(user)))),
        Err(error) => Err(failure(port, error)),
    }
}

/// Connects, logs in, calls `work` with the connection and drives it, all within this future.
pub async fn session<T, W>(
    port: u16,
    user: &str,
    password: &str,
    tls: Option<rustls::ClientConfig>,
    work: impl FnOnce(MultiplexedConnection) -> W,
) -> Result<T, SessionError>
where
    W: Future<Output = Result<T, SessionError>>,
{
    let (connection, driver) = unauthenticated(port, tls).await?;
    let work = std::pin::pin!(async {
        login(connection.clone(), user, password).await?;
        work(connection).await
    });
    match future::select(work, std::pin::pin!(driver)).await {
        Either::Left((result, _)) => result,
        Either::Right(((), work)) => work.await,
    }
}

/// A logged-in connection, and the driver that it needs.
pub async fn open(
    port: u16,
    user: &str,
    password: &str,
    tls: Option<rustls::ClientConfig>,
) -> Result<(MultiplexedConnection, BoxFuture<'static, ()>), SessionError> {
    let (connection, mut driver) = unauthenticated(port, tls).await?;
    let done = {
        let login = std::pin::pin!(login(connection.clone(), user, password));
        match future::select(login, &mut driver).await {
            Either::Left((result, _)) => result,
            Either::Right(((), login)) => login.await,
        }
    };
    done.map(|()| (connection, driver))
}

async fn login(mut connection: MultiplexedConnection, user: &str, password: &str) -> Result<(), SessionError> {
    let mut login = ::redis::cmd("AUTH");
    login.arg(shown(user)).arg(password);
    Ok(login.query_async::<()>(&mut connection).await?)
}

async fn unauthenticated(
    port: u16,
    tls: Option<rustls::ClientConfig>,
) -> Result<(MultiplexedConnection, BoxFuture<'static, ()>), SessionError> {
    let stream = Limited::new(connect(port).await.map_err(SessionError::Unreachable)?, LONGEST_ANSWER);
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    // The driver's own login hides the server's answer.
    let nobody = RedisConnectionInfo::default().set_skip_set_lib_name();
    Ok(match tls {
        None => {
            let (connection, driver) = MultiplexedConnection::new_with_config(&nobody, stream, config).await?;
            (connection, driver.boxed())
        }
        Some(tls) => {
            let stream = encrypted(port, tls, stream).await.map_err(SessionError::Unreachable)?;
            let (connection, driver) = MultiplexedConnection::new_with_config(&nobody, stream, config).await?;
            (connection, driver.boxed())
        }
    })
}

async fn encrypted(
    port: u16,
    tls: rustls::ClientConfig,
    stream: Limited<TcpStream>,
) -> Result<TlsStream<Limited<TcpStream>>, ProbeFailure> {
    let name = ServerName::IpAddress(Ipv4Addr::LOCALHOST.into());
    TlsConnector::from(Arc::new(tls))
        .connect(name, stream)
        .await
        .map_err(|error| ProbeFailure::silent(format!("cannot open a TLS connection to 127.0.0.1:{port}: {error}")))
}

pub fn words(port: u16, error: SessionError) -> String {
    failure(port, error).what
}

fn failure(port: u16, error: SessionError) -> ProbeFailure {
    let error = match error {
        SessionError::Unreachable(failure) => return failure,
        SessionError::Redis(error) => error,
    };
    if error.is_io_error() || error.is_connection_dropped() {
        return ProbeFailure::silent(format!("127.0.0.1:{port} closed the connection before it answered"));
    }
    ProbeFailure::said(match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        _ => error.to_string(),
    })
}

fn judge(persistence: &str) -> Result<(), ProbeFailure> {
    let field = |name: &str| persistence.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'));
    match (field("loading"), field("async_loading")) {
        (Some("0"), None | Some("0")) => Ok(()),
        (Some("0"), Some(_)) | (Some(_), _) => Err(ProbeFailure::said(match field("loading_loaded_perc") {
            Some(share) => format!("loading its data: {share} %"),
            None => "loading its data".to_owned(),
        })),
        (None, _) => Err(ProbeFailure::said("INFO persistence does not contain `loading`")),
    }
}

fn shown(user: &str) -> &str {
    if user.is_empty() { "default" } else { user }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_loads_is_not_ready_and_says_how_far_it_is() {
        assert_eq!(judge("# Persistence\r\nloading:0\r\nasync_loading:0\r\n"), Ok(()));
        assert_eq!(judge("loading:0\r\n"), Ok(()));
        let text = "loading:1\r\nasync_loading:0\r\nloading_loaded_perc:41.20\r\n";
        assert_eq!(judge(text).unwrap_err().what, "loading its data: 41.20 %");
        assert!(judge("loading:0\r\nasync_loading:1\r\n").is_err());
        assert!(judge("").is_err());
    }
}
