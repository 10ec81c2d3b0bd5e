//! The role that looks: it can read everything and write nothing, and its sessions are one read-only transaction.
//!
//! The superuser makes it at the first look. A session of the superuser itself would not do: in a read-only transaction it could still
//! run programs, read files of the server and end other sessions, and a statement could take a lesser role back.

use std::{error::Error as _, io};

use bytes::Bytes;
use devenv_secrets::Vault;
use devenv_spec::{Probe, SecretRef, ServiceSpec};
use tokio_postgres::{Client, Config, Error};

use crate::{
    browse::STATEMENT,
    capability::{BrowseError, ProvisionContext},
    limited::LONGEST_ANSWER,
    postgres::{
        NAME,
        access::SUPERUSER,
        probe::{self, Login, words},
        provision::{SESSION, identifier, literal, password, rows},
        spec::{PostgresProbe, PostgresProvision},
    },
};

const ROLE: &str = "devenv_reader";
/// Without any right by itself; row security would hide rows from it.
const PLAIN: &str = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION INHERIT BYPASSRLS";
/// The most that one session may write to temporary files.
const SPILLED: &str = "512MB";
const APPLICATION: &str = "devenv-browse";

/// A server, and two ways to log in.
pub(super) struct Server {
    port: u16,
    tls: Option<rustls::ClientConfig>,
    superuser: String,
    password: String,
    /// Where the superuser logs in.
    home: String,
    declared: Vec<String>,
    reader_password: String,
}

impl Server {
    /// As the profile declares it, or as the probe of a container with such a server knows it.
    pub(super) fn of(service: &ServiceSpec, cx: &ProvisionContext) -> Result<Self, BrowseError> {
        let secret = |secret: &SecretRef| cx.vault.reveal(secret);
        let reader_password = reader_password(service, &cx.vault)?;
        if let Some(declared) = PostgresProvision::of(service) {
            return Ok(Self {
                port: declared.port,
                tls: cx.trust(declared.tls)?,
                superuser: SUPERUSER.to_owned(),
                password: secret(&declared.password)?,
                home: SUPERUSER.to_owned(),
                declared: declared.databases.into_iter().map(|database| database.name).collect(),
                reader_password,
            });
        }
        let known = match &service.probe {
            Probe::OfKind(probe) if probe.kind == NAME => probe.decode::<PostgresProbe>().ok(),
            _ => None,
        };
        let known = known.ok_or_else(|| BrowseError::Refused(format!("devenv has no login for `{}`", service.name)))?;
        Ok(Self {
            port: known.port,
            tls: cx.trust(known.tls)?,
            superuser: known.user,
            password: secret(&known.password)?,
            home: known.database.clone(),
            declared: vec![known.database],
            reader_password,
        })
    }

    pub(super) fn first_database(&self) -> &str {
        self.declared.first().unwrap_or(&self.home)
    }

    /// Lets the reader into a database, or into all that hold data of the project. Returns them, the declared ones first.
    pub(super) async fn open(&self, database: Option<&str>) -> Result<Vec<String>, BrowseError> {
        match self.try_open(database).await {
            // Another request may have made the role at the same moment.
            Err(error) if error.as_db_error().is_some() => self.try_open(database).await,
            done => done,
        }
        .map_err(|error| self.refused(&error))
        .and_then(|found| match database {
            Some(name) if found.is_empty() => Err(BrowseError::NotFound(format!("the server has no database `{name}`"))),
            _ => Ok(found),
        })
    }

    async fn try_open(&self, database: Option<&str>) -> Result<Vec<String>, Error> {
        let config = self.config(&self.superuser, &self.password, &self.home, SESSION);
        let mut found = probe::session(&config, self.tls.clone(), |client| async move {
            self.provide_role(&client).await?;
            self.let_in(&client, database).await
        })
        .await?;
        let place = |name: &String| self.declared.iter().position(|declared| declared == name).unwrap_or(usize::MAX);
        found.sort_by_key(place);
        Ok(found)
    }

    async fn provide_role(&self, client: &Client) -> Result<(), Error> {
        let question = format!(
            "SELECT rolpassword, rolcanlogin AND rolbypassrls AND rolinherit AND NOT (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication) \
             AND ARRAY(SELECT roleid::regrole::text FROM pg_catalog.pg_auth_members WHERE member = r.oid) = ARRAY['pg_read_all_data'] \
             FROM pg_catalog.pg_authid r WHERE rolname = {}",
            literal(ROLE)
        );
        let found = rows(client, &question).await?;
        let known = found.first().is_some_and(|row| match &row[..] {
            [Some(verifier), Some(plain)] => plain == "t" && password::matches(verifier, &self.reader_password),
            _ => false,
        });
        if known {
            return Ok(());
        }
        let verifier = literal(&postgres_protocol::password::scram_sha_256(self.reader_password.as_bytes()));
        let action = if found.is_empty() { "CREATE" } else { "ALTER" };
        // A statement that sorts without end would fill the disk until its time is up.
        let limit = format!("ALTER ROLE {ROLE} SET temp_file_limit = '{SPILLED}'");
        client
            .batch_execute(&format!("{action} ROLE {ROLE} WITH {PLAIN} PASSWORD {verifier}; GRANT pg_read_all_data TO {ROLE}; {limit}"))
            .await
    }

    /// The databases are closed to everybody but their owners.
    async fn let_in(&self, client: &Client, database: Option<&str>) -> Result<Vec<String>, Error> {
        let wanted = match database {
            Some(name) => format!("datname = {}", literal(name)),
            None if self.declared.iter().any(|name| name == SUPERUSER) => "true".to_owned(),
            None => format!("datname <> {}", literal(SUPERUSER)),
        };
        let question = format!(
            "SELECT datname, has_database_privilege({}, oid, 'CONNECT') FROM pg_catalog.pg_database \
             WHERE datallowconn AND NOT datistemplate AND {wanted} ORDER BY 1",
            literal(ROLE)
        );
        let mut found = Vec::new();
        for row in rows(client, &question).await? {
            if let [Some(name), Some(open)] = &row[..] {
                if open != "t" {
                    client.batch_execute(&format!("GRANT CONNECT ON DATABASE {} TO {ROLE}", identifier(name))).await?;
                }
                found.push(name.clone());
            }
        }
        Ok(found)
    }

    /// Works as the reader in a read-only transaction. It has begun with a query, so no statement can make it a writing one, and it ends
    /// with the session.
    pub(super) async fn read<T, W>(&self, database: &str, work: impl FnOnce(Client) -> W) -> Result<T, BrowseError>
    where
        W: Future<Output = Result<T, Error>>,
    {
        let time = STATEMENT.as_millis();
        let options = format!(
            "-c default_transaction_read_only=on -c statement_timeout={time} -c lock_timeout={time} \
             -c idle_in_transaction_session_timeout={} -c client_min_messages=warning",
            2 * time
        );
        let config = self.config(ROLE, &self.reader_password, database, &options);
        let worked = probe::session(&config, self.tls.clone(), |client| async move {
            client.batch_execute("BEGIN READ ONLY; SELECT 1").await?;
            work(client).await
        });
        worked.await.map_err(|error| self.refused(&error))
    }

    fn config(&self, user: &str, password: &str, database: &str, options: &str) -> Config {
        let login = Login { port: self.port, user, password: password.to_owned(), database, tls: self.tls.clone() };
        let mut config = login.config(APPLICATION);
        config.options(options);
        config
    }

    fn refused(&self, error: &Error) -> BrowseError {
        let cause = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        match cause.filter(|cause| cause.kind() == io::ErrorKind::InvalidData) {
            Some(_) => {
                BrowseError::Refused(format!("the answer has more than {} MiB: select fewer or shorter values", LONGEST_ANSWER >> 20))
            }
            None => BrowseError::Refused(words(self.port, error)),
        }
    }
}

/// A dump of roles without this one: it belongs to its server and to no copy of it.
pub(in crate::postgres) fn without_role(script: &Bytes) -> Bytes {
    let text = String::from_utf8_lossy(script);
    let is_its = |line: &str| line.split([' ', ';', ',', '\n']).any(|word| word == ROLE);
    text.split_inclusive('\n').filter(|line| !is_its(line)).collect::<String>().into()
}

fn reader_password(service: &ServiceSpec, vault: &Vault) -> Result<String, BrowseError> {
    Ok(vault.reveal(&SecretRef::new(service.name.as_str(), ROLE))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dump_of_roles_does_not_have_the_reader() {
        let script = "CREATE ROLE app;\nCREATE ROLE devenv_reader;\nALTER ROLE devenv_reader WITH LOGIN;\n\
                      GRANT pg_read_all_data TO devenv_reader WITH INHERIT TRUE GRANTED BY postgres;\nGRANT app TO devenv_readers;\n";
        assert_eq!(without_role(&Bytes::from(script)), "CREATE ROLE app;\nGRANT app TO devenv_readers;\n");
    }
}
