//! The environment that tests share.

use std::{
    collections::HashMap,
    ffi::OsString,
    path::PathBuf,
    sync::{Mutex, OnceLock},
};

use devenv_api::{AskedBy, Client, ClientError, DownRequest, EnvironmentTarget, LeaseRequest, OperationRequest, Status, Submission};

use crate::{HarnessError, granted::Granted, program};

/// The environments that this process has brought up, by request.
static KNOWN: OnceLock<Mutex<HashMap<Vec<OsString>, Place>>> = OnceLock::new();

#[derive(Debug, Clone)]
struct Place {
    target: EnvironmentTarget,
    socket: PathBuf,
    /// It belongs to the `devenv test` that this process runs under.
    given: bool,
}

/// One environment that is up.
#[derive(Debug, Clone)]
pub struct TestEnvironment {
    client: Client,
    target: EnvironmentTarget,
    given: bool,
}

/// Selects an environment, for those who need more than a profile's name.
#[derive(Debug, Clone)]
pub struct Builder {
    profile: String,
    project: Option<PathBuf>,
    instance: Option<String>,
}

impl TestEnvironment {
    /// The environment of that profile: the one that this process runs in under `devenv test`, else the project's own,
    /// brought up if it is not.
    pub async fn shared(profile: &str) -> Result<Self, HarnessError> {
        Self::of(profile).shared().await
    }

    pub fn of(profile: &str) -> Builder {
        Builder { profile: profile.to_owned(), project: None, instance: None }
    }

    /// The project's directory and the instance's name, as `--project` and `--instance` take them.
    pub fn place(&self) -> (&str, &str) {
        (&self.target.project, &self.target.instance)
    }

    /// Stops the environment for everyone who shares it; its volumes stay in the trash for a day. Nothing happens
    /// under `devenv test`, whose environment it is. Without this it stays up, for the next run to find.
    pub async fn close(self) -> Result<(), HarnessError> {
        if self.given {
            return Ok(());
        }
        // Later callers start it again.
        KNOWN
            .get_or_init(Mutex::default)
            .lock()
            .expect("no code panics while it holds this lock")
            .retain(|_, place| place.target != self.target);
        let request = OperationRequest::Down(DownRequest { target: self.target, volumes: true });
        let asked_by = AskedBy { command: "a test harness".to_owned(), pid: Some(std::process::id()), user: None };
        match self.client.carry_out::<Status>(&Submission { request, asked_by }).await {
            Ok(_) => Ok(()),
            Err(ClientError::Answered(error)) => Err(HarnessError::NotClosed { message: error.message, hint: error.hint }),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn lease(&self, kinds: &[&'static str], database: Option<&str>) -> Result<Granted, HarnessError> {
        let status = self.client.status(&self.target).await?;
        let of_kind = status.services.into_iter().filter(|service| kinds.contains(&service.kind.as_str())).map(|service| service.name);
        // With a database's name, the daemon finds the server that has it.
        let services: Vec<String> = if database.is_some() { of_kind.collect() } else { of_kind.take(1).collect() };
        let service = services.first().cloned().ok_or(HarnessError::NoService(kinds[0]))?;
        let request = LeaseRequest { target: self.target.clone(), services, database: database.map(str::to_owned), optional: false };
        let (lease, holding) = self.client.lease(&request).await?;
        let service = lease.services.first().cloned().unwrap_or(service);
        Ok(Granted { service, lease, holding })
    }
}

impl Builder {
    /// The directory that holds `profiles/`. Default: found from the current one upwards, which for `cargo test` is the
    /// package's.
    #[must_use]
    pub fn project(mut self, directory: impl Into<PathBuf>) -> Self {
        self.project = Some(directory.into());
        self
    }

    #[must_use]
    pub fn instance(mut self, name: impl Into<String>) -> Self {
        self.instance = Some(name.into());
        self
    }

    pub async fn shared(self) -> Result<TestEnvironment, HarnessError> {
        let arguments = self.arguments();
        let known = KNOWN.get_or_init(Mutex::default);
        let found = known.lock().expect("no code panics while it holds this lock").get(&arguments).cloned();
        let place = match found {
            Some(place) => place,
            None => {
                let place = self.find(&arguments).await?;
                known.lock().expect("no code panics while it holds this lock").insert(arguments, place.clone());
                place
            }
        };
        // A new one each time: a client's connections belong to the runtime in which it was first used.
        Ok(TestEnvironment { client: Client::new(place.socket)?, target: place.target, given: place.given })
    }

    async fn find(&self, arguments: &[OsString]) -> Result<Place, HarnessError> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (target, given) = match (variable("DEVENV_PROJECT"), variable("DEVENV_INSTANCE")) {
            (Some(project), Some(instance)) if self.project.is_none() && self.instance.is_none() => {
                (EnvironmentTarget { project, instance }, true)
            }
            _ => {
                let status = program::up(arguments).await?;
                (EnvironmentTarget { project: status.project, instance: status.instance }, false)
            }
        };
        Ok(Place { target, socket: program::socket().await?, given })
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["up".into(), self.profile.clone().into(), "--json".into(), "--quiet".into()];
        if let Some(project) = &self.project {
            arguments.extend(["--project".into(), project.clone().into_os_string()]);
        }
        if let Some(instance) = &self.instance {
            arguments.extend(["--instance".into(), instance.clone().into()]);
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_about_the_environment_are_passed_to_up() {
        let arguments = TestEnvironment::of("ci").project("/p").instance("x").arguments();
        assert_eq!(arguments, ["up", "ci", "--json", "--quiet", "--project", "/p", "--instance", "x"]);
    }
}
