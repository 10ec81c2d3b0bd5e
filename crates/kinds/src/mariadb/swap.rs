//! Putting a database in the place of another one. MariaDB renames no database, but all its tables in one statement.
//!
//! Views, triggers and stored programs do not move with tables: they are dropped before and made again after. What is to be
//! made again is in the ledger from before the tables move until it is made, so that the next run finishes it.

use mysql_async::Error;

use super::{
    blueprint::Blueprint,
    ledger::{self, DATABASE, SCRIPTS},
    session::{MODE, Session, identifier, literal, reason},
};

/// Where what was there goes, until it is dropped.
fn former(database: &str) -> String {
    format!("{database} devenv former")
}

/// Where a restored database waits.
pub(super) fn beside(database: &str) -> String {
    format!("{database} devenv restored")
}

/// Tables move while nobody uses them; who comes back in between makes it wait.
const LOCK_SECONDS: u32 = 5;
const ATTEMPTS: u32 = 5;

/// Puts what is [`beside`] the databases in their place, all of it or nothing, and drops what was there.
pub(super) async fn exchange(session: &mut Session, databases: &[String]) -> Result<(), Error> {
    let settings = format!("SET SESSION foreign_key_checks = 0, lock_wait_timeout = {LOCK_SECONDS}");
    let (mut notes, mut drops, mut moves) = (Vec::new(), Vec::new(), Vec::new());
    for database in databases {
        let (new, old) = (beside(database), former(database));
        let arriving = Blueprint::read(session, &new).await?;
        let leaving = Blueprint::read(session, database).await?;
        session
            .run_all(&[format!("DROP DATABASE IF EXISTS {}", identifier(&old)), format!("CREATE DATABASE {}", identifier(&old))])
            .await?;
        // What is to be made again, whether or not the tables will have moved.
        notes.push(forget(database));
        notes.extend(note(database, false, &leaving.programs_again(database)));
        let mut after = arriving.programs_again(database);
        if arriving.tables.iter().any(|table| table.name == SCRIPTS) {
            after.push(format!("DELETE FROM {DATABASE}.{SCRIPTS} WHERE db = {}", literal(database)));
            after.push(format!("INSERT IGNORE INTO {DATABASE}.{SCRIPTS} SELECT * FROM {}.{SCRIPTS}", identifier(&new)));
        }
        notes.extend(note(database, true, &after));
        drops.extend(arriving.drops(&new));
        drops.extend(leaving.drops(database));
        let away = leaving.movable().map(|table| (database.as_str(), table, old.as_str()));
        let in_place = arriving.movable().filter(|table| *table != SCRIPTS).map(|table| (new.as_str(), table, database.as_str()));
        moves.extend(away.chain(in_place).map(|(from, table, to)| {
            let table = identifier(table);
            format!("{}.{table} TO {}.{table}", identifier(from), identifier(to))
        }));
    }
    session.run("START TRANSACTION").await?;
    session.run_all(&notes).await?;
    session.run("COMMIT").await?;
    session.run(&settings).await?;
    session.run_all(&drops).await?;
    let mut moved = Ok(());
    for _ in 0..ATTEMPTS {
        end_sessions(session, databases).await?;
        moved = if moves.is_empty() { Ok(()) } else { session.run(&format!("RENAME TABLE {}", moves.join(", "))).await };
        if moved.is_ok() {
            break;
        }
    }
    finish(session).await?;
    for database in databases {
        let gone = if moved.is_ok() { vec![former(database), beside(database)] } else { vec![former(database)] };
        for name in gone {
            session.run(&format!("DROP DATABASE IF EXISTS {}", identifier(&name))).await?;
        }
    }
    moved
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
        // The tables move all at once, so one that still waits says that none has moved.
        let waiting = format!(
            "SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_TYPE <> 'VIEW' AND TABLE_NAME <> '{SCRIPTS}' AND TABLE_SCHEMA = {}",
            literal(&beside(&database))
        );
        let moved = session.rows(&waiting).await?.into_iter().flatten().flatten().next().as_deref() == Some("0");
        let left = format!(
            "SELECT statement FROM {}.devenv_exchange WHERE db = {} AND moved = {moved} ORDER BY position",
            DATABASE,
            literal(&database)
        );
        for statement in session.rows(&left).await?.into_iter().flatten().flatten() {
            if let Err(error) = session.run(&statement).await {
                // A view that is made of one that comes later comes again.
                tracing::debug!(error = %reason(&error), database, "A statement after an exchange failed.");
            }
        }
        session.run(MODE).await?;
        if moved {
            session.run(&ledger::renewed(&database)).await?;
        }
        session.run(&forget(&database)).await?;
    }
    Ok(())
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
