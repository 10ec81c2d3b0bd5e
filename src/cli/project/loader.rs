//! Stand-in for `crate::profile::load`, with the same interface: replace the line `mod loader;` in `project.rs` by
//! `use crate::profile::load as loader;` and remove this file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use devenv_api::{Problem, Severity};
use indexmap::IndexMap;

use super::Summary;
use crate::profile::Profile;

pub(super) struct LoadRequest<'a> {
    pub(super) project: &'a Path,
    pub(super) profile: &'a str,
    pub(super) environment: BTreeMap<String, String>,
    pub(super) user_directory: PathBuf,
}

pub(super) struct Loaded {
    pub(super) profile: Profile,
    pub(super) origins: Origins,
    pub(super) problems: Vec<Problem>,
}

pub(super) struct LoadError {
    pub(super) problems: Vec<Problem>,
}

pub(super) struct Origins(serde_json::Value);

impl Origins {
    pub(super) fn effective(&self) -> serde_json::Value {
        self.0.clone()
    }

    pub(super) fn explain(&self, key: &str) -> Option<String> {
        let value = self.0.pointer(&format!("/{}", key.replace('.', "/")))?;
        Some(format!("{key} = {value}"))
    }
}

pub(super) fn find_project(start: &Path) -> PathBuf {
    start.ancestors().find(|directory| directory.join("profiles").is_dir()).unwrap_or(start).to_owned()
}

pub(super) fn load(request: &LoadRequest<'_>) -> Result<Loaded, LoadError> {
    let path = if request.profile.contains('/') || Path::new(request.profile).extension().is_some_and(|extension| extension == "yaml") {
        request.project.join(request.profile)
    } else {
        request.project.join("profiles").join(format!("{}.yaml", request.profile))
    };
    let _ = (&request.environment, &request.user_directory);
    if !path.is_file() {
        let problem = Problem {
            file: path.display().to_string(),
            line: 1,
            column: 1,
            severity: Severity::Error,
            code: "unknown-profile".to_owned(),
            message: format!("there is no profile `{}`", request.profile),
            hint: None,
        };
        return Err(LoadError { problems: vec![problem] });
    }
    let profile = Profile {
        name: request.profile.to_owned(),
        description: None,
        project: request.project.to_owned(),
        variables: IndexMap::new(),
        services: IndexMap::new(),
        assets: BTreeMap::new(),
    };
    let effective = serde_json::json!({ "services": {} });
    Ok(Loaded { profile, origins: Origins(effective), problems: Vec::new() })
}

pub(super) fn list(project: &Path, _user_directory: &Path) -> Vec<Summary> {
    let files = std::fs::read_dir(project.join("profiles")).into_iter().flatten().flatten();
    files
        .filter_map(|entry| {
            let path = entry.path();
            let name = path.file_name()?.to_str()?.strip_suffix(".yaml")?.to_owned();
            Some(Summary { name, description: None, source: path.display().to_string() })
        })
        .collect()
}
