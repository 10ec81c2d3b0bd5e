//! What a command is about: a profile by name or path, or Compose files, named or found; and which of its services.

use std::path::{Path, PathBuf};

use devenv_api::{ApiError, ErrorCode, Phase, Status};

use super::{Loaded, find_compose, load, load_files, user_profiles};
use crate::cli::{failure::Failure, session::Session};

/// The arguments that select it.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Selection {
    /// Compose files to use instead of a profile. Later files are merged onto earlier ones.
    #[arg(long = "file", short = 'f', value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Profiles of the Compose files to enable. Default: `COMPOSE_PROFILES`.
    #[arg(long = "profile", value_name = "NAME")]
    pub(crate) profiles: Vec<String>,
}

/// The selection.
pub(crate) struct Selected {
    /// The name under which the environment runs it, and by which it is found again.
    pub(crate) name: String,
    pub(crate) loaded: Loaded,
    /// Only these services, if any.
    pub(crate) services: Vec<String>,
}

/// Selects and loads it. `words` are `[PROFILE] [SERVICE]…`, or only services if files are given. `current` is the profile
/// that the environment has.
pub(crate) fn select(session: &Session, selection: &Selection, words: &[String], current: Option<String>) -> Result<Selected, Failure> {
    if !selection.files.is_empty() {
        let files = absolute(&selection.files)?;
        let name = name_of(&session.project()?, &files, &selection.profiles);
        let loaded = load_files(session, &name, &files, &selection.profiles, words)?;
        return Ok(with_services(name, loaded, words));
    }
    let named = words.first().filter(|first| names_profile(session, first).unwrap_or(false));
    if let Some(first) = named {
        return with_profiles(session, first, selection, &words[1..]);
    }
    let default = default_name(session, current)?;
    match words.first() {
        None => with_profiles(session, &default, selection, &[]),
        Some(first) => {
            let selected = with_profiles(session, &default, selection, words);
            let is_service = |selected: &Selected| selected.services.iter().all(|service| selected.loaded.has_service(service));
            match selected {
                Ok(selected) if is_service(&selected) => Ok(selected),
                // Neither exists: the message about profiles is the right one.
                _ => with_profiles(session, first, selection, &words[1..]),
            }
        }
    }
}

/// Selects a profile by its name or path, or the default one of the project, for an environment of its own.
pub(crate) fn select_profile(session: &Session, name: Option<&str>) -> Result<Selected, Failure> {
    let name = name.map_or_else(|| default_name(session, None), |name| Ok(name.to_owned()))?;
    with_profiles(session, &name, &Selection::default(), &[])
}

/// The default name: the environment's own, the project's Compose file, or `default`.
pub(crate) fn default_name(session: &Session, current: Option<String>) -> Result<String, Failure> {
    if let Some(current) = current {
        return Ok(current);
    }
    let project = session.project()?;
    let has_profiles = project.join("profiles").is_dir();
    if !has_profiles {
        let files = find_compose(&project);
        if !files.is_empty() {
            let name = name_of(&project, &files, &[]);
            session.printer.say(format_args!("taking {}: the project has no `profiles/`", name.replace(':', " and ")));
            return Ok(name);
        }
        if !project.join("profiles").exists() {
            let message = format!("there is nothing to start in {}: neither `profiles/` nor a Compose file", project.display());
            return Err(ApiError::new(ErrorCode::Usage, message)
                .hint(
                    "run `devenv new` to write a profile from what the project holds, `devenv up -f FILE` for a Compose file elsewhere, or \
                     `devenv up NAME` for one of `devenv profiles`",
                )
                .into());
        }
    }
    Ok("default".to_owned())
}

fn with_profiles(session: &Session, name: &str, selection: &Selection, services: &[String]) -> Result<Selected, Failure> {
    let project = session.project()?;
    let Some((files, known)) = files_of(&project, name) else {
        let loaded = load(session, name)?;
        return Ok(with_services(name.to_owned(), loaded, services));
    };
    let profiles = if selection.profiles.is_empty() { known } else { selection.profiles.clone() };
    let name = name_of(&project, &files, &profiles);
    let loaded = load_files(session, &name, &files, &profiles, services)?;
    Ok(with_services(name, loaded, services))
}

/// Services by their names in the profile, with their copies.
fn with_services(name: String, loaded: Loaded, words: &[String]) -> Selected {
    let mut services = Vec::new();
    for word in words {
        let plain: String = word.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
        let known = if loaded.has_service(word) { word.clone() } else { plain };
        services.extend((2..).map(|copy| format!("{known}-{copy}")).take_while(|copy| loaded.has_service(copy)));
        services.push(known);
    }
    Selected { name, loaded, services }
}

/// `compose.yaml:more.yaml#debug`: files as `COMPOSE_FILE` lists them, and their profiles.
fn name_of(project: &Path, files: &[PathBuf], profiles: &[String]) -> String {
    let files: Vec<String> = files.iter().map(|file| file.strip_prefix(project).unwrap_or(file).display().to_string()).collect();
    let profiles = if profiles.is_empty() { String::new() } else { format!("#{}", profiles.join(",")) };
    files.join(":") + &profiles
}

/// The Compose files, and the profiles, of such a name; `None` for other names.
pub(super) fn files_of(project: &Path, name: &str) -> Option<(Vec<PathBuf>, Vec<String>)> {
    let (files, profiles) = name.split_once('#').unwrap_or((name, ""));
    let profiles = profiles.split(',').filter(|profile| !profile.is_empty()).map(str::to_owned).collect();
    let several = files.contains(':');
    let files: Vec<PathBuf> = files.split(':').map(|file| project.join(file)).collect();
    let is_compose = |file: &PathBuf| devenv_profile::load::is_compose(file);
    let good = if several { files.iter().all(|file| file.is_file()) } else { files.iter().all(is_compose) };
    good.then_some((files, profiles))
}

fn absolute(files: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let one = |file: &PathBuf| {
        let path = std::path::absolute(file).map_err(|error| crate::cli::failure::internal("cannot find the current directory", error))?;
        Ok(path.components().collect())
    };
    files.iter().map(one).collect()
}

/// Whether a word for a profile is a path.
pub(super) fn is_path(word: &str) -> bool {
    word.contains('/') || word.ends_with(".yaml") || word.ends_with(".yml")
}

/// The profile that an environment has, or had last. One that is gone is no reason for an environment that is down not to come up
/// with another.
pub(super) fn still_there(session: &Session, status: Status) -> Result<Option<String>, Failure> {
    let Some(name) = status.profile else { return Ok(None) };
    if status.phase != Phase::Absent || is_there(&session.project()?, &name)? {
        return Ok(Some(name));
    }
    session.printer.say(format_args!("the profile `{name}`, which the environment had last, no longer exists"));
    Ok(None)
}

fn is_there(project: &Path, name: &str) -> Result<bool, Failure> {
    if is_path(name) || name.contains(':') {
        return Ok(Path::new(name).exists() || project.join(name).exists() || files_of(project, name).is_some());
    }
    Ok(devenv_profile::load::list(project, Some(&user_profiles()?)).iter().any(|entry| entry.name == name))
}

/// Whether a word names a profile: a path, or a known name. Built-in profiles count unless the project has a Compose file.
pub(super) fn names_profile(session: &Session, word: &str) -> Result<bool, Failure> {
    Ok(is_path(word) || is_profile(&session.project()?, &user_profiles()?, word))
}

fn is_profile(project: &Path, user_profiles: &Path, word: &str) -> bool {
    let has_only_compose = !project.join("profiles").is_dir() && !find_compose(project).is_empty();
    let list = devenv_profile::load::list(project, Some(user_profiles));
    list.iter().any(|entry| entry.name == word && (entry.path.is_some() || !has_only_compose))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_word_is_a_service_of_a_compose_project_although_a_built_in_profile_has_that_name() {
        let (project, user) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let names = |word| is_profile(project.path(), user.path(), word);
        assert!(names("mariadb"), "a built-in profile");
        fs::write(project.path().join("compose.yaml"), "services: {}\n").unwrap();
        assert!(!names("mariadb"), "the project has only a Compose file");
        fs::create_dir(project.path().join("profiles")).unwrap();
        assert!(names("mariadb"), "the project has profiles too");
    }
}
