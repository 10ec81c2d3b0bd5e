//! Dumps by `mariadb-dump` in the server's own container.
//!
//! Writers are blocked until the dump has taken its snapshot, and a snapshot of our own is taken at the same moment, so the
//! counted data is the dumped data.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader},
    path::Path,
    time::Duration,
};

use devenv_api::Content;
use devenv_engine::{ExecStream, SessionRequest};
use futures_util::StreamExt;
use mysql_async::Error;
use tokio::{io::AsyncWriteExt, time::Instant};

use super::{
    backup::{Reach, count, own_server, refused, session, shell, words},
    blueprint::Blueprint,
    session::{Session, literal},
};
use crate::{
    backup::{BackupError, private},
    capability::ServerSite,
};

/// How long writers wait at most; what is dumped after that may not be what is counted.
const HELD: Duration = Duration::from_secs(10);
/// The dump writes this only after it has taken its snapshot.
const BEGUN: [&str; 3] = ["-- Table structure", "-- Temporary table structure", "-- Dump completed"];
/// Of the output, until one of those has come.
const HEAD: usize = 64 << 10;

const DUMP: &str = r#"
dump() { mariadb-dump --defaults-file="$d/login.cnf" --single-transaction --skip-lock-tables --quick --routines --triggers --events --hex-blob --skip-dump-date --default-character-set=utf8mb4 "$@"; }
dump "$DEVENV_DATABASE"
if [ -n "$DEVENV_LEDGER" ]; then dump --skip-triggers --skip-routines --skip-events --where="$DEVENV_LEDGER" devenv_ledger devenv_script; fi
echo '+dumped' >&2
"#;

/// Writes a dump of the database into the file; what is in it. `own`: with its rows of the ledger.
pub(super) async fn dump(site: &ServerSite<'_>, database: &str, own: bool, file: &Path) -> Result<Vec<Content>, BackupError> {
    let action = format!("dump the database `{database}`");
    let failed = |error: Error| refused(&action, &error);
    let (mut counter, mut holder) = (session(site).await?, session(site).await?);
    let blueprint = Blueprint::read(&mut counter, database).await.map_err(failed)?;
    let hold = [format!("SET SESSION lock_wait_timeout = {}", HELD.as_secs()), "FLUSH TABLES WITH READ LOCK".to_owned()];
    holder.run_all(&hold).await.map_err(failed)?;
    let began = counter.run("START TRANSACTION WITH CONSISTENT SNAPSHOT").await;
    let until = Instant::now() + HELD;
    let ledger = if own { format!("db = {}", literal(database)) } else { String::new() };
    let mut held = Some(holder);
    let written = async {
        began.map_err(failed)?;
        write(site, &own_server(site)?, database, &ledger, file, &mut held, until).await
    };
    let written = written.await;
    if let Some(mut holder) = held {
        holder.run("UNLOCK TABLES").await.map_err(failed)?;
        holder.close().await;
    }
    let was_in_time = written?;
    let mut contents = count(&mut counter, database, database, &blueprint.tables).await.map_err(failed)?;
    counter.close().await;
    if !was_in_time {
        for content in &mut contents {
            content.checksum = None;
        }
    }
    Ok(contents)
}

/// Has the container's tools write a dump of a server elsewhere into the file, without holding anybody up there; its rows, as
/// the dump says.
pub(super) async fn fetch(site: &ServerSite<'_>, reach: &Reach, database: &str, file: &Path) -> Result<Vec<Content>, BackupError> {
    write(site, reach, database, "", file, &mut None, Instant::now()).await?;
    let failed = |source| BackupError::File { action: "read", path: file.to_owned(), source };
    let reading = file.to_owned();
    let rows = tokio::task::spawn_blocking(move || rows_in(BufReader::new(std::fs::File::open(reading)?))).await;
    let rows = rows.unwrap_or_else(|error| Err(std::io::Error::other(error))).map_err(failed)?;
    Ok(rows.into_iter().map(|(table, rows)| Content { name: format!("{database}/{table}"), rows, checksum: None }).collect())
}

/// By table: the dump has each row in a line of its own.
fn rows_in(dump: impl BufRead) -> std::io::Result<BTreeMap<String, u64>> {
    let (mut rows, mut table) = (BTreeMap::new(), String::new());
    for line in dump.split(b'\n') {
        let line = line?;
        if let Some(rest) = line.strip_prefix(b"INSERT INTO `") {
            let rest = String::from_utf8_lossy(rest);
            let (name, values) = rest.split_once('`').unwrap_or((&rest, ""));
            name.clone_into(&mut table);
            *rows.entry(table.clone()).or_default() += u64::from(values.contains("VALUES ("));
        } else if line.starts_with(b"(") {
            *rows.entry(table.clone()).or_default() += 1;
        }
    }
    Ok(rows)
}

/// Whether the dump had taken its snapshot when writers were let go.
async fn write(
    site: &ServerSite<'_>,
    reach: &Reach,
    database: &str,
    ledger: &str,
    file: &Path,
    held: &mut Option<Session>,
    until: Instant,
) -> Result<bool, BackupError> {
    let fail = |source| BackupError::File { action: "write", path: file.to_owned(), source };
    let mut environment = reach.variables();
    environment.push(("DEVENV_DATABASE".to_owned(), database.to_owned()));
    environment.push(("DEVENV_LEDGER".to_owned(), ledger.to_owned()));
    let user = Some(reach.system_user.to_owned());
    let request = SessionRequest { command: shell(DUMP), user, environment, ..SessionRequest::default() };
    let mut session = site.engine.exec_session(site.container, request).await?;
    let mut target = private(file).await.map_err(fail)?;
    let (mut said, mut head, mut was_in_time) = (Vec::new(), Vec::new(), true);
    loop {
        let piece = if held.is_some() {
            // Cancel-safe: a piece that has not come yet comes to the next turn.
            match tokio::time::timeout_at(until, session.output.next()).await {
                Ok(piece) => piece,
                Err(_) => {
                    was_in_time = false;
                    let_go(held).await;
                    continue;
                }
            }
        } else {
            session.output.next().await
        };
        let Some(piece) = piece else { break };
        match piece? {
            (ExecStream::Stdout, content) => {
                if held.is_some() {
                    head.extend_from_slice(&content);
                    let text = String::from_utf8_lossy(&head);
                    if head.len() > HEAD || BEGUN.iter().any(|words| text.contains(words)) {
                        let_go(held).await;
                    }
                }
                target.write_all(&content).await.map_err(fail)?;
            }
            (ExecStream::Stderr, content) => said.extend_from_slice(&content),
        }
    }
    target.sync_all().await.map_err(fail)?;
    let code = session.exit_code.await?;
    let said = String::from_utf8_lossy(&said).into_owned();
    if code != 0 || !said.lines().any(|line| line == "+dumped") {
        return Err(BackupError::refused(format!("dump the database `{database}`"), words(&said)));
    }
    Ok(was_in_time)
}

/// Lets writers go on.
async fn let_go(held: &mut Option<Session>) {
    if let Some(mut holder) = held.take() {
        // Where that cannot be said, the connection's end says it.
        holder.run("UNLOCK TABLES").await.ok();
        holder.close().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rows_of_a_dump_are_counted_by_its_lines() {
        let dump = "CREATE TABLE `a` (\n  `id` int\n);\nINSERT INTO `a` VALUES\n(1,'x\\n('),\n(2,'y');\nINSERT INTO `b` VALUES (1);\nINSERT INTO `a` VALUES\n(3,'z');\n";
        assert_eq!(rows_in(dump.as_bytes()).unwrap(), [("a".to_owned(), 3), ("b".to_owned(), 1)].into());
    }
}
