//! Creates owners, databases and access rights, as the superuser over TCP.
//!
//! The existing state is read first, so that nothing is written if everything is as requested. A user may log in and has no rights
//! initially; each gets all rights on its own databases, and none on any other.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use async_trait::async_trait;
use devenv_secrets::Vault;
use devenv_spec::OfKind;
use mysql_async::Error;

use super::{
    MariadbKind,
    fields::SUPERUSER,
    ledger,
    session::{Login, Session, grantable, identifier, is_lost, literal, reason},
    spec::{MariadbDatabase, MariadbProvision, MariadbTarget},
    swap,
};
use crate::{
    capability::Provisions,
    provision::{Change, ProvisionContext, ProvisionError},
};

/// The server's error number for a wrong password.
const ACCESS_DENIED: u16 = 1045;

#[async_trait]
impl Provisions for MariadbKind {
    async fn apply(&self, wanted: &OfKind, cx: &ProvisionContext) -> Result<Vec<Change>, ProvisionError> {
        let wanted: MariadbProvision = wanted.decode()?;
        let mut session = superuser(&wanted.target(), &cx.vault, cx.authority.clone(), None)
            .map_err(ProvisionError::Secret)?
            .open()
            .await
            .map_err(|error| unreachable(&error))?;
        let changes = provide(&mut session, &wanted, cx).await;
        session.close().await;
        changes
    }

    /// It is in the data.
    fn survives_restart(&self) -> bool {
        true
    }
}

/// The superuser's login, to `database` if there is one.
pub(super) fn superuser(
    target: &MariadbTarget,
    vault: &Vault,
    authority: Option<PathBuf>,
    database: Option<&str>,
) -> Result<Login, devenv_secrets::SecretError> {
    Ok(Login {
        port: target.port,
        user: SUPERUSER.to_owned(),
        password: vault.reveal(&target.superuser)?,
        database: database.map(str::to_owned),
        authority: authority.filter(|_| target.tls),
    })
}

/// The content of the server's catalogue.
struct Found {
    /// By name: whether the password is the stored one, and whether there are rights beyond logging in.
    users: HashMap<String, User>,
    databases: HashSet<String>,
    /// User and database.
    grants: HashSet<(String, String)>,
}

struct User {
    known_password: bool,
    plain: bool,
}

async fn provide(session: &mut Session, wanted: &MariadbProvision, cx: &ProvisionContext) -> Result<Vec<Change>, ProvisionError> {
    swap::finish(session).await.map_err(|error| failed("finish the exchange of a database", &error))?;
    let mut passwords: HashMap<&str, String> = HashMap::new();
    for database in wanted.databases.iter().filter(|database| database.owner != SUPERUSER) {
        passwords.insert(&database.owner, cx.vault.reveal(&database.password)?);
    }
    let found = look(session, &passwords).await.map_err(|error| failed("read the server's roles and databases", &error))?;
    let (mut changes, mut statements) = (Vec::new(), Vec::new());
    for database in &wanted.databases {
        if let Some(password) = passwords.remove(database.owner.as_str()) {
            provide_user(&database.owner, &password, found.users.get(&database.owner), &mut changes, &mut statements);
        }
    }
    for database in &wanted.databases {
        provide_database(database, &found, &mut changes, &mut statements);
    }
    session.run_all(&statements).await.map_err(|error| failed("provide users and databases", &error))?;
    ledger::provide(session).await.map_err(|error| failed("make the ledger", &error))?;
    Ok(changes)
}

async fn look(session: &mut Session, passwords: &HashMap<&str, String>) -> Result<Found, Error> {
    let mut users = HashMap::new();
    for (user, password) in passwords {
        let query = format!(
            "SELECT JSON_VALUE(Priv, '$.authentication_string') = PASSWORD({}), JSON_VALUE(Priv, '$.access') = 0 \
             FROM mysql.global_priv WHERE User = {} AND Host = '%'",
            literal(password),
            literal(user)
        );
        if let Some(row) = session.rows(&query).await?.into_iter().next() {
            let is = |index: usize| row.get(index).and_then(Option::as_deref) == Some("1");
            users.insert((*user).to_owned(), User { known_password: is(0), plain: is(1) });
        }
    }
    let databases = session.rows("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA").await?;
    // The trigger privilege represents all: it is the one that older grants lack.
    let grants = session.rows("SELECT User, Db FROM mysql.db WHERE Host = '%' AND Trigger_priv = 'Y' AND Select_priv = 'Y'").await?;
    Ok(Found {
        users,
        databases: databases.into_iter().flatten().flatten().collect(),
        grants: grants
            .into_iter()
            .filter_map(|row| <[_; 2]>::try_from(row).ok())
            .filter_map(|[user, database]| Some((user?, database?)))
            .collect(),
    })
}

fn provide_user(name: &str, password: &str, found: Option<&User>, changes: &mut Vec<Change>, statements: &mut Vec<String>) {
    let account = format!("{}@'%'", literal(name));
    match found {
        None => {
            changes.push(Change::made(format!("user `{name}` created")));
            statements.push(format!("CREATE USER {account} IDENTIFIED BY {}", literal(password)));
        }
        Some(user) => {
            if !user.plain {
                changes.push(Change::made(format!("user `{name}` may log in and has no other right on the server")));
                statements.push(format!("REVOKE ALL PRIVILEGES ON *.* FROM {account}"));
                statements.push(format!("REVOKE GRANT OPTION ON *.* FROM {account}"));
            }
            if !user.known_password {
                changes.push(Change::made(format!("password of the user `{name}` set to the stored one")));
                statements.push(format!("ALTER USER {account} IDENTIFIED BY {}", literal(password)));
            }
        }
    }
}

fn provide_database(wanted: &MariadbDatabase, found: &Found, changes: &mut Vec<Change>, statements: &mut Vec<String>) {
    let (name, owner) = (&wanted.name, &wanted.owner);
    if !found.databases.contains(name) {
        changes.push(Change::made(format!("database `{name}` created for `{owner}`")));
        statements.push(format!("CREATE DATABASE IF NOT EXISTS {}", identifier(name)));
    }
    // As the catalogue writes it, with wildcards escaped.
    let granted = grantable(name).trim_matches('`').replace("``", "`");
    if owner != SUPERUSER && !found.grants.contains(&(owner.clone(), granted)) {
        if found.databases.contains(name) {
            changes.push(Change::made(format!("database `{name}` opened to its owner `{owner}`")));
        }
        statements.push(grant(name, owner));
    }
}

/// All rights on one database.
pub(super) fn grant(database: &str, owner: &str) -> String {
    format!("GRANT ALL PRIVILEGES ON {}.* TO {}@'%'", grantable(database), literal(owner))
}

fn unreachable(error: &Error) -> ProvisionError {
    let reason = reason(error);
    match super::session::code(error) {
        Some(ACCESS_DENIED) => ProvisionError::WrongPassword { service: "MariaDB server", user: SUPERUSER.to_owned(), reason },
        _ => ProvisionError::Unreachable { reason },
    }
}

/// Another session has created the user meanwhile, changed the row, or holds a lock.
const OVERTAKEN: [u16; 4] = [1396, 1020, 1205, 1213];

fn failed(action: &str, error: &Error) -> ProvisionError {
    let reason = reason(error);
    match super::session::code(error) {
        _ if is_lost(error) => ProvisionError::Unreachable { reason },
        Some(code) if OVERTAKEN.contains(&code) => ProvisionError::Overtaken { action: action.to_owned(), reason },
        _ => ProvisionError::refused(action, reason),
    }
}

#[cfg(test)]
mod tests {
    use devenv_spec::SecretRef;

    use super::*;

    fn database(name: &str) -> MariadbDatabase {
        MariadbDatabase { name: name.into(), owner: "ann".into(), password: SecretRef::new("db", "ann") }
    }

    #[test]
    fn an_owner_gets_its_own_database_and_no_other_whose_name_looks_like_it() {
        let nothing = Found { users: HashMap::new(), databases: HashSet::new(), grants: HashSet::new() };
        let (mut changes, mut statements) = (Vec::new(), Vec::new());
        provide_user("ann", "s", None, &mut changes, &mut statements);
        provide_database(&database("a_b"), &nothing, &mut changes, &mut statements);
        assert_eq!(
            statements,
            [
                "CREATE USER 'ann'@'%' IDENTIFIED BY 's'",
                "CREATE DATABASE IF NOT EXISTS `a_b`",
                r"GRANT ALL PRIVILEGES ON `a\_b`.* TO 'ann'@'%'"
            ]
        );
    }

    #[test]
    fn nothing_is_written_if_everything_is_as_requested() {
        let found =
            Found { users: HashMap::new(), databases: ["a_b".to_owned()].into(), grants: [("ann".to_owned(), r"a\_b".to_owned())].into() };
        let (mut changes, mut statements) = (Vec::new(), Vec::new());
        provide_user("ann", "s", Some(&User { known_password: true, plain: true }), &mut changes, &mut statements);
        provide_database(&database("a_b"), &found, &mut changes, &mut statements);
        assert_eq!((changes, statements), (vec![], Vec::<String>::new()));
    }
}
