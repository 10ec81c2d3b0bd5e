//! Private databases, copied from a template and made ahead.
//!
//! PostgreSQL cannot copy a database with open connections, so the first lease creates a template that accepts no
//! connections, and every private database is a copy of that. The template's comment says what it was made from;
//! if the database differs from that (recreated, other scripts applied), template and copies are recreated too. Of a server in a
//! container that the user configures, each written row counts as a difference: there are no scripts that devenv knows.
//!
//! A name is used for one lease only: it is random, leaves the pool when it is granted, and is dropped
//! afterwards, whether or not its client received it.
//!
//! The most expensive part is the checkpoint that every drop waits for: it writes each file of each database
//! made since the last one to the disk, and copies made in the meantime take as long. So drops are collected until no client
//! asks for a while or they take too much of the disk ([`backlog`]), because drops at the same time share a checkpoint; the newest copy
//! is granted first: it is used and dropped before any checkpoint has written it; and copies that are left are written
//! as soon as no client asks, so that the first drops of the next tests do not wait for that.

mod backlog;
mod copied;
mod drops;
mod pool;
mod sessions;
mod template;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use devenv_spec::{ServiceName, ServiceSpec};
use indexmap::IndexMap;
use tokio::sync::{Notify, Semaphore, oneshot};
use tokio_util::task::TaskTracker;

use self::{
    backlog::{Backlog, User},
    copied::Copied,
    drops::PendingDrop,
    pool::{DatabasePool, MAKING, Taken, UNUSED},
    sessions::Sessions,
    template::{look, strategy, template_name},
};
use super::{
    PostgresKind,
    provision::{identifier, literal},
    spec::{PostgresDatabase, PostgresProvision},
};
use crate::{
    capability::{Leases, Lessor, Part},
    lease::{LeaseError, PREFIX, new_id},
    provision::ProvisionContext,
};

/// Copies made ahead are written to the disk when no client has asked for this long.
const QUIET: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_mins(1);

impl Leases for PostgresKind {
    fn lessor(&self, service: &ServiceSpec, cx: &ProvisionContext) -> Option<Arc<dyn Lessor>> {
        Some(Arc::new(PostgresLeases::new(service.name.clone(), server(service)?, cx.clone())))
    }
}

/// A server of this kind, or one in a container that the user configures.
fn server(service: &ServiceSpec) -> Option<PostgresProvision> {
    PostgresProvision::of(service).or_else(|| PostgresProvision::of_container(service))
}

#[async_trait]
impl Lessor for PostgresLeases {
    fn renewed(&self, service: &ServiceSpec) -> Option<Arc<dyn Lessor>> {
        Some(Arc::new(self.clone().renewed(&server(service)?)))
    }

    fn databases(&self) -> Option<Vec<String>> {
        Some(self.shared.sessions.provision.databases.iter().map(|database| database.name.clone()).collect())
    }

    async fn take(&self, _: &str, database: Option<&str>, data: &str) -> Result<Box<dyn Part>, LeaseError> {
        let database = database.unwrap_or_default();
        let user = self.shared.backlog.enter();
        let name = PostgresLeases::take(self, database, data).await?;
        let service = self.shared.sessions.service.clone();
        Ok(Box::new(PrivateDatabase { leases: self.clone(), copy: Copied { service, database: database.to_owned(), name }, _user: user }))
    }

    async fn sweep(&self) -> Result<(), LeaseError> {
        PostgresLeases::sweep(self).await
    }
}

/// A copy that was leased.
struct PrivateDatabase {
    leases: PostgresLeases,
    copy: Copied,
    _user: User,
}

#[async_trait]
impl Part for PrivateDatabase {
    fn database(&self) -> Option<&str> {
        Some(&self.copy.name)
    }

    fn make_private(&self, variables: &mut IndexMap<String, String>) {
        self.copy.make_private(variables);
    }

    async fn give_back(self: Box<Self>) {
        self.leases.give_back(self.copy.name).await;
    }
}

/// The leases on one PostgreSQL server. Cheap to clone.
#[derive(Clone)]
struct PostgresLeases {
    shared: Arc<Shared>,
}

struct Shared {
    sessions: Arc<Sessions>,
    /// Databases that are leased, ready, or being made or dropped, even if the profile has changed since; their size
    /// in mebibytes.
    alive: Arc<Mutex<HashMap<String, u32>>>,
    /// By database. Held while a template is made.
    pools: tokio::sync::Mutex<BTreeMap<String, Arc<DatabasePool>>>,
    /// Limits the copies of one database, and of all of them.
    making: Semaphore,
    pending: Mutex<Vec<PendingDrop>>,
    more: Notify,
    /// Held by the task that drops.
    dropping: tokio::sync::Mutex<()>,
    backlog: Arc<Backlog>,
    /// A client asks for a lease.
    asked: Notify,
    /// Held by the task that writes copies to the disk.
    writing: tokio::sync::Mutex<()>,
    work: TaskTracker,
}

impl PostgresLeases {
    fn new(service: ServiceName, provision: PostgresProvision, cx: ProvisionContext) -> Self {
        Self::with(service, provision, cx, Arc::default())
    }

    /// The same leases for the server's new address and declarations.
    fn renewed(self, provision: &PostgresProvision) -> Self {
        let sessions = &self.shared.sessions;
        if sessions.provision == *provision {
            return self;
        }
        Self::with(sessions.service.clone(), provision.clone(), sessions.cx.clone(), self.shared.alive.clone())
    }

    fn with(service: ServiceName, provision: PostgresProvision, cx: ProvisionContext, alive: Arc<Mutex<HashMap<String, u32>>>) -> Self {
        let shared = Shared {
            sessions: Sessions::new(service, provision, cx),
            alive,
            pools: tokio::sync::Mutex::default(),
            making: Semaphore::new(MAKING),
            pending: Mutex::default(),
            more: Notify::new(),
            dropping: tokio::sync::Mutex::default(),
            backlog: Backlog::new(),
            asked: Notify::new(),
            writing: tokio::sync::Mutex::default(),
            work: TaskTracker::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A private copy of `database`. Returns its name.
    async fn take(&self, database: &str, data: &str) -> Result<String, LeaseError> {
        let shared = &self.shared;
        let taken = async {
            // Everything is dropped in the end.
            shared.backlog.admits().await;
            let wanted = shared.database(database);
            shared.asked.notify_one();
            let pool = self.pool(wanted, data).await?;
            let taken = pool.take(Instant::now());
            self.fill(&pool, wanted);
            self.watch(&pool);
            match taken {
                Taken::Ready(name) => Ok(name),
                Taken::Soon(copy) => Awaited { copy, leases: self }.copy().await,
            }
        };
        tokio::time::timeout(LIMIT, taken).await.unwrap_or_else(|_| Err(shared.refused("copy a database", "it took longer than a minute")))
    }

    /// Makes the missing copies, in tasks of their own: a caller that waits for one may disconnect.
    fn fill(&self, pool: &Arc<DatabasePool>, wanted: &PostgresDatabase) {
        for _ in 0..pool.begin() {
            let (leases, pool, wanted) = (self.clone(), pool.clone(), wanted.clone());
            self.shared.work.spawn(async move {
                let name = leases.shared.name(pool.size);
                let made = leases.shared.make(&name, &wanted, pool.strategy).await;
                if made.is_err() {
                    // It may exist, but incomplete.
                    leases.discard(vec![name.clone()]);
                }
                match pool.arrive(made.map(|()| name)) {
                    None => {
                        leases.fill(&pool, &wanted);
                        if pool.is_full() {
                            leases.write_when_quiet();
                        }
                    }
                    Some(Ok(outdated)) => leases.discard(vec![outdated]),
                    // The next lease tries again.
                    Some(Err(error)) => tracing::debug!(%error, "Cannot copy a database ahead of time."),
                }
            });
        }
    }

    /// Drops copies that an unused pool does not need. The task keeps neither the pool nor the leases.
    fn watch(&self, pool: &Arc<DatabasePool>) {
        if !pool.needs_watch() {
            return;
        }
        let (shared, pool) = (Arc::downgrade(&self.shared), Arc::downgrade(pool));
        self.shared.work.spawn(async move {
            loop {
                tokio::time::sleep(UNUSED).await;
                let (Some(shared), Some(pool)) = (shared.upgrade(), pool.upgrade()) else { return };
                if let Some(surplus) = pool.shrink(Instant::now()) {
                    return Self { shared }.discard(surplus);
                }
            }
        });
    }

    /// Writes new copies to the disk once no client asks for a while.
    fn write_when_quiet(&self) {
        let shared = self.shared.clone();
        self.shared.work.spawn(async move {
            let Ok(_guard) = shared.writing.try_lock() else { return };
            while tokio::time::timeout(QUIET, shared.asked.notified()).await.is_ok() {}
            let written = async { shared.sessions.on(shared.sessions.client().await?, &["CHECKPOINT".to_owned()]).await };
            // Nobody waits for it: the server may be stopped, paused or slow.
            match tokio::time::timeout(LIMIT, written).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "Cannot write copies of a database to the disk ahead of time."),
                Err(_) => tracing::debug!("Copies of a database are not on the disk after {LIMIT:?}."),
            }
        });
    }

    /// Ends every connection to the database and removes it, in the background.
    async fn give_back(&self, name: String) {
        let shared = &self.shared;
        let close = format!(
            "ALTER DATABASE {} ALLOW_CONNECTIONS false; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {}",
            identifier(&name),
            literal(&name)
        );
        if let Err(error) = shared.sessions.ask(&close).await {
            tracing::debug!(%error, "Cannot close a leased database; it is dropped anyway.");
        }
        self.discard(vec![name]);
    }

    /// Drops what leases of an earlier daemon left behind.
    async fn sweep(&self) -> Result<(), LeaseError> {
        let query = format!("SELECT datname FROM pg_catalog.pg_database WHERE starts_with(datname, {})", literal(PREFIX));
        let found = self.shared.sessions.ask(&query).await?;
        let names: Vec<String> = found.into_iter().filter_map(|row| row.into_iter().next()?).collect();
        let alive = self.shared.alive().clone();
        self.discard(names.into_iter().filter(|name| !alive.contains_key(name)).collect());
        Ok(())
    }

    /// The copies of the current database; made, with the template, if there are none yet.
    async fn pool(&self, wanted: &PostgresDatabase, data: &str) -> Result<Arc<DatabasePool>, LeaseError> {
        let shared = &self.shared;
        let template = template_name(&wanted.name);
        let found = shared.sessions.ask(&look(&wanted.name, &template)).await?;
        let missing = || shared.refused("copy a database", format!("database `{}` does not exist", wanted.name));
        let row = found.into_iter().next().ok_or_else(missing)?;
        let column = |index: usize| row.get(index).cloned().flatten();
        let (identity, started, made_from) = (column(0).unwrap_or_default(), column(1).unwrap_or_default(), column(2));
        // What devenv did not fill changes without its knowledge: the server counts the rows that were written.
        let written = column(3).filter(|_| shared.sessions.provision.roles.is_empty()).unwrap_or_default();
        let key = format!("devenv {identity} {data} {written}").trim_end().to_owned();
        let mut pools = shared.pools.lock().await;
        if let Some(pool) = pools.get(&wanted.name) {
            if pool.key == key && pool.started == started {
                return Ok(pool.clone());
            }
            self.discard(pool.close());
        }
        self.sweep().await?;
        if made_from.as_deref() != Some(&key) {
            shared.make_template(&template, wanted, &key).await?;
        }
        let (size, version) = shared.size(&wanted.name).await?;
        let pool = Arc::new(DatabasePool::new(key, started, strategy(version, size), size));
        pools.insert(wanted.name.clone(), pool.clone());
        Ok(pool)
    }
}

/// A copy for a waiting caller; if the caller is gone when it arrives, it is dropped.
struct Awaited<'a> {
    copy: oneshot::Receiver<Result<String, LeaseError>>,
    leases: &'a PostgresLeases,
}

impl Awaited<'_> {
    async fn copy(mut self) -> Result<String, LeaseError> {
        (&mut self.copy).await.unwrap_or_else(|_| Err(self.leases.shared.refused("copy a database", "the daemon is shutting down")))
    }
}

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.copy.close();
        if let Ok(Ok(name)) = self.copy.try_recv() {
            self.leases.discard(vec![name]);
        }
    }
}

impl Shared {
    /// The database from the profile, which the caller has validated.
    fn database(&self, name: &str) -> &PostgresDatabase {
        let databases = &self.sessions.provision.databases;
        databases.iter().find(|database| database.name == name).unwrap_or(&databases[0])
    }

    /// A new copy.
    fn name(&self, size: u32) -> String {
        let name = format!("{PREFIX}{}", new_id());
        self.alive().insert(name.clone(), size);
        name
    }

    fn alive(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.alive.lock().expect("no code panics while it holds this lock")
    }

    fn refused(&self, action: &str, reason: impl std::fmt::Display) -> LeaseError {
        self.sessions.refused(action, reason)
    }
}
