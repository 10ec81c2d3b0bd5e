//! The seam to the profile loader: every command that needs a profile comes through here.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use devenv_api::{Problem, UpRequest};
use serde::Serialize;

mod images;

use images::images;

use super::{
    failure::{Failure, internal},
    session::Session,
};
use crate::profile::{self, LoadRequest, Origins, Profile};

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
    profile::load::find_project(start)
}

/// The profile of that name (or path), with its warnings told.
pub(super) fn load(session: &Session, profile: &str) -> Result<Loaded, Failure> {
    let loaded = load_quietly(session, profile)?;
    session.printer.problems(&loaded.warnings, session.project().ok().as_deref());
    Ok(loaded)
}

fn load_quietly(session: &Session, profile: &str) -> Result<Loaded, Failure> {
    match attempt(session, profile)? {
        Ok(profile::Loaded { profile, origins, report }) => Ok(Loaded { profile, origins, warnings: report.problems() }),
        Err(error) => Err(error.to_api().into()),
    }
}

/// Everything that is wrong with a profile; empty if it holds and is faultless.
pub(super) fn check(session: &Session, profile: &str) -> Result<Vec<Problem>, Failure> {
    match attempt(session, profile)? {
        Ok(loaded) => Ok(loaded.report.problems()),
        Err(error @ profile::LoadError::NotFound { .. }) => Err(error.to_api().into()),
        Err(error) => Ok(error.problems()),
    }
}

fn attempt(session: &Session, profile: &str) -> Result<Result<profile::Loaded, profile::LoadError>, Failure> {
    let project = session.project()?;
    let environment: BTreeMap<String, String> =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect();
    let user = session.paths()?.config.join("profiles");
    Ok(profile::load::load(&LoadRequest { project: &project, profile, environment: &environment, user_directory: Some(&user) }))
}

/// The profiles of the project, of the user and of the binary.
pub(super) fn list(session: &Session) -> Result<Vec<Summary>, Failure> {
    let entries = profile::load::list(&session.project()?, Some(&session.paths()?.config.join("profiles")));
    let summary = |entry: profile::ProfileEntry| Summary {
        name: entry.name,
        description: entry.description,
        source: entry.path.map_or_else(|| "built-in".to_owned(), |path| path.display().to_string()),
    };
    Ok(entries.into_iter().map(summary).collect())
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
    pub(super) fn explain(&self, key: &str) -> Result<profile::Explanation, profile::UnknownKey> {
        self.origins.explain(key)
    }
}

/// The images of the `default` profile; none where it does not hold, which other commands tell.
pub(super) fn images_of_default(session: &Session) -> Vec<String> {
    load_quietly(session, "default").map(|loaded| loaded.images()).unwrap_or_default()
}

