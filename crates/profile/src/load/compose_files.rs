//! Compose files as a profile: finds them, reads them and hands the converted document to the loader.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use devenv_files::read_bounded;

use super::{LoadError, LoadRequest, Loaded, Loader, Report, is_elsewhere};
use crate::{compose, find, yaml::LARGEST};

/// The files that are taken without being named: the project's Compose file, with its override.
pub fn compose_files(project: &Path) -> Vec<PathBuf> {
    let first = |names: &[&str]| names.iter().map(|name| project.join(name)).find(|path| path.is_file());
    let Some(base) = first(devenv_compose::NAMES) else { return Vec::new() };
    std::iter::once(base).chain(first(devenv_compose::OVERRIDES)).collect()
}

/// Whether a file is a Compose file rather than a profile: by its name, else by what its services have.
pub fn is_compose(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if devenv_compose::NAMES.contains(&name) || devenv_compose::OVERRIDES.contains(&name) {
        return path.is_file();
    }
    let Ok(text) = read_bounded(path, LARGEST as u64).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()) else { return false };
    compose::is_compose(&text)
}

/// Loads Compose files as a profile.
pub fn load_compose(request: &ComposeRequest<'_>) -> Result<Loaded, LoadError> {
    for file in request.files.iter().filter_map(|file| file.canonicalize().ok()) {
        find::check(&file, request.trusted)?;
    }
    let files = devenv_compose::Request {
        project: request.project,
        files: request.files,
        environment: request.environment,
        profiles: request.profiles,
        services: request.services,
    };
    let disk = Disk { trusted: request.trusted, read: RefCell::default() };
    let converted = compose::convert(devenv_compose::load(files, &disk), request.name);
    let named: Vec<PathBuf> =
        request.files.iter().filter(|file| is_elsewhere(file, request.project)).filter_map(|file| file.canonicalize().ok()).collect();
    let compose::Given { name, project, sources, findings, layer, shown } = converted.map_err(|(findings, sources)| {
        let mut report = Report::new(findings, sources);
        report.conceal_outside(request.project, |path| named.iter().any(|named| named == path));
        LoadError::Invalid { name: request.name.to_owned(), report }
    })?;
    let environment = BTreeMap::new();
    let profile = LoadRequest {
        project: request.project,
        profile: request.name,
        environment: &environment,
        user_directory: None,
        trusted: request.trusted,
    };
    let mut report = Report::new(findings, sources);
    report.outside = disk.outside(request.project);
    let loader = Loader { request: &profile, report, layers: vec![layer], done: Vec::new(), open: Vec::new(), compose: true, named };
    let mut loaded = loader.finish(request.name)?;
    loaded.profile.description = loaded.profile.description.or(name.map(|name| format!("the Compose project {name}")));
    loaded.shown = Some(shown);
    loaded.compose_project = Some(project);
    Ok(loaded)
}

/// Which Compose files are to be loaded, and which parts of them.
#[derive(Debug, Clone, Copy)]
pub struct ComposeRequest<'a> {
    pub project: &'a Path,
    /// What people call it.
    pub name: &'a str,
    /// Absolute; a later one is laid on the ones before.
    pub files: &'a [PathBuf],
    pub environment: &'a BTreeMap<String, String>,
    pub profiles: &'a [String],
    /// Services to take in whatever their profiles say.
    pub services: &'a [String],
    /// Whether files that other users can change are taken all the same.
    pub trusted: bool,
}

/// Reads what Compose files name, and remembers it.
struct Disk {
    trusted: bool,
    read: RefCell<Vec<PathBuf>>,
}

impl Disk {
    fn outside(self, project: &Path) -> Vec<PathBuf> {
        let project = project.canonicalize().unwrap_or_else(|_| project.to_owned());
        self.read.into_inner().into_iter().filter(|path| !path.starts_with(&project)).collect()
    }
}

impl devenv_compose::Files for Disk {
    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        if let Ok(real) = path.canonicalize() {
            find::check(&real, self.trusted).map_err(|refused| refused.to_string())?;
            let mut read = self.read.borrow_mut();
            if !read.contains(&real) {
                read.push(real);
            }
        }
        read_bounded(path, LARGEST as u64).map_err(|unread| unread.to_string())
    }

    fn has(&self, path: &Path) -> bool {
        path.exists()
    }
}
