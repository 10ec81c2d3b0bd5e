//! PostgreSQL: `pg_dump` and `pg_restore` in the server's own container, over its socket.
//!
//! One session of psql exports a snapshot, makes pg_dump use it, and counts in it, so the counts are those of the dump. A
//! restored database is made beside the one in use, counted there, and replaces it by two renamings ([`super::exchange`]).
//!
//! A script continues in the container when its daemon is killed: one that got only a part of its input ends before it creates
//! anything.

mod scripts;

use std::{
    io::Cursor,
    path::Path,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use bytes::Bytes;
use devenv_api::Content;
use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;

use devenv_engine::{Engine, ExecInput, ExecRequest, ExecStream, SessionRequest};
use devenv_spec::ServiceSpec;

use self::scripts::{COUNT, DUMP, FILL, KEEP_LEDGER, MAKE, PARTS, PLAIN, RESTORE_OWN};
use super::{PostgresKind, access, browse, exchange::leftovers, provision::identifier, spec::PostgresProvision};
use crate::{
    backup::{BackupError, former_name, printed, private, staged_name},
    capability::{Arrived, Backups, Dumped, DumpedFile, Restores, ServerSite, Staged, StagedRestore, Way},
};

/// The container's own server, or another one that its tools can reach.
pub(super) struct Server<'a> {
    pub(super) engine: &'a dyn Engine,
    pub(super) container: &'a str,
    /// How psql reaches the server, and its password: as variables, which no list of processes shows.
    pub(super) variables: Vec<(String, String)>,
    /// As whom the tools run in the container.
    pub(super) system_user: &'static str,
}

/// The application name of all sessions.
pub(super) const APPLICATION: &str = "devenv backup";

/// How a dump is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dump {
    /// From this same service: owners, rights and the ledger are in it.
    Own,
    /// From elsewhere: everything becomes the owner's, and the database keeps its own ledger.
    Foreign,
}

#[async_trait]
impl Backups for PostgresKind {
    fn way(&self, _: &ServiceSpec) -> Way {
        Way::Dump
    }

    async fn dump(&self, site: &ServerSite<'_>, directory: &Path) -> Result<Dumped, BackupError> {
        let (service, server) = (&site.service.name, Server::own(site.engine, site.container));
        let mut dumped = Dumped::default();
        let roles = format!("{service}.roles.sql");
        let file = directory.join(&roles);
        let failed = |source| BackupError::File { action: "write", path: file.clone(), source };
        let mut target = private(&file).await.map_err(failed)?;
        target.write_all(&server.roles().await?).await.map_err(failed)?;
        target.sync_all().await.map_err(failed)?;
        dumped.files.push(DumpedFile { name: roles, database: None });
        for database in declared(site)?.databases {
            let name = format!("{service}.{}.dump", database.name.replace('/', "_"));
            dumped.contents.extend(server.dump(&database.name, Dump::Own, &directory.join(&name)).await?);
            dumped.files.push(DumpedFile { name, database: Some(database.name) });
        }
        Ok(dumped)
    }

    fn restores(&self) -> Option<Restores<'_>> {
        Some(Restores::Staged(self))
    }
}

#[async_trait]
impl StagedRestore for PostgresKind {
    async fn prepare(&self, site: &ServerSite<'_>, databases: &[String]) -> Result<(), BackupError> {
        Server::own(site.engine, site.container).drop_all(databases.iter().flat_map(|name| leftovers(name))).await
    }

    async fn stage(&self, site: &ServerSite<'_>, part: &Staged) -> Result<Arrived, BackupError> {
        let server = Server::own(site.engine, site.container);
        let failed = |source| BackupError::File { action: "read", path: part.file.clone(), source };
        let Some(database) = &part.database else {
            server.make_roles(&tokio::fs::read_to_string(&part.file).await.map_err(failed)?).await?;
            return Ok(Arrived::default());
        };
        let (file, size) = devenv_files::TimedFile::open(&part.file).await.map_err(failed)?;
        let dump: ExecInput = Arc::new(Mutex::new(Some(Box::pin(file))));
        let target = Target::of(site, database)?;
        if part.own { server.restore_own(&target, (dump, size)).await } else { server.restore_foreign(&target, (dump, size)).await }
    }

    async fn interrupt(&self, site: &ServerSite<'_>, databases: &[String]) -> bool {
        // One that cannot be ended now is ended by the next call, or by the revert, which reports the error.
        let _ = Server::own(site.engine, site.container).end_scripts(databases).await;
        true
    }

    async fn swap(&self, site: &ServerSite<'_>, databases: &[String]) -> Result<(), BackupError> {
        Server::own(site.engine, site.container).swap(databases).await
    }

    async fn revert(&self, site: &ServerSite<'_>, databases: &[String]) -> Result<(), BackupError> {
        let server = Server::own(site.engine, site.container);
        server.end_scripts(databases).await?;
        server.swap_back(databases).await?;
        server.drop_all(databases.iter().map(|name| staged_name(name))).await
    }

    async fn conclude(&self, site: &ServerSite<'_>, databases: &[String]) -> Result<(), BackupError> {
        Server::own(site.engine, site.container).drop_all(databases.iter().map(|name| former_name(name))).await
    }
}

fn declared(site: &ServerSite<'_>) -> Result<PostgresProvision, BackupError> {
    let found = PostgresProvision::of(site.service);
    found.ok_or_else(|| BackupError::refused("look at the service", format!("`{}` declares no database", site.service.name)))
}

impl<'a> Server<'a> {
    /// The container's own server, whose socket knows its own system user as the superuser.
    pub(super) fn own(engine: &'a dyn Engine, container: &'a str) -> Self {
        let variables = [("PGHOST", "/var/run/postgresql"), ("PGUSER", "postgres"), ("PGDATABASE", "postgres"), ("PGAPPNAME", APPLICATION)];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        Self { engine, container, variables, system_user: access::system_user(access::SUPERUSER) }
    }

    /// Writes a dump of the database to the file. Returns its contents.
    pub(super) async fn dump(&self, database: &str, kind: Dump, file: &Path) -> Result<Vec<Content>, BackupError> {
        let fail = |source| BackupError::File { action: "write", path: file.to_owned(), source };
        let without = if kind == Dump::Foreign { " --exclude-schema=devenv" } else { "" };
        let sql = format!(
            "{PLAIN}BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\nSELECT pg_export_snapshot() AS snapshot \\gset\n\\setenv DEVENV_SNAPSHOT :snapshot\n\
             \\! pg_dump -Fc -Z 1 --no-password --snapshot=\"$DEVENV_SNAPSHOT\"{without} </dev/null && echo '+dumped' >&2\n\\o | cat >&2\n{COUNT}\nCOMMIT;\n"
        );
        let mut environment = self.variables.clone();
        environment.retain(|(name, _)| name != "PGDATABASE");
        environment.push(("PGDATABASE".to_owned(), database.to_owned()));
        environment.push(("DEVENV_SQL".to_owned(), sql));
        let request =
            SessionRequest { command: shell(DUMP), user: Some(self.system_user.to_owned()), environment, ..SessionRequest::default() };
        let mut session = self.engine.exec_session(self.container, request).await?;
        let mut target = private(file).await.map_err(fail)?;
        let mut said = Vec::new();
        while let Some(piece) = session.output.next().await {
            match piece? {
                (ExecStream::Stdout, content) => target.write_all(&content).await.map_err(fail)?,
                (ExecStream::Stderr, content) => said.extend_from_slice(&content),
            }
        }
        target.sync_all().await.map_err(fail)?;
        let code = session.exit_code.await?;
        let said = String::from_utf8_lossy(&said).into_owned();
        if code != 0 || !said.lines().any(|line| line == "+dumped") {
            return Err(BackupError::refused(format!("dump the database `{database}`"), words(&said)));
        }
        Ok(counted(database, &said, '='))
    }

    /// Makes a database beside the one of that name from a dump of this service, whose size is given, and counts what is in it.
    async fn restore_own(&self, target: &Target, (dump, size): (ExecInput, u64)) -> Result<Arrived, BackupError> {
        let mut environment = self.variables.clone();
        environment.extend(target.variables());
        environment.push(("DEVENV_SIZE".to_owned(), size.to_string()));
        // Where the dump is SQL text, its owner runs it.
        environment.push(("PGPASSWORD".to_owned(), target.password.clone()));
        let said = self.work(RESTORE_OWN, self.system_user, environment, Some(dump), target).await?;
        Ok(target.arrived(&said))
    }

    /// The same from a dump that comes from elsewhere.
    async fn restore_foreign(&self, target: &Target, (dump, size): (ExecInput, u64)) -> Result<Arrived, BackupError> {
        let mut environment = self.variables.clone();
        environment.extend(target.variables());
        self.work(MAKE, self.system_user, environment.clone(), None, target).await?;
        let mut owners = environment.clone();
        owners.retain(|(name, _)| name != "PGUSER");
        owners.extend([("PGUSER".to_owned(), target.owner.clone()), ("PGPASSWORD".to_owned(), target.password.clone())]);
        owners.push(("DEVENV_SIZE".to_owned(), size.to_string()));
        let said = self.work(FILL, access::system_user(&target.owner), owners, Some(dump), target).await?;
        self.work(KEEP_LEDGER, self.system_user, environment, None, target).await?;
        Ok(target.arrived(&said))
    }

    /// What it wrote to its output.
    async fn work(
        &self,
        script: &str,
        system_user: &str,
        environment: Vec<(String, String)>,
        input: Option<ExecInput>,
        target: &Target,
    ) -> Result<String, BackupError> {
        let command = shell(&format!("{PARTS}{script}"));
        let request = ExecRequest { command, user: Some(system_user.to_owned()), environment, input, ..ExecRequest::default() };
        let output = self.engine.exec(self.container, request).await?;
        if output.code == 0 {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let reason = words(&String::from_utf8_lossy(&output.stderr));
        Err(BackupError::refused(format!("restore the database `{}`", target.database), reason))
    }

    /// The roles that scripts have created, without their passwords.
    pub(super) async fn roles(&self) -> Result<Bytes, BackupError> {
        let command = ["pg_dumpall", "--roles-only", "--no-role-passwords", "--no-password"].map(str::to_owned).into();
        let request =
            ExecRequest { command, user: Some(self.system_user.to_owned()), environment: self.variables.clone(), ..ExecRequest::default() };
        let output = self.engine.exec(self.container, request).await?;
        if output.code == 0 {
            Ok(browse::without_role(&output.stdout))
        } else {
            Err(BackupError::refused("dump the roles", words(&String::from_utf8_lossy(&output.stderr))))
        }
    }

    /// Creates the missing roles.
    pub(super) async fn make_roles(&self, script: &str) -> Result<(), BackupError> {
        let missing: String = script
            .lines()
            .filter(|line| line.starts_with("CREATE ROLE ") || line.starts_with("GRANT "))
            .fold(String::new(), |all, line| all + line + "\n");
        // Existing roles are refused, which is fine; a still missing role is reported by the restore itself.
        self.command(&missing, "0").await.map(drop)
    }

    pub(super) async fn say(&self, sql: &str) -> Result<(), BackupError> {
        self.command(sql, "1").await
    }

    async fn command(&self, sql: &str, stop: &str) -> Result<(), BackupError> {
        let command = ["psql", "-X", "-q", "--no-password", "-v", &format!("ON_ERROR_STOP={stop}"), "-d", "postgres", "-f", "-"]
            .map(str::to_owned)
            .into();
        let request = ExecRequest {
            command,
            user: Some(self.system_user.to_owned()),
            environment: self.variables.clone(),
            input: Some(input(sql.as_bytes().to_vec())),
            ..ExecRequest::default()
        };
        let output = self.engine.exec(self.container, request).await?;
        if output.code == 0 {
            Ok(())
        } else {
            Err(BackupError::refused("run a statement", words(&String::from_utf8_lossy(&output.stderr))))
        }
    }
}

/// A database that a dump is restored for.
struct Target {
    database: String,
    owner: String,
    password: String,
    /// Statements that create what the profile wants in it.
    extensions: String,
}

impl Target {
    fn of(site: &ServerSite<'_>, database: &str) -> Result<Self, BackupError> {
        let provision = declared(site)?;
        let Some(found) = provision.databases.iter().find(|known| known.name == database) else {
            return Err(BackupError::refused(format!("restore `{database}`"), "the profile declares no such database"));
        };
        let role = provision.roles.iter().find(|role| role.name == found.owner);
        let password = site.vault.reveal(role.map_or(&provision.password, |role| &role.password))?;
        let extensions =
            found.extensions.iter().map(|extension| format!("CREATE EXTENSION IF NOT EXISTS {};\n", identifier(&extension.name)));
        Ok(Self { database: database.to_owned(), owner: found.owner.clone(), password, extensions: extensions.collect() })
    }

    fn variables(&self) -> [(String, String); 5] {
        [
            ("DEVENV_DATABASE", self.database.clone()),
            ("DEVENV_NEW", staged_name(&self.database)),
            ("DEVENV_OWNER", self.owner.clone()),
            ("DEVENV_EXTENSIONS", self.extensions.clone()),
            ("DEVENV_SQL", format!("{PLAIN}{COUNT}")),
        ]
        .map(|(name, value)| (name.to_owned(), value))
    }

    fn arrived(&self, said: &str) -> Arrived {
        let (contents, mut promised) = (counted(&self.database, said, '='), counted(&self.database, said, '~'));
        // Rows of other statements, such as INSERT, are not counted in the dump: there is nothing to compare them with.
        let is_uncounted = |content: &&Content| !promised.iter().any(|one| one.name == content.name);
        let uncounted: Vec<Content> = contents.iter().filter(is_uncounted).cloned().collect();
        promised.extend(uncounted);
        Arrived { contents, promised }
    }
}

fn input(bytes: Vec<u8>) -> ExecInput {
    Arc::new(Mutex::new(Some(Box::pin(Cursor::new(bytes)))))
}

pub(super) fn shell(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(str::to_owned).into()
}

/// Lines of `=schema.table`, rows and checksum, separated from other output.
fn counted(database: &str, said: &str, mark: char) -> Vec<Content> {
    let mut found: Vec<Content> = said
        .lines()
        .filter_map(|line| {
            let mut parts = line.strip_prefix(mark)?.split('\t');
            let (name, rows) = (parts.next()?, parts.next()?.trim().parse().ok()?);
            Some(Content { name: format!("{database}/{name}"), rows, checksum: parts.next().map(str::to_owned) })
        })
        .collect();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// The output of the tools, without our own lines.
pub(super) fn words(said: &str) -> String {
    printed(said, &['=', '~', '+'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_a_dump_does_not_count_are_no_difference() {
        let target = Target { database: "db".into(), owner: "db".into(), password: String::new(), extensions: String::new() };
        let Arrived { contents, promised } = target.arrived("~public.copied\t3\n=public.copied\t2\t7\n=public.inserted\t2\t9\n");
        let differences = crate::backup::compare("db", &promised, &contents).differences;
        assert_eq!(differences, ["db/public.copied has 2 rows instead of 3"]);
    }

    #[test]
    fn counts_are_read_from_between_other_words() {
        let said = "pg_dump: warning: x\n+dumped\n=public.item\t3\t123\n=public.\"Odd name\"\t0\t0\n~public.item\t3\n";
        let contents = counted("app", said, '=');
        assert_eq!(
            contents.iter().map(|content| (content.name.as_str(), content.rows)).collect::<Vec<_>>(),
            [("app/public.\"Odd name\"", 0), ("app/public.item", 3)]
        );
        assert_eq!(counted("app", said, '~')[0].checksum, None);
        assert_eq!(words(said), "pg_dump: warning: x");
    }
}
