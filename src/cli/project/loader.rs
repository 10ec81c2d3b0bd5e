//! Stand-in for the profile loader, with the same interface: replace `mod loader;` in `project.rs` by
//! `use crate::profile::load as loader;` (and `Colour`, `Explanation` from where they are), and remove this file.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use devenv_api::{ApiError, ErrorCode, Problem};
use indexmap::IndexMap;
use serde::Serialize;
use serde_json::Value;

use crate::profile::Profile;

pub(in crate::cli) struct LoadRequest<'a> {
    pub(in crate::cli) project: &'a Path,
    pub(in crate::cli) profile: &'a str,
    pub(in crate::cli) environment: &'a BTreeMap<String, String>,
    pub(in crate::cli) user_directory: Option<&'a Path>,
}

pub(in crate::cli) enum Colour {
    Styled,
}

pub(in crate::cli) struct Loaded {
    pub(in crate::cli) profile: Profile,
    pub(in crate::cli) origins: Origins,
    pub(in crate::cli) report: Report,
}

pub(in crate::cli) struct Report;

impl Report {
    pub(in crate::cli) fn problems(&self) -> Vec<Problem> {
        Vec::new()
    }

    pub(in crate::cli) fn render(&self, _colour: Colour) -> String {
        String::new()
    }
}

#[derive(Debug, thiserror::Error)]
pub(in crate::cli) enum LoadError {
    #[error("there is no profile `{name}`")]
    NotFound { name: String },
    #[error("the profile `{name}` does not hold")]
    #[expect(dead_code, reason = "the stand-in finds no fault")]
    Invalid { name: String, report: Report },
}

impl std::fmt::Debug for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Report")
    }
}

impl LoadError {
    pub(in crate::cli) fn to_api(&self) -> ApiError {
        ApiError::new(ErrorCode::InvalidProfile, self.to_string())
    }
}

pub(in crate::cli) struct Origins;

#[derive(Serialize)]
pub(in crate::cli) struct Explanation {
    pub(in crate::cli) key: String,
    pub(in crate::cli) value: Option<Value>,
    pub(in crate::cli) default: bool,
    pub(in crate::cli) layers: Vec<Touch>,
}

#[derive(Serialize)]
pub(in crate::cli) struct Touch {
    pub(in crate::cli) file: String,
    pub(in crate::cli) line: Option<u32>,
    pub(in crate::cli) column: Option<u32>,
    pub(in crate::cli) value: String,
    pub(in crate::cli) written: Option<String>,
    pub(in crate::cli) variables: Vec<String>,
    pub(in crate::cli) counts: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("the profile has no `{key}`")]
pub(in crate::cli) struct UnknownKey {
    key: String,
    pub(in crate::cli) hint: Option<String>,
}

impl Origins {
    pub(in crate::cli) fn effective(&self) -> Value {
        serde_json::json!({ "services": {} })
    }

    pub(in crate::cli) fn effective_yaml(&self) -> String {
        "services: {}\n".to_owned()
    }

    pub(in crate::cli) fn explain(&self, key: &str) -> Result<Explanation, UnknownKey> {
        Err(UnknownKey { key: key.to_owned(), hint: None })
    }
}

#[derive(Serialize)]
pub(in crate::cli) struct ProfileEntry {
    pub(in crate::cli) name: String,
    pub(in crate::cli) description: Option<String>,
    pub(in crate::cli) source: Origin,
    pub(in crate::cli) path: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, Serialize)]
pub(in crate::cli) enum Origin {
    Project,
}

pub(in crate::cli) fn find_project(start: &Path) -> PathBuf {
    start.ancestors().find(|directory| directory.join("profiles").is_dir()).unwrap_or(start).to_owned()
}

pub(in crate::cli) fn load(request: &LoadRequest<'_>) -> Result<Loaded, LoadError> {
    let _ = (request.environment, request.user_directory);
    let path = if request.profile.contains('/') {
        request.project.join(request.profile)
    } else {
        request.project.join("profiles").join(format!("{}.yaml", request.profile))
    };
    if !path.is_file() {
        return Err(LoadError::NotFound { name: request.profile.to_owned() });
    }
    let profile = Profile {
        name: request.profile.to_owned(),
        description: None,
        project: request.project.to_owned(),
        variables: IndexMap::new(),
        services: IndexMap::new(),
        assets: BTreeMap::new(),
    };
    Ok(Loaded { profile, origins: Origins, report: Report })
}

pub(in crate::cli) fn list(_project: &Path, _user_directory: Option<&Path>) -> Vec<ProfileEntry> {
    Vec::new()
}
