//! What the tests against real servers share: the engine of this machine, and containers that are removed after their test.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use devenv_api::LedgerEntry;

use super::{Choice, ScriptContext, ScriptError, recorded, view};
use devenv_engine::{
    Engine,
    docker::{self, Selection},
};
use devenv_spec::ScriptSet;

/// Applies scripts, and returns the whole ledger afterwards.
pub async fn apply(set: &ScriptSet, choice: Choice, cx: &ScriptContext<'_>) -> Result<Vec<LedgerEntry>, ScriptError> {
    let applied = super::apply(set, choice, cx).await?;
    applied.result?;
    view(set, &applied.after, cx.project, cx.checksums).await
}

pub async fn ledger(set: &ScriptSet, cx: &ScriptContext<'_>) -> Result<Vec<LedgerEntry>, ScriptError> {
    view(set, &recorded(set, cx).await?, cx.project, cx.checksums).await
}

/// A container of a test, removed when the test ends.
pub struct Server {
    pub id: String,
    pub port: u16,
}

pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "docker {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

impl Server {
    pub fn start(port: u16, arguments: &[&str]) -> Self {
        let published = format!("127.0.0.1::{port}");
        let mut all = vec!["run", "-d", "--stop-signal", "SIGINT", "--label", "devenv-test=data", "-p", &published];
        all.extend(arguments);
        let id = docker(&all);
        let address = docker(&["port", &id, &port.to_string()]);
        Self { id, port: address.lines().next().unwrap().rsplit(':').next().unwrap().parse().unwrap() }
    }

    /// PostgreSQL with the superuser's password, whom its socket lets in as the kind's rules say.
    pub fn postgres(password: &str) -> Self {
        let (rules, identities) = crate::postgres::access_rules();
        let script = format!(
            "set -e; printf '%s' '{rules}' > /tmp/hba; printf '%s' '{identities}' > /tmp/ident; d=/var/lib/postgresql/data; mkdir -p $d; chown postgres $d; echo {password} > /tmp/pw; chmod 644 /tmp/pw
            [ -e $d/PG_VERSION ] || {{ setpriv --reuid=postgres --regid=postgres --clear-groups initdb -D $d --no-sync --auth-local=peer --auth-host=scram-sha-256 --pwfile=/tmp/pw > /dev/null; }}
            exec setpriv --reuid=postgres --regid=postgres --clear-groups postgres -D $d -c listen_addresses='*' -c hba_file=/tmp/hba -c ident_file=/tmp/ident -c shared_preload_libraries=pg_stat_statements"
        );
        let server = Self::start(5432, &["--entrypoint", "sh", "pgvector/pgvector:pg17", "-c", &script]);
        server.until(|| server.try_psql("postgres", "select 1").is_ok());
        server
    }

    /// What tests look at, whatever limits they gave to the database.
    pub fn try_psql(&self, database: &str, sql: &str) -> Result<String, String> {
        let output = Command::new("docker")
            .args([
                "exec",
                "-e",
                "PGOPTIONS=-c statement_timeout=0",
                &self.id,
                "psql",
                "-h",
                "/var/run/postgresql",
                "-U",
                "postgres",
                "-Atqc",
                sql,
                database,
            ])
            .output()
            .unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    pub fn psql(&self, database: &str, sql: &str) -> String {
        self.try_psql(database, sql).unwrap()
    }

    pub fn until(&self, mut ready: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(90);
        while !ready() {
            assert!(Instant::now() < deadline, "not ready: {}", docker(&["logs", "--tail", "20", &self.id]));
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        Command::new("docker").args(["rm", "-fv", &self.id]).stdout(Stdio::null()).status().ok();
    }
}

/// The engine of this machine, for the rest of the test's runtime.
pub async fn engine() -> &'static dyn Engine {
    let selection = Selection::read(None, |name| std::env::var(name).ok());
    &**Box::leak(Box::new(docker::connect(&selection).await.unwrap()))
}
