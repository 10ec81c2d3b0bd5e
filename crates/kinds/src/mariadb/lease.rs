//! Private databases, copied from a template and made ahead.
//!
//! The first lease on a database copies it into an unused template, while writers wait; every private database is
//! a copy of that, made by the server's own statements ([`blueprint`](super::blueprint)). Making a table costs a write to the disk, so a
//! few copies are made ahead. The ledger records what a template was made from: if the database has changed
//! since (recreated, other scripts applied), template and copies are made again.
//!
//! A name is used for one lease only. The database's own user gets all rights on it, and
//! they are removed with it.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use devenv_spec::{ServiceName, ServiceSpec, variable_form};
use indexmap::IndexMap;
use mysql_async::Error;
use sha2::{Digest, Sha256};
use tokio_util::task::TaskTracker;

use super::{
    MariadbKind,
    blueprint::Blueprint,
    ledger,
    provision::{grant, superuser},
    session::{Session, grantable, identifier, literal, reason},
    spec::{MariadbDatabase, MariadbProvision},
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
/// The maximum length of the server's names.
const LONGEST_NAME: usize = 64;
/// Copies that are ready ahead of time.
const AHEAD: usize = 3;
const LIMIT: Duration = Duration::from_mins(1);

impl Leases for MariadbKind {
    fn lessor(&self, service: &ServiceSpec, cx: &ProvisionContext) -> Option<Arc<dyn Lessor>> {
        let provision = MariadbProvision::of(service)?;
        Some(Arc::new(MariadbLeases::with(service.name.clone(), provision, cx.clone(), Arc::default())))
    }
}

/// The leases on one server. Cheap to clone.
#[derive(Clone)]
struct MariadbLeases {
    shared: Arc<Shared>,
}

struct Shared {
    service: ServiceName,
    provision: MariadbProvision,
    cx: ProvisionContext,
    /// Databases that are leased, ready, or being made or dropped, even if the profile has changed since.
    alive: Arc<Mutex<HashSet<String>>>,
    /// By database. Held while a template is made.
    stocks: tokio::sync::Mutex<BTreeMap<String, Arc<Stock>>>,
    /// Idle connections for the next caller.
    idle: Mutex<Vec<Session>>,
    work: TaskTracker,
}

/// Copies of one state of one database.
struct Stock {
    /// What the template was made from.
    key: String,
    blueprint: Blueprint,
    ready: Mutex<Vec<String>>,
    /// Held by the task that makes copies ahead.
    making: tokio::sync::Mutex<()>,
}

/// A private database.
struct Copy {
    leases: MariadbLeases,
    database: String,
    name: String,
}

#[async_trait]
impl Lessor for MariadbLeases {
    fn renewed(&self, service: &ServiceSpec) -> Option<Arc<dyn Lessor>> {
        let provision = MariadbProvision::of(service)?;
        let shared = &self.shared;
        if shared.provision == provision {
            return Some(Arc::new(self.clone()));
        }
        Some(Arc::new(Self::with(shared.service.clone(), provision, shared.cx.clone(), shared.alive.clone())))
    }

    fn databases(&self) -> Option<Vec<String>> {
        Some(self.shared.provision.databases.iter().map(|database| database.name.clone()).collect())
    }

    async fn take(&self, _lease: &str, database: Option<&str>, data: &str) -> Result<Box<dyn Part>, LeaseError> {
        let wanted = self.shared.database(database);
        let taken = async {
            let stock = self.stock(wanted, data).await?;
            let ready = stock.ready().pop();
            let name = match ready {
                Some(name) => name,
                None => self.shared.make(&stock.blueprint, wanted).await?,
            };
            self.make_ahead(stock, wanted.clone());
            Ok(name)
        };
        let name = tokio::time::timeout(LIMIT, taken)
            .await
            .unwrap_or_else(|_| Err(self.shared.refused("copy a database", "it took longer than a minute")))?;
        Ok(Box::new(Copy { leases: self.clone(), database: wanted.name.clone(), name }))
    }

    async fn sweep(&self) -> Result<(), LeaseError> {
        let query = format!(
            "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME LIKE {}",
            literal(&PREFIX.replace('_', "\\_")).replace("\\\\", "\\")
        );
        let mut session = self.shared.session().await?;
        let found = session.rows(&query).await.map_err(|error| self.shared.failed("search for the remains of leases", &error))?;
        self.shared.keep(session);
        let alive = self.shared.alive().clone();
        self.discard(found.into_iter().flatten().flatten().filter(|name| !alive.contains(name)).collect());
        Ok(())
    }
}

#[async_trait]
impl Part for Copy {
    fn database(&self) -> Option<&str> {
        Some(&self.name)
    }

    fn make_private(&self, variables: &mut IndexMap<String, String>) {
        let service = self.leases.shared.service.variable();
        make_private(variables, &service, &self.database, &self.name);
    }

    async fn give_back(self: Box<Self>) {
        self.leases.discard(vec![self.name]);
    }
}

/// Every variable with the shared database leads to the private one.
fn make_private(variables: &mut IndexMap<String, String>, service: &str, database: &str, name: &str) {
    let own = |suffix: &str| format!("{service}_{}_{suffix}", variable_form(database));
    let Some(old) = variables.get(&own("URL")).cloned() else { return };
    let new = with_database(&old, name);
    replace(variables, &old, &new);
    set(variables, own("DATABASE"), name);
    set(variables, format!("{service}_URL"), &new);
}

impl MariadbLeases {
    fn with(service: ServiceName, provision: MariadbProvision, cx: ProvisionContext, alive: Arc<Mutex<HashSet<String>>>) -> Self {
        let shared = Shared {
            service,
            provision,
            cx,
            alive,
            stocks: tokio::sync::Mutex::default(),
            idle: Mutex::default(),
            work: TaskTracker::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The copies of the current database; made, with the template, if there are none yet.
    async fn stock(&self, wanted: &MariadbDatabase, data: &str) -> Result<Arc<Stock>, LeaseError> {
        let shared = &self.shared;
        let mut session = shared.session().await?;
        let failed = |error: Error| shared.failed("lease a database", &error);
        let identity = ledger::identity(&mut session, &wanted.name).await.map_err(failed)?;
        let key = format!("{identity} {data}");
        let mut stocks = shared.stocks.lock().await;
        if let Some(stock) = stocks.get(&wanted.name) {
            if stock.key == key {
                shared.keep(session);
                return Ok(stock.clone());
            }
            self.discard(std::mem::take(&mut *stock.ready()));
        }
        self.sweep().await?;
        let template = template_name(&wanted.name);
        let kept = format!("SELECT made_from, blueprint FROM {}.devenv_template WHERE db = {}", ledger::DATABASE, literal(&wanted.name));
        let kept = session.rows(&kept).await.map_err(failed)?.into_iter().next().and_then(|row| <[_; 2]>::try_from(row).ok());
        let kept = kept.and_then(|[made_from, text]| (made_from.as_ref() == Some(&key)).then(|| serde_json::from_str(&text?).ok())?);
        let blueprint = match kept {
            Some(blueprint) => blueprint,
            None => make_template(&mut session, &wanted.name, &template, &key).await.map_err(failed)?,
        };
        shared.keep(session);
        let stock = Arc::new(Stock { key, blueprint, ready: Mutex::default(), making: tokio::sync::Mutex::default() });
        stocks.insert(wanted.name.clone(), stock.clone());
        Ok(stock)
    }

    /// In a task of its own: the caller that took the last copy does not wait for the next.
    fn make_ahead(&self, stock: Arc<Stock>, wanted: MariadbDatabase) {
        let leases = self.clone();
        self.shared.work.spawn(async move {
            let Ok(_guard) = stock.making.try_lock() else { return };
            while stock.ready().len() < AHEAD {
                match leases.shared.make(&stock.blueprint, &wanted).await {
                    Ok(name) => stock.ready().push(name),
                    // The next lease tries again.
                    Err(error) => return tracing::debug!(%error, "Cannot copy a database ahead of time."),
                }
            }
        });
    }

    /// Ends every connection to the databases and drops them, in the background.
    fn discard(&self, names: Vec<String>) {
        if names.is_empty() {
            return;
        }
        let shared = self.shared.clone();
        self.shared.work.spawn(async move {
            for name in names {
                if let Err(error) = shared.drop_database(&name).await {
                    tracing::debug!(%error, database = %name, "Cannot drop a leased database; the next sweep does.");
                }
                shared.alive().remove(&name);
            }
        });
    }
}

impl Shared {
    /// The database from the profile, which the caller has validated.
    fn database(&self, name: Option<&str>) -> &MariadbDatabase {
        let databases = &self.provision.databases;
        databases.iter().find(|database| name == Some(&database.name)).unwrap_or(&databases[0])
    }

    fn alive(&self) -> MutexGuard<'_, HashSet<String>> {
        self.alive.lock().expect("no code panics while it holds this lock")
    }

    async fn session(&self) -> Result<Session, LeaseError> {
        let idle = self.idle.lock().expect("no code panics while it holds this lock").pop();
        if let Some(mut session) = idle
            && session.run("DO 0").await.is_ok()
        {
            return Ok(session);
        }
        let login = superuser(&self.provision.target(), &self.cx.vault, self.cx.authority.clone(), None)?;
        login.open().await.map_err(|error| self.failed("connect to the server", &error))
    }

    /// Keeps the connection for the next caller, because a login costs more than most statements.
    fn keep(&self, session: Session) {
        let mut idle = self.idle.lock().expect("no code panics while it holds this lock");
        if idle.len() < AHEAD {
            idle.push(session);
        }
    }

    /// A new copy of the template, which only the database's owner can use.
    async fn make(&self, blueprint: &Blueprint, wanted: &MariadbDatabase) -> Result<String, LeaseError> {
        let name = format!("{PREFIX}{}", new_id());
        self.alive().insert(name.clone());
        let mut session = self.session().await?;
        let made = async {
            blueprint.make(&mut session, &name).await?;
            blueprint.fill(&mut session, &template_name(&wanted.name), &name, false).await?;
            session.run(&grant(&name, &wanted.owner)).await?;
            blueprint.make_programs(&mut session).await
        };
        let made = made.await;
        match made {
            Ok(()) => {
                self.keep(session);
                Ok(name)
            }
            Err(error) => {
                self.alive().remove(&name);
                session.run(&format!("DROP DATABASE IF EXISTS {}", identifier(&name))).await.ok();
                Err(self.failed("copy a database", &error))
            }
        }
    }

    async fn drop_database(&self, name: &str) -> Result<(), LeaseError> {
        let failed = |error: Error| self.failed("drop a database", &error);
        let mut session = self.session().await?;
        let connected = format!("SELECT ID FROM information_schema.PROCESSLIST WHERE DB = {} AND ID <> CONNECTION_ID()", literal(name));
        for id in session.rows(&connected).await.map_err(failed)?.into_iter().flatten().flatten() {
            // A session that ends by itself meanwhile is no failure.
            session.run(&format!("KILL {id}")).await.ok();
        }
        session.run(&format!("DROP DATABASE IF EXISTS {}", identifier(name))).await.map_err(failed)?;
        let catalogue = grantable(name).trim_matches('`').to_owned();
        let granted = format!("SELECT User FROM mysql.db WHERE Host = '%' AND Db = {}", literal(&catalogue));
        for user in session.rows(&granted).await.map_err(failed)?.into_iter().flatten().flatten() {
            let revoke = format!("REVOKE ALL PRIVILEGES ON {}.* FROM {}@'%'", grantable(name), literal(&user));
            session.run(&revoke).await.map_err(failed)?;
        }
        self.keep(session);
        Ok(())
    }

    fn failed(&self, action: &str, error: &Error) -> LeaseError {
        self.refused(action, &reason(error))
    }

    fn refused(&self, action: &str, reason: &str) -> LeaseError {
        LeaseError::refused(&self.service, action, reason)
    }
}

impl Stock {
    fn ready(&self) -> MutexGuard<'_, Vec<String>> {
        self.ready.lock().expect("no code panics while it holds this lock")
    }
}

/// Copies the rows of the database, and stores its schema in the ledger, because `SHOW CREATE VIEW` fails if the
/// view's definer may not read the copy. The row that says so is last: a template without it is incomplete.
async fn make_template(session: &mut Session, database: &str, template: &str, key: &str) -> Result<Blueprint, Error> {
    let forget = format!("DELETE FROM {}.devenv_template WHERE db = {}", ledger::DATABASE, literal(database));
    session.run_all(&[forget, format!("DROP DATABASE IF EXISTS {}", identifier(template))]).await?;
    let blueprint = Blueprint::read(session, database).await?;
    blueprint.make(session, template).await?;
    blueprint.fill(session, database, template, true).await?;
    let text = serde_json::to_string(&blueprint).expect("a blueprint serializes to JSON");
    let values = [database, key, &text].map(literal).join(", ");
    session.run(&format!("REPLACE INTO {}.devenv_template VALUES ({values})", ledger::DATABASE)).await?;
    Ok(blueprint)
}

/// A name for each database, however long the database's name is.
fn template_name(database: &str) -> String {
    let name = format!("{TEMPLATE}{database}");
    if name.chars().count() <= LONGEST_NAME {
        return name;
    }
    let digest: String = Sha256::digest(database).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{TEMPLATE}{digest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_led_to_the_shared_database_leads_to_the_private_one() {
        let first = "mysql://app:s@127.0.0.1:1/app?ssl-mode=VERIFY_IDENTITY";
        let mut variables: IndexMap<String, String> = [
            ("STORE_URL", first),
            ("STORE_APP_URL", first),
            ("STORE_APP_DATABASE", "app"),
            ("STORE_AUDIT_URL", "mysql://audit:t@127.0.0.1:1/audit"),
            ("MINE", first),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        make_private(&mut variables, "STORE", "app", "x");
        let lines: Vec<String> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            lines,
            [
                "STORE_URL=mysql://app:s@127.0.0.1:1/x?ssl-mode=VERIFY_IDENTITY",
                "STORE_APP_URL=mysql://app:s@127.0.0.1:1/x?ssl-mode=VERIFY_IDENTITY",
                "STORE_APP_DATABASE=x",
                "STORE_AUDIT_URL=mysql://audit:t@127.0.0.1:1/audit",
                "MINE=mysql://app:s@127.0.0.1:1/x?ssl-mode=VERIFY_IDENTITY",
            ]
        );
    }

    #[test]
    fn templates_of_databases_with_long_names_have_names_of_their_own() {
        let (one, other) = ("a".repeat(60), format!("{}b", "a".repeat(59)));
        assert_eq!(template_name("app"), "devenv_template_app");
        assert!(template_name(&one).len() <= LONGEST_NAME);
        assert_ne!(template_name(&one), template_name(&other));
    }
}
