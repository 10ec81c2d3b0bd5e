//! Putting a database in the place of another one, and back. MariaDB renames no database, but all its tables in one statement.
//!
//! Views, triggers and stored programs do not move with tables: they are dropped before and made again after. What is to be
//! made again is in the ledger from before the tables move until it is made, so that the next run finishes it. What belongs
//! to the former database stays there until the exchange is final ([`conclude`]), so that [`revert`] can make it again.
//!
//! An empty table that moves with the others shows which of the two is in place: it is in the staged database before the
//! exchange, and in the former database, which is kept, after it.

use mysql_async::Error;

use super::{
    blueprint::Blueprint,
    ledger::{self, DATABASE, SCRIPTS},
    session::{MODE, Session, identifier, literal, reason},
};
use crate::backup::{former_name, staged_name};

/// The table that tells where the restored data is.
const MARKER: &str = "devenv_exchange_marker";

/// Tables move while nobody uses them; who comes back in between makes it wait.
const LOCK_SECONDS: u32 = 5;
const ATTEMPTS: u32 = 5;

/// Removes what an earlier exchange has left, and also what former versions have left under their names.
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

/// Puts what is staged in the place of the databases in use, all of it or nothing. What was in use is kept.
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
        // What is to be made again, whether or not the tables will have moved.
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

/// Puts what was in use before an exchange back into its place, all of it or nothing, and removes what was staged.
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
        // Notes of what the former database had are there since the exchange.
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

/// Makes what is in place final: removes what is kept beside it.
pub(super) async fn conclude(session: &mut Session, databases: &[String]) -> Result<(), Error> {
    finish(session).await?;
    for database in databases {
        // First: without the former database the notes would be taken for those of an exchange that has not happened.
        session.run(&forget(database)).await?;
        for name in [former_name(database), staged_name(database)] {
            session.run(&format!("DROP DATABASE IF EXISTS {}", identifier(&name))).await?;
            // Rights on a database outlive it. In the catalogue its name has what stands for others escaped.
            let of_it = format!("FROM mysql.db WHERE REPLACE(Db, '\\\\', '') = {}", literal(&name));
            if !session.rows(&format!("SELECT 1 {of_it}")).await?.is_empty() {
                session.run_all(&[format!("DELETE {of_it}"), "FLUSH PRIVILEGES".to_owned()]).await?;
            }
        }
    }
    Ok(())
}

/// Tables that move in one statement, and what is done around it.
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

/// Ends the connections of those who use the databases: they connect again.
async fn end_sessions(session: &mut Session, databases: &[String]) -> Result<(), Error> {
    let names = databases.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ");
    let query = format!("SELECT ID FROM information_schema.PROCESSLIST WHERE DB IN ({names}) AND ID <> CONNECTION_ID()");
    for id in session.rows(&query).await?.into_iter().flatten().flatten() {
        // One that ends by itself meanwhile is no failure.
        session.run(&format!("KILL {id}")).await.ok();
    }
    Ok(())
}

/// Does what an exchange that was cut off has left to do.
pub(super) async fn finish(session: &mut Session) -> Result<(), Error> {
    let databases = format!("SELECT DISTINCT db FROM {DATABASE}.devenv_exchange");
    // A server without a ledger has no exchange under way.
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
                // A view that is made of one that comes later comes again.
                tracing::debug!(error = %reason(&error), database, "A statement after an exchange failed.");
            }
        }
        session.run(MODE).await?;
        if !statements.is_empty() {
            session.run(&ledger::renewed(&database)).await?;
        }
        // Notes of what the former database had stay until it is not needed any more.
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

/// The ledger's rows of the database become those that another database has carried along.
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
    // Without a statement there would be no trace of the exchange.
    let nothing = ["DO 0".to_owned()];
    nothing.iter().chain(statements).enumerate().map(note).collect()
}
