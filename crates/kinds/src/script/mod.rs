//! Scripts and data sets: applied once each, in order, and recorded in a ledger that lives with the data.
//!
//! The ledger is part of the data (a table of each database, a key of Redis, a topic of Kafka), so every copy of a volume
//! includes it and it always agrees with the data. If a server has transactions, a script and its
//! row are one; if a script cannot run in a transaction, its row records the start first. [`plan`] decides, and the
//! modules of the servers act. The reconciler calls [`apply`] after provisioning and before ready.

pub mod files;
pub(crate) mod folder;
pub(crate) mod lines;
mod outside;
pub mod plan;
pub(crate) mod row;
pub(crate) mod sections;
#[cfg(all(test, feature = "docker-tests"))]
mod service_tests;
#[cfg(all(test, feature = "docker-tests"))]
mod shape_tests;
pub(crate) mod source;
pub(crate) mod staged;
#[cfg(any(feature = "testing", all(test, feature = "docker-tests")))]
pub mod testing;
mod zstd;

use std::path::Path;

use devenv_api::LedgerEntry;
#[cfg(all(test, feature = "docker-tests"))]
use devenv_api::LedgerState;

pub use crate::capability::{Checksums, Progress, Recorded, Script, ScriptContext, ScriptError, ScriptFormat};
use crate::capability::{ScriptStore, ServiceKind};
use devenv_spec::{ScriptPlace, ScriptSet, ScriptSource};
pub use files::Gathered;
use plan::{INTERRUPTED, Verdict};

/// The system user that the scripts and dumps of an owner run as in a container. By number, because not every image has a name for it; it
/// owns no file there.
pub(crate) const NOBODY: &str = "65534:65534";

/// The records of one database, or of a service without databases.
pub type DatabaseRecords = (Option<String>, Vec<Recorded>);

/// Which scripts of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    All,
    /// All but the data sets.
    Init,
    Seeds,
}

impl Choice {
    fn takes(self, source: &ScriptSource) -> bool {
        match self {
            Self::All => true,
            Self::Init => !source.seed,
            Self::Seeds => source.seed,
        }
    }
}

/// The ledger before and after applying, also after a failure.
pub struct Applied {
    pub before: Vec<DatabaseRecords>,
    pub after: Vec<DatabaseRecords>,
    /// Notes about files, such as skipped directories.
    pub notices: Vec<String>,
    pub result: Result<(), ScriptError>,
}

/// Applies pending scripts, in order, and stops at the first failure.
///
/// One run at a time for each service: an unfinished script of another run is taken for one of a dead run.
pub async fn apply(set: &ScriptSet, choice: Choice, cx: &ScriptContext<'_>) -> Result<Applied, ScriptError> {
    let before = recorded(set, cx).await?;
    let (mut after, mut notices) = (before.clone(), Vec::new());
    let mut result = Ok(());
    // Every file is found before the first is applied, so that a missing one leaves nothing half done.
    let mut sources = Vec::new();
    for source in set.sources.iter().filter(|source| choice.takes(source)) {
        match gather(set, source, cx).await {
            Ok(Gathered { scripts, notices: found }) => {
                notices.extend(found.into_iter().filter(|_| is_pending(&scripts, known_of(&mut after, source))));
                sources.push((source, scripts));
            }
            Err(error) => result = result.and(Err(error)),
        }
    }
    for (source, scripts) in &sources {
        if result.is_err() {
            break;
        }
        result = apply_source(set, source, scripts, known_of(&mut after, source), cx).await;
    }
    Ok(Applied { before, after, notices, result })
}

/// Reads the ledger of a source.
fn known_of<'a>(ledgers: &'a mut [DatabaseRecords], source: &ScriptSource) -> &'a mut Vec<Recorded> {
    let known = ledgers.iter_mut().find(|(database, _)| database.as_deref() == source.place.database());
    &mut known.expect("the ledger of every source has been read").1
}

fn verdict(script: &Script, known: &[Recorded]) -> Verdict {
    plan::decide(script, known.iter().find(|found| found.path == script.path))
}

fn is_pending(scripts: &[Script], known: &[Recorded]) -> bool {
    scripts.iter().any(|script| matches!(verdict(script, known), Verdict::Apply | Verdict::Interrupted))
}

/// `known` is the source's ledger, and is kept up to date. If nothing is pending, no server is asked.
async fn apply_source(
    set: &ScriptSet,
    source: &ScriptSource,
    scripts: &[Script],
    known: &mut Vec<Recorded>,
    cx: &ScriptContext<'_>,
) -> Result<(), ScriptError> {
    if !is_pending(scripts, known) {
        return Ok(());
    }
    let mut store = open(set, &source.place, cx).await?;
    store.settle(cx).await?;
    *known = store.recorded().await?;
    let mut result = Ok(());
    for script in scripts {
        if verdict(script, known) == Verdict::Interrupted {
            // A script that an earlier run had sent may have started only since, and may still run.
            store.settle(cx).await?;
            *known = store.recorded().await?;
        }
        result = match verdict(script, known) {
            Verdict::Apply => store.apply(script, cx).await.map_err(|error| remarked(error, script, scripts)),
            Verdict::Keep | Verdict::Changed => Ok(()),
            Verdict::Interrupted => {
                let error = interrupted(set, script, known);
                store.interrupted(script).await.and(Err(error))
            }
        };
        if result.is_err() {
            break;
        }
    }
    match (result, store.recorded().await) {
        (result, Ok(now)) => {
            *known = now;
            store.close().await;
            result
        }
        (result, Err(lost)) => result.and(Err(lost)),
    }
}

/// With a note on the order of scripts, if that may be the reason.
fn remarked(mut error: ScriptError, script: &Script, scripts: &[Script]) -> ScriptError {
    let paths: Vec<&str> = scripts.iter().map(|script| script.path.as_str()).collect();
    if let Some(remark) = folder::remark_on_order(&script.path, &paths) {
        error.hint = Some(error.hint.map_or(remark.clone(), |hint| format!("{hint}; {remark}")));
    }
    error
}

fn interrupted(set: &ScriptSet, script: &Script, known: &[Recorded]) -> ScriptError {
    let said = known.iter().find(|found| found.path == script.path).and_then(|found| found.error.as_deref());
    let message = match said.filter(|said| *said != INTERRUPTED) {
        Some(said) => format!("{INTERRUPTED} ({said})"),
        None => INTERRUPTED.to_owned(),
    };
    ScriptError::of(&script.path, message).hint(ways_on(set.service.as_str(), &script.path))
}

/// What to do about a script that is partly applied.
pub(crate) fn ways_on(service: &str, path: &str) -> String {
    format!(
        "it is not applied again by itself: run `devenv reset {service}` to start over, `devenv ledger accept {path}` if the data is complete, \
         or `devenv ledger run {path}` to apply it again from its beginning; an edited script is applied again from its beginning, too"
    )
}

/// The ledgers stored in the data, by database. Callers may cache them, because only this module changes them.
pub async fn recorded(set: &ScriptSet, cx: &ScriptContext<'_>) -> Result<Vec<DatabaseRecords>, ScriptError> {
    let mut found: Vec<DatabaseRecords> = Vec::new();
    for source in &set.sources {
        let database = source.place.database().map(str::to_owned);
        if found.iter().all(|(known, _)| *known != database) {
            let mut store = open(set, &source.place, cx).await?;
            found.push((database, store.recorded().await?));
            store.close().await;
        }
    }
    Ok(found)
}

/// The ledger from the records and from the current files. Reads files only if they changed; asks no server.
pub async fn view(
    set: &ScriptSet,
    recorded: &[DatabaseRecords],
    project: &Path,
    checksums: &Checksums,
) -> Result<Vec<LedgerEntry>, ScriptError> {
    let mut entries = Vec::new();
    for (database, recorded) in recorded {
        let mut scripts = Vec::new();
        for source in set.sources.iter().filter(|source| source.place.database() == database.as_deref()) {
            scripts.extend(files::gather(project, &set.target, &source.paths, source.seed, checksums).await?.scripts);
        }
        entries.extend(plan::view(set.service.as_str(), database.as_deref(), &scripts.iter().collect::<Vec<_>>(), recorded));
    }
    Ok(entries)
}

/// The present scripts, each with the database that it is for.
pub async fn current(set: &ScriptSet, project: &Path, checksums: &Checksums) -> Result<Vec<(Option<String>, Script)>, ScriptError> {
    let mut found = Vec::new();
    for source in &set.sources {
        let database = source.place.database().map(str::to_owned);
        let scripts = files::gather(project, &set.target, &source.paths, source.seed, checksums).await?.scripts;
        found.extend(scripts.into_iter().map(|script| (database.clone(), script)));
    }
    Ok(found)
}

/// The entries that are drift.
#[cfg(all(test, feature = "docker-tests"))]
pub fn drift(entries: &[LedgerEntry]) -> Vec<LedgerEntry> {
    entries.iter().filter(|entry| entry.state == LedgerState::Changed).cloned().collect()
}

/// Records the current file as what was applied, without touching data. `false` if no source of the set has that path.
pub async fn accept(set: &ScriptSet, path: &str, cx: &ScriptContext<'_>) -> Result<bool, ScriptError> {
    let mut accepted = false;
    for (source, script) in found(set, path, cx).await? {
        let mut store = open(set, &source.place, cx).await?;
        store.accept(&script).await?;
        store.close().await;
        accepted = true;
    }
    Ok(accepted)
}

/// Applies a script again from its beginning, whatever its recorded state. `false` if no source of the set has that path.
pub async fn run_again(set: &ScriptSet, path: &str, cx: &ScriptContext<'_>) -> Result<bool, ScriptError> {
    let mut ran = false;
    for (source, script) in found(set, path, cx).await? {
        let mut store = open(set, &source.place, cx).await?;
        store.settle(cx).await?;
        store.forget(&script).await?;
        store.apply(&script, cx).await?;
        store.close().await;
        ran = true;
    }
    Ok(ran)
}

async fn found<'a>(set: &'a ScriptSet, path: &str, cx: &ScriptContext<'_>) -> Result<Vec<(&'a ScriptSource, Script)>, ScriptError> {
    let mut found = Vec::new();
    for source in &set.sources {
        found
            .extend(gather(set, source, cx).await?.scripts.into_iter().filter(|script| script.path == path).map(|script| (source, script)));
    }
    Ok(found)
}

/// Where each script of the current files is applied, and its checksum, in order: this determines the resulting data.
pub async fn fingerprint(set: &ScriptSet, project: &Path, checksums: &Checksums) -> Result<Vec<(String, String)>, ScriptError> {
    let mut found = Vec::new();
    for source in &set.sources {
        let place = match &source.place {
            ScriptPlace::Service => String::new(),
            ScriptPlace::Database { name, role, .. } => format!("{name} as {role}"),
        };
        for script in files::gather(project, &set.target, &source.paths, source.seed, checksums).await?.scripts {
            found.push((format!("{place}: {}", script.path), script.checksum));
        }
    }
    Ok(found)
}

async fn gather(set: &ScriptSet, source: &ScriptSource, cx: &ScriptContext<'_>) -> Result<Gathered, ScriptError> {
    files::gather(cx.project, &set.target, &source.paths, source.seed, cx.checksums).await
}

async fn open(set: &ScriptSet, place: &ScriptPlace, cx: &ScriptContext<'_>) -> Result<Box<dyn ScriptStore>, ScriptError> {
    let service = set.service.as_str();
    match crate::of(&set.target).and_then(ServiceKind::scripts) {
        Some(scripts) => scripts.open(service, &set.target, place, cx).await,
        None => Err(ScriptError::of(service, format!("the kind `{}` takes no scripts in this version", set.target.kind))),
    }
}

pub(crate) fn mode_text(mode: devenv_api::LedgerMode) -> &'static str {
    match mode {
        devenv_api::LedgerMode::Once => "once",
        devenv_api::LedgerMode::OnChange => "on-change",
        devenv_api::LedgerMode::Always => "always",
    }
}

pub(crate) fn mode_from(text: &str) -> devenv_api::LedgerMode {
    match text {
        "on-change" => devenv_api::LedgerMode::OnChange,
        "always" => devenv_api::LedgerMode::Always,
        _ => devenv_api::LedgerMode::Once,
    }
}
