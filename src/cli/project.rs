//! The seam to the profile loader: every command that needs a profile comes through here.

use std::path::{Path, PathBuf};

use devenv_api::{ApiError, ErrorCode, Problem, Severity, UpRequest};
use serde::Serialize;

mod images;

use images::images;

use super::{
    failure::{Failure, internal},
    session::Session,
};
use crate::{paths::Paths, profile::Profile};

mod loader;

use loader::{LoadRequest, Origins};

/// A profile that holds, and where its values come from.
pub(super) struct Loaded {
    pub(super) profile: Profile,
    pub(super) warnings: Vec<Problem>,
    origins: Origins,
}

/// A profile that could be brought up.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Summary {
    pub(super) name: String,
    pub(super) description: Option<String>,
    /// The file, or `built-in`.
    pub(super) source: String,
}

/// The nearest ancestor that holds `profiles/`, else the directory itself.
pub(super) fn find(start: &Path) -> PathBuf {
    loader::find_project(start)
}

/// The profile of that name (or path), with its warnings told.
pub(super) fn load(session: &Session, profile: &str) -> Result<Loaded, Failure> {
    let loaded = load_quietly(session, profile)?;
    session.printer.problems(&loaded.warnings, session.project().ok().as_deref());
    Ok(loaded)
}

fn load_quietly(session: &Session, profile: &str) -> Result<Loaded, Failure> {
    let project = session.project()?;
    let request = request(&project, profile)?;
    match loader::load(&request) {
        Ok(loader::Loaded { profile, origins, problems }) => Ok(Loaded { profile, origins, warnings: problems }),
        Err(error) => Err(invalid(profile, error.problems).into()),
    }
}

/// Everything that is wrong with a profile; empty if it holds and is faultless.
pub(super) fn check(session: &Session, profile: &str) -> Result<Vec<Problem>, Failure> {
    let project = session.project()?;
    let request = request(&project, profile)?;
    Ok(match loader::load(&request) {
        Ok(loaded) => loaded.problems,
        Err(error) => error.problems,
    })
}

/// The profiles of the project, of the user and of the binary.
pub(super) fn list(session: &Session) -> Result<Vec<Summary>, Failure> {
    Ok(loader::list(&session.project()?, &Paths::resolve()?.config))
}

/// Which profile is meant: the one that is named, else the one that the environment runs, else `default`.
pub(super) async fn profile_name(session: &Session, named: Option<&str>) -> Result<String, Failure> {
    if let Some(name) = named {
        return Ok(name.to_owned());
    }
    let status = session.client().await?.status(&session.target()?).await?;
    Ok(status.profile.unwrap_or_else(|| "default".to_owned()))
}

/// As [`profile_name`], for commands that start no daemon: without one, `default`.
pub(super) async fn profile_name_if_running(session: &Session, named: Option<&str>) -> Result<String, Failure> {
    let running = match named {
        Some(name) => Some(name.to_owned()),
        None => match session.running_daemon()? {
            // A daemon that will not answer is no reason not to show a profile.
            Some(client) => client.status(&session.target()?).await.ok().and_then(|status| status.profile),
            None => None,
        },
    };
    Ok(running.unwrap_or_else(|| "default".to_owned()))
}

/// What `up` and `plan` send.
pub(super) fn up_request(session: &Session, profile: &str, loaded: &Loaded) -> Result<UpRequest, Failure> {
    let document = serde_json::to_value(&loaded.profile).map_err(|error| internal("cannot write the profile as JSON", error))?;
    Ok(UpRequest {
        target: session.target()?,
        profile: profile.to_owned(),
        document,
        offline: false,
        fail_on_drift: false,
        timeout_ms: None,
    })
}

impl Loaded {
    /// The profile as it is after everything was merged in, without secrets: they are no part of a profile.
    pub(super) fn effective(&self) -> serde_json::Value {
        self.origins.effective()
    }

    /// The images that its services need, each once, in their order.
    pub(super) fn images(&self) -> Vec<String> {
        images(&self.profile)
    }

    /// Where the value of a key such as `services.db.postgres.version` comes from.
    pub(super) fn explain(&self, key: &str) -> Option<String> {
        self.origins.explain(key)
    }
}

/// The images of the `default` profile; none where it does not hold, which other commands tell.
pub(super) fn images_of_default(session: &Session) -> Vec<String> {
    load_quietly(session, "default").map(|loaded| loaded.images()).unwrap_or_default()
}

fn request<'a>(project: &'a Path, profile: &'a str) -> Result<LoadRequest<'a>, Failure> {
    Ok(LoadRequest {
        project,
        profile,
        environment: std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect(),
        user_directory: Paths::resolve()?.config,
    })
}

fn invalid(profile: &str, problems: Vec<Problem>) -> ApiError {
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    let noun = if errors == 1 { "problem" } else { "problems" };
    let mut error = ApiError::new(ErrorCode::InvalidProfile, format!("the profile `{profile}` has {errors} {noun}"))
        .hint("`devenv profiles` lists the profiles, `devenv validate FILE` checks one");
    error.problems = problems;
    error
}
