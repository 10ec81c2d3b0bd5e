//! Superuser sessions, over TCP.

use futures_util::FutureExt;
use tokio_postgres::{Client, Config, error::SqlState};

use crate::{
    postgres::{access::SUPERUSER, probe, spec::PostgresProvision},
    provision::{ProvisionContext, ProvisionError},
};

/// devenv's statements are not logged, and a database's settings do not affect them. Their effects are
/// provisioned again at the next start, so no commit waits for the disk: data that must not be lost is in the same WAL.
pub(in crate::postgres) const SESSION: &str = "-c log_statement=none -c log_min_duration_statement=-1 -c log_min_error_statement=panic \
    -c log_duration=off -c statement_timeout=0 -c lock_timeout=10000 -c idle_in_transaction_session_timeout=0 \
    -c default_transaction_read_only=off -c search_path=public -c client_min_messages=warning \
    -c row_security=on -c synchronous_commit=off";

pub struct Superuser {
    port: u16,
    user: String,
    password: String,
    pub tls: Option<rustls::ClientConfig>,
}

impl Superuser {
    pub fn of(server: &PostgresProvision, cx: &ProvisionContext) -> Result<Self, ProvisionError> {
        let (user, password) = (server.superuser.clone(), cx.vault.reveal(&server.password)?);
        Ok(Self { port: server.port, user, password, tls: cx.trust(server.tls)? })
    }

    /// The application name under which the server lists the session.
    pub fn config(&self, application: &str, database: &str) -> Config {
        let login = probe::Login { port: self.port, user: &self.user, password: self.password.clone(), database, tls: self.tls.clone() };
        let mut config = login.config(application);
        config.options(SESSION);
        config
    }

    /// Works in a session in the superuser's own database; returns an error message.
    pub async fn ask<T, W>(&self, application: &str, work: impl FnOnce(Client) -> W) -> Result<T, String>
    where
        W: Future<Output = Result<T, tokio_postgres::Error>>,
    {
        let config = self.config(application, SUPERUSER);
        probe::session(&config, self.tls.clone(), work).await.map_err(|error| probe::words(self.port, &error))
    }

    pub(super) async fn session<T, W>(&self, database: &str, work: impl FnOnce(Client) -> W) -> Result<T, ProvisionError>
    where
        W: Future<Output = Result<T, ProvisionError>>,
    {
        let config = self.config("devenv-provision", database);
        // The work reports its own errors; those of the session are connection errors.
        probe::session(&config, self.tls.clone(), |client| work(client).map(Ok)).await.unwrap_or_else(|error| {
            let reason = probe::words(self.port, &error);
            Err(match error.code() {
                Some(code) if *code == SqlState::INVALID_PASSWORD => {
                    ProvisionError::WrongPassword { service: "PostgreSQL", user: SUPERUSER.to_owned(), reason }
                }
                _ => ProvisionError::Unreachable { reason },
            })
        })
    }
}
