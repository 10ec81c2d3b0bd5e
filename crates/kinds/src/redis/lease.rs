//! Redis: an unused numbered database, with an ACL user who can select no other and has no administrative rights.
//!
//! Numbers are assigned from the highest down; one that contains keys is in use and skipped. A client that never
//! selects a database is in number 0, as with any user; the URL of a lease names its number.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use devenv_spec::{SecretRef, ServiceName, ServiceSpec};
use indexmap::IndexMap;
use redis::aio::MultiplexedConnection;
use sha2::{Digest, Sha256};
use tokio::sync::Notify;
use tokio_util::task::TaskTracker;

use super::{
    RedisKind,
    probe::{SessionError, open, session, words},
    spec::RedisProvision,
};
use crate::{
    capability::{Leases, Lessor, Part},
    lease::{
        LeaseError, PREFIX,
        variables::{replace, set, with_database, with_user},
    },
    provision::ProvisionContext,
};

/// Commands that a lease may not use: they reach other databases, other clients or the server itself.
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
/// The secret that the users of all leases share.
pub(super) const LEASE: &str = "lease";
/// The time limit for a number to become free.
const LIMIT: Duration = Duration::from_secs(30);

impl Leases for RedisKind {
    fn lessor(&self, service: &ServiceSpec, cx: &ProvisionContext) -> Option<Arc<dyn Lessor>> {
        let RedisProvision { port, tls, password, .. } = server(service)?;
        Some(Arc::new(RedisLeases::new(service.name.clone(), port, password, tls, cx.clone())))
    }
}

/// A server of this kind, or one in a container that the user configures.
fn server(service: &ServiceSpec) -> Option<RedisProvision> {
    RedisProvision::of(service).or_else(|| RedisProvision::of_container(service))
}

#[async_trait]
impl Lessor for RedisLeases {
    fn renewed(&self, service: &ServiceSpec) -> Option<Arc<dyn Lessor>> {
        let RedisProvision { port, tls, password, .. } = server(service)?;
        Some(Arc::new(self.clone().renewed(port, &password, tls)))
    }

    fn databases(&self) -> Option<Vec<String>> {
        None
    }

    async fn take(&self, lease: &str, _: Option<&str>, _: &str) -> Result<Box<dyn Part>, LeaseError> {
        let taken = RedisLeases::take(self, lease).await?;
        Ok(Box::new(PrivateNumber { service: self.shared.service.clone(), leases: self.clone(), taken }))
    }

    async fn sweep(&self) -> Result<(), LeaseError> {
        RedisLeases::sweep(self).await
    }
}

/// A numbered database that was leased.
struct PrivateNumber {
    service: ServiceName,
    leases: RedisLeases,
    taken: Taken,
}

#[async_trait]
impl Part for PrivateNumber {
    fn make_private(&self, variables: &mut IndexMap<String, String>) {
        self.taken.make_private(&self.service, variables);
    }

    async fn give_back(self: Box<Self>) {
        self.leases.give_back(self.taken).await;
    }
}

impl Taken {
    fn make_private(&self, service: &ServiceName, variables: &mut IndexMap<String, String>) {
        let own = |suffix: &str| format!("{}_{suffix}", service.variable());
        if let Some(old) = variables.get(&own("URL")).cloned() {
            replace(variables, &old, &self.url(&old));
        }
        set(variables, own("USER"), &self.user);
        set(variables, own("PASSWORD"), &self.password);
        set(variables, own("DATABASE"), &self.number.to_string());
    }

    /// `redis://USER:SECRET@HOST:PORT/0` with its own user and number.
    fn url(&self, shared: &str) -> String {
        let Self { user, password, number } = self;
        with_database(&with_user(shared, user, password), &number.to_string())
    }
}

/// The leases on one Redis server. Cheap to clone.
#[derive(Clone)]
struct RedisLeases {
    shared: Arc<Shared>,
}

struct Shared {
    service: ServiceName,
    port: u16,
    password: SecretRef,
    tls: bool,
    cx: ProvisionContext,
    numbers: Arc<Numbers>,
    swept: tokio::sync::OnceCell<()>,
    /// The connection for requests that a lease waits for.
    desk: tokio::sync::Mutex<Option<MultiplexedConnection>>,
    work: TaskTracker,
}

/// Leased numbers, even if the server's address has changed since.
#[derive(Default)]
struct Numbers {
    taken: Mutex<BTreeSet<u32>>,
    freed: Notify,
}

/// A number and its user.
struct Taken {
    user: String,
    password: String,
    number: u32,
}

impl RedisLeases {
    fn new(service: ServiceName, port: u16, password: SecretRef, tls: bool, cx: ProvisionContext) -> Self {
        Self::with(service, port, password, tls, cx, Arc::default())
    }

    fn with(service: ServiceName, port: u16, password: SecretRef, tls: bool, cx: ProvisionContext, numbers: Arc<Numbers>) -> Self {
        let shared = Shared {
            service,
            port,
            password,
            tls,
            cx,
            numbers,
            swept: tokio::sync::OnceCell::new(),
            desk: tokio::sync::Mutex::default(),
            work: TaskTracker::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The same leases on the server as it is now.
    fn renewed(self, port: u16, password: &SecretRef, tls: bool) -> Self {
        let shared = &self.shared;
        if shared.port == port && shared.password == *password && shared.tls == tls {
            return self;
        }
        Self::with(shared.service.clone(), port, password.clone(), tls, shared.cx.clone(), shared.numbers.clone())
    }

    async fn take(&self, lease: &str) -> Result<Taken, LeaseError> {
        let shared = &self.shared;
        shared.swept.get_or_try_init(|| self.sweep()).await?;
        let number = tokio::time::timeout(LIMIT, self.number()).await;
        let number = match number {
            Ok(number) => number?,
            Err(_) => {
                let count = shared.numbers.taken.lock().expect("no code panics while it holds this lock").len() as u32;
                return Err(LeaseError::NoNumber { service: shared.service.to_string(), count });
            }
        };
        // All leases share one secret, so that it can be masked in logs; leases are separate
        // because nobody can guess another's name.
        let password = shared.cx.vault.reveal(&SecretRef::new(shared.service.as_str(), LEASE))?;
        let user = format!("{PREFIX}{number}_{lease}");
        let rules = allowed(&password, number);
        let mut make = redis::pipe();
        make.cmd("ACL").arg("SETUSER").arg(&user).arg(&rules).ignore();
        let made = shared.ask::<()>(&make).await;
        match made {
            Ok(()) => Ok(Taken { user, password, number }),
            Err(error) => {
                self.free(number);
                Err(error)
            }
        }
    }

    /// Ends the user's connections, removes it, and empties its database.
    async fn give_back(&self, taken: Taken) {
        let (user, number) = (taken.user, taken.number);
        let removed = self.shared.session(|connection| async move { remove(connection, &user, number).await }).await;
        match removed {
            Ok(()) => self.free(number),
            // The number stays assigned, because it contains keys.
            Err(error) => tracing::debug!(%error, number, "Cannot flush a leased Redis database; the next sweep does."),
        }
    }

    /// Removes what leases of an earlier daemon left behind.
    async fn sweep(&self) -> Result<(), LeaseError> {
        let taken = self.shared.numbers.taken.lock().expect("no code panics while it holds this lock").clone();
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

    /// The highest number that is neither leased nor contains keys.
    async fn number(&self) -> Result<u32, LeaseError> {
        let shared = &self.shared;
        loop {
            let freed = shared.numbers.freed.notified();
            let (count, used) = shared.look().await?;
            {
                let mut taken = shared.numbers.taken.lock().expect("no code panics while it holds this lock");
                if let Some(number) = (1..count).rev().find(|number| !taken.contains(number) && !used.contains(number)) {
                    taken.insert(number);
                    return Ok(number);
                }
            }
            freed.await;
        }
    }

    fn free(&self, number: u32) {
        self.shared.numbers.taken.lock().expect("no code panics while it holds this lock").remove(&number);
        self.shared.numbers.freed.notify_one();
    }
}

impl Shared {
    /// Over a connection that is kept: connecting and logging in cost more than all requests here. No request
    /// depends on the connection's selected database.
    async fn ask<T: redis::FromRedisValue>(&self, question: &redis::Pipeline) -> Result<T, LeaseError> {
        let refused = |error| LeaseError::refused(&self.service, "lease a database", words(self.port, SessionError::Redis(error)));
        let kept = self.desk.lock().await.clone();
        if let Some(mut connection) = kept {
            match question.query_async(&mut connection).await {
                // The server was restarted since the last request.
                Err(error) if error.is_io_error() || error.is_connection_dropped() => {}
                answer => return answer.map_err(refused),
            }
        }
        let mut connection = self.connect().await?;
        *self.desk.lock().await = Some(connection.clone());
        question.query_async(&mut connection).await.map_err(refused)
    }

    /// How many databases there are, and which of them hold keys.
    async fn look(&self) -> Result<(u32, BTreeSet<u32>), LeaseError> {
        let mut question = redis::pipe();
        question.cmd("CONFIG").arg("GET").arg("databases").cmd("INFO").arg("keyspace");
        let (settings, keyspace): (Vec<String>, String) = self.ask(&question).await?;
        Ok((settings.get(1).and_then(|count| count.parse().ok()).unwrap_or(1), numbers(&keyspace)))
    }

    fn login(&self) -> Result<(String, Option<rustls::ClientConfig>), LeaseError> {
        let password = self.cx.vault.reveal(&self.password)?;
        let tls = self.cx.trust(self.tls).map_err(|error| LeaseError::refused(&self.service, "connect to the server", error))?;
        Ok((password, tls))
    }

    async fn connect(&self) -> Result<MultiplexedConnection, LeaseError> {
        let (password, tls) = self.login()?;
        let (connection, driver) = open(self.port, "default", &password, tls)
            .await
            .map_err(|error| LeaseError::refused(&self.service, "connect to the server", words(self.port, error)))?;
        // Ends with the connection's last clone, or with the server.
        self.work.spawn(driver);
        Ok(connection)
    }

    async fn session<T, W>(&self, work: impl FnOnce(MultiplexedConnection) -> W) -> Result<T, LeaseError>
    where
        W: Future<Output = Result<T, SessionError>>,
    {
        let (password, tls) = self.login()?;
        session(self.port, "default", &password, tls, work)
            .await
            .map_err(|error| LeaseError::refused(&self.service, "lease a database", words(self.port, error)))
    }
}

fn numbers(keyspace: &str) -> BTreeSet<u32> {
    keyspace.lines().filter_map(|line| line.strip_prefix("db")?.split_once(':')?.0.parse().ok()).collect()
}

async fn remove(mut connection: MultiplexedConnection, user: &str, number: u32) -> Result<(), SessionError> {
    // Removing the user ends its connections too.
    redis::cmd("ACL").arg("DELUSER").arg(user).query_async::<()>(&mut connection).await?;
    // One after the other: if the number cannot be selected, another database would be emptied.
    redis::cmd("SELECT").arg(number).query_async::<()>(&mut connection).await?;
    redis::cmd("FLUSHDB").query_async::<()>(&mut connection).await?;
    Ok(())
}

/// The password as a hash, so that the password itself is in no server's memory.
fn allowed(password: &str, number: u32) -> Vec<String> {
    let mut rules = vec!["reset".to_owned(), "on".to_owned(), format!("#{}", hex::encode(Sha256::digest(password)))];
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

    #[test]
    fn a_lease_has_its_own_user_and_number() {
        let url = "redis://default:s@127.0.0.1:2/0";
        let mut variables: IndexMap<String, String> =
            [("CACHE_URL", url), ("REDIS_URL", url)].map(|(name, url)| (name.to_owned(), url.to_owned())).into();
        let taken = Taken { user: "u".to_owned(), password: "p".to_owned(), number: 15 };
        taken.make_private(&"cache".parse().unwrap(), &mut variables);
        assert_eq!(variables["REDIS_URL"], "redis://u:p@127.0.0.1:2/15");
        assert_eq!(variables["CACHE_URL"], variables["REDIS_URL"]);
    }
}
