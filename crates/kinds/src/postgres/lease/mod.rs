//! Private databases, copied from a pristine copy and made ahead.
//!
//! PostgreSQL cannot copy a database with open connections, so the first lease creates a template that accepts no
//! connections, and every private database is a copy of that. The template's comment says what it was made from;
//! if the database differs from that (recreated, other scripts applied), template and copies are recreated too.
//!
//! A name is given to one lease and never again: it is random, leaves the pool when it is given out, and is dropped
//! afterwards, whether or not its client ever heard of it.
//!
//! What costs most is none of this but the checkpoint that every drop waits for: it writes each file of each database
//! made since the last one to the disk, and copies made in the meantime take as long. So drops are collected until no client
//! asks for a while or they take too much of the disk, because drops at the same time share a checkpoint; and the newest copy
//! is handed out first: it is used and dropped before any checkpoint has written it.

mod pool;
mod sessions;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use devenv_spec::{ServiceName, ServiceSpec, variable_form};
use futures_util::{
    FutureExt, StreamExt,
    future::{join_all, ready},
    stream::FuturesUnordered,
};
use indexmap::IndexMap;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_postgres::Client;
use tokio_util::task::TaskTracker;

use self::{
    pool::{DatabasePool, MAKING, Taken},
    sessions::Sessions,
};
use super::{
    PostgresKind,
    provision::{identifier, literal, reason, settings},
    spec::{PostgresDatabase, PostgresProvision},
};
use crate::{
    capability::{Leases, Lessor, Part},
    lease::{
        LeaseError, PREFIX, new_id,
        variables::{replace, set, with_database},
    },
    provision::ProvisionContext,
};

const TEMPLATE: &str = "devenv_template_";
/// Databases dropped at the same time, at most, and by half of the connections that the server has to spare.
const DROPPING: usize = 64;
/// Dropping waits until no database has been given back for so long.
const QUIET: Duration = Duration::from_millis(500);
/// In mebibytes: where those that wait to be dropped take so much, it waits no longer.
const GATHERED: u64 = 48;
/// In mebibytes: beyond that, new leases wait, for disks fill faster than they empty.
const LEFT: u32 = 160;
/// In mebibytes: a database of an earlier daemon's, which nobody knows.
const USUAL: u32 = 8;
/// From this size on, the files of a database are copied, which waits for a checkpoint; below it, copying it through the
/// log is faster.
const COPY_FILES: u64 = 256 << 20;
/// PostgreSQL's names have 63 bytes.
const LONGEST_NAME: usize = 63;
const LIMIT: Duration = Duration::from_mins(1);

impl Leases for PostgresKind {
    fn lessor(&self, service: &ServiceSpec, cx: &ProvisionContext) -> Option<Arc<dyn Lessor>> {
        let provision = PostgresProvision::of(service)?;
        Some(Arc::new(PostgresLeases::new(service.name.clone(), provision, cx.clone())))
    }
}

#[async_trait]
impl Lessor for PostgresLeases {
    fn renewed(&self, service: &ServiceSpec) -> Option<Arc<dyn Lessor>> {
        Some(Arc::new(self.clone().renewed(&PostgresProvision::of(service)?)))
    }

    fn databases(&self) -> Option<Vec<String>> {
        Some(self.shared.sessions.provision.databases.iter().map(|database| database.name.clone()).collect())
    }

    async fn take(&self, _: &str, database: Option<&str>, data: &str) -> Result<Box<dyn Part>, LeaseError> {
        let database = database.unwrap_or_default();
        let name = PostgresLeases::take(self, database, data).await?;
        let service = self.shared.sessions.service.clone();
        Ok(Box::new(PrivateDatabase { leases: self.clone(), copy: Copied { service, database: database.to_owned(), name } }))
    }

    async fn sweep(&self) -> Result<(), LeaseError> {
        PostgresLeases::sweep(self).await
    }
}

/// A copy that was leased.
struct PrivateDatabase {
    leases: PostgresLeases,
    copy: Copied,
}

/// A copy of `database`, called `name`.
struct Copied {
    service: ServiceName,
    database: String,
    name: String,
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

impl Copied {
    fn make_private(&self, variables: &mut IndexMap<String, String>) {
        let service = self.service.variable();
        let own = |suffix: &str| format!("{service}_{}_{suffix}", variable_form(&self.database));
        let get = |variables: &IndexMap<String, String>, name: &str| variables.get(name).cloned();
        let Some(old) = get(variables, &own("URL")) else { return };
        let new = with_database(&old, &self.name);
        replace(variables, &old, &new);
        set(variables, own("DATABASE"), &self.name);
        // The short forms lead to the first database of the first server; in a lease, to the leased one of that server.
        let port = format!("{service}_PORT");
        if variables.contains_key("PGPORT") && get(variables, "PGPORT") == get(variables, &port) {
            set(variables, "DATABASE_URL".to_owned(), &new);
            set(variables, "PGDATABASE".to_owned(), &self.name);
            for (short, long) in [("PGUSER", own("USER")), ("PGPASSWORD", own("PASSWORD"))] {
                if let Some(value) = get(variables, &long) {
                    set(variables, short.to_owned(), &value);
                }
            }
        }
        set(variables, format!("{service}_URL"), &new);
    }
}

/// The leases on one PostgreSQL server. Cheap to clone.
#[derive(Clone)]
struct PostgresLeases {
    shared: Arc<Shared>,
}

struct Shared {
    sessions: Arc<Sessions>,
    /// Databases that are leased, ready to be, being made or dropped, whatever has become of the profile since; their size
    /// in mebibytes.
    alive: Arc<Mutex<HashMap<String, u32>>>,
    /// By database. Held while a template is made.
    pools: tokio::sync::Mutex<BTreeMap<String, Arc<DatabasePool>>>,
    /// As many as of one database, of all of them.
    making: Semaphore,
    pending: Mutex<Vec<PendingDrop>>,
    more: Notify,
    /// Held by the one who drops.
    dropping: tokio::sync::Mutex<()>,
    left: Arc<Semaphore>,
    work: TaskTracker,
}

/// A database to be dropped.
struct PendingDrop {
    name: String,
    size: u32,
    /// Its permit among the pending drops; none if there was none available.
    _share: Option<OwnedSemaphorePermit>,
}

impl PostgresLeases {
    fn new(service: ServiceName, provision: PostgresProvision, cx: ProvisionContext) -> Self {
        Self::with(service, provision, cx, Arc::default())
    }

    /// The same leases on the server as it is now.
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
            left: Arc::new(Semaphore::new(LEFT as usize)),
            work: TaskTracker::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A database of its own, with what `database` holds; its name.
    async fn take(&self, database: &str, data: &str) -> Result<String, LeaseError> {
        let shared = &self.shared;
        let taken = async {
            // Never closed; and what was left is dropped in the end.
            drop(shared.left.acquire().await);
            let wanted = shared.database(database);
            let pool = self.pool(wanted, data).await?;
            let taken = pool.take();
            self.fill(&pool, wanted);
            match taken {
                Taken::Ready(name) => Ok(name),
                Taken::Soon(copy) => Awaited { copy, leases: self }.copy().await,
            }
        };
        tokio::time::timeout(LIMIT, taken).await.unwrap_or_else(|_| Err(shared.refused("copy a database", "it took longer than a minute")))
    }

    /// Makes the copies that are missing, in tasks of their own: who waits for one may go.
    fn fill(&self, pool: &Arc<DatabasePool>, wanted: &PostgresDatabase) {
        for _ in 0..pool.begin() {
            let (leases, pool, wanted) = (self.clone(), pool.clone(), wanted.clone());
            self.shared.work.spawn(async move {
                let name = leases.shared.name(pool.size);
                let made = leases.shared.make(&name, &wanted, pool.strategy).await;
                if made.is_err() {
                    // It may be there, without what comes after its creation.
                    leases.discard(vec![name.clone()]);
                }
                match pool.arrive(made.map(|()| name)) {
                    None => leases.fill(&pool, &wanted),
                    Some(Ok(outdated)) => leases.discard(vec![outdated]),
                    // The next lease tries again.
                    Some(Err(error)) => tracing::debug!(%error, "Cannot copy a database ahead of time."),
                }
            });
        }
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

    /// The copies of the database as it is now; made, with the template, if there are none yet.
    async fn pool(&self, wanted: &PostgresDatabase, data: &str) -> Result<Arc<DatabasePool>, LeaseError> {
        let shared = &self.shared;
        let template = template_name(&wanted.name);
        let found = shared.sessions.ask(&look(&wanted.name, &template)).await?;
        let missing = || shared.refused("copy a database", format!("database `{}` does not exist", wanted.name));
        let mut row = found.into_iter().next().ok_or_else(missing)?.into_iter().flatten();
        let (identity, started) = (row.next().unwrap_or_default(), row.next().unwrap_or_default());
        let key = format!("devenv {identity} {data}").trim_end().to_owned();
        let mut pools = shared.pools.lock().await;
        if let Some(pool) = pools.get(&wanted.name) {
            if pool.key == key && pool.started == started {
                return Ok(pool.clone());
            }
            self.discard(pool.close());
        }
        self.sweep().await?;
        if row.next().as_deref() != Some(&key) {
            shared.make_template(&template, wanted, &key).await?;
        }
        let (size, version) = shared.size(&wanted.name).await?;
        let pool = Arc::new(DatabasePool::new(key, started, strategy(version, size), size));
        pools.insert(wanted.name.clone(), pool.clone());
        Ok(pool)
    }

    /// Drops databases soon, many at once.
    fn discard(&self, names: Vec<String>) {
        let shared = &self.shared;
        let pending = names.into_iter().map(|name| {
            let size = shared.alive().get(&name).copied().unwrap_or(USUAL);
            // Taken now, so that the next caller sees what is left. Does not wait for one.
            let share = shared.left.clone().try_acquire_many_owned(size.min(LEFT)).ok();
            PendingDrop { name, size, _share: share }
        });
        let pending: Vec<_> = pending.collect();
        shared.pending().extend(pending);
        shared.more.notify_one();
        let shared = shared.clone();
        self.shared.work.spawn(async move {
            // Who drops looks once more after the turn is over, so that nothing is left to nobody.
            while !shared.pending().is_empty() {
                let Ok(_turn) = shared.dropping.try_lock() else { return };
                while shared.pending().iter().map(|pending| u64::from(pending.size)).sum::<u64>() < GATHERED {
                    if tokio::time::timeout(QUIET, shared.more.notified()).await.is_err() {
                        break;
                    }
                }
                shared.drop_databases().await;
            }
        });
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
    /// The profile's; the caller has looked it up there.
    fn database(&self, name: &str) -> &PostgresDatabase {
        let databases = &self.sessions.provision.databases;
        databases.iter().find(|database| database.name == name).unwrap_or(&databases[0])
    }

    /// A new one.
    fn name(&self, size: u32) -> String {
        let name = format!("{PREFIX}{}", new_id());
        self.alive().insert(name.clone(), size);
        name
    }

    fn alive(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.alive.lock().expect("no code panics while it holds this lock")
    }

    fn pending(&self) -> MutexGuard<'_, Vec<PendingDrop>> {
        self.pending.lock().expect("no code panics while it holds this lock")
    }

    /// All at the same moment, and with them what is given back before the first is dropped: each says at once that its files
    /// are of no use any more, before the checkpoints that they wait for get to writing them. The first makes one begin,
    /// and the rest share the one after it.
    async fn drop_databases(&self) {
        let together = self.sessions.spare().await.unwrap_or_default().clamp(2, DROPPING * 2) / 2;
        let next = |room: usize| {
            let mut pending = self.pending();
            let kept = pending.len().saturating_sub(room);
            pending.split_off(kept)
        };
        let first = next(together);
        let clients = join_all(first.iter().map(|_| self.sessions.client())).await;
        let mut dropping: FuturesUnordered<_> =
            first.into_iter().zip(clients).map(|(one, client)| self.drop_database(one, ready(client)).boxed()).collect();
        let mut is_first = true;
        while !dropping.is_empty() {
            // Both branches are cancel-safe: what is being dropped stays in the set, and a notice that is lost was of what
            // the next turn finds.
            tokio::select! {
                Some(()) = dropping.next() => is_first = false,
                () = self.more.notified(), if is_first && dropping.len() < together => {
                    dropping.extend(next(together - dropping.len()).into_iter().map(|one| self.drop_database(one, self.sessions.client()).boxed()));
                }
            }
        }
    }

    async fn drop_database(&self, pending: PendingDrop, client: impl Future<Output = Result<Client, LeaseError>>) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", identifier(&pending.name));
        let dropped = async { self.sessions.on(client.await?, &[drop]).await };
        let dropped = dropped.await;
        self.alive().remove(&pending.name);
        if let Err(error) = dropped {
            tracing::debug!(%error, database = %pending.name, "Cannot drop a leased database; the next sweep does.");
        }
    }

    /// A copy of the template, closed to all but its owner, with the settings that a copy does not inherit.
    async fn make(&self, name: &str, wanted: &PostgresDatabase, strategy: &str) -> Result<(), LeaseError> {
        let _permit = self.making.acquire().await;
        let (shown, template, owner) = (identifier(name), identifier(&template_name(&wanted.name)), identifier(&wanted.owner));
        let create = format!("CREATE DATABASE {shown} TEMPLATE {template} OWNER {owner}{strategy}");
        let mut after = vec![format!("REVOKE CONNECT, TEMP ON DATABASE {shown} FROM PUBLIC")];
        after.extend(wanted.settings.iter().filter_map(|(setting, value)| settings::statement(name, setting, value, &[])));
        // The creation alone: it refuses to share a transaction.
        self.sessions.on(self.sessions.client().await?, &[create, after.join("; ")]).await
    }

    /// Connections to the database are ended for it: their owners connect again, and wait that long.
    async fn make_template(&self, template: &str, wanted: &PostgresDatabase, key: &str) -> Result<(), LeaseError> {
        let shown = identifier(template);
        let drop = format!("DROP DATABASE IF EXISTS {shown} WITH (FORCE)");
        let end = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {} AND pid <> pg_backend_pid()",
            literal(&wanted.name)
        );
        let create = format!("CREATE DATABASE {shown} TEMPLATE {} OWNER {}", identifier(&wanted.name), identifier(&wanted.owner));
        let close = format!("ALTER DATABASE {shown} ALLOW_CONNECTIONS false; COMMENT ON DATABASE {shown} IS {}", literal(key));
        let client = self.sessions.connect().await?;
        let made = async {
            client.batch_execute(&drop).await?;
            // Sent together: clients that reconnect find the database locked, and wait.
            let (ended, created) = tokio::join!(client.batch_execute(&end), client.batch_execute(&create));
            ended.and(created)?;
            // The comment is last: a template without it is not finished.
            client.batch_execute(&close).await
        };
        made.await.map_err(|error| self.refused("lease a database", reason(&error)))
    }

    /// The size of a database, and the server's version.
    async fn size(&self, database: &str) -> Result<(u64, u32), LeaseError> {
        let query = format!("SELECT pg_catalog.pg_database_size({}), current_setting('server_version_num')", literal(database));
        let mut row = self.sessions.ask(&query).await?.into_iter().flatten().flatten();
        let size = row.next().and_then(|size| size.parse().ok()).unwrap_or(u64::MAX);
        Ok((size, row.next().and_then(|version| version.parse().ok()).unwrap_or_default()))
    }

    fn refused(&self, action: &str, reason: impl std::fmt::Display) -> LeaseError {
        self.sessions.refused(action, reason)
    }
}

/// How a database of this size is copied fastest: nothing to say where the server knows one way only.
fn strategy(version: u32, size: u64) -> &'static str {
    match version {
        ..150_000 => "",
        _ if size < COPY_FILES => " STRATEGY WAL_LOG",
        _ => " STRATEGY FILE_COPY",
    }
}

/// What identifies the database's present life, and what the template says that it was made from.
fn look(database: &str, template: &str) -> String {
    format!(
        "SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system())::text || '/' || d.oid, pg_catalog.pg_postmaster_start_time(), \
         (SELECT pg_catalog.shobj_description(t.oid, 'pg_database') FROM pg_catalog.pg_database t WHERE t.datname = {}) \
         FROM pg_catalog.pg_database d WHERE d.datname = {}",
        literal(template),
        literal(database)
    )
}

/// One for each database, however long its name is.
fn template_name(database: &str) -> String {
    let name = format!("{TEMPLATE}{database}");
    if name.len() <= LONGEST_NAME {
        return name;
    }
    let digest: String = Sha256::digest(database).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{TEMPLATE}{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_databases_are_copied_through_the_log_where_the_server_can() {
        assert_eq!(strategy(140_012, 1 << 20), "");
        assert_eq!(strategy(170_002, 8 << 20), " STRATEGY WAL_LOG");
        assert_eq!(strategy(170_002, 1 << 30), " STRATEGY FILE_COPY");
    }

    #[test]
    fn templates_of_databases_with_long_names_have_names_of_their_own() {
        let (one, other) = ("a".repeat(60), format!("{}b", "a".repeat(59)));
        assert_eq!(template_name("app"), "devenv_template_app");
        assert!(template_name(&one).len() <= LONGEST_NAME);
        assert_ne!(template_name(&one), template_name(&other));
    }

    fn given(variables: &[(&str, &str)]) -> IndexMap<String, String> {
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn lines(variables: &IndexMap<String, String>) -> String {
        variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
    }

    #[test]
    fn everything_that_led_to_the_shared_database_leads_to_the_private_one() {
        let first = "postgres://app:s@127.0.0.1:1/app?sslmode=verify-full";
        let mut variables = given(&[
            ("DB_URL", first),
            ("DB_PORT", "1"),
            ("DB_APP_URL", first),
            ("DB_APP_USER", "app"),
            ("DB_APP_PASSWORD", "s"),
            ("DB_APP_DATABASE", "app"),
            ("DB_AUDIT_URL", "postgres://audit:t@127.0.0.1:1/audit"),
            ("DB_AUDIT_DATABASE", "audit"),
            ("DATABASE_URL", first),
            ("PGPORT", "1"),
            ("PGUSER", "app"),
            ("PGDATABASE", "app"),
            ("STORE", first),
        ]);
        Copied { service: "db".parse().unwrap(), database: "app".to_owned(), name: "x".to_owned() }.make_private(&mut variables);
        insta::assert_snapshot!(lines(&variables), @r"
        DB_URL=postgres://app:s@127.0.0.1:1/x?sslmode=verify-full
        DB_PORT=1
        DB_APP_URL=postgres://app:s@127.0.0.1:1/x?sslmode=verify-full
        DB_APP_USER=app
        DB_APP_PASSWORD=s
        DB_APP_DATABASE=x
        DB_AUDIT_URL=postgres://audit:t@127.0.0.1:1/audit
        DB_AUDIT_DATABASE=audit
        DATABASE_URL=postgres://app:s@127.0.0.1:1/x?sslmode=verify-full
        PGPORT=1
        PGUSER=app
        PGDATABASE=x
        STORE=postgres://app:s@127.0.0.1:1/x?sslmode=verify-full
        PGPASSWORD=s
        ");
    }

    #[test]
    fn the_short_forms_follow_a_lease_on_another_database() {
        let mut variables = given(&[
            ("DB_URL", "postgres://a:s@h:1/a"),
            ("DB_PORT", "1"),
            ("DB_B_URL", "postgres://b:t@h:1/b"),
            ("DB_B_USER", "b"),
            ("DB_B_PASSWORD", "t"),
            ("DATABASE_URL", "postgres://a:s@h:1/a"),
            ("PGPORT", "1"),
            ("PGUSER", "a"),
        ]);
        Copied { service: "db".parse().unwrap(), database: "b".to_owned(), name: "x".to_owned() }.make_private(&mut variables);
        assert_eq!(variables["DATABASE_URL"], "postgres://b:t@h:1/x");
        assert_eq!((variables["PGUSER"].as_str(), variables["PGPASSWORD"].as_str()), ("b", "t"));
    }
}
