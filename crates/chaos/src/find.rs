//! Finds scenarios: in the project's `chaos/`, then among those in the binary.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::validate::shown;
use devenv_profile::reading::{did_you_mean, one_of};

/// A scenario's text, not parsed yet.
#[derive(Debug)]
pub struct Located {
    pub name: String,
    /// The path or name that messages show.
    pub shown: String,
    pub bytes: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
#[error("scenario `{name}` does not exist")]
pub struct NotFound {
    pub name: String,
    pub hint: String,
}

/// The built-in scenarios: name and text.
fn shipped() -> impl Iterator<Item = (&'static str, &'static str)> {
    devenv_shipped::documents("chaos")
}

/// A path if it contains `/` or ends in `.yaml`, relative to the current directory, then to the project; otherwise a name.
pub fn find(scenario: &str, project: &Path) -> Result<Located, NotFound> {
    let is_path = scenario.contains('/') || Path::new(scenario).extension().is_some_and(|extension| extension == "yaml");
    let candidates = if is_path {
        vec![PathBuf::from(scenario), project.join(scenario)]
    } else {
        vec![project.join("chaos").join(format!("{scenario}.yaml"))]
    };
    // A link in the project may lead to any file of the user's, whose lines an error would show.
    let leads_out = |path: &PathBuf| match (path.canonicalize(), project.canonicalize()) {
        (Ok(real), Ok(project)) => !is_path && !real.starts_with(project),
        _ => false,
    };
    if let Some(path) = candidates.iter().find(|path| leads_out(path)) {
        let hint = format!("{} leads out of the project; pass the path of the file itself", path.display());
        return Err(NotFound { name: scenario.to_owned(), hint });
    }
    if let Some((path, bytes)) = candidates.into_iter().find_map(|path| read(&path).map(|bytes| (path, bytes))) {
        let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        return Ok(Located { name, shown: shown(&path), bytes });
    }
    if let Some((name, text)) = shipped().find(|(name, _)| !is_path && *name == scenario) {
        return Ok(Located { name: name.to_owned(), shown: format!("built-in/{name}.yaml"), bytes: text.as_bytes().to_vec() });
    }
    let known = list(project);
    let names = || known.iter().map(String::as_str);
    let hint = if is_path {
        "paths are resolved from the current directory, then from the project".to_owned()
    } else {
        did_you_mean(scenario, names()).unwrap_or_else(|| format!("available scenarios: {}; or pass a path", one_of(names())))
    };
    Err(NotFound { name: scenario.to_owned(), hint })
}

/// A file by its path, relative to the current directory, then to the project.
pub fn find_file(file: &str, project: &Path) -> Result<Located, NotFound> {
    let mut candidates = [PathBuf::from(file), project.join(file)].into_iter();
    let Some((path, bytes)) = candidates.find_map(|path| read(&path).map(|bytes| (path, bytes))) else {
        let hint = "paths are resolved from the current directory, then from the project".to_owned();
        return Err(NotFound { name: file.to_owned(), hint });
    };
    let name = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Located { name, shown: shown(&path), bytes })
}

/// The largest size of a scenario file, in bytes.
const LARGEST: u64 = 1 << 20;

/// A file of another type or above the size limit is not found.
fn read(path: &Path) -> Option<Vec<u8>> {
    devenv_files::read_bounded_in_time(path, LARGEST).ok()
}

/// The names of all scenarios.
pub fn list(project: &Path) -> Vec<String> {
    let own = fs::read_dir(project.join("chaos")).into_iter().flatten().filter_map(|entry| {
        let path = entry.ok()?.path();
        let name = path.file_stem()?.to_str()?.to_owned();
        path.extension().is_some_and(|extension| extension == "yaml").then_some(name)
    });
    let mut names: Vec<String> = own.chain(shipped().map(|(name, _)| name.to_owned())).collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::{profile_of, read};

    #[test]
    fn a_link_in_a_project_makes_no_scenario_of_a_file_elsewhere() {
        let (project, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(project.path().join("chaos")).unwrap();
        fs::write(elsewhere.path().join("x"), "secret: line\n").unwrap();
        std::os::unix::fs::symlink(elsewhere.path().join("x"), project.path().join("chaos/x.yaml")).unwrap();
        let error = find("x", project.path()).unwrap_err();
        assert!(error.hint.contains("leads out of the project"), "{}", error.hint);
        assert!(find(&elsewhere.path().join("x").display().to_string(), project.path()).is_ok());
    }

    #[test]
    fn every_shipped_scenario_holds() {
        for (name, text) in shipped() {
            let scenario = read(name, name, text.as_bytes(), None).unwrap_or_else(|report| panic!("{}", report.render()));
            assert!(scenario.description.is_some() && profile_of(name, text.as_bytes()).is_some() && !scenario.checks.is_empty(), "{name}");
        }
    }

    #[test]
    fn the_projects_scenarios_precede_built_in_ones_and_a_typing_error_gets_a_suggestion() {
        let project = tempfile::tempdir().unwrap();
        fs::create_dir(project.path().join("chaos")).unwrap();
        fs::write(project.path().join("chaos/partition.yaml"), "mine").unwrap();
        assert_eq!(find("partition", project.path()).unwrap().bytes, b"mine");
        assert_eq!(find("chaos/partition.yaml", project.path()).unwrap().name, "partition");
        assert_eq!(find("redis-outge", project.path()).unwrap_err().hint, "did you mean `redis-outage`?");
    }
}
