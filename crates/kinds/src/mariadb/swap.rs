//! Swaps databases, and swaps them back. MariaDB cannot rename a database, but it can rename all its tables in one statement.
//!
//! Views, triggers and stored programs do not move with tables: they are dropped before and created again after. What must be
//! created again is in the ledger before the tables move and until it is created, so that the next run finishes it. The objects
//! of the old database stay there until the swap is final ([`conclude`]), so that [`revert`] can create them again.
//!
//! An empty table that moves with the others shows which of the two is in place: it is in the staged database before the
//! swap, and in the old database, which is kept, after it.

use mysql_async::Error;

use super::{
    blueprint::Blueprint,
    ledger::{self, DATABASE, SCRIPTS},
    session::{MODE, Session, identifier, literal, reason},
};
use crate::backup::{former_name, staged_name};

/// The table that shows where the restored data is.
const MARKER: &str = "devenv_exchange_marker";

/// Tables move while nobody uses them; clients that reconnect in between delay that.
const LOCK_SECONDS: u32 = 5;
const ATTEMPTS: u32 = 5;

/// Removes what an earlier swap has left, including the names of former versions.
pub(super) async fn prepare(session: &mut Session, databases: &[String]) -> Result<(), Error> {
    conclude(session, databases).await?;
    for database in databases {
        for name in ["restored", "former"].map(|what| format!("{database} devenv {what}")).iter().filter(|name| name.chars().count() <= 64)
        {
            session.run(&format!("DROP DATABASE IF EXISTS {}", identifier(name))).await?;
        }
    }
    Ok(())
}

/// Puts the staged data in place of the databases in use, all of it or nothing. The old data is kept.
pub(super) async fn exchange(session: &mut Session, databases: &[String]) -> Result<(), Error> {
    let mut plan = Plan::default();
    for database in databases {
        let (new, old) = (staged_name(database), former_name(database));
        let arriving = Blueprint::read(session, &new).await?;
        let leaving = Blueprint::read(session, database).await?;
        session
            .run_all(&[
                format!("DROP DATABASE IF EXISTS {}", identifier(&old)),
                format!("CREATE DATABASE {}", identifier(&old)),
                format!(
                    "CREATE TABLE {}.{SCRIPTS} AS SELECT * FROM {DATABASE}.{SCRIPTS} WHERE db = {}",
                    identifier(&old),
                    literal(database)
                ),
                format!("CREATE TABLE {}.{MARKER} (id INT)", identifier(&new)),
            ])
            .await?;
        // What must be created again, whether or not the tables have moved.
        plan.notes.push(forget(database));
        let mut before = leaving.programs_again(database);
        before.extend(ledger_from(&old, database));
        plan.notes.extend(note(database, false, &before));
        let mut after = arriving.programs_again(database);
        if arriving.tables.iter().any(|table| table.name == SCRIPTS) {
            after.extend(ledger_from(&new, database));
        }
        plan.notes.extend(note(database, true, &after));
        plan.drops.extend(arriving.drops(&new));
        plan.drops.extend(leaving.drops(database));
        plan.add(database, &old, leaving.movable());
        plan.add(&new, database, arriving.movable().filter(|table| *table != SCRIPTS));
        plan.add(&new, &old, [MARKER]);
    }
    plan.carry_out(session, databases).await
}

/// Puts the old data back in place, all of it or nothing, and removes what was staged.
pub(super) async fn revert(session: &mut Session, databases: &[String]) -> Result<(), Error> {
    finish(session).await?;
    let (mut plan, mut swapped) = (Plan::default(), Vec::new());
    for database in databases {
        if !is_exchanged(session, database).await? {
            continue;
        }
        let (new, old) = (staged_name(database), former_name(database));
        session.run(&format!("CREATE DATABASE IF NOT EXISTS {}", identifier(&new))).await?;
        let leaving = Blueprint::read(session, database).await?;
        let arriving = Blueprint::read(session, &old).await?;
        // The notes about the old database exist since the swap.
        plan.notes.extend(note(database, true, &leaving.programs_again(database)));
        plan.drops.extend(leaving.drops(database));
        plan.add(database, &new, leaving.movable());
        plan.add(&old, database, arriving.movable().filter(|table| ![SCRIPTS, MARKER].contains(table)));
        plan.add(&old, &new, [MARKER]);
        swapped.push(database.clone());
    }
    if !swapped.is_empty() {
        plan.carry_out(session, &swapped).await?;
    }
    conclude(session, databases).await
}

/// Makes the current data final: removes what is kept beside it.
pub(super) async fn conclude(session: &mut Session, databases: &[String]) -> Result<(), Error> {
    finish(session).await?;
    for database in databases {
        // First: without the old database the notes would be taken for those of a swap that has not happened.
        session.run(&forget(database)).await?;
        for name in [former_name(database), staged_name(database)] {
            session.run(&format!("DROP DATABASE IF EXISTS {}", identifier(&name))).await?;
            // Rights on a database outlive it. In the catalogue the wildcards in its name are escaped.
            let of_it = format!("FROM mysql.db WHERE REPLACE(Db, '\\\\', '') = {}", literal(&name));
            if !session.rows(&format!("SELECT 1 {of_it}")).await?.is_empty() {
                session.run_all(&[format!("DELETE {of_it}"), "FLUSH PRIVILEGES".to_owned()]).await?;
            }
        }
    }
    Ok(())
}

/// Tables that move in one statement, and the statements around it.
#[derive(Default)]
struct Plan {
    notes: Vec<String>,
    drops: Vec<String>,
    moves: Vec<String>,
}

impl Plan {
    fn add<'a>(&mut self, from: &str, to: &str, tables: impl IntoIterator<Item = &'a str>) {
        self.moves.extend(tables.into_iter().map(|table| {
            let table = identifier(table);
            format!("{}.{table} TO {}.{table}", identifier(from), identifier(to))
        }));
    }

    async fn carry_out(self, session: &mut Session, databases: &[String]) -> Result<(), Error> {
        session.run("START TRANSACTION").await?;
        session.run_all(&self.notes).await?;
        session.run("COMMIT").await?;
        session.run(&format!("SET SESSION foreign_key_checks = 0, lock_wait_timeout = {LOCK_SECONDS}")).await?;
        session.run_all(&self.drops).await?;
        let rename = format!("RENAME TABLE {}", self.moves.join(", "));
        let mut moved = Ok(());
        for _ in 0..ATTEMPTS {
            end_sessions(session, databases).await?;
            moved = session.run(&rename).await;
            if moved.is_ok() {
                break;
            }
        }
        finish(session).await?;
        moved
    }
}

/// Ends the connections of the databases' clients: they reconnect.
async fn end_sessions(session: &mut Session, databases: &[String]) -> Result<(), Error> {
    let names = databases.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ");
    let query = format!("SELECT ID FROM information_schema.PROCESSLIST WHERE DB IN ({names}) AND ID <> CONNECTION_ID()");
    for id in session.rows(&query).await?.into_iter().flatten().flatten() {
        // A session that ends by itself meanwhile is no failure.
        session.run(&format!("KILL {id}")).await.ok();
    }
    Ok(())
}

/// Completes an interrupted swap.
pub(super) async fn finish(session: &mut Session) -> Result<(), Error> {
    let databases = format!("SELECT DISTINCT db FROM {DATABASE}.devenv_exchange");
    // A server without a ledger has no swap in progress.
    let Ok(databases) = session.rows(&databases).await else { return Ok(()) };
    for database in databases.into_iter().flatten().flatten() {
        let moved = is_exchanged(session, &database).await?;
        let left = format!(
            "SELECT statement FROM {}.devenv_exchange WHERE db = {} AND moved = {moved} ORDER BY position",
            DATABASE,
            literal(&database)
        );
        let statements: Vec<String> = session.rows(&left).await?.into_iter().flatten().flatten().collect();
        for statement in &statements {
            if let Err(error) = session.run(statement).await {
                // A view that depends on a later one is created again.
                tracing::debug!(error = %reason(&error), database, "A statement after an exchange failed.");
            }
        }
        session.run(MODE).await?;
        if !statements.is_empty() {
            session.run(&ledger::renewed(&database)).await?;
        }
        // The notes about the old database stay until it is not needed any more.
        let done = if moved { format!("{} AND moved = TRUE", forget(&database)) } else { forget(&database) };
        session.run(&done).await?;
    }
    Ok(())
}

/// Whether the restored data is in the place of the former.
async fn is_exchanged(session: &mut Session, database: &str) -> Result<bool, Error> {
    let marker = format!(
        "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = {} AND TABLE_NAME = '{MARKER}'",
        literal(&former_name(database))
    );
    Ok(!session.rows(&marker).await?.is_empty())
}

/// Assigns the ledger's rows that another database has brought along to the database.
fn ledger_from(carrier: &str, database: &str) -> [String; 2] {
    [
        format!("DELETE FROM {DATABASE}.{SCRIPTS} WHERE db = {}", literal(database)),
        format!("INSERT IGNORE INTO {DATABASE}.{SCRIPTS} SELECT * FROM {}.{SCRIPTS}", identifier(carrier)),
    ]
}

fn forget(database: &str) -> String {
    format!("DELETE FROM {}.devenv_exchange WHERE db = {}", DATABASE, literal(database))
}

fn note(database: &str, moved: bool, statements: &[String]) -> Vec<String> {
    let note = |(position, statement): (usize, &String)| {
        let (database, statement) = (literal(database), literal(statement));
        format!("INSERT INTO {DATABASE}.devenv_exchange VALUES ({database}, {moved}, {position}, {statement})")
    };
    // Without a statement there would be no trace of the swap.
    let nothing = ["DO 0".to_owned()];
    nothing.iter().chain(statements).enumerate().map(note).collect()
}
