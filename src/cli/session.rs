//! The context of every command: the global flags, the printer, the directories, and the connection to the daemon.

use std::path::{Path, PathBuf};

use devenv_api::{ApiError, Client, EngineSelection, EnvironmentTarget};

use super::{
    args::Global,
    failure::{Failure, internal, usage},
    launch,
    operation::UnderWay,
    printer::Printer,
    project, relocate, trust,
};
use crate::paths::{self, Paths};

pub(crate) struct Session {
    pub(crate) global: Global,
    pub(crate) printer: Printer,
    /// Since the start of the process, for `elapsed_ms`.
    pub(crate) began: std::time::Instant,
    /// Operations that a signal must stop.
    pub(crate) under_way: UnderWay,
}

impl Session {
    pub(crate) fn new(global: Global) -> Self {
        let printer = Printer::new(global.json, global.quiet);
        Self { global, printer, began: std::time::Instant::now(), under_way: UnderWay::default() }
    }

    /// The same by the clock.
    pub(crate) fn began_at(&self) -> jiff::Timestamp {
        let passed = jiff::SignedDuration::try_from(self.began.elapsed()).unwrap_or_default();
        jiff::Timestamp::now() - passed
    }

    /// The project's directory, canonical: `--project`, else the nearest one with `profiles/`, else the current one.
    /// An error if other users can change it.
    pub(crate) fn project(&self) -> Result<PathBuf, ApiError> {
        let project = self.project_unchecked()?;
        trust::check(&project)?;
        Ok(project)
    }

    pub(crate) fn project_unchecked(&self) -> Result<PathBuf, ApiError> {
        if let Some(directory) = &self.global.project {
            return canonical_directory(directory);
        }
        let here = std::env::current_dir().map_err(|error| internal("cannot find the current directory", error))?;
        Ok(project::find(&here))
    }

    pub(crate) fn target(&self) -> Result<EnvironmentTarget, ApiError> {
        self.target_in(self.project()?)
    }

    fn target_in(&self, project: PathBuf) -> Result<EnvironmentTarget, ApiError> {
        let project =
            project.into_os_string().into_string().map_err(|path| usage(format!("the project path is not UTF-8: {}", path.display())))?;
        Ok(EnvironmentTarget { project, instance: self.global.instance.clone().unwrap_or_else(|| "default".to_owned()) })
    }

    /// As [`Self::target`], also for a directory of `--project` that does not exist any more.
    pub(crate) fn target_even_if_gone(&self) -> Result<EnvironmentTarget, ApiError> {
        match &self.global.project {
            Some(directory) if !directory.exists() => self.target_in(relocate::former(directory)?),
            _ => self.target(),
        }
    }

    /// The engine that the flags and variables select.
    pub(crate) fn engine(&self) -> EngineSelection {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        EngineSelection {
            context: self.global.context.clone(),
            docker_host: variable(paths::DOCKER_HOST),
            docker_context: variable(paths::DOCKER_CONTEXT),
            docker_tls_verify: variable(paths::DOCKER_TLS_VERIFY),
            docker_cert_path: variable(paths::DOCKER_CERT_PATH),
        }
    }

    /// The daemon, started if none runs. It answers after it has adopted running environments.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        launch::connect(&Paths::resolve()?, &self.engine()).await
    }

    /// The daemon, if one runs.
    pub(crate) async fn running_daemon(&self) -> Result<Option<Client>, Failure> {
        launch::running(&Paths::resolve()?, &self.engine()).await
    }
}

fn canonical_directory(directory: &Path) -> Result<PathBuf, ApiError> {
    let canonical = directory.canonicalize().map_err(|error| usage(format!("--project {}: {error}", directory.display())))?;
    if canonical.is_dir() { Ok(canonical) } else { Err(usage(format!("--project {} is not a directory", directory.display()))) }
}
