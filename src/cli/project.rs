//! Loads profiles for commands: every command that needs a profile calls this.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use devenv_api::{ApiError, ErrorCode, HostPower, Problem, Severity, UpRequest};
use serde::Serialize;

mod images;
mod in_time;
mod select;

use devenv_kinds::Kind;
use devenv_profile::{ComposeRequest, Explanation, LoadError, LoadRequest, ProfileEntry, Refused, load as loader};
use devenv_spec::{Image, sensitive};

use super::{
    failure::{Failure, internal, usage},
    given_secrets, powers,
    printer::{DIM, paint},
    session::Session,
    trust,
};
use crate::paths::Paths;

pub(super) use select::{Selected, Selection, select};

/// A profile that holds, and where its values come from.
pub(super) struct Loaded(loader::Loaded);

/// The nearest ancestor with `profiles/`, else the directory itself; canonical.
pub(super) fn find(start: &Path) -> PathBuf {
    loader::find_project(start)
}

/// The profile with that name or path, after printing its warnings.
pub(super) fn load(session: &Session, profile: &str) -> Result<Loaded, Failure> {
    let loaded = load_quietly(session, profile).map_err(|error| match error {
        NotLoaded::Load(error) => invalid(&error),
        NotLoaded::Other(failure) => failure,
    })?;
    session.printer.say_block(&loaded.0.report.render());
    Ok(loaded)
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
    Ok(UpRequest {
        target: session.target()?,
        profile: profile.to_owned(),
        document,
        offline: false,
        fail_on_drift: false,
        warm: false,
        build: false,
        force_recreate: false,
        timeout_ms: None,
        services: Vec::new(),
        inherited: Some(crate::inherit::of_this_process()),
        secrets: devenv_api::ShellVariables::default(),
    })
}

/// The same to start the environment: after consent to the profile's powers over this machine, and with its secrets.
pub(super) async fn start_request(session: &Session, profile: &str, loaded: &Loaded, yes: bool) -> Result<UpRequest, Failure> {
    powers::consent(session, &loaded.host_powers(), yes)?;
    let request = up_request(session, profile, loaded)?;
    let secrets = given_secrets::read(&loaded.0.profile.secrets, &loaded.0.profile.project).await?;
    Ok(UpRequest { secrets, ..request })
}

/// The images of the `default` profile; none if it is invalid, which other commands report.
pub(super) fn images_of_default(session: &Session) -> Vec<String> {
    load_quietly(session, "default").map(|loaded| loaded.images()).unwrap_or_default()
}

impl Loaded {
    /// What a scenario needs to know of the services.
    pub(super) fn chaos_services(&self) -> devenv_chaos::Services {
        let facts =
            |name: &str, kind: &Kind| devenv_chaos::ServiceFacts { kind: kind.name().to_owned(), databases: kind.fields().databases(name) };
        devenv_chaos::Services(
            self.0.profile.services.iter().map(|(name, service)| (name.as_str().to_owned(), facts(name.as_str(), &service.kind))).collect(),
        )
    }

    /// The profile as it is after everything was merged in, with what users keep secret in it masked unless `shown`.
    pub(super) fn effective(&self, shown: bool) -> serde_json::Value {
        match &self.0.shown {
            Some(document) if shown => document.clone(),
            Some(document) => devenv_profile::masked(document),
            None if shown => self.0.origins.effective(),
            None => self.0.origins.redacted(),
        }
    }

    pub(super) fn effective_yaml(&self, shown: bool) -> String {
        match &self.0.shown {
            Some(_) => format!("# {} as a profile\n{}", self.0.profile.name, devenv_profile::profile_text(&self.effective(shown))),
            None if shown => self.0.origins.effective_yaml(),
            None => self.0.origins.redacted_yaml(),
        }
    }

    /// The profile as a Compose file. What came from Compose files goes back as it came.
    pub(super) fn as_compose(&self, name: Option<&str>) -> devenv_profile::Rendering {
        match &self.0.shown {
            Some(document) => devenv_profile::Rendering {
                text: devenv_profile::render(document, name).unwrap_or_default(),
                variables: Vec::new(),
                left_out: Vec::new(),
                missing: Vec::new(),
            },
            None => devenv_profile::render_profile(&self.0.profile, &self.effective(true), name),
        }
    }

    /// The text of a profile that means the same.
    pub(super) fn profile_text(&self) -> String {
        devenv_profile::profile_text(&self.effective(true))
    }

    pub(super) fn service_names(&self) -> Vec<String> {
        self.0.profile.services.keys().map(ToString::to_string).collect()
    }

    pub(super) fn has_service(&self, name: &str) -> bool {
        self.0.profile.services.contains_key(name)
    }

    /// What it does on this machine beyond running containers.
    pub(super) fn host_powers(&self) -> Vec<HostPower> {
        devenv_profile::host_powers(&self.0.profile)
    }

    /// Variables of services that it replaces by values of its own.
    pub(super) fn overridden(&self) -> Vec<String> {
        let given = &self.0.profile.variables;
        self.0.profile.overrides.iter().filter(|name| given.contains_key(*name)).cloned().collect()
    }

    /// Refuses what writes to servers, as tests and faults do, where a connection need not lead to this environment.
    pub(super) fn refuse_overridden(&self, doing: &str) -> Result<(), ApiError> {
        let names = self.overridden();
        if names.is_empty() {
            return Ok(());
        }
        let message = format!("{doing} does not run while the profile overrides {}: it may not lead to this environment", names.join(", "));
        Err(ApiError::new(ErrorCode::Failed, message).hint("use a profile without `override` for tests and faults"))
    }

    /// Values that users gave under a name that sounds like a secret's, in the profile or in this process's variables.
    pub(super) fn given_secrets(&self) -> Vec<String> {
        let mut given = Vec::new();
        named_values(&self.0.origins.effective(), "", &mut given);
        given.extend(std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))));
        let secrets = given.iter().filter(|(name, value)| value.len() >= SHORTEST_SECRET && sensitive::sounds_secret(name));
        let whole = secrets.map(|(_, value)| value.clone());
        let passwords = given.iter().filter_map(|(_, value)| {
            let (start, end) = sensitive::password_of_url(value)?;
            Some(value[start..end].to_owned())
        });
        whole.chain(passwords).collect()
    }

    /// Every value of the profile with the places that it comes from, for a person.
    pub(super) fn origins(&self) -> String {
        let mut keys = Vec::new();
        leaves(&self.0.origins.effective(), "", &mut keys);
        let api_error = keys.iter().filter_map(|key| self.0.origins.explain(key).ok().map(masked));
        api_error.map(|explanation| anstream::adapter::strip_str(&explained(&explanation)).to_string() + "\n").collect()
    }

    /// The images that its services need, each once, in their order.
    pub(super) fn images(&self) -> Vec<String> {
        images::images(&self.0.profile).iter().map(|image| image.name().to_owned()).collect()
    }

    /// Those of them that a registry has.
    pub(super) fn pulled_images(&self) -> Vec<String> {
        let named = images::images(&self.0.profile).into_iter().filter_map(|image| match image {
            Image::Named(name) => Some(name),
            Image::Built(_) => None,
        });
        named.collect()
    }

    /// Where the value of a key such as `services.db.postgres.version` comes from: for a program, and for a person.
    pub(super) fn explain(&self, key: &str, shown: bool) -> Result<(impl Serialize, String), ApiError> {
        let explanation = self.0.origins.explain(key).map_err(|unknown| {
            let hint = unknown.hint.clone().unwrap_or_else(|| "run `devenv config` to list all keys".to_owned());
            usage(unknown.to_string()).hint(hint)
        })?;
        let explanation = if shown { explanation } else { masked(explanation) };
        let words = explained(&explanation);
        Ok((explanation, words))
    }
}

/// A shorter value than this is no secret worth the name, and would be found in words.
const SHORTEST_SECRET: usize = 6;

/// All single texts with their last keys.
fn named_values(value: &serde_json::Value, name: &str, found: &mut Vec<(String, String)>) {
    match value {
        serde_json::Value::Object(fields) => fields.iter().for_each(|(key, value)| named_values(value, key, found)),
        serde_json::Value::Array(items) => items.iter().for_each(|item| named_values(item, name, found)),
        serde_json::Value::String(text) => found.push((name.to_owned(), text.clone())),
        _ => {}
    }
}

/// The paths of all single values, as `explain` takes them.
fn leaves(value: &serde_json::Value, path: &str, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(fields) if !fields.is_empty() => {
            for (key, value) in fields {
                leaves(value, &if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

/// Without what users keep secret.
fn masked(mut explanation: Explanation) -> Explanation {
    let path: Vec<&str> = explanation.key.split('.').collect();
    let mask = |value: &mut serde_json::Value| {
        if let serde_json::Value::String(text) = value {
            *text = devenv_profile::masked_at(&path, text);
        }
    };
    explanation.value.as_mut().map(mask);
    for touch in &mut explanation.layers {
        touch.value = devenv_profile::masked_at(&path, &touch.value);
    }
    explanation
}

fn explained(explanation: &Explanation) -> String {
    let value = explanation.value.as_ref().map_or_else(|| "nothing".to_owned(), ToString::to_string);
    let origin = if explanation.default { " (the default)" } else { "" };
    let mut lines = vec![format!("{} = {value}{origin}", explanation.key)];
    for touch in &explanation.layers {
        let place = match (touch.line, touch.column) {
            (Some(line), Some(column)) => format!("{}:{line}:{column}", touch.file),
            _ => touch.file.clone(),
        };
        let written = touch.written.as_ref().map(|written| format!(", written as {written}")).unwrap_or_default();
        let variables = if touch.variables.is_empty() { String::new() } else { format!(" ({})", touch.variables.join(", ")) };
        let counts = if touch.counts { "" } else { " (overridden)" };
        lines.push(format!("  {} {}{written}{variables}{counts}", paint(DIM, format_args!("{place}:")), touch.value));
    }
    lines.join("\n")
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
    let loaded = load_files_quietly(session, name, files, profiles, services).map_err(|error| match error {
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
