//! Private databases, copied from a pristine copy and made ahead.
//!
//! A database that somebody is connected to cannot be copied, so the first lease makes a copy that nobody can connect
//! to, the template, and every private database is a copy of that. The template's comment says what it was made from;
//! where that differs from what the database is now (made anew, other scripts applied), template and copies are too.
//!
//! A name is given to one lease and never again: it is random, leaves the stock when it is given out, and is dropped
//! afterwards, whether or not its holder ever heard of it.
//!
//! What costs most is none of this but the checkpoint that every drop waits for: it writes each file of each database
//! made since the last one through to the disk. So drops are gathered, for those at the same time share a checkpoint, and
//! the newest copy is given out first: it is used and gone before any checkpoint has seen it.

use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_postgres::Client;
use tokio_util::task::TaskTracker;

use super::{LeaseError, PREFIX};
use crate::{
    probe::postgres as probe,
    provision::{
        ProvisionContext,
        postgres::{SUPERUSER, Superuser, identifier, literal, reason, rows, settings},
    },
    spec::{PostgresDatabase, PostgresProvision, ServiceName},
};

const TEMPLATE: &str = "devenv_template_";
/// Copies made ahead at first, and at most: a lease that finds none doubles them. As many as are small enough.
const AHEAD: u64 = 4;
const MOST_AHEAD: u64 = 8;
/// What the copies made ahead may take on disk.
const AHEAD_BYTES: u64 = 512 << 20;
/// Databases made at the same time.
const MAKING: usize = 3;
/// Databases dropped at the same time.
const BATCH: usize = 8;
/// How long a database waits for others to be dropped with.
const GATHER: Duration = Duration::from_millis(500);
/// Beyond so many that wait to be dropped, new leases wait: disks fill faster than they empty.
const LEFT: usize = 16;
/// From this size on, the files of a database are copied, which waits for a checkpoint; below it, copying it through the
/// log is faster.
const COPY_FILES: u64 = 256 << 20;
/// Connections that are kept for making and dropping, and for how long they may be of no use.
const KEPT: usize = 3;
const IDLE: Duration = Duration::from_secs(10);
/// PostgreSQL's names have 63 bytes.
const LONGEST_NAME: usize = 63;
const LIMIT: Duration = Duration::from_mins(1);

/// The leases on one PostgreSQL server. Cheap to clone.
#[derive(Clone)]
pub(crate) struct PostgresLeases {
    shared: Arc<Shared>,
}

struct Shared {
    service: ServiceName,
    provision: PostgresProvision,
    cx: ProvisionContext,
    /// Names of databases that are leased, ready to be, or being made, whatever has become of the profile since.
    alive: Arc<Mutex<HashSet<String>>>,
    /// By database. Held while a template is made.
    stocks: tokio::sync::Mutex<BTreeMap<String, Arc<Stock>>>,
    making: Semaphore,
    /// Databases to be dropped, each with its place among those that are left.
    doomed: Mutex<Vec<(String, Option<OwnedSemaphorePermit>)>>,
    more: Notify,
    /// Held by the one who drops.
    dropping: tokio::sync::Mutex<()>,
    left: Arc<Semaphore>,
    /// The connection for short questions.
    desk: tokio::sync::Mutex<Option<Arc<Client>>>,
    /// Connections that are of use to whoever comes next, and since when they are of none.
    idle: Mutex<Vec<(Instant, Client)>>,
    work: TaskTracker,
}

/// Copies of one state of one database.
struct Stock {
    /// What the template was made from.
    key: String,
    /// When the server was started: another one may have other data behind it.
    started: String,
    ready: Mutex<Vec<String>>,
    /// Copies to have ahead, and the most that there is room for.
    wanted: AtomicU64,
    most: u64,
    strategy: &'static str,
    /// One refill at a time.
    refilling: tokio::sync::Mutex<()>,
}

impl PostgresLeases {
    pub(crate) fn new(service: ServiceName, provision: PostgresProvision, cx: ProvisionContext) -> Self {
        Self::with(service, provision, cx, Arc::default())
    }

    /// The same leases on the server as it is now.
    pub(crate) fn renewed(self, provision: &PostgresProvision) -> Self {
        let shared = &self.shared;
        if shared.provision == *provision {
            return self;
        }
        Self::with(shared.service.clone(), provision.clone(), shared.cx.clone(), shared.alive.clone())
    }

    fn with(service: ServiceName, provision: PostgresProvision, cx: ProvisionContext, alive: Arc<Mutex<HashSet<String>>>) -> Self {
        let shared = Shared {
            service,
            provision,
            cx,
            alive,
            stocks: tokio::sync::Mutex::default(),
            making: Semaphore::new(MAKING),
            doomed: Mutex::default(),
            more: Notify::new(),
            dropping: tokio::sync::Mutex::default(),
            left: Arc::new(Semaphore::new(LEFT)),
            desk: tokio::sync::Mutex::default(),
            idle: Mutex::default(),
            work: TaskTracker::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// A database of its own, with what `database` holds; its name.
    pub(crate) async fn take(&self, lease: &str, database: &str, data: &str) -> Result<String, LeaseError> {
        let shared = &self.shared;
        let taken = async {
            // Never closed; and what was left is dropped in the end.
            drop(shared.left.acquire().await);
            let wanted = shared.database(database);
            let stock = self.stock(wanted, data).await?;
            let ready = stock.ready.lock().expect("no holder of this lock panics").pop();
            let name = match ready {
                Some(name) => name,
                None => {
                    stock.wanted.fetch_update(Relaxed, Relaxed, |wanted| Some((wanted * 2).min(stock.most))).ok();
                    self.made(shared.name(lease), wanted, stock.strategy).await?
                }
            };
            self.refill(&stock, wanted);
            Ok(name)
        };
        tokio::time::timeout(LIMIT, taken).await.unwrap_or_else(|_| Err(shared.refused("copy a database", "it took longer than a minute")))
    }

    /// Makes the database, in a task of its own: one that nobody waits for any more is made all the same, and dropped.
    async fn made(&self, name: String, wanted: &PostgresDatabase, strategy: &'static str) -> Result<String, LeaseError> {
        let (taker, made) = oneshot::channel();
        let (leases, wanted) = (self.clone(), wanted.clone());
        self.shared.work.spawn(async move {
            let made = leases.shared.make(&name, &wanted, strategy).await;
            if made.is_err() {
                // It may be there, without what comes after its creation.
                leases.discard(vec![name.clone()]);
            }
            if taker.send(made.map(|()| name.clone())).is_err_and(|unheard| unheard.is_ok()) {
                leases.discard(vec![name]);
            }
        });
        made.await.unwrap_or_else(|_| Err(self.shared.refused("copy a database", "the daemon is ending")))
    }

    /// Ends every connection to the database and removes it, in the background.
    pub(crate) async fn give_back(&self, name: String) {
        let shared = &self.shared;
        let close = format!(
            "ALTER DATABASE {} ALLOW_CONNECTIONS false; SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {}",
            identifier(&name),
            literal(&name)
        );
        if let Err(error) = shared.ask(&close).await {
            tracing::debug!(%error, "A leased database could not be closed; it is dropped all the same.");
        }
        self.discard(vec![name]);
    }

    /// Drops what leases of an earlier daemon left behind.
    pub(crate) async fn sweep(&self) -> Result<(), LeaseError> {
        let query = format!("SELECT datname FROM pg_catalog.pg_database WHERE starts_with(datname, {})", literal(PREFIX));
        let found = self.shared.ask(&query).await?;
        let names: Vec<String> = found.into_iter().filter_map(|row| row.into_iter().next()?).collect();
        let alive = self.shared.alive.lock().expect("no holder of this lock panics").clone();
        self.discard(names.into_iter().filter(|name| !alive.contains(name)).collect());
        Ok(())
    }

    /// The copies of the database as it is now; made, with the template, if there are none yet.
    async fn stock(&self, wanted: &PostgresDatabase, data: &str) -> Result<Arc<Stock>, LeaseError> {
        let shared = &self.shared;
        let template = template_name(&wanted.name);
        let found = shared.ask(&look(&wanted.name, &template)).await?;
        let missing = || shared.refused("copy a database", format!("there is no database `{}`", wanted.name));
        let mut row = found.into_iter().next().ok_or_else(missing)?.into_iter().flatten();
        let (identity, started) = (row.next().unwrap_or_default(), row.next().unwrap_or_default());
        let key = format!("devenv {identity} {data}").trim_end().to_owned();
        let mut stocks = shared.stocks.lock().await;
        if let Some(stock) = stocks.get(&wanted.name) {
            if stock.key == key && stock.started == started {
                return Ok(stock.clone());
            }
            let outdated = std::mem::take(&mut *stock.ready.lock().expect("no holder of this lock panics"));
            self.discard(outdated);
        }
        self.sweep().await?;
        if row.next().as_deref() != Some(&key) {
            shared.make_template(&template, wanted, &key).await?;
        }
        let (size, version) = shared.size(&wanted.name).await?;
        let most = (AHEAD_BYTES / size.max(1)).clamp(1, MOST_AHEAD);
        let stock = Arc::new(Stock {
            key,
            started,
            ready: Mutex::default(),
            wanted: AtomicU64::new(AHEAD.min(most)),
            most,
            strategy: strategy(version, size),
            refilling: tokio::sync::Mutex::default(),
        });
        stocks.insert(wanted.name.clone(), stock.clone());
        Ok(stock)
    }

    /// Makes copies ahead, unless that is under way.
    fn refill(&self, stock: &Arc<Stock>, wanted: &PostgresDatabase) {
        let (leases, stock, wanted) = (self.clone(), stock.clone(), wanted.clone());
        self.shared.work.spawn(async move {
            let Ok(_turn) = stock.refilling.try_lock() else { return };
            loop {
                let has = stock.ready.lock().expect("no holder of this lock panics").len() as u64;
                let missing = stock.wanted.load(Relaxed).saturating_sub(has).min(MAKING as u64 - 1);
                if missing == 0 {
                    return;
                }
                let made = (0..missing).map(|_| leases.made(leases.shared.name(&super::new_id()), &wanted, stock.strategy));
                for result in join_all(made).await {
                    match result {
                        Ok(name) => stock.ready.lock().expect("no holder of this lock panics").push(name),
                        Err(error) => {
                            tracing::debug!(%error, "A copy of a database could not be made ahead.");
                            return;
                        }
                    }
                }
            }
        });
    }

    /// Drops databases soon, many at once.
    fn discard(&self, names: Vec<String>) {
        let shared = &self.shared;
        // Taken now, so that whoever asks next sees how many are left; none to be had is no reason to wait.
        let doomed = names.into_iter().map(|name| (name, shared.left.clone().try_acquire_owned().ok()));
        shared.doomed.lock().expect("no holder of this lock panics").extend(doomed);
        shared.more.notify_one();
        let shared = shared.clone();
        self.shared.work.spawn(async move {
            let Ok(_turn) = shared.dropping.try_lock() else { return };
            loop {
                let waiting = async {
                    while shared.doomed.lock().expect("no holder of this lock panics").len() < BATCH {
                        shared.more.notified().await;
                    }
                };
                // Expired or not, what is there is dropped.
                let _ = tokio::time::timeout(GATHER, waiting).await;
                let batch: Vec<_> = {
                    let mut doomed = shared.doomed.lock().expect("no holder of this lock panics");
                    let count = doomed.len().min(BATCH);
                    doomed.drain(..count).collect()
                };
                if batch.is_empty() {
                    return;
                }
                join_all(batch.iter().map(|(name, _)| shared.drop_database(name))).await;
            }
        });
    }
}

impl Shared {
    /// The profile's; the caller has looked it up there.
    fn database(&self, name: &str) -> &PostgresDatabase {
        self.provision.databases.iter().find(|database| database.name == name).unwrap_or(&self.provision.databases[0])
    }

    fn name(&self, id: &str) -> String {
        let name = format!("{PREFIX}{id}");
        self.alive.lock().expect("no holder of this lock panics").insert(name.clone());
        name
    }

    async fn drop_database(self: &Arc<Self>, name: &str) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", identifier(name));
        let dropped = self.session(&[drop]).await;
        self.alive.lock().expect("no holder of this lock panics").remove(name);
        if let Err(error) = dropped {
            tracing::debug!(%error, database = %name, "A leased database could not be dropped; the next sweep finds it.");
        }
    }

    /// A copy of the template, closed to all but its owner, with the settings that a copy does not inherit.
    async fn make(self: &Arc<Self>, name: &str, wanted: &PostgresDatabase, strategy: &str) -> Result<(), LeaseError> {
        let _permit = self.making.acquire().await;
        let (shown, template, owner) = (identifier(name), identifier(&template_name(&wanted.name)), identifier(&wanted.owner));
        let create = format!("CREATE DATABASE {shown} TEMPLATE {template} OWNER {owner}{strategy}");
        let mut after = vec![format!("REVOKE CONNECT, TEMP ON DATABASE {shown} FROM PUBLIC")];
        after.extend(wanted.settings.iter().filter_map(|(setting, value)| settings::statement(name, setting, value, &[])));
        // The creation alone: it refuses to share a transaction.
        self.session(&[create, after.join("; ")]).await
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
        let client = self.connect().await?;
        let made = async {
            client.batch_execute(&drop).await?;
            // Sent together: whoever connects again finds the database locked, and waits.
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
        let mut row = self.ask(&query).await?.into_iter().flatten().flatten();
        let size = row.next().and_then(|size| size.parse().ok()).unwrap_or(AHEAD_BYTES);
        Ok((size, row.next().and_then(|version| version.parse().ok()).unwrap_or_default()))
    }

    /// Over a connection that is kept: a login costs a new process of the server's, and more than all that is asked here.
    async fn ask(&self, query: &str) -> Result<Vec<Vec<Option<String>>>, LeaseError> {
        let client = self.desk().await?;
        let answer = match rows(&client, query).await {
            // The server was restarted since the last question.
            Err(_) if client.is_closed() => rows(&*self.desk().await?, query).await,
            answer => answer,
        };
        answer.map_err(|reason| self.refused("lease a database", reason))
    }

    async fn desk(&self) -> Result<Arc<Client>, LeaseError> {
        let mut desk = self.desk.lock().await;
        if let Some(client) = desk.as_ref().filter(|client| !client.is_closed()) {
            return Ok(client.clone());
        }
        Ok(desk.insert(Arc::new(self.connect().await?)).clone())
    }

    async fn connect(&self) -> Result<Client, LeaseError> {
        let superuser = Superuser::of(&self.provision, &self.cx).map_err(|error| self.refused("reach the server", error))?;
        let config = superuser.config("devenv-lease", SUPERUSER);
        let (client, connection) = probe::connect(&config, superuser.tls).await.map_err(|error| self.unreachable(&error))?;
        // Ends with the client, or with the server.
        self.work.spawn(connection);
        Ok(client)
    }

    fn unreachable(&self, error: &tokio_postgres::Error) -> LeaseError {
        self.refused("reach the server", probe::words(self.provision.port, error))
    }

    /// One statement after the other, over a connection that nobody else uses meanwhile.
    async fn session(self: &Arc<Self>, statements: &[String]) -> Result<(), LeaseError> {
        let kept = {
            let mut idle = self.idle.lock().expect("no holder of this lock panics");
            idle.retain(|(_, client)| !client.is_closed());
            idle.pop()
        };
        let client = match kept {
            Some((_, client)) => client,
            None => self.connect().await?,
        };
        for statement in statements {
            client.batch_execute(statement).await.map_err(|error| self.refused("lease a database", reason(&error)))?;
        }
        self.keep(client);
        Ok(())
    }

    /// For whoever comes soon.
    fn keep(self: &Arc<Self>, client: Client) {
        let mut idle = self.idle.lock().expect("no holder of this lock panics");
        if idle.len() >= KEPT {
            return;
        }
        idle.push((Instant::now(), client));
        let shared = Arc::downgrade(self);
        self.work.spawn(async move {
            tokio::time::sleep(IDLE).await;
            if let Some(shared) = shared.upgrade() {
                shared.idle.lock().expect("no holder of this lock panics").retain(|(since, _)| since.elapsed() < IDLE);
            }
        });
    }

    fn refused(&self, action: &str, reason: impl std::fmt::Display) -> LeaseError {
        LeaseError::refused(&self.service, action, reason)
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
}
