//! PostgreSQL: a login as the role to its database, over TCP.
//!
//! The official image's temporary server for initialisation listens only on a socket file; any other
//! restart behind the port is detected by the start time, which callers that probe twice compare.

use std::{error::Error as _, io, time::Duration};

use async_trait::async_trait;
use futures_util::{
    FutureExt,
    future::{self, BoxFuture, Either},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage, config::SslMode, error::SqlState, tls::MakeTlsConnect};
use tokio_postgres_rustls::MakeRustlsConnect;

use devenv_spec::OfKind;

use super::{PostgresKind, spec::PostgresProbe};
use crate::{
    capability::Probes,
    limited::{Broken, LONGEST_ANSWER, Limited},
    probe::{ProbeContext, ProbeFailure, ProbeSuccess, io_words},
};

/// The server's error code for a wrong password.
const WRONG_PASSWORD: &str = "SQLSTATE 28P01";
/// A request for TLS, which is answered by one letter before any login: the length, and its code.
pub(crate) const TLS_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

const STARTED: &str = "SELECT date_trunc('milliseconds', pg_postmaster_start_time() AT TIME ZONE 'UTC')";

/// Who logs in, and where.
pub struct Login<'a> {
    pub port: u16,
    pub user: &'a str,
    pub password: String,
    pub database: &'a str,
    /// Encrypted, to a server with a certificate of the authority.
    pub tls: Option<rustls::ClientConfig>,
}

#[async_trait]
impl Probes for PostgresKind {
    async fn ask(&self, question: &OfKind, cx: &ProbeContext) -> Result<ProbeSuccess, ProbeFailure> {
        let PostgresProbe { port, user, password, database, tls } = question.decode()?;
        ask_server(&Login { port, user: &user, password: cx.reveal(&password)?, database: &database, tls: cx.trust(tls)? }).await
    }

    fn port(&self, question: &OfKind) -> Option<u16> {
        question.decode().ok().map(|probe: PostgresProbe| probe.port)
    }

    /// With padding, a start-up packet: version 3.0, and a long name.
    fn greeting(&self, padding: Option<usize>) -> Option<Vec<u8>> {
        let Some(padding) = padding else { return Some(TLS_REQUEST.to_vec()) };
        let said = [&b"\0\x03\0\0user\0devenv\0application_name\0"[..], &vec![b'x'; padding], &[0, 0]].concat();
        Some([&(said.len() as u32 + 4).to_be_bytes()[..], &said].concat())
    }

    fn is_wrong_password(&self, failure: &ProbeFailure) -> bool {
        failure.what.contains(WRONG_PASSWORD)
    }
}

impl Login<'_> {
    pub fn config(&self, application: &str) -> Config {
        let mut config = Config::new();
        config
            .ssl_mode(if self.tls.is_some() { SslMode::Require } else { SslMode::Disable })
            .host("127.0.0.1")
            .port(self.port)
            .user(self.user)
            .password(&self.password)
            .dbname(self.database)
            .application_name(application);
        config
    }
}

async fn ask_server(login: &Login<'_>) -> Result<ProbeSuccess, ProbeFailure> {
    let started = answer(login, STARTED).await?;
    let evidence = format!("logged in as {} to {}, started {started} UTC", login.user, login.database);
    Ok(ProbeSuccess { evidence, life: Some(started) })
}

/// A pooler's start says nothing about the server's, and its pools do not support prepared statements well.
pub(crate) async fn ask_pooler(login: &Login<'_>) -> Result<ProbeSuccess, ProbeFailure> {
    answer(login, "SELECT 1").await?;
    Ok(ProbeSuccess::of(format!("logged in as {} to {} through the pooler", login.user, login.database)))
}

async fn answer(login: &Login<'_>, query: &'static str) -> Result<String, ProbeFailure> {
    answer_on(crate::probe::connect(login.port).await?, login, query).await
}

async fn answer_on<S>(stream: S, login: &Login<'_>, query: &'static str) -> Result<String, ProbeFailure>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let config = login.config("devenv-probe");
    let stream = Limited::new(stream, LONGEST_ANSWER);
    let asked = async {
        let (client, connection) = over(&config, stream, login.tls.clone()).await?;
        driven(client, connection, |client| async move { first_value(&client, query).await }).await
    };
    asked.await.map_err(|error| failure(login.port, &error))
}

type Connected = (Client, BoxFuture<'static, Result<(), tokio_postgres::Error>>);

async fn over<S>(config: &Config, stream: Limited<S>, tls: Option<rustls::ClientConfig>) -> Result<Connected, tokio_postgres::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Some(tls) = tls else {
        let (client, connection) = config.connect_raw(stream, NoTls).await?;
        return Ok((client, connection.boxed()));
    };
    let mut tls = MakeRustlsConnect::new(tls);
    let tls = MakeTlsConnect::<Limited<S>>::make_tls_connect(&mut tls, "127.0.0.1").expect("an address is a valid name");
    let (client, connection) = config.connect_raw(stream, tls).await?;
    Ok((client, connection.boxed()))
}

async fn first_value(client: &Client, query: &str) -> Result<String, tokio_postgres::Error> {
    let messages = client.simple_query(query).await?;
    let value = messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok(value.unwrap_or_default().to_owned())
}

/// A client, and the connection that has to be driven for it, on which one answer has a limit.
pub async fn connect(config: &Config, tls: Option<rustls::ClientConfig>) -> Result<Connected, tokio_postgres::Error> {
    let port = config.get_ports().first().copied().unwrap_or_default();
    let connected = TcpStream::connect(("127.0.0.1", port)).await.and_then(|stream| {
        stream.set_nodelay(true)?;
        Ok(stream)
    });
    match connected {
        Ok(stream) => over(config, Limited::new(stream, LONGEST_ANSWER), tls).await,
        // Only the driver makes errors of its type.
        Err(error) => match config.connect_raw(Broken(error.kind()), NoTls).await {
            Err(error) => Err(error),
            Ok(_) => unreachable!("nothing can be sent over it"),
        },
    }
}

/// Connects, calls `work` with the client, and drives the connection to its end, all within this future.
pub async fn session<T, W>(
    config: &Config,
    tls: Option<rustls::ClientConfig>,
    work: impl FnOnce(Client) -> W,
) -> Result<T, tokio_postgres::Error>
where
    W: Future<Output = Result<T, tokio_postgres::Error>>,
{
    let (client, connection) = connect(config, tls).await?;
    driven(client, connection, work).await
}

async fn driven<T, W>(
    client: Client,
    connection: BoxFuture<'static, Result<(), tokio_postgres::Error>>,
    work: impl FnOnce(Client) -> W,
) -> Result<T, tokio_postgres::Error>
where
    W: Future<Output = Result<T, tokio_postgres::Error>>,
{
    let work = std::pin::pin!(work(client));
    match future::select(work, connection).await {
        Either::Left((result, connection)) => {
            // The client is gone by now, so only the terminate message is left: then no server log mentions a lost peer.
            let _ = tokio::time::timeout(Duration::from_millis(100), connection).await;
            result
        }
        // The server ended it: its reason is better than the client's "connection closed".
        Either::Right((Err(error), _)) => Err(error),
        Either::Right((Ok(()), work)) => work.await,
    }
}

/// The error in the server's words: a driver's own `Display` says only "db error".
pub fn words(port: u16, error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        let starting = if *error.code() == SqlState::CANNOT_CONNECT_NOW { "not accepting connections yet: " } else { "" };
        let detail = error.detail().map(|detail| format!(" ({detail})")).unwrap_or_default();
        return format!("{starting}{}{detail} (SQLSTATE {})", error.message(), error.code().code());
    }
    let place = format!("127.0.0.1:{port}");
    match error.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        Some(source) => io_words(&place, source),
        None if error.is_closed() => format!("{place} closed the connection before it answered"),
        None => match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

/// The door for `fuzz/`: a server that answers a probe's login and question with any bytes.
#[cfg(fuzzing)]
pub async fn fuzz<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S) {
    let login = Login { port: 1, user: "app", password: "secret".to_owned(), database: "app", tls: None };
    let _ = answer_on(stream, &login, STARTED).await;
}

fn failure(port: u16, error: &tokio_postgres::Error) -> ProbeFailure {
    ProbeFailure { what: words(port, error), answered: error.as_db_error().is_some() }
}
