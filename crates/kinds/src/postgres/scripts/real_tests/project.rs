//! A project with scripts, and a server that they are applied to.

use super::*;

pub(super) struct Project {
    pub(super) directory: tempfile::TempDir,
    pub(super) vault: Vault,
    pub(super) server: Server,
    pub(super) set: ScriptSet,
    pub(super) checksums: Checksums,
}

impl Project {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault::new(directory.path().join(".secrets"));
        let (superuser, owner) = (SecretRef::new("db", "postgres"), SecretRef::new("db", "app"));
        let server = Server::postgres(&vault.reveal(&superuser).unwrap());
        server.psql("postgres", &format!("create role app login password '{}'", vault.reveal(&owner).unwrap()));
        server.psql("postgres", "create database app owner app");
        server.psql("postgres", "alter database app set statement_timeout = '50ms'");
        let place = ScriptPlace::Database { name: "app".into(), role: "app".into(), password: owner };
        let set = ScriptSet {
            service: "db".parse().unwrap(),
            target: PostgresTarget { port: server.port, tls: false, superuser }.into_target(),
            sources: vec![
                ScriptSource { place: place.clone(), paths: vec!["init".into()], seed: false },
                ScriptSource { place, paths: vec!["seed".into()], seed: true },
            ],
        };
        for part in ["init", "seed"] {
            fs::create_dir(directory.path().join(part)).unwrap();
        }
        Self { directory, vault, server, set, checksums: Checksums::default() }
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        fs::write(self.path().join(path), content).unwrap();
        self
    }

    pub(super) async fn with<T>(&self, work: impl AsyncFnOnce(&ScriptContext<'_>) -> T) -> T {
        let cx = ScriptContext {
            engine: engine().await,
            container: &self.server.id,
            vault: &self.vault,
            project: self.path(),
            authority: None,
            checksums: &self.checksums,
            progress: &|_| {},
        };
        work(&cx).await
    }

    pub(super) async fn apply(&self) -> Result<Vec<LedgerEntry>, ScriptError> {
        self.with(async |cx| apply(&self.set, Choice::All, cx).await).await
    }

    pub(super) async fn ledger(&self) -> Vec<LedgerEntry> {
        self.with(async |cx| ledger(&self.set, cx).await).await.unwrap()
    }

    pub(super) fn sql(&self, sql: &str) -> String {
        self.server.psql("app", sql)
    }

    pub(super) async fn state(&self, path: &str) -> LedgerState {
        self.ledger().await.into_iter().find(|entry| entry.path == path).unwrap().state
    }
}
