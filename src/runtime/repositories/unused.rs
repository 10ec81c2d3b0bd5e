//! Finds the checkouts that nothing needs any more. `gc` calls it, and removes what it finds; `up` makes a checkout again.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use devenv_spec::{EnvironmentSpec, ImageBuild, ServiceSpec};

use super::{LAST, NEW};

/// A checkout that no environment is built from is kept for this long after its last use.
pub(crate) const KEPT: Duration = Duration::from_hours(14 * 24);
/// An `up` may be using a checkout that is on no record yet, or be fetching one: it takes less than this.
const BEING_USED: Duration = Duration::from_hours(1);

/// The directories that builds of an environment read.
pub(crate) fn contexts(spec: &mut EnvironmentSpec) -> Vec<PathBuf> {
    let of = |build: &ImageBuild| {
        let additional = build.options.contexts.values().filter(|value| value.starts_with('/')).map(PathBuf::from);
        additional.chain([build.context.clone()]).collect::<Vec<_>>()
    };
    let builds = spec.services.values_mut().flat_map(ServiceSpec::builds_mut);
    builds.flat_map(|build| build.options.first.iter().chain([&*build]).flat_map(of).collect::<Vec<_>>()).collect()
}

/// What can be removed below the directory of all checkouts: those of references that were last used longer ago than `kept`, unless
/// `contexts` are in them, and what an interrupted fetch has left.
pub(crate) fn unused(directory: &Path, contexts: &[PathBuf], kept: Duration) -> io::Result<Vec<PathBuf>> {
    let kept = kept.max(BEING_USED);
    // Contexts are paths without links.
    let real = fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    let mut found = Vec::new();
    for place in entries(&real)? {
        let used = fs::metadata(place.join(LAST)).or_else(|_| fs::symlink_metadata(&place));
        if is_older(used, kept) && !contexts.iter().any(|context| context.starts_with(&place)) {
            found.push(place);
            continue;
        }
        let left = entries(&place)?.into_iter().filter(|entry| {
            let is_new = entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with(NEW));
            is_new && is_older(fs::symlink_metadata(entry), BEING_USED)
        });
        found.extend(left);
    }
    found.sort();
    Ok(found)
}

/// None if there is no such directory.
fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => Ok(entries.flatten().map(|entry| entry.path()).collect()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Not if its time is in the future: the clock may have been set back.
fn is_older(metadata: io::Result<fs::Metadata>, than: Duration) -> bool {
    let modified = metadata.and_then(|metadata| metadata.modified()).ok();
    modified.and_then(|at| SystemTime::now().duration_since(at).ok()).is_some_and(|age| age > than)
}
