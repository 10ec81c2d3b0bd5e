//! A login over TCP and a query, like the application's.
//!
//! The image's temporary server for initialisation listens only on its socket, so it is never mistaken for the real one.

use async_trait::async_trait;
use devenv_spec::OfKind;
use mysql_async::Error;

use super::{
    MariadbKind,
    session::{Login, code, reason},
    spec::MariadbProbe,
};
use crate::{
    capability::Probes,
    probe::{ProbeContext, ProbeFailure, ProbeSuccess, io_words},
};

/// The server's error number for a wrong password.
const ACCESS_DENIED: u16 = 1045;
const WRONG_PASSWORD: &str = "SQLSTATE 28000";

#[async_trait]
impl Probes for MariadbKind {
    async fn ask(&self, question: &OfKind, cx: &ProbeContext) -> Result<ProbeSuccess, ProbeFailure> {
        let MariadbProbe { port, user, password, database, tls } = question.decode()?;
        cx.trust(tls)?;
        let login = Login {
            port,
            user: user.clone(),
            password: cx.reveal(&password)?,
            database: database.clone(),
            authority: cx.authority.clone().filter(|_| tls),
        };
        let asked = async {
            let mut session = login.open().await?;
            let query = match database {
                // A query that needs the database's own catalogue.
                Some(_) => "SELECT VERSION(), COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()",
                None => "SELECT VERSION(), COUNT(*) FROM mysql.global_priv",
            };
            let rows = session.rows(query).await?;
            session.close().await;
            Ok::<_, Error>(rows.into_iter().flatten().next().flatten().unwrap_or_default())
        };
        let version = asked.await.map_err(|error| failure(port, &error))?;
        let place = database.map(|database| format!(" to {database}")).unwrap_or_default();
        Ok(ProbeSuccess::of(format!("logged in as {user}{place}, version {version}")))
    }

    fn port(&self, question: &OfKind) -> Option<u16> {
        question.decode().ok().map(|probe: MariadbProbe| probe.port)
    }

    /// An invalid login packet; the server answers with a refusal. The server sends first, so a longer request
    /// would not delay its answer.
    fn greeting(&self, padding: Option<usize>) -> Option<Vec<u8>> {
        padding.is_none().then(|| vec![4, 0, 0, 1, 0, 0, 0, 0])
    }

    fn is_wrong_password(&self, failure: &ProbeFailure) -> bool {
        failure.what.contains(WRONG_PASSWORD)
    }
}

pub(super) fn failure(port: u16, error: &Error) -> ProbeFailure {
    match (error, code(error)) {
        (_, Some(ACCESS_DENIED)) => ProbeFailure::said(format!("{} ({WRONG_PASSWORD})", reason(error).replace(" (SQLSTATE 28000)", ""))),
        (_, Some(_)) => ProbeFailure::said(reason(error)),
        (Error::Io(mysql_async::IoError::Io(error)), None) => ProbeFailure::silent(io_words(&format_args!("127.0.0.1:{port}"), error)),
        // The published port accepts connections before the server does, and closes them.
        (Error::Driver(mysql_async::DriverError::ConnectionClosed), None) => {
            ProbeFailure::silent(format!("127.0.0.1:{port} closed the connection before it answered"))
        }
        (error, None) => ProbeFailure::silent(format!("cannot reach 127.0.0.1:{port}: {}", reason(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnosis::{Evidence, diagnose};

    #[test]
    fn the_diagnosis_knows_the_servers_refusals() {
        for (code, state, message, cause) in [
            (1045, "28000", "Access denied for user 'root'@'172.18.0.1' (using password: YES)", "another password"),
            (1040, "08004", "Too many connections", "are in use"),
        ] {
            let error = Error::Server(mysql_async::ServerError { code, message: message.to_owned(), state: state.to_owned() });
            let probe = vec![failure(3306, &error).what];
            let evidence = Evidence { kind: "mariadb".to_owned(), service: "db".to_owned(), probe, ..Evidence::default() };
            let found = diagnose(&evidence).map(|found| found.cause);
            assert!(found.as_deref().is_some_and(|found| found.contains(cause)), "{:?} gives {found:?}", evidence.probe);
        }
    }
}
