//! Finds profiles: in the project's `profiles/`, the user's directory, the binary. The first with the name is used.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use devenv_files::{ReadError, Untrusted, open_regular, read_bounded};
use serde::Serialize;

use super::{
    embedded,
    source::{Findings, Sources},
    spelling,
    yaml::{self, LARGEST},
};

/// One available profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProfileEntry {
    pub name: String,
    pub description: Option<String>,
    pub source: Origin,
    /// `None` if it is in the binary.
    pub path: Option<PathBuf>,
    /// Whether it shows something or belongs to a scenario, and is listed only on request.
    pub example: bool,
}

/// The source of a profile, nearest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Named by its path.
    Path,
    Project,
    User,
    BuiltIn,
}

/// Why an existing profile is not used.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    #[error("{shown} {reason}")]
    Unreadable { shown: String, reason: ReadError },
    /// Another user could have written it.
    #[error(transparent)]
    Untrusted(Untrusted),
}

/// A profile's text, not parsed yet.
pub(super) struct Located {
    pub(super) name: String,
    /// The file's name in messages.
    pub(super) shown: String,
    /// Equal for the same file, however it was named.
    pub(super) identity: PathBuf,
    pub(super) directory: Option<PathBuf>,
    pub(super) origin: Origin,
    pub(super) bytes: Vec<u8>,
}

/// The nearest ancestor with `profiles/`, else the directory itself.
pub fn find_project(start: &Path) -> PathBuf {
    let start = fs::canonicalize(start).unwrap_or_else(|_| start.to_owned());
    start.ancestors().find(|directory| directory.join("profiles").is_dir()).unwrap_or(&start).to_owned()
}

/// All available profiles, by name; of two with one name, the one that is used.
pub fn list(project: &Path, user_directory: Option<&Path>) -> Vec<ProfileEntry> {
    let mut found: BTreeMap<String, ProfileEntry> = BTreeMap::new();
    let shipped = embedded::profiles().map(|entry| (entry, false)).chain(embedded::examples().map(|entry| (entry, true)));
    for ((name, text), example) in shipped {
        let entry = ProfileEntry { name: name.to_owned(), description: description(text), source: Origin::BuiltIn, path: None, example };
        found.insert(entry.name.clone(), entry);
    }
    let places = [(user_directory.map(Path::to_owned), Origin::User), (Some(project.join("profiles")), Origin::Project)];
    for (directory, source) in places {
        for path in directory.iter().flat_map(|directory| children(directory)) {
            let extension = path.extension().is_some_and(|extension| extension == "yaml");
            let Some(name) = path.file_stem().and_then(|stem| stem.to_str()).filter(|_| extension) else { continue };
            let text = read_bounded(&path, LARGEST as u64).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
            let entry =
                ProfileEntry { name: name.to_owned(), description: description(&text), source, path: Some(path.clone()), example: false };
            found.insert(entry.name.clone(), entry);
        }
    }
    found.into_values().collect()
}

pub(super) fn is_path(profile: &str) -> bool {
    profile.contains('/') || Path::new(profile).extension().is_some_and(|extension| extension == "yaml")
}

/// Finds a profile. A path is relative to `beside` (or the current directory), then to the project; a name is looked for
/// in its three places, or only in those after `behind`.
pub(super) fn find(
    profile: &str,
    project: &Path,
    user_directory: Option<&Path>,
    beside: Option<&Path>,
    behind: Option<Origin>,
) -> Result<Option<Located>, Refused> {
    if is_path(profile) {
        let first = beside.map_or_else(|| PathBuf::from(profile), |directory| directory.join(profile));
        let path = [first, project.join(profile)].into_iter().find(|path| path.exists() && !path.is_dir());
        return path.map(|path| located(&path, Origin::Path)).transpose();
    }
    let visible = |origin: Origin| behind.is_none_or(|behind| origin > behind);
    let file = format!("{profile}.yaml");
    let places = [(Some(project.join("profiles")), Origin::Project), (user_directory.map(Path::to_owned), Origin::User)];
    for (directory, origin) in places {
        let path =
            directory.filter(|_| visible(origin)).map(|directory| directory.join(&file)).filter(|path| path.exists() && !path.is_dir());
        if let Some(path) = path {
            return located(&path, origin).map(Some);
        }
    }
    let text = embedded::profile(profile).filter(|_| visible(Origin::BuiltIn));
    Ok(text.map(|text| Located {
        name: profile.to_owned(),
        shown: format!("built-in/{file}"),
        identity: PathBuf::from(format!("built-in:{profile}")),
        directory: None,
        origin: Origin::BuiltIn,
        bytes: text.as_bytes().to_vec(),
    }))
}

impl Located {
    /// Refuses a file that another user can change, or whose directory another user can change.
    pub(super) fn check(&self, trusted: bool) -> Result<(), Refused> {
        if self.origin == Origin::BuiltIn { Ok(()) } else { check(&self.identity, trusted) }
    }
}

/// The same for any file, by its real path.
pub(super) fn check(path: &Path, trusted: bool) -> Result<(), Refused> {
    if trusted {
        return Ok(());
    }
    let found = |path: &Path| devenv_files::untrusted(path).ok().flatten();
    // In a directory with the sticky bit, others can add files but not replace this one.
    let sticky = |untrusted: &Untrusted| matches!(untrusted, Untrusted::Writable { mode, .. } if mode & 0o1000 != 0);
    let directory = || path.parent().and_then(found).filter(|untrusted| !sticky(untrusted));
    found(path).or_else(directory).map_or(Ok(()), |untrusted| Err(Refused::Untrusted(untrusted)))
}

fn located(path: &Path, origin: Origin) -> Result<Located, Refused> {
    let shown = shown(path);
    let unreadable = |reason: ReadError| Refused::Unreadable { shown: shown.clone(), reason };
    // One byte beyond the limit shows that there is more.
    let mut bytes = Vec::new();
    let file = open_regular(path).map_err(unreadable)?;
    file.take(LARGEST as u64 + 1).read_to_end(&mut bytes).map_err(|error| unreadable(error.into()))?;
    Ok(Located {
        name: path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
        shown,
        identity: fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()),
        directory: path.parent().map(Path::to_owned),
        origin,
        bytes,
    })
}

/// A path relative to the current directory.
pub fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let relative = here.as_deref().and_then(|here| path.strip_prefix(here).ok());
    relative.unwrap_or(path).display().to_string()
}

/// The files of a directory in file-name order, by their path in the profile.
pub(super) fn files_in(named: &str, on_disk: &Path) -> Vec<String> {
    let named = named.trim_end_matches('/');
    children(on_disk)
        .into_iter()
        .filter(|path| path.is_file())
        .filter_map(|path| Some(format!("{named}/{}", path.file_name()?.to_str()?)))
        .collect()
}

/// An existing path that is spelled similarly to a missing one.
pub(super) fn similar(project: &Path, missing: &str) -> Option<String> {
    let path = Path::new(missing);
    let parent = path.parent()?;
    let wanted = path.file_name()?.to_str()?;
    let names: Vec<String> =
        children(&project.join(parent)).iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
    let near = spelling::nearest(wanted, names.iter().map(String::as_str))?;
    Some(parent.join(near).display().to_string())
}

/// The names in a directory; empty if it cannot be read.
fn children(directory: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths
}

fn description(text: &str) -> Option<String> {
    let mut sources = Sources::default();
    let file = sources.add("", text);
    let root = yaml::parse(&sources, file, &mut Findings::default()).root;
    root.get("description")?.text().map(str::to_owned)
}
