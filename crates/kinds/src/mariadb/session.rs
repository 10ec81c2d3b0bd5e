//! Connections to a server, and quoting of text.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use devenv_secrets::tls;
use futures_util::FutureExt;
use mysql_async::{Conn, DriverError, Error, OptsBuilder, Row, SslOpts, Value, prelude::Queryable};

/// A login and an address.
#[derive(Clone)]
pub(crate) struct Login {
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) database: Option<String>,
    /// The certificate with which a server with TLS is verified.
    pub(crate) authority: Option<PathBuf>,
}

/// A connection of devenv's own, with a fixed SQL mode.
pub(crate) struct Session {
    /// Nothing once an answer was too large.
    connection: Option<Conn>,
}

/// The server's mode may change the meaning of quotes; our sessions use the default mode, and zero is an ordinary value.
pub(super) const MODE: &str = "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO', time_zone = '+00:00'";
/// The server's limit for one packet, by default.
const PACKET: usize = 16 << 20;
/// After how long an idle session ends.
const IDLE_SECONDS: usize = 28_800;

/// The most of one answer that is kept, in bytes.
const LARGEST: usize = 8 << 20;
/// What a row takes besides its text.
const ROW: usize = 64;

/// A row in the server's text form.
pub(crate) type Texts = Vec<Option<String>>;

impl Login {
    /// A connection with the defaults of any client.
    pub(crate) async fn connect(&self) -> Result<Conn, Error> {
        let options = OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.port)
            .user(Some(&self.user))
            .pass(Some(&self.password))
            .db_name(self.database.as_ref())
            .prefer_socket(Some(false))
            .tcp_nodelay(true)
            // Given here, so that the connection does not query them.
            .max_allowed_packet(Some(PACKET))
            .wait_timeout(Some(IDLE_SECONDS))
            .ssl_opts(self.authority.as_deref().map(trust));
        Conn::new(options).await
    }

    pub(crate) async fn open(&self) -> Result<Session, Error> {
        let mut session = Session { connection: Some(self.connect().await?) };
        session.run(MODE).await?;
        Ok(session)
    }
}

fn trust(authority: &Path) -> SslOpts {
    tls::use_ring();
    SslOpts::default().with_root_certs(vec![authority.to_owned().into()]).with_disable_built_in_roots(true)
}

impl Session {
    /// All rows of an answer, as long as that is not beyond the limit: then the connection is cut.
    pub(crate) async fn rows(&mut self, query: &str) -> Result<Vec<Texts>, Error> {
        let connection = self.connection()?;
        let mut answer = connection.query_iter(query).await?;
        let (mut rows, mut size) = (Vec::new(), 0);
        while let Some(row) = answer.next().await? {
            let row = texts(row);
            size += row.iter().flatten().map(String::len).sum::<usize>() + ROW;
            if size > LARGEST {
                self.cut();
                return Err(Error::Other(format!("its answer has more than {LARGEST} bytes").into()));
            }
            rows.push(row);
        }
        answer.drop_result().await?;
        Ok(rows)
    }

    pub(crate) async fn run(&mut self, statement: &str) -> Result<(), Error> {
        self.connection()?.query_drop(statement).await
    }

    fn connection(&mut self) -> Result<&mut Conn, Error> {
        self.connection.as_mut().ok_or(Error::Driver(DriverError::ConnectionClosed))
    }

    /// Without reading what is still on its way. Left to itself, the driver would first read an answer to its end, in a task that
    /// nobody owns: once its own end has begun, it closes the socket and does no more.
    fn cut(&mut self) {
        if let Some(connection) = self.connection.take() {
            let _ = connection.disconnect().now_or_never();
        }
    }

    pub(crate) async fn run_all(&mut self, statements: &[String]) -> Result<(), Error> {
        for statement in statements {
            self.run(statement).await?;
        }
        Ok(())
    }

    /// Closes the session. A server that does not answer is left without a goodbye.
    pub(crate) async fn close(mut self) {
        const FAREWELL: Duration = Duration::from_secs(2);
        if let Some(connection) = self.connection.take() {
            let _ = tokio::time::timeout(FAREWELL, connection.disconnect()).await;
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.cut();
    }
}

pub(crate) fn texts(row: Row) -> Texts {
    row.unwrap().into_iter().map(text).collect()
}

/// As it is written in SQL, but for text, which is as it is.
pub(crate) fn text(value: Value) -> Option<String> {
    match value {
        Value::NULL => None,
        Value::Bytes(bytes) => {
            Some(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
        }
        Value::Int(number) => Some(number.to_string()),
        Value::UInt(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Double(number) => Some(number.to_string()),
        other => Some(other.as_sql(true)),
    }
}

/// The server's own message, or the connection error.
pub(crate) fn reason(error: &Error) -> String {
    match error {
        Error::Server(error) => format!("{} (SQLSTATE {})", error.message, error.state),
        error => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(cause) = source {
                if !text.contains(&cause.to_string()) {
                    let _ = write!(text, ": {cause}");
                }
                source = cause.source();
            }
            text
        }
    }
}

/// The error number of the server's refusal, if it is one.
pub(crate) fn code(error: &Error) -> Option<u16> {
    match error {
        Error::Server(error) => Some(error.code),
        _ => None,
    }
}

/// Whether the server went away during the request: it is shutting down, or the connection was closed.
pub(crate) fn is_lost(error: &Error) -> bool {
    const GOING: [u16; 5] = [1053, 1077, 1079, 1152, 1927];
    code(error).is_none_or(|code| GOING.contains(&code))
}

pub(crate) fn identifier(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

/// For a database in `GRANT`, where `_` and `%` are wildcards.
pub(crate) fn grantable(database: &str) -> String {
    identifier(&database.replace('\\', "\\\\").replace('_', "\\_").replace('%', "\\%"))
}

pub(crate) fn literal(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_cannot_leave_their_quotes() {
        assert_eq!(identifier("a`; DROP"), "`a``; DROP`");
        assert_eq!(literal(r"it's \'"), r"'it''s \\'''");
        assert_eq!(grantable("a_b%"), r"`a\_b\%`");
    }

    #[test]
    fn a_refusal_is_reported_in_the_servers_words_and_a_lost_connection_is_recognised() {
        let refused = Error::Server(mysql_async::ServerError { code: 1045, message: "Access denied".into(), state: "28000".into() });
        assert_eq!((reason(&refused).as_str(), is_lost(&refused)), ("Access denied (SQLSTATE 28000)", false));
        let cut = Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        assert!(is_lost(&cut));
    }
}
