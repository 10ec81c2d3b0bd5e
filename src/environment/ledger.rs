//! What has been applied to an environment's data, and applying more on request.

use devenv_api::{ApiError, ErrorCode, Ledger, LedgerChanges, LedgerEntry, LedgerState};
use devenv_kinds::script::{Choice, ScriptError};
use devenv_spec::{EnvironmentSpec, ScriptSet, ServiceName};

use super::Environment;
use crate::{
    event::NewEvent,
    reconcile::{CommandError, Instance},
};

/// What to do about one script.
#[derive(Clone, Copy)]
enum Act {
    Accept,
    RunAgain,
}

impl Environment {
    /// Every script and data set that is declared or recorded.
    pub(crate) async fn ledger(&self) -> Result<Ledger, ApiError> {
        let mut entries = Vec::new();
        if let Some(spec) = self.handle.record().await.map_err(ApiError::from)?.spec {
            for set in spec.services.values().filter_map(|service| service.scripts.as_ref()) {
                entries.extend(self.runtime.ledger(set).await.map_err(|error| script_error(&error))?);
            }
        }
        Ok(Ledger { entries })
    }

    /// Scripts that differ from what was applied.
    pub(crate) async fn drift(&self) -> Vec<LedgerEntry> {
        // The next `up` reports a file that cannot be read now.
        let ledger = self.ledger().await.unwrap_or(Ledger { entries: Vec::new() });
        ledger.entries.into_iter().filter(|entry| entry.state == LedgerState::Changed).collect()
    }

    /// The scripts and data sets of this spec that are not applied as they are now, as far as the ledger of the data is known.
    pub(crate) async fn due_scripts(&self, spec: &EnvironmentSpec) -> Vec<LedgerEntry> {
        let mut due = Vec::new();
        for set in spec.services.values().filter_map(|service| service.scripts.as_ref()) {
            // The next `up` reports a file that cannot be read now.
            due.extend(self.runtime.ledger(set).await.unwrap_or_default());
        }
        due.retain(|entry| entry.state != LedgerState::Applied);
        due
    }

    /// Applies the pending scripts (or data sets) of the named services, in the profile's order. Calls
    /// `may_go_on` between two services.
    pub(crate) async fn apply(
        &self,
        names: &[ServiceName],
        seed: bool,
        set: Option<&str>,
        may_go_on: impl Fn() -> Result<(), ApiError>,
    ) -> Result<(), ApiError> {
        let spec = self.spec().await?;
        let choice = if seed { Choice::Seeds } else { Choice::Init };
        let mut found = false;
        for (name, service) in &spec.services {
            let Some(mut scripts) = service.scripts.clone().filter(|_| names.is_empty() || names.contains(name)) else { continue };
            if let Some(set) = set {
                scripts = of_set(scripts, set, &service.kind);
            }
            found = true;
            may_go_on()?;
            let instance = self.instance(name)?;
            let events = self.handle.events.clone();
            let applied = self
                .runtime
                .apply(&scripts, choice, &instance, |what| {
                    events.emit(NewEvent::of(name, "service.provisioned", format!("{name}: {what}")));
                })
                .await;
            applied.map_err(|error| script_error(&error))?;
        }
        if found {
            Ok(())
        } else {
            Err(ApiError::new(ErrorCode::NotFound, "none of these services has init scripts or seeds")
                .hint("declare them with `init:` and `seed:` in the profile"))
        }
    }

    /// Records the current file as what was applied, in every place where it is declared.
    pub(crate) async fn accept(&self, path: &str) -> Result<Ledger, ApiError> {
        self.each_place(path, Act::Accept).await
    }

    /// Applies a script again from its beginning, in every place where it is declared.
    pub(crate) async fn run_again(&self, path: &str) -> Result<Ledger, ApiError> {
        self.each_place(path, Act::RunAgain).await
    }

    async fn each_place(&self, path: &str, act: Act) -> Result<Ledger, ApiError> {
        let spec = self.spec().await?;
        let mut found = false;
        for (name, service) in &spec.services {
            if let Some(set) = &service.scripts {
                let instance = self.instance(name)?;
                let done = match act {
                    Act::Accept => self.runtime.accept(set, path, &instance).await,
                    Act::RunAgain => self.runtime.run_again(set, path, &instance).await,
                };
                found |= done.map_err(|error| script_error(&error))?;
            }
        }
        if !found {
            return Err(no_script(path));
        }
        self.ledger().await
    }

    /// How the file of a script differs from what was applied, in every place where it is declared.
    pub(crate) async fn ledger_changes(&self, path: &str) -> Result<LedgerChanges, ApiError> {
        let mut scripts = Vec::new();
        for set in self.spec().await?.services.values().filter_map(|service| service.scripts.as_ref()) {
            scripts.extend(self.runtime.changes(set, path).await.map_err(|error| script_error(&error))?);
        }
        if scripts.is_empty() { Err(no_script(path)) } else { Ok(LedgerChanges { scripts }) }
    }

    /// Reads the ledger of a service's data again, after the data was replaced.
    pub(crate) async fn reread(&self, name: &ServiceName) {
        let Ok(spec) = self.spec().await else { return };
        let set = spec.services.get(name).and_then(|service| service.scripts.as_ref());
        if let (Some(set), Ok(instance)) = (set, self.instance(name)) {
            self.runtime.reread(set, &instance).await;
        }
    }

    pub(crate) async fn spec(&self) -> Result<EnvironmentSpec, ApiError> {
        Ok(self.handle.record().await.map_err(ApiError::from)?.spec.ok_or(CommandError::NotUp)?)
    }

    /// The container of a running service.
    pub(crate) fn instance(&self, name: &ServiceName) -> Result<Instance, ApiError> {
        let status = self.handle.status();
        let service = status.services.iter().find(|service| service.name == name.as_str());
        match service.and_then(|service| service.container.clone()) {
            Some(id) => Ok(Instance { id, hash: devenv_spec::SpecHash::recorded(""), run: 0 }),
            None => Err(ApiError::new(ErrorCode::Failed, format!("`{name}` is not running")).hint("run `devenv up` to start it")),
        }
    }
}

/// The data set of that name: `seed-data/SET/KIND`.
fn of_set(mut scripts: ScriptSet, set: &str, kind: &str) -> ScriptSet {
    scripts.sources.retain(|source| source.seed);
    scripts.sources.truncate(1);
    for source in &mut scripts.sources {
        source.paths = vec![format!("seed-data/{set}/{kind}")];
    }
    scripts
}

fn no_script(path: &str) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("no service of this environment has a script `{path}`"))
        .hint("run `devenv ledger` to list the scripts and their paths")
}

fn script_error(error: &ScriptError) -> ApiError {
    let script_error = ApiError::new(ErrorCode::Failed, error.to_string());
    match &error.hint {
        Some(hint) => script_error.hint(hint.clone()),
        None => script_error.hint("fix the script and run the command again: it continues with this script"),
    }
}
