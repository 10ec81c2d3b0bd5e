//! Backups of MariaDB: dumps ([`dump`](super::dump)), and databases that are restored from them.
//!
//! A restored database is made beside the one in use, counted there, and exchanged with it ([`swap`]). The commands that make
//! it run in the container, and go on there if the restore is cancelled or its daemon dies: they are ended before anything else is
//! done with a database of that name.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use devenv_api::Content;
use devenv_engine::{ExecInput, ExecRequest};
use devenv_spec::ServiceSpec;
use mysql_async::Error;

use super::{
    MariadbKind,
    blueprint::{Blueprint, Table},
    dump::dump,
    ledger,
    provision::{grant, superuser},
    scripts::client_tls,
    session::{Session, identifier, literal, reason},
    spec::{MariadbDatabase, MariadbProvision},
    swap,
};
use crate::{
    backup::{BackupError, printed, staged_name},
    capability::{Arrived, Backups, Dumped, DumpedFile, Restores, ServerSite, Staged, StagedRestore, Way},
    script::NOBODY,
};

/// What a login file of the tools says; passwords stand in no argument.
const LOGIN: &str = r#"set -eu
umask 077
d=$(mktemp -d /tmp/devenv.XXXXXX)
trap 'rm -rf "$d"' EXIT
printf '[client]\nprotocol=tcp\nhost=%s\nport=%s\nuser="%s"\npassword="%s"\n%s\n' "$DEVENV_HOST" "$DEVENV_PORT" "$DEVENV_USER" "$DEVENV_PASSWORD" "$DEVENV_TLS" > "$d/login.cnf"
unset DEVENV_PASSWORD
"#;

/// What comes from elsewhere runs as the owner, in this database: who defined a view or a trigger there is nobody here. The
/// first line keeps the client from running commands of the shell.
const RESTORE: &str = r#"
cat > "$d/dump"
if gzip -t "$d/dump" 2>/dev/null; then gzip -d < "$d/dump" > "$d/plain"; mv "$d/plain" "$d/dump"; fi
awk '/^INSERT INTO `/{t=$0;sub(/^INSERT INTO `/,"",t);sub(/`.*/,"",t);n[t]+=0;if($0~/VALUES \(/)n[t]++} /^\(/{n[t]++} END{for(t in n)printf "~%s\t%d\n",t,n[t]}' "$d/dump"
if [ -n "$DEVENV_DEFINER" ]; then
  sed -E -e '/^(CREATE DATABASE|USE `|\/\*![0-9]+ DROP DATABASE|SET @@(GLOBAL|SESSION)\.(GTID|SQL_LOG_BIN))/d' \
    -e "/^(\/\*![0-9]|CREATE )/ s|DEFINER=\`[^\`]*\`@\`[^\`]*\`|DEFINER=$DEVENV_DEFINER|g" "$d/dump" > "$d/plain"
  mv "$d/plain" "$d/dump"
fi
{ printf '%s\n' '/*M!999999\- enable the sandbox mode */'; cat "$d/dump"; } |
  mariadb --defaults-file="$d/login.cnf" --batch --default-character-set=utf8mb4 --max-allowed-packet=1G "$DEVENV_DATABASE" > /dev/null
echo '+restored' >&2
"#;

/// Ends the processes that were started for this database: it is one of their arguments. It is not one of this script's. They
/// cannot start others meanwhile that a later turn does not find.
const END: &str = r#"
end() {
  left=0
  for process in /proc/[0-9]*; do
    words=$(tr '\0' '\n' < "$process/cmdline" 2>/dev/null)
    case "
$words
" in *"
$DEVENV_DATABASE
"*) kill -KILL "${process#/proc/}" 2>/dev/null; left=1;; esac
  done
  return $left
}
for turn in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
  end && exit 0
  sleep 0.1
done
echo 'processes of an earlier restore do not end' >&2
exit 1
"#;

/// Where the container's tools find a server, and as whom.
pub(super) struct Reach {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: String,
    pub(super) tls: &'static str,
    /// As whom the tools run in the container: what comes from elsewhere has nothing there.
    pub(super) system_user: &'static str,
}

#[async_trait]
impl Backups for MariadbKind {
    fn way(&self, _: &ServiceSpec) -> Way {
        Way::Dump
    }

    async fn dump(&self, site: &ServerSite<'_>, directory: &Path) -> Result<Dumped, BackupError> {
        let mut dumped = Dumped::default();
        for database in declared(site)?.databases {
            let name = format!("{}.{}.sql", site.service.name, database.name.replace('/', "_"));
            dumped.contents.extend(dump(site, &database.name, true, &directory.join(&name)).await?);
            dumped.files.push(DumpedFile { name, database: Some(database.name) });
        }
        Ok(dumped)
    }

    fn restores(&self) -> Option<Restores<'_>> {
        Some(Restores::Staged(self))
    }
}

#[async_trait]
impl StagedRestore for MariadbKind {
    async fn stage(&self, site: &ServerSite<'_>, part: &Staged) -> Result<Arrived, BackupError> {
        let Some(name) = &part.database else { return Ok(Arrived::default()) };
        let provision = declared(site)?;
        let Some(database) = provision.databases.iter().find(|database| database.name == *name) else {
            return Err(BackupError::refused(format!("restore `{name}`"), "the profile declares no such database"));
        };
        stage(site, database, part).await
    }

    async fn interrupt(&self, site: &ServerSite<'_>, databases: &[String]) -> bool {
        if let Ok(mut session) = session(site).await {
            // One that cannot be ended now is ended by the next call, or by the revert, which reports the error.
            let _ = end_restores(site, &mut session, databases).await;
            session.close().await;
        }
        true
    }

    async fn prepare(&self, site: &ServerSite<'_>, databases: &[String]) -> Result<(), BackupError> {
        let mut session = session(site).await?;
        end_restores(site, &mut session, databases).await?;
        let prepared = swap::prepare(&mut session, databases).await;
        session.close().await;
        prepared.map_err(|error| refused("remove what an earlier restore has left", &error))
    }

    async fn swap(&self, site: &ServerSite<'_>, databases: &[String]) -> Result<(), BackupError> {
        let mut session = session(site).await?;
        let exchanged = swap::exchange(&mut session, databases).await;
        session.close().await;
        exchanged.map_err(|error| refused(&format!("replace {} with the restored data", named(databases)), &error))
    }

    async fn revert(&self, site: &ServerSite<'_>, databases: &[String]) -> Result<(), BackupError> {
        let mut session = session(site).await?;
        end_restores(site, &mut session, databases).await?;
        let reverted = swap::revert(&mut session, databases).await;
        session.close().await;
        reverted.map_err(|error| refused(&format!("put the former data of {} back", named(databases)), &error))
    }

    async fn conclude(&self, site: &ServerSite<'_>, databases: &[String]) -> Result<(), BackupError> {
        let mut session = session(site).await?;
        let concluded = swap::conclude(&mut session, databases).await;
        session.close().await;
        concluded.map_err(|error| refused(&format!("remove the former data of {}", named(databases)), &error))
    }
}

fn named(databases: &[String]) -> String {
    databases.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Ends what still works on a restored database that is not in use: the container's processes, then their sessions, whose last
/// statement would hold up everything else.
async fn end_restores(site: &ServerSite<'_>, session: &mut Session, databases: &[String]) -> Result<(), BackupError> {
    let action = "end an earlier restore";
    for name in databases.iter().map(|database| staged_name(database)) {
        let request = ExecRequest {
            command: ["sh", "-c", END].map(str::to_owned).into(),
            user: Some("0:0".to_owned()),
            environment: vec![("DEVENV_DATABASE".to_owned(), name.clone())],
            ..ExecRequest::default()
        };
        let output = site.engine.exec(site.container, request).await?;
        if output.code != 0 {
            return Err(BackupError::refused(action, words(&String::from_utf8_lossy(&output.stderr))));
        }
        let connected = format!("SELECT ID FROM information_schema.PROCESSLIST WHERE DB = {} AND ID <> CONNECTION_ID()", literal(&name));
        for id in session.rows(&connected).await.map_err(|error| refused(action, &error))?.into_iter().flatten().flatten() {
            // A session that ends by itself meanwhile is no failure.
            session.run(&format!("KILL {id}")).await.ok();
        }
    }
    Ok(())
}

async fn stage(site: &ServerSite<'_>, database: &MariadbDatabase, part: &Staged) -> Result<Arrived, BackupError> {
    let (name, new) = (&database.name, staged_name(&database.name));
    let action = format!("restore the database `{name}`");
    let failed = |error: Error| refused(&action, &error);
    let mut session = session(site).await?;
    let defaults = format!(
        "SELECT CONCAT(' CHARACTER SET ', DEFAULT_CHARACTER_SET_NAME, ' COLLATE ', DEFAULT_COLLATION_NAME) FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {}",
        literal(name)
    );
    let defaults = session.rows(&defaults).await.map_err(failed)?.into_iter().flatten().flatten().next().unwrap_or_default();
    let make = [
        format!("DROP DATABASE IF EXISTS {}", identifier(&new)),
        format!("CREATE DATABASE {}{defaults}", identifier(&new)),
        grant(&new, &database.owner),
    ];
    session.run_all(&make).await.map_err(failed)?;

    let mut reach = own_server(site)?;
    if !part.own {
        reach.user.clone_from(&database.owner);
        reach.password = site.vault.reveal(&database.password)?;
        reach.system_user = NOBODY;
    }
    let file = devenv_files::TimedFile::open(&part.file)
        .await
        .map_err(|source| BackupError::File { action: "read", path: part.file.clone(), source })?
        .0;
    let input: ExecInput = Arc::new(Mutex::new(Some(Box::pin(file))));
    let mut environment = reach.variables();
    environment.push(("DEVENV_DATABASE".to_owned(), new.clone()));
    let definer = if part.own { String::new() } else { format!("{}@`%`", identifier(&database.owner)) };
    environment.push(("DEVENV_DEFINER".to_owned(), definer));
    let user = Some(reach.system_user.to_owned());
    // The name is an argument of the shell and of the client, by which they are found.
    let command = shell(RESTORE).into_iter().chain([new.clone()]).collect();
    let request = ExecRequest { command, user, environment, input: Some(input), ..ExecRequest::default() };
    let output = site.engine.exec(site.container, request).await?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.code != 0 || !said.lines().any(|line| line == "+restored") {
        return Err(BackupError::refused(action, words(&said)));
    }
    let blueprint = Blueprint::read(&mut session, &new).await.map_err(failed)?;
    let contents = count(&mut session, &new, name, &blueprint.tables).await.map_err(failed)?;
    session.close().await;
    let promised = if part.own { Vec::new() } else { promised(name, &String::from_utf8_lossy(&output.stdout), &contents) };
    Ok(Arrived { contents, promised })
}

/// Rows and a checksum of each table, which does not depend on their order. `called`: the database's name for people.
pub(super) async fn count(session: &mut Session, database: &str, called: &str, tables: &[Table]) -> Result<Vec<Content>, Error> {
    let mut contents = Vec::new();
    for table in tables.iter().filter(|table| table.name != ledger::SCRIPTS) {
        let row = session.rows(&counting(database, table)).await?.into_iter().next().unwrap_or_default();
        let mut values = row.into_iter().flatten();
        let rows = values.next().and_then(|rows| rows.parse().ok()).unwrap_or_default();
        contents.push(Content { name: format!("{called}/{}", table.name), rows, checksum: values.next() });
    }
    Ok(contents)
}

fn counting(database: &str, table: &Table) -> String {
    let columns: Vec<String> =
        table.columns.iter().map(|column| format!("IFNULL(HEX(CAST({} AS BINARY)), 'N')", identifier(column))).collect();
    let digest = if columns.is_empty() { "''".to_owned() } else { format!("CONCAT_WS(',', {})", columns.join(", ")) };
    format!(
        "SELECT COUNT(*), COALESCE(SUM(CAST(CONV(LEFT(MD5({digest}), 15), 16, 10) AS UNSIGNED)), 0) FROM {}.{}",
        identifier(database),
        identifier(&table.name)
    )
}

/// What the dump's own text says, of the tables that are there: one that is named nowhere has no rows.
fn promised(database: &str, said: &str, arrived: &[Content]) -> Vec<Content> {
    let row_counts: BTreeMap<String, u64> = said
        .lines()
        .filter_map(|line| line.strip_prefix('~')?.split_once('\t'))
        .filter_map(|(table, rows)| Some((format!("{database}/{table}"), rows.parse().ok()?)))
        .collect();
    // Triggers of the dump come after its rows, so a count that differs is a loss.
    let of = |content: &Content| Content {
        name: content.name.clone(),
        rows: row_counts.get(&content.name).copied().unwrap_or(0),
        checksum: None,
    };
    arrived.iter().map(of).collect()
}

pub(super) fn declared(site: &ServerSite<'_>) -> Result<MariadbProvision, BackupError> {
    let found = MariadbProvision::of(site.service);
    found.ok_or_else(|| BackupError::refused("inspect the service", format!("`{}` declares no database", site.service.name)))
}

pub(super) async fn session(site: &ServerSite<'_>) -> Result<Session, BackupError> {
    let login = superuser(&declared(site)?.target(), site.vault, Some(site.authority.to_owned()), None)?;
    login.open().await.map_err(|error| refused("connect to MariaDB", &error))
}

/// The container's own server, as its superuser.
pub(super) fn own_server(site: &ServerSite<'_>) -> Result<Reach, BackupError> {
    let provision = declared(site)?;
    Ok(Reach {
        host: "127.0.0.1".to_owned(),
        port: super::fields::PORT,
        user: super::fields::SUPERUSER.to_owned(),
        password: site.vault.reveal(&provision.password)?,
        tls: client_tls(provision.tls),
        system_user: "0:0",
    })
}

impl Reach {
    pub(super) fn variables(&self) -> Vec<(String, String)> {
        [
            ("DEVENV_HOST", self.host.clone()),
            ("DEVENV_PORT", self.port.to_string()),
            ("DEVENV_USER", self.user.clone()),
            ("DEVENV_PASSWORD", self.password.replace('\\', "\\\\").replace('"', "\\\"")),
            ("DEVENV_TLS", self.tls.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }
}

pub(super) fn shell(script: &str) -> Vec<String> {
    vec!["sh".to_owned(), "-c".to_owned(), format!("{LOGIN}{script}")]
}

pub(super) fn refused(action: &str, error: &Error) -> BackupError {
    BackupError::refused(action, reason(error))
}

/// What the tools said, without our own lines.
pub(super) fn words(said: &str) -> String {
    printed(said, &['+'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_the_dump_names_nowhere_has_no_rows() {
        let content = |name: &str, rows| Content { name: name.to_owned(), rows, checksum: Some("1".to_owned()) };
        let promised = promised("app", "~a\t3\n~other\t9\n", &[content("app/a", 3), content("app/b", 1)]);
        let found: Vec<_> = promised.iter().map(|content| (content.name.as_str(), content.rows, content.checksum.as_deref())).collect();
        assert_eq!(found, [("app/a", 3, None), ("app/b", 0, None)]);
    }
}
