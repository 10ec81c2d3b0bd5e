//! Loads profiles for commands: every command that needs a profile calls this.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use devenv_api::{Problem, SecretOrigin, Severity, UpRequest};
use devenv_profile::{ComposeRequest, LoadError, LoadRequest, ProfileEntry, Refused, load as loader};

mod images;
mod in_time;
mod loaded;
mod select;

use super::{
    failure::{Failure, internal},
    given_secrets, powers,
    session::Session,
    trust,
};
use crate::paths::Paths;

pub(super) use loaded::Loaded;
pub(super) use select::{Selected, Selection, select, select_profile};

/// The nearest ancestor with `profiles/`, else the directory itself; canonical.
pub(super) fn find(start: &Path) -> PathBuf {
    loader::find_project(start)
}

/// Whether a directory holds profiles or a Compose file.
pub(super) fn is_project(directory: &Path) -> bool {
    directory.join("profiles").is_dir() || !loader::compose_files(directory).is_empty()
}

/// The profile with that name or path, after printing its warnings.
pub(super) fn load(session: &Session, profile: &str) -> Result<Loaded, Failure> {
    reported(session, load_quietly(session, profile))
}

/// All problems of a file, printed and returned; empty if it is valid and without warnings.
pub(super) fn check(session: &Session, file: &str) -> Result<Vec<Problem>, Failure> {
    match load_quietly(session, file) {
        Ok(loaded) => {
            session.printer.say_block(&loaded.0.report.render());
            Ok(loaded.0.report.problems())
        }
        Err(NotLoaded::Load(LoadError::Invalid { report, .. })) => {
            session.printer.tell_block(&report.render());
            Ok(report.problems())
        }
        Err(NotLoaded::Load(error)) => {
            let problem = not_read(file, &error);
            session.printer.tell_block(&problem.to_string());
            Ok(vec![problem])
        }
        Err(NotLoaded::Other(failure)) => Err(failure),
    }
}

/// The profiles of the project, of the user and of the binary.
pub(super) fn list(session: &Session) -> Result<Vec<ProfileEntry>, Failure> {
    Ok(loader::list(&session.project()?, Some(&user_profiles()?)))
}

/// The services of a profile, or of the one that `up` takes by itself; none if it cannot be loaded. Prints nothing.
pub(super) fn services_quietly(session: &Session, profile: Option<String>) -> Vec<String> {
    let name = profile.map_or_else(|| select::default_name(session, None), Ok);
    let loaded = name.ok().and_then(|name| load_quietly(session, &name).ok());
    loaded.map(|loaded| loaded.service_names()).unwrap_or_default()
}

/// Which profile is meant: the one that is named, else the one that the environment runs, else `default`.
pub(super) async fn profile_name(session: &Session, named: Option<&str>) -> Result<String, Failure> {
    if let Some(name) = named {
        return Ok(name.to_owned());
    }
    select::default_name(session, current(session).await?)
}

/// The profile that the environment runs, or ran last.
pub(super) async fn current(session: &Session) -> Result<Option<String>, Failure> {
    select::still_there(session, session.client().await?.status(&session.target()?).await?)
}

/// The same for a command that takes files, or a profile and services; the daemon is not asked if these name the profile.
pub(super) async fn current_unless_named(session: &Session, selection: &Selection, words: &[String]) -> Result<Option<String>, Failure> {
    let is_named = words.first().is_some_and(|first| select::names_profile(session, first).unwrap_or(false));
    if is_named || !selection.files.is_empty() {
        return Ok(None);
    }
    match current(session).await {
        // Errors in the words are reported first.
        Err(_) if !words.is_empty() => Ok(None),
        found => found,
    }
}

/// The same, for commands that start no daemon.
pub(super) async fn current_if_running(session: &Session) -> Result<Option<String>, Failure> {
    let Some(client) = session.running_daemon().await? else { return Ok(None) };
    // A profile can be shown even if the daemon does not answer.
    client.status(&session.target()?).await.map_or(Ok(None), |status| select::still_there(session, status))
}

/// The project's Compose file with its override, or the files that `COMPOSE_FILE` lists.
fn find_compose(project: &Path) -> Vec<PathBuf> {
    let listed = std::env::var("COMPOSE_FILE").ok().filter(|list| !list.is_empty());
    match listed {
        Some(list) => list.split(':').map(|file| project.join(file)).collect(),
        None => loader::compose_files(project),
    }
}

/// The words of a command that takes a profile and services: the first one is a profile if it is a path, or the name of one.
pub(super) fn profile_and_services(session: &Session, words: &[String]) -> Result<(Option<String>, Vec<String>), Failure> {
    let Some((first, rest)) = words.split_first() else { return Ok((None, Vec::new())) };
    if select::names_profile(session, first)? {
        return Ok((Some(first.clone()), rest.to_vec()));
    }
    Ok((None, words.to_vec()))
}

/// As [`profile_name`], for commands that start no daemon: without one, `default`.
pub(super) async fn profile_name_if_running(session: &Session, named: Option<&str>) -> Result<String, Failure> {
    if let Some(name) = named {
        return Ok(name.to_owned());
    }
    let current = current_if_running(session).await?;
    if current.is_some() || !find_compose(&session.project()?).is_empty() {
        return select::default_name(session, current);
    }
    Ok(default_profile())
}

fn default_profile() -> String {
    "default".to_owned()
}

/// The request of `up` and `plan`.
pub(super) fn up_request(session: &Session, profile: &str, loaded: &Loaded) -> Result<UpRequest, Failure> {
    let document = serde_json::to_value(&loaded.0.profile).map_err(|error| internal("cannot write the profile as JSON", error))?;
    let request = UpRequest::of(session.target()?, profile.to_owned(), document);
    Ok(UpRequest { inherited: Some(crate::inherit::of_this_process()), ..request })
}

/// The same to start the environment: after consent to the profile's powers over this machine, and with its secrets.
pub(super) async fn start_request(session: &Session, profile: &str, loaded: &Loaded, yes: bool) -> Result<UpRequest, Failure> {
    powers::consent(session, &loaded.host_powers(), yes)?;
    let request = up_request(session, profile, loaded)?;
    let mut sources = loaded.0.profile.secrets.clone();
    if sources.values().any(given_secrets::is_read) {
        // What `secrets set` has set needs no source.
        let known = session.client().await?.secrets(&request.target).await?.secrets;
        let is_set = |name: &String| known.iter().any(|one| one.service.is_none() && one.name == *name && one.source == SecretOrigin::Set);
        sources.retain(|name, _| !is_set(name));
    }
    let secrets = given_secrets::read(&sources, &loaded.0.profile.project).await?;
    Ok(UpRequest { secrets, ..request })
}

/// The images of the `default` profile; none if it is invalid, which other commands report.
pub(super) fn images_of_default(session: &Session) -> Vec<String> {
    load_quietly(session, "default").map(|loaded| loaded.images()).unwrap_or_default()
}

enum NotLoaded {
    Load(LoadError),
    Other(Failure),
}

/// Loads Compose files, and prints their warnings.
pub(super) fn load_files(
    session: &Session,
    name: &str,
    files: &[PathBuf],
    profiles: &[String],
    services: &[String],
) -> Result<Loaded, Failure> {
    reported(session, load_files_quietly(session, name, files, profiles, services))
}

/// Prints the warnings, or returns the failure as commands show it.
fn reported(session: &Session, loaded: Result<Loaded, NotLoaded>) -> Result<Loaded, Failure> {
    let loaded = loaded.map_err(|error| match error {
        NotLoaded::Load(error) => invalid(&error),
        NotLoaded::Other(failure) => failure,
    })?;
    session.printer.say_block(&loaded.0.report.render());
    Ok(loaded)
}

fn load_files_quietly(
    session: &Session,
    name: &str,
    files: &[PathBuf],
    profiles: &[String],
    services: &[String],
) -> Result<Loaded, NotLoaded> {
    let project = session.project().map_err(|error| NotLoaded::Other(error.into()))?;
    let environment = environment();
    let trusted = trust::is_trusted(&project).map_err(|error| NotLoaded::Other(error.into()))?;
    let (name, files, profiles, services) = (name.to_owned(), files.to_owned(), profiles.to_owned(), services.to_owned());
    in_time::loaded(move || {
        let (files, profiles, services) = (files.as_slice(), profiles.as_slice(), services.as_slice());
        let name = name.as_str();
        loader::load_compose(&ComposeRequest { project: &project, name, files, environment: &environment, profiles, services, trusted })
    })
    .map(Loaded)
}

fn load_quietly(session: &Session, profile: &str) -> Result<Loaded, NotLoaded> {
    let project = session.project().map_err(|error| NotLoaded::Other(error.into()))?;
    if let Some((files, profiles)) = select::files_of(&project, profile) {
        return load_files_quietly(session, profile, &files, &profiles, &[]);
    }
    let user_directory = user_profiles().map_err(NotLoaded::Other)?;
    let environment = environment();
    let trusted = trust::is_trusted(&project).map_err(|error| NotLoaded::Other(error.into()))?;
    let profile = profile.to_owned();
    in_time::loaded(move || {
        let (profile, user_directory) = (profile.as_str(), Some(user_directory.as_path()));
        loader::load(&LoadRequest { project: &project, profile, environment: &environment, user_directory, trusted })
    })
    .map(Loaded)
}

/// The variables of this process that are UTF-8.
fn environment() -> BTreeMap<String, String> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))).collect()
}

fn user_profiles() -> Result<PathBuf, Failure> {
    Ok(Paths::resolve()?.config.join("profiles"))
}

fn invalid(error: &LoadError) -> Failure {
    let shown = match error {
        LoadError::Invalid { report, .. } => report.render(),
        LoadError::NotFound { .. } | LoadError::Refused(_) => String::new(),
    };
    Failure::Invalid { error: error.to_api(), shown }
}

/// `validate` reports everything as problems, including this.
fn not_read(file: &str, error: &LoadError) -> Problem {
    Problem {
        file: file.to_owned(),
        line: 1,
        column: 1,
        severity: Severity::Error,
        code: match error {
            LoadError::NotFound { .. } => "not-found",
            LoadError::Refused(Refused::Untrusted(_)) => "untrusted",
            LoadError::Refused(Refused::Unreadable { .. }) | LoadError::Invalid { .. } => "unreadable",
        }
        .to_owned(),
        message: error.to_string(),
        hint: error.to_api().hint,
    }
}
