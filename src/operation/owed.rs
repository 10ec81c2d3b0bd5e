//! Carries out the pending steps of an operation: undoes what it made, or finishes what it started.

use std::{io, path::Path};

use devenv_engine::{ContainerState, EngineError, ObservedContainer};

use super::{
    Operations,
    replacement::{conclude_databases, revert_databases},
};
use crate::{environment::Environments, error::describe, operation_store::Step};

impl Operations {
    /// Carries out the steps of an operation, the last of them first, and removes each from the record. Returns the first error,
    /// once the others were tried.
    pub(super) async fn pay(&self, id: &str) -> Result<(), String> {
        let Some(record) = self.shared.store.owed(id) else { return Ok(()) };
        let steps: Vec<Step> = if record.finish.is_empty() { record.undo.into_iter().rev().collect() } else { record.finish };
        let (mut done, mut failed) = (Vec::new(), None);
        for step in steps {
            match carry_out(&self.shared.environments, &step).await {
                Ok(()) => done.push(step),
                Err(reason) => {
                    tracing::warn!(reason, ?step, operation = id, "Cannot execute a step of an operation.");
                    failed.get_or_insert(reason);
                }
            }
        }
        if let Err(error) = self.shared.store.settle(id, &done).await {
            tracing::warn!(%error, operation = id, "Cannot record that steps were executed.");
        }
        failed.map_or(Ok(()), Err)
    }
}

/// Does nothing if there is nothing left to do.
pub(super) async fn carry_out(environments: &Environments, step: &Step) -> Result<(), String> {
    let engine = environments.engine();
    match step {
        Step::Unpause { container } => match engine.unpause(container).await {
            // One that has ended, or was unpaused by somebody else, is not paused.
            Err(error @ EngineError::Refused { .. }) => match engine.inspect(container).await {
                Ok(Some(ObservedContainer { state: ContainerState::Paused { .. }, .. })) => Err(describe(&error)),
                Ok(_) => Ok(()),
                Err(error) => Err(describe(&error)),
            },
            result => gone_is_fine(result),
        },
        Step::RemoveContainer { container } => gone_is_fine(engine.remove_container(container).await),
        Step::RemoveVolume { name } => {
            if environments.names_volume(name).await {
                return Ok(());
            }
            gone_is_fine(engine.remove_volume(name).await)
        }
        Step::RemovePath { path } => {
            let path = path.clone();
            let removed = tokio::task::spawn_blocking(move || remove(&path)).await.map_err(|error| error.to_string())?;
            removed.map_err(|error| error.to_string())
        }
        Step::MoveVolumes { environment, volumes, reason } => {
            let Some(environment) = environments.get(environment) else { return Ok(()) };
            let record = environment.handle.record().await.map_err(|error| describe(&error))?;
            if volumes.iter().all(|(key, volume)| record.volumes.get(key) == Some(volume)) {
                return Ok(());
            }
            environment.handle.move_to(volumes.clone(), reason.clone()).await.map(drop).map_err(|error| describe(&error))
        }
        Step::BringUp { environment, spec } => {
            let Some(environment) = environments.get(environment) else { return Ok(()) };
            environment.handle.up_replacing(spec.as_ref().clone(), Vec::new()).await.map_err(|error| describe(&error))?;
            environment.reloader.watch(spec).await;
            Ok(())
        }
        Step::RevertDatabases { databases } => match environments.get(&databases.environment) {
            Some(environment) => revert_databases(environments, &environment, databases).await,
            None => Ok(()),
        },
        Step::ConcludeDatabases { databases } => match environments.get(&databases.environment) {
            Some(environment) => conclude_databases(environments, &environment, databases).await,
            None => Ok(()),
        },
        Step::RenameFile { from, to } => {
            let (from, to) = (from.clone(), to.clone());
            let renamed = tokio::task::spawn_blocking(move || rename(&from, &to)).await.map_err(|error| error.to_string())?;
            renamed.map_err(|error| error.to_string())
        }
        Step::Relocate { environment, project, instead_of } => {
            if let Some(replaced) = instead_of {
                environments.forget(replaced).await.map_err(|error| describe(&error))?;
            }
            environments.relocate(environment, project).await.map(drop).map_err(|error| error.message)
        }
        Step::ForgetEnvironment { environment } => environments.forget_if_empty(environment).await.map_err(|error| describe(&error)),
    }
}

fn gone_is_fine(result: Result<(), EngineError>) -> Result<(), String> {
    match result {
        Ok(()) | Err(EngineError::NotFound { .. }) => Ok(()),
        Err(error) => Err(describe(&error)),
    }
}

/// A missing file has been renamed already. The directory is synced, or a power failure could undo it.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io::Error::new(error.kind(), format!("cannot rename {} to {}: {error}", from.display(), to.display()))),
        Ok(()) => std::fs::File::open(to.parent().unwrap_or(Path::new("/")))?.sync_all(),
    }
}

/// How often a directory is removed into which something is written at the same time.
const REMOVALS: usize = 100;

fn remove(path: &Path) -> io::Result<()> {
    let removed = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => remove_directory(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A thread that writes for a cancelled operation may still make a file in it.
fn remove_directory(path: &Path) -> io::Result<()> {
    let mut removed = std::fs::remove_dir_all(path);
    for _ in 1..REMOVALS {
        match removed {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => removed = std::fs::remove_dir_all(path),
            other => return other,
        }
    }
    removed
}
