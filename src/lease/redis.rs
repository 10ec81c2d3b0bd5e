//! Redis: a numbered database that nobody uses, with an ACL user who can select no other and administer nothing.
//!
//! Numbers are given from the highest down, and one that holds keys is somebody's and is left alone. A client that never
//! selects a database is in number 0, as with any user; the URL of a lease names its number.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use redis::aio::MultiplexedConnection;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use super::{LeaseError, PREFIX};
use crate::{
    probe::redis::{SessionError, session, words},
    provision::{ProvisionContext, hmac::hex},
    spec::{SecretRef, ServiceName},
};

/// What a lease may not do: reach other databases, other clients, the server itself.
const RULES: &[&str] = &[
    "~*",
    "&*",
    "+@all",
    "-@admin",
    "-@dangerous",
    "+info",
    "+keys",
    "+sort",
    "+flushdb",
    "+role",
    "-select",
    "-swapdb",
    "-move",
    "-copy",
];
/// For a number to become free.
const LIMIT: Duration = Duration::from_secs(30);

/// The leases on one Redis server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RedisLeases {
    shared: Arc<Shared>,
}

struct Shared {
    service: ServiceName,
    port: u16,
    password: SecretRef,
    tls: bool,
    cx: ProvisionContext,
    taken: Mutex<BTreeSet<u32>>,
    freed: Notify,
    swept: tokio::sync::OnceCell<()>,
}

/// A number and its user.
pub(crate) struct Taken {
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) number: u32,
}

impl RedisLeases {
    pub(crate) fn new(service: ServiceName, port: u16, password: SecretRef, tls: bool, cx: ProvisionContext) -> Self {
        let shared =
            Shared { service, port, password, tls, cx, taken: Mutex::default(), freed: Notify::new(), swept: tokio::sync::OnceCell::new() };
        Self { shared: Arc::new(shared) }
    }

    pub(crate) fn is_for(&self, port: u16) -> bool {
        self.shared.port == port
    }

    pub(crate) async fn take(&self, lease: &str) -> Result<Taken, LeaseError> {
        let shared = &self.shared;
        shared.swept.get_or_try_init(|| self.sweep()).await?;
        let number = tokio::time::timeout(LIMIT, self.number()).await;
        let number = match number {
            Ok(number) => number?,
            Err(_) => {
                let count = shared.taken.lock().expect("no holder of this lock panics").len() as u32;
                return Err(LeaseError::NoNumber { service: shared.service.to_string(), count });
            }
        };
        // The secret is one for all leases, so that it is known to whoever takes secrets out of logs; what keeps leases
        // apart is that nobody can guess another's name.
        let password = shared.cx.vault.reveal(&SecretRef::new(shared.service.as_str(), "lease"))?;
        let user = format!("{PREFIX}{number}_{lease}");
        let rules = allowed(&password, number);
        let made = shared
            .session(|mut connection| {
                let mut command = redis::cmd("ACL");
                command.arg("SETUSER").arg(&user).arg(&rules);
                async move { Ok(command.query_async::<()>(&mut connection).await?) }
            })
            .await;
        match made {
            Ok(()) => Ok(Taken { user, password, number }),
            Err(error) => {
                self.free(number);
                Err(error)
            }
        }
    }

    /// Ends the user's connections, removes it, and empties its database.
    pub(crate) async fn give_back(&self, taken: Taken) {
        let (user, number) = (taken.user, taken.number);
        let removed = self.shared.session(|connection| async move { remove(connection, &user, number).await }).await;
        match removed {
            Ok(()) => self.free(number),
            // The number stays taken: what it holds is somebody's.
            Err(error) => tracing::debug!(%error, number, "A leased database of Redis could not be emptied; the next sweep does it."),
        }
    }

    /// Removes what leases of an earlier daemon left behind.
    pub(crate) async fn sweep(&self) -> Result<(), LeaseError> {
        let taken = self.shared.taken.lock().expect("no holder of this lock panics").clone();
        self.shared
            .session(|mut connection| async move {
                let users: Vec<String> = redis::cmd("ACL").arg("USERS").query_async(&mut connection).await?;
                for user in users {
                    let number =
                        user.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).and_then(|(number, _)| number.parse().ok());
                    if let Some(number) = number.filter(|number| !taken.contains(number)) {
                        remove(connection.clone(), &user, number).await?;
                    }
                }
                Ok(())
            })
            .await
    }

    /// The highest number that is neither leased nor holds anything.
    async fn number(&self) -> Result<u32, LeaseError> {
        let shared = &self.shared;
        loop {
            let freed = shared.freed.notified();
            let (count, used) = shared.session(look).await?;
            {
                let mut taken = shared.taken.lock().expect("no holder of this lock panics");
                if let Some(number) = (1..count).rev().find(|number| !taken.contains(number) && !used.contains(number)) {
                    taken.insert(number);
                    return Ok(number);
                }
            }
            freed.await;
        }
    }

    fn free(&self, number: u32) {
        self.shared.taken.lock().expect("no holder of this lock panics").remove(&number);
        self.shared.freed.notify_one();
    }
}

impl Shared {
    async fn session<T, W>(&self, work: impl FnOnce(MultiplexedConnection) -> W) -> Result<T, LeaseError>
    where
        W: Future<Output = Result<T, SessionError>>,
    {
        let password = self.cx.vault.reveal(&self.password)?;
        let tls = self.cx.trust(self.tls).map_err(|error| LeaseError::refused(&self.service, "reach the server", error))?;
        session(self.port, "default", &password, tls, work)
            .await
            .map_err(|error| LeaseError::refused(&self.service, "lease a database", words(self.port, error)))
    }
}

/// How many databases there are, and which of them hold keys.
async fn look(mut connection: MultiplexedConnection) -> Result<(u32, BTreeSet<u32>), SessionError> {
    let settings: Vec<String> = redis::cmd("CONFIG").arg("GET").arg("databases").query_async(&mut connection).await?;
    let keyspace: String = redis::cmd("INFO").arg("keyspace").query_async(&mut connection).await?;
    Ok((settings.get(1).and_then(|count| count.parse().ok()).unwrap_or(1), numbers(&keyspace)))
}

fn numbers(keyspace: &str) -> BTreeSet<u32> {
    keyspace.lines().filter_map(|line| line.strip_prefix("db")?.split_once(':')?.0.parse().ok()).collect()
}

async fn remove(mut connection: MultiplexedConnection, user: &str, number: u32) -> Result<(), SessionError> {
    // Removing the user ends its connections too.
    redis::pipe()
        .cmd("ACL")
        .arg("DELUSER")
        .arg(user)
        .ignore()
        .cmd("SELECT")
        .arg(number)
        .ignore()
        .cmd("FLUSHDB")
        .ignore()
        .query_async::<()>(&mut connection)
        .await?;
    Ok(())
}

/// The password as a hash, so that itself it is in no server's memory.
fn allowed(password: &str, number: u32) -> Vec<String> {
    let mut rules = vec!["reset".to_owned(), "on".to_owned(), format!("#{}", hex(&Sha256::digest(password)))];
    rules.extend(RULES.iter().map(|rule| (*rule).to_owned()));
    rules.push(format!("+select|{number}"));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_that_hold_keys_are_known_by_their_numbers() {
        let keyspace = "# Keyspace\r\ndb0:keys=1000,expires=0,avg_ttl=0\r\ndb12:keys=1,expires=1,avg_ttl=5\r\n";
        assert_eq!(numbers(keyspace), [0, 12].into());
    }

    #[test]
    fn a_lease_may_select_its_own_number_and_the_password_is_not_in_its_rules() {
        let rules = allowed("secret", 7);
        assert_eq!(rules.last().unwrap(), "+select|7");
        assert!(rules.iter().position(|rule| rule == "-select") < rules.iter().position(|rule| rule == "+select|7"));
        assert!(!rules.iter().any(|rule| rule.contains("secret")));
    }
}
