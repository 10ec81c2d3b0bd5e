//! Scripts and data sets of a service, and the ledger in its data; and what has been provisioned in it.

use devenv_api::{LedgerEntry, LedgerMode, LedgerState, ScriptChange};
use devenv_kinds::script::{self, Choice, DatabaseRecords, ScriptContext, ScriptError};
use devenv_spec::{ScriptSet, ServiceName, ServiceSpec};
use sha2::{Digest, Sha256};

use super::{EnvironmentRuntime, Provisioned, applied_scripts::Compared};
use crate::reconcile::Instance;

/// The result of applying scripts.
pub(crate) struct Applied {
    /// Nothing had been applied before: the data is freshly initialised and seeded.
    pub(crate) fresh: bool,
}

impl EnvironmentRuntime {
    /// Applies pending scripts; calls `tell` for each that was applied.
    pub(crate) async fn apply(
        &self,
        set: &ScriptSet,
        choice: Choice,
        instance: &Instance,
        tell: impl Fn(String),
    ) -> Result<Applied, ScriptError> {
        let _guard = self.lock(&set.service).await;
        let progress = |_: script::Progress<'_>| {};
        let script::Applied { before, after, notices, result } = script::apply(set, choice, &self.scripts(instance, &progress)).await?;
        notices.into_iter().for_each(&tell);
        for (database, entries) in &after {
            let known = before.iter().find(|(known, _)| known == database).map(|(_, entries)| entries.as_slice()).unwrap_or_default();
            for entry in entries.iter().filter(|entry| entry.applied_at.is_some() && !known.contains(entry)) {
                tell(format!("applied `{}` in {} ms", entry.path, entry.duration_ms.unwrap_or_default()));
            }
        }
        self.note(&set.service, after);
        self.keep_texts(set).await;
        let fresh = choice == Choice::All && before.iter().all(|(_, entries)| entries.is_empty());
        result.map(|()| Applied { fresh })
    }

    /// Reads the ledger in the data again.
    pub(crate) async fn reread(&self, set: &ScriptSet, instance: &Instance) {
        let _guard = self.lock(&set.service).await;
        let progress = |_: script::Progress<'_>| {};
        match script::recorded(set, &self.scripts(instance, &progress)).await {
            Ok(recorded) => {
                self.note(&set.service, recorded);
                self.keep_texts(set).await;
            }
            Err(error) => tracing::warn!(%error, service = %set.service, "Cannot read the ledger."),
        }
    }

    /// Each ledger has one user at a time, because opening it terminates other sessions that work on it.
    async fn lock(&self, service: &ServiceName) -> tokio::sync::OwnedMutexGuard<()> {
        let ledger = self.ledgers.lock().expect("no code panics while it holds this lock").entry(service.clone()).or_default().clone();
        ledger.lock_owned().await
    }

    /// Stores the ledgers that were read, in place of the former ones of the same databases.
    fn note(&self, service: &ServiceName, said: Vec<DatabaseRecords>) {
        let mut recorded = self.recorded.lock().expect("no code panics while it holds this lock");
        let known = recorded.entry(service.clone()).or_default();
        known.retain(|(database, _)| said.iter().all(|(other, _)| other != database));
        known.extend(said);
    }

    /// The ledger of a service, from today's files and the last known content of its data's ledger.
    pub(crate) async fn ledger(&self, set: &ScriptSet) -> Result<Vec<LedgerEntry>, ScriptError> {
        let recorded = self.recorded.lock().expect("no code panics while it holds this lock").get(&set.service).cloned();
        match recorded {
            Some(recorded) => script::view(set, &recorded, &self.project, &self.checksums).await,
            None => Ok(Vec::new()),
        }
    }

    /// Keeps the texts of the scripts whose present files are what was applied.
    async fn keep_texts(&self, set: &ScriptSet) {
        let recorded = self.recorded.lock().expect("no code panics while it holds this lock").get(&set.service).cloned();
        // A file that cannot be read was not applied either.
        let Ok(mut scripts) = script::current(set, &self.project, &self.checksums).await else { return };
        let is_applied = |database: &Option<String>, checksum: &str| {
            let known = recorded.iter().flatten().filter(|(known, _)| known == database);
            known.flat_map(|(_, entries)| entries).any(|entry| entry.applied_at.is_some() && entry.checksum == checksum)
        };
        scripts.retain(|(database, script)| is_applied(database, &script.checksum));
        let kept = self.applied_scripts.clone();
        let scripts: Vec<script::Script> = scripts.into_iter().map(|(_, script)| script).collect();
        let done = devenv_files::read_in_time(vec![self.project.clone()], move || kept.keep(&scripts)).await;
        if let Err(error) = done {
            tracing::warn!(%error, "Cannot keep the texts of applied scripts.");
        }
    }

    /// How the present file of a script differs from what was applied, in each database where it is known.
    pub(crate) async fn changes(&self, set: &ScriptSet, path: &str) -> Result<Vec<ScriptChange>, ScriptError> {
        let mut entries = self.ledger(set).await?;
        entries.retain(|entry| entry.path == path);
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let scripts = script::current(set, &self.project, &self.checksums).await?;
        let kept = self.applied_scripts.clone();
        let compare = move || {
            let of = |entry: LedgerEntry| {
                let LedgerEntry { service, database, path, checksum, state, .. } = entry;
                let present = scripts.iter().find(|(known, script)| *known == database && script.path == path).map(|(_, script)| script);
                let Compared { lines, incomplete } = match state {
                    LedgerState::Changed => kept.compare(&checksum, present),
                    _ => Compared { lines: Vec::new(), incomplete: None },
                };
                ScriptChange { service, database, path, checksum, lines, incomplete }
            };
            entries.into_iter().map(of).collect()
        };
        devenv_files::read_in_time(vec![self.project.clone()], compare)
            .await
            .map_err(|error| ScriptError::of(path, format!("cannot be compared: {error}")))
    }

    /// Whether a script may have to be applied, as far as that is known without asking the server.
    pub(super) async fn has_pending_scripts(&self, spec: &ServiceSpec) -> bool {
        let Some(set) = &spec.scripts else { return false };
        let is_known = self.recorded.lock().expect("no code panics while it holds this lock").contains_key(&set.service);
        let is_done = |entry: &LedgerEntry| entry.state == LedgerState::Applied && entry.mode == LedgerMode::Once;
        !(is_known && self.ledger(set).await.is_ok_and(|entries| entries.iter().all(is_done)))
    }

    /// What the service was provisioned with, if that is what it declares now and its data is not new.
    pub(super) fn known(&self, spec: &ServiceSpec) -> Option<Provisioned> {
        let provisioned = self.provisioned.lock().expect("no code panics while it holds this lock");
        let known = provisioned.get(&spec.name).filter(|known| known.declared == spec.provision);
        known.filter(|_| !self.golden.began_empty(&spec.name)).cloned()
    }

    pub(super) fn note_provisioned(&self, spec: &ServiceSpec, instance: &Instance) {
        let (declared, container) = (spec.provision.clone(), instance.id.clone());
        let mut provisioned = self.provisioned.lock().expect("no code panics while it holds this lock");
        provisioned.insert(spec.name.clone(), Provisioned { declared, container, run: instance.run });
    }

    pub(super) fn forget_provisioned(&self, service: &ServiceName) {
        self.provisioned.lock().expect("no code panics while it holds this lock").remove(service);
    }

    /// Changes whenever scripts or data sets are applied to any service's data.
    pub(crate) fn data_key(&self) -> String {
        let recorded = self.recorded.lock().expect("no code panics while it holds this lock");
        let mut lines: Vec<String> = Vec::new();
        for (service, databases) in recorded.iter() {
            for (database, entries) in databases {
                lines.extend(entries.iter().map(|entry| format!("{service} {database:?} {} {:?}\n", entry.path, entry.applied_at)));
            }
        }
        lines.sort_unstable();
        hex::encode(&Sha256::digest(lines.concat())[..8])
    }

    /// Records the current file as what was applied. Returns whether the set has it.
    pub(crate) async fn accept(&self, set: &ScriptSet, path: &str, instance: &Instance) -> Result<bool, ScriptError> {
        let _guard = self.lock(&set.service).await;
        let progress = |_: script::Progress<'_>| {};
        let cx = self.scripts(instance, &progress);
        let accepted = script::accept(set, path, &cx).await?;
        self.note(&set.service, script::recorded(set, &cx).await?);
        self.keep_texts(set).await;
        Ok(accepted)
    }

    /// Applies a script again from its beginning. Returns whether the set has it.
    pub(crate) async fn run_again(&self, set: &ScriptSet, path: &str, instance: &Instance) -> Result<bool, ScriptError> {
        let _guard = self.lock(&set.service).await;
        let progress = |_: script::Progress<'_>| {};
        let cx = self.scripts(instance, &progress);
        let ran = script::run_again(set, path, &cx).await;
        self.note(&set.service, script::recorded(set, &cx).await?);
        self.keep_texts(set).await;
        ran
    }

    fn scripts<'a>(&'a self, instance: &'a Instance, progress: &'a (dyn Fn(script::Progress<'_>) + Send + Sync)) -> ScriptContext<'a> {
        ScriptContext {
            engine: self.engine.as_ref(),
            container: &instance.id,
            vault: &self.vault,
            project: &self.project,
            authority: Some(&self.authority),
            checksums: &self.checksums,
            progress,
        }
    }
}
