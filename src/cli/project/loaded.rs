//! A loaded profile, as commands look at it: its services, images, values and secrets.

use std::path::{Path, PathBuf};

use devenv_api::{ApiError, ErrorCode, HostPower};
use devenv_kinds::Kind;
use devenv_profile::{Explanation, load as loader};
use devenv_spec::{Image, sensitive};
use serde::Serialize;

use super::images;
use crate::cli::{
    failure::usage,
    printer::{DIM, paint},
};

/// A profile that holds, and where its values come from.
pub(crate) struct Loaded(pub(super) loader::Loaded);

impl Loaded {
    /// What a scenario needs to know of the services.
    pub(crate) fn chaos_services(&self) -> devenv_chaos::Services {
        let facts =
            |name: &str, kind: &Kind| devenv_chaos::ServiceFacts { kind: kind.name().to_owned(), databases: kind.fields().databases(name) };
        devenv_chaos::Services(
            self.0.profile.services.iter().map(|(name, service)| (name.as_str().to_owned(), facts(name.as_str(), &service.kind))).collect(),
        )
    }

    /// The profile as it is after everything was merged in, with what users keep secret in it masked unless `shown`.
    pub(crate) fn effective(&self, shown: bool) -> serde_json::Value {
        match &self.0.shown {
            Some(document) if shown => document.clone(),
            Some(document) => devenv_profile::masked(document),
            None if shown => self.0.origins.effective(),
            None => self.0.origins.redacted(),
        }
    }

    pub(crate) fn effective_yaml(&self, shown: bool) -> String {
        match &self.0.shown {
            Some(_) => format!("# {} as a profile\n{}", self.0.profile.name, devenv_profile::profile_text(&self.effective(shown))),
            None if shown => self.0.origins.effective_yaml(),
            None => self.0.origins.redacted_yaml(),
        }
    }

    /// The profile as a Compose file. What came from Compose files goes back as it came.
    pub(crate) fn as_compose(&self, name: Option<&str>) -> devenv_profile::Rendering {
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
    pub(crate) fn profile_text(&self) -> String {
        devenv_profile::profile_text(&self.effective(true))
    }

    /// The name under which Docker Compose runs it, if it came from Compose files.
    pub(crate) fn compose_project(&self) -> Option<&str> {
        self.0.compose_project.as_deref()
    }

    /// An error if the profile declares no secret of that name.
    pub(crate) fn declares_secret(&self, name: &str) -> Result<(), ApiError> {
        let secrets = &self.0.profile.secrets;
        if secrets.contains_key(name) {
            return Ok(());
        }
        let message = format!("the profile `{}` declares no secret `{name}`", self.0.profile.name);
        let hint = devenv_profile::did_you_mean(name, secrets.keys().map(String::as_str));
        let hint = hint.unwrap_or_else(|| format!("declare it: `secrets: {{ {name}: {{ from_env: {name} }} }}`"));
        Err(ApiError::new(ErrorCode::NotFound, message).hint(hint))
    }

    pub(crate) fn service_names(&self) -> Vec<String> {
        self.0.profile.services.keys().map(ToString::to_string).collect()
    }

    pub(crate) fn has_service(&self, name: &str) -> bool {
        self.0.profile.services.contains_key(name)
    }

    /// What it does on this machine beyond running containers.
    pub(crate) fn host_powers(&self) -> Vec<HostPower> {
        devenv_profile::host_powers(&self.0.profile, self.0.report.outside(), &real)
    }

    /// Variables of services that it replaces by values of its own.
    pub(crate) fn overridden(&self) -> Vec<String> {
        let given = &self.0.profile.variables;
        self.0.profile.overrides.iter().filter(|name| given.contains_key(*name)).cloned().collect()
    }

    /// Refuses what writes to servers, as tests and faults do, where a connection need not lead to this environment.
    pub(crate) fn refuse_overridden(&self, doing: &str) -> Result<(), ApiError> {
        let names = self.overridden();
        if names.is_empty() {
            return Ok(());
        }
        let message = format!("{doing} does not run while the profile overrides {}: it may not lead to this environment", names.join(", "));
        Err(ApiError::new(ErrorCode::Failed, message).hint("use a profile without `override` for tests and faults"))
    }

    /// Values that users gave under a name that sounds like a secret's, in the profile or in this process's variables.
    pub(crate) fn given_secrets(&self) -> Vec<String> {
        let mut given = Vec::new();
        named_values(&self.0.origins.effective(), "", &mut given);
        given.extend(super::environment());
        let secrets = given.iter().filter(|(name, value)| value.len() >= SHORTEST_SECRET && sensitive::sounds_secret(name));
        let whole = secrets.map(|(_, value)| value.clone());
        let passwords = given.iter().filter_map(|(_, value)| {
            let (start, end) = sensitive::password_of_url(value)?;
            Some(value[start..end].to_owned())
        });
        whole.chain(passwords).collect()
    }

    /// Every value of the profile with the places that it comes from, for a person.
    pub(crate) fn origins(&self) -> String {
        let mut keys = Vec::new();
        leaves(&self.0.origins.effective(), "", &mut keys);
        let api_error = keys.iter().filter_map(|key| self.0.origins.explain(key).ok().map(masked));
        api_error.map(|explanation| anstream::adapter::strip_str(&explained(&explanation)).to_string() + "\n").collect()
    }

    /// The images that its services need, each once, in their order.
    pub(crate) fn images(&self) -> Vec<String> {
        images::images(&self.0.profile).iter().map(|image| image.name().to_owned()).collect()
    }

    /// Those of them that a registry has.
    pub(crate) fn pulled_images(&self) -> Vec<String> {
        let named = images::images(&self.0.profile).into_iter().filter_map(|image| match image {
            Image::Named(name) => Some(name),
            Image::Built(_) => None,
        });
        named.collect()
    }

    /// Where the value of a key such as `services.db.postgres.version` comes from: for a program, and for a person.
    pub(crate) fn explain(&self, key: &str, shown: bool) -> Result<(impl Serialize, String), ApiError> {
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

/// A path with its links followed, as far as it exists.
fn real(path: &Path) -> PathBuf {
    let found = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
    match found.map(|(above, real)| (path.strip_prefix(above), real)) {
        Some((Ok(rest), real)) if !rest.as_os_str().is_empty() => real.join(rest),
        Some((_, real)) => real,
        None => path.to_owned(),
    }
}
