//! Swaps databases: by renaming, all of a server's in one transaction, and back.
//!
//! The old database keeps its new name until the restore is final, so that a revert is two renamings as well.
//! A script continues in the container when its daemon is killed. So a revert ends the scripts that make databases, each renaming
//! holds a lock of the server, and a revert checks the state only with that lock.

use devenv_engine::ExecRequest;

use super::{
    backup::{APPLICATION, Server, shell, words},
    provision::{identifier, literal},
};
use crate::backup::{BackupError, former_name, staged_name};

/// Clients may reconnect between the end of their sessions and the renaming: then it is tried again.
const RENAME: &str = r#"set -u
run() { psql -X -q -v ON_ERROR_STOP=1 --no-password -d postgres -o /dev/null -f -; }
code=1
printf '%s' "$DEVENV_CLOSE" | run && for attempt in 1 2 3 4 5 6 7 8 9 10; do
  if printf '%s' "$DEVENV_RENAME" | run; then code=0; break; fi
done
printf '%s' "$DEVENV_OPEN" | run || code=1
exit "$code"
"#;

/// Ends the scripts that make these databases, by ending what they run, and waits for them. The shells themselves are spared: a server
/// that is the first process of its container would inherit their children, and take the end of one for a crash of its own. The names
/// are arguments, so that the script does not find itself.
const END_SCRIPTS: &str = r#"attempt=0
while [ "$attempt" -lt 30 ]; do
  attempt=$((attempt + 1))
  found=
  for process in /proc/[0-9]*; do
    for name; do
      tr '\0' '\n' < "$process/environ" 2> /dev/null | grep -Fxq "DEVENV_NEW=$name" || continue
      found=1
      [ "$(cat "$process/comm" 2> /dev/null)" = sh ] || kill "${process#/proc/}" 2> /dev/null || true
    done
  done
  [ -n "$found" ] || exit 0
  sleep 0.1
done
echo 'a script of a former restore does not end' >&2
exit 1
"#;

/// The advisory lock of every session that renames databases.
const LOCK: &str = "SELECT pg_advisory_lock(7236547280149);\n";

/// Databases that a restore may have left, including the names of former versions. Those were truncated to 63
/// bytes, where they may equal the name of a database in use.
pub(super) fn leftovers(database: &str) -> Vec<String> {
    let before = ["restored", "former"].map(|what| format!("{database} devenv {what}"));
    before.into_iter().filter(|name| name.len() <= 63).chain([staged_name(database), former_name(database)]).collect()
}

impl Server<'_> {
    /// All of them, or none.
    pub(super) async fn swap(&self, databases: &[String]) -> Result<(), BackupError> {
        let each = |statement: &dyn Fn(&str) -> String| databases.iter().map(|name| statement(name)).collect::<String>();
        let names = databases.iter().map(|name| literal(name)).collect::<Vec<_>>().join(", ");
        let renamings = each(&|name| {
            let (used, new, old) = (identifier(name), identifier(&staged_name(name)), identifier(&former_name(name)));
            format!("ALTER DATABASE {used} RENAME TO {old}; ALTER DATABASE {new} RENAME TO {used};\n")
        });
        let close = each(&|name| format!("ALTER DATABASE {} CONNECTION LIMIT 0;\n", identifier(name)));
        let rename = format!("{LOCK}{}BEGIN;\n{renamings}COMMIT;\n", end_sessions(&names));
        let open = each(&|name| format!("ALTER DATABASE {} CONNECTION LIMIT -1;\n", identifier(name)));
        let named = databases.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        self.rename(close, rename, open, format!("put the restored data in the place of {named}")).await
    }

    /// If nothing was swapped, it only lets clients connect.
    pub(super) async fn swap_back(&self, databases: &[String]) -> Result<(), BackupError> {
        let exists = |name: &str| format!("EXISTS (SELECT FROM pg_database WHERE datname = {})", literal(name));
        let (mut close, mut renamings, mut open) = (LOCK.to_owned(), String::new(), String::new());
        for name in databases {
            let (staged, former) = (staged_name(name), former_name(name));
            let (was_swapped, is_there) = (exists(&former), exists(name));
            let rename = |from: &str, to: &str| format!("ALTER DATABASE {} RENAME TO {}", identifier(from), identifier(to));
            let if_so = |statement: &str, condition: &str| format!("SELECT {} WHERE {condition} \\gexec\n", literal(statement));
            let limit = |connections: i8| format!("ALTER DATABASE {} CONNECTION LIMIT {connections}", identifier(name));
            let both = format!("{was_swapped} AND {is_there}");
            close.push_str(&if_so(&limit(0), &both));
            renamings.push_str(&if_so(&rename(name, &staged), &both));
            renamings.push_str(&if_so(&rename(&former, name), &was_swapped));
            open.push_str(&if_so(&limit(-1), &is_there));
        }
        let names = |name_of: &dyn Fn(&str) -> String| databases.iter().map(|name| literal(&name_of(name))).collect::<Vec<_>>().join(", ");
        let formers = names(&former_name);
        let ended = format!(
            "SELECT count(*) > 0 AS swapped FROM pg_database WHERE datname IN ({formers}) \\gset\n\\if :swapped\n{}\\endif\n",
            end_sessions(&format!("{}, {formers}", names(&str::to_owned)))
        );
        let rename = format!("{LOCK}{ended}BEGIN;\n{renamings}COMMIT;\n");
        let named = databases.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        self.rename(close, rename, open, format!("put the former data of {named} back")).await
    }

    async fn rename(&self, close: String, rename: String, open: String, action: String) -> Result<(), BackupError> {
        let mut environment = self.variables.clone();
        let steps = [("DEVENV_CLOSE", close), ("DEVENV_RENAME", rename), ("DEVENV_OPEN", open)];
        environment.extend(steps.map(|(name, sql)| (name.to_owned(), sql)));
        let request =
            ExecRequest { command: shell(RENAME), user: Some(self.system_user.to_owned()), environment, ..ExecRequest::default() };
        let output = self.engine.exec(self.container, request).await?;
        if output.code == 0 { Ok(()) } else { Err(BackupError::refused(action, words(&String::from_utf8_lossy(&output.stderr)))) }
    }

    /// Ends what a killed daemon left at work on these databases: it would make them after they are dropped.
    pub(super) async fn end_scripts(&self, databases: &[String]) -> Result<(), BackupError> {
        let names = databases.iter().map(|name| staged_name(name));
        let command = shell(END_SCRIPTS).into_iter().chain(["end-scripts".to_owned()]).chain(names).collect();
        let request = ExecRequest { command, user: Some(self.system_user.to_owned()), ..ExecRequest::default() };
        let output = self.engine.exec(self.container, request).await?;
        if output.code != 0 {
            return Err(BackupError::refused("end the scripts of a restore", words(&String::from_utf8_lossy(&output.stderr))));
        }
        // A server goes on with a statement whose client is gone.
        self.say(&format!(
            "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE application_name = {} AND pid <> pg_backend_pid() \\g /dev/null\n",
            literal(APPLICATION)
        ))
        .await
    }

    pub(super) async fn drop_all(&self, databases: impl Iterator<Item = String>) -> Result<(), BackupError> {
        let sql: String = databases.map(|name| format!("DROP DATABASE IF EXISTS {} WITH (FORCE);\n", identifier(&name))).collect();
        self.say(&format!("SET client_min_messages = warning;\n{sql}")).await
    }
}

fn end_sessions(names: &str) -> String {
    format!("SELECT count(pg_terminate_backend(pid, 2000)) FROM pg_stat_activity WHERE datname IN ({names}) AND pid <> pg_backend_pid();\n")
}

#[cfg(all(test, feature = "docker-tests"))]
mod tests {
    use std::path::Path;

    use devenv_profile::testing::given;
    use devenv_secrets::Vault;
    use devenv_spec::ServiceSpec;
    use serde_json::json;

    use crate::{
        capability::{Backups, Dumped, ServerSite, Staged, StagedRestore},
        postgres::PostgresKind,
        script::testing::{self, engine},
    };

    struct Case {
        server: testing::Server,
        service: ServiceSpec,
        vault: Vault,
        databases: Vec<String>,
        place: tempfile::TempDir,
    }

    impl Case {
        fn new() -> Self {
            // The longest name that PostgreSQL allows.
            let databases = vec!["app".to_owned(), "n".repeat(63)];
            let declared = json!({ "postgres": { "databases": { "app": { "owner": "app" }, &databases[1]: { "owner": "app" } } } });
            let service = given("db", declared).spec().services["db"].clone();
            let place = tempfile::tempdir().unwrap();
            let vault = Vault::new(place.path().join(".secrets"));
            let server = testing::Server::postgres("secret");
            let owner = vault.reveal(&devenv_spec::SecretRef::new("db", "app")).unwrap();
            server.psql("postgres", &format!("create role app login password '{owner}'"));
            for database in &databases {
                server.psql("postgres", &format!("create database \"{database}\" owner app"));
                server.psql(database, "create table item (id int); insert into item values (1)");
            }
            Self { server, service, vault, databases, place }
        }

        async fn site(&self) -> ServerSite<'_> {
            let authority = Path::new("/nonexistent");
            ServerSite { service: &self.service, engine: engine().await, container: &self.server.id, vault: &self.vault, authority }
        }

        fn rows(&self) -> Vec<String> {
            self.databases.iter().map(|database| self.server.psql(database, "select count(*) from item")).collect()
        }

        fn add_rows(&self) {
            for database in &self.databases {
                self.server.psql(database, "insert into item values (2)");
            }
        }

        /// All databases, and how many of them refuse connections.
        fn known(&self) -> String {
            self.server.psql("postgres", "select count(*) || ' ' || count(*) filter (where datconnlimit = 0) from pg_database")
        }

        async fn stage(&self, dumped: &Dumped) {
            PostgresKind.prepare(&self.site().await, &self.databases).await.unwrap();
            for file in &dumped.files {
                let part = Staged { database: file.database.clone(), file: self.place.path().join(&file.name), own: true };
                PostgresKind.stage(&self.site().await, &part).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn databases_take_their_place_and_go_back_to_it_together() {
        let case = Case::new();
        let site = case.site().await;
        let dumped = PostgresKind.dump(&site, case.place.path()).await.unwrap();
        case.add_rows();
        let known = case.known();
        for is_swapped in [false, true] {
            case.stage(&dumped).await;
            assert_eq!(case.rows(), ["2", "2"], "what is in use is not touched");
            if is_swapped {
                PostgresKind.swap(&site, &case.databases).await.unwrap();
                assert_eq!(case.rows(), ["1", "1"]);
            }
            // The next daemon may repeat it.
            for _ in 0..2 {
                PostgresKind.revert(&site, &case.databases).await.unwrap();
                assert_eq!((case.rows(), case.known()), (vec!["2".to_owned(); 2], known.clone()));
            }
        }
        case.stage(&dumped).await;
        PostgresKind.swap(&site, &case.databases).await.unwrap();
        for _ in 0..2 {
            PostgresKind.conclude(&site, &case.databases).await.unwrap();
            assert_eq!((case.rows(), case.known()), (vec!["1".to_owned(); 2], known.clone()));
        }
    }

    /// The daemon was killed when its script had everything that it needs.
    #[tokio::test]
    async fn a_script_that_is_still_at_work_makes_nothing_after_the_revert() {
        let case = Case::new();
        let site = case.site().await;
        let known = case.known();
        let name = super::staged_name("app");
        let script = "echo started > /tmp/started; sleep 2; psql -X -h /var/run/postgresql -U postgres -d postgres -c \"CREATE DATABASE \\\"$DEVENV_NEW\\\"\"; echo ended > /tmp/ended";
        let variable = format!("DEVENV_NEW={name}");
        let command = ["exec", "-d", "-u", "postgres", "-e", &variable, &case.server.id, "sh", "-c", script];
        assert!(std::process::Command::new("docker").args(command).status().unwrap().success());
        let has = |file: &str| {
            std::process::Command::new("docker").args(["exec", &case.server.id, "test", "-e", file]).status().unwrap().success()
        };
        case.server.until(|| has("/tmp/started"));
        PostgresKind.revert(&site, &case.databases).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        assert_eq!((case.known(), has("/tmp/ended")), (known, true), "its shell was not killed");
    }

    #[tokio::test]
    async fn no_part_is_put_in_place_if_one_fails() {
        let case = Case::new();
        let site = case.site().await;
        let dumped = PostgresKind.dump(&site, case.place.path()).await.unwrap();
        case.add_rows();
        let known = case.known();
        case.stage(&dumped).await;
        case.server.psql("postgres", &format!("drop database \"{}\"", super::staged_name(&case.databases[1])));
        PostgresKind.swap(&site, &case.databases).await.unwrap_err();
        assert_eq!(case.rows(), ["2", "2"]);
        PostgresKind.revert(&site, &case.databases).await.unwrap();
        assert_eq!((case.rows(), case.known()), (vec!["2".to_owned(); 2], known));
    }
    #[tokio::test]
    async fn a_dump_from_elsewhere_never_becomes_the_superuser() {
        let case = Case::new();
        let site = case.site().await;
        let file = case.place.path().join("evil.sql");
        let grant = "ALTER ROLE app SUPERUSER";
        // The check before it does not see what a variable holds.
        for text in [
            format!("\\set x '\\\\! psql -w -U postgres -c \"{grant}\"'\n:x\nCREATE TABLE arrived (x int);\n"),
            format!("\\set x '\\\\c - postgres'\n:x\n{grant};\n"),
        ] {
            std::fs::write(&file, &text).unwrap();
            let part = Staged { database: Some("app".to_owned()), file: file.clone(), own: false };
            PostgresKind.prepare(&site, &case.databases).await.unwrap();
            let staged = PostgresKind.stage(&site, &part).await;
            assert_eq!(staged.is_ok(), text.contains("arrived"), "{staged:?}");
            assert_eq!(case.server.psql("postgres", "select rolsuper from pg_roles where rolname = 'app'"), "f", "{text}");
        }
        std::fs::write(&file, "CREATE TABLE item (id int);\nCOPY item (id) FROM stdin;\n1\n2\n\\.\n").unwrap();
        let part = Staged { database: Some("app".to_owned()), file, own: false };
        let arrived = PostgresKind.stage(&site, &part).await.unwrap();
        assert_eq!(arrived.contents.iter().map(|content| content.rows).collect::<Vec<_>>(), [2]);
        PostgresKind.swap(&site, &case.databases[..1]).await.unwrap();
        assert_eq!(
            case.server.psql("app", "select tableowner || ' ' || (select count(*) from item) from pg_tables where tablename = 'item'"),
            "app 2"
        );
    }
}
