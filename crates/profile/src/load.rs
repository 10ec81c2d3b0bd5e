//! Loads a validated profile by name. With `find`, the only code here that reads the disk.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use devenv_api::{ApiError, ErrorCode, Problem};
use devenv_files::{ReadError, read_bounded};
use indexmap::IndexMap;

use super::{
    assemble::{self, Assembled, Layer, Variables},
    compile, convert, diagnostic,
    document::Profile,
    embedded,
    env_file::{self, Given},
    find::{self, Located, Origin},
    graph, guard,
    interpolate::{self, Grammar},
    origin::Origins,
    references::{self, Named, Need},
    source::{FileId, Findings, Sources, Span},
    spelling::{all_of, did_you_mean, one_of},
    tree::Node,
    yaml::LARGEST,
};

pub use super::find::{Refused, find_project, list};

/// What to load, and with which variables.
#[derive(Debug, Clone, Copy)]
pub struct LoadRequest<'a> {
    pub project: &'a Path,
    /// A name, or a path when it contains `/` or ends in `.yaml`.
    pub profile: &'a str,
    /// The process's environment.
    pub environment: &'a BTreeMap<String, String>,
    /// The directory of the user's own profiles.
    pub user_directory: Option<&'a Path>,
    /// Whether files that other users can change are used anyway.
    pub trusted: bool,
}

/// A profile without errors.
pub struct Loaded {
    pub profile: Profile,
    pub origins: Origins,
    /// Warnings.
    pub report: Report,
    /// The profile's document for display, if it differs from `origins`: for Compose files.
    pub shown: Option<serde_json::Value>,
}

/// Everything that was found, with the texts to show it in.
#[derive(Debug, Clone, Default)]
pub struct Report {
    findings: Findings,
    sources: Sources,
}

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("profile `{name}` does not exist")]
    NotFound { name: String, hint: String },
    /// It is there, and is not used.
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("profile `{name}` is invalid")]
    Invalid { name: String, report: Report },
}

/// Loads, checks and converts a profile with everything that it extends.
pub fn load(request: &LoadRequest<'_>) -> Result<Loaded, LoadError> {
    let located = find::find(request.profile, request.project, request.user_directory, None, None)?.ok_or_else(|| {
        let known = list(request.project, request.user_directory);
        let names = || known.iter().map(|entry| entry.name.as_str());
        let listed = known.iter().filter(|entry| !entry.example).map(|entry| entry.name.as_str());
        let there = format!("available profiles: {}", all_of(listed));
        let hint = if find::is_path(request.profile) {
            "paths are resolved from the current directory, then from the project".to_owned()
        } else {
            did_you_mean(request.profile, names()).map_or(there.clone(), |meant| format!("{meant} ({there})"))
        };
        LoadError::NotFound { name: request.profile.to_owned(), hint }
    })?;
    let name = located.name.clone();
    located.check(request.trusted)?;
    let mut loader = Loader { request, report: Report::default(), layers: Vec::new(), done: Vec::new(), open: Vec::new(), compose: false };
    loader.layer(located);
    loader.finish(&name)
}

impl Report {
    pub(super) fn new(findings: Findings, sources: Sources) -> Self {
        Self { findings, sources }
    }

    pub fn problems(&self) -> Vec<Problem> {
        self.findings.problems(&self.sources)
    }

    /// For the terminal: each line quoted, with the problem marked.
    pub fn render(&self) -> String {
        diagnostic::render(&self.findings, &self.sources)
    }
}

impl LoadError {
    /// Empty if there is no such profile.
    pub fn problems(&self) -> Vec<Problem> {
        match self {
            Self::NotFound { .. } | Self::Refused(_) => Vec::new(),
            Self::Invalid { report, .. } => report.problems(),
        }
    }

    /// As the error of a failing command.
    pub fn to_api(&self) -> ApiError {
        let mut error = ApiError::new(ErrorCode::InvalidProfile, self.to_string());
        error.problems = self.problems();
        match self {
            Self::NotFound { hint, .. } => error.hint(hint.clone()),
            Self::Refused(Refused::Unreadable { .. }) => error.hint("a profile is a YAML file; replace this one"),
            Self::Refused(Refused::Untrusted(_)) => error.hint(TRUST),
            Self::Invalid { .. } => error,
        }
    }
}

/// How to use files that other users can change.
const TRUST: &str = "whoever can write a profile can run programs as you; take it over (`chown`, `chmod go-w`), or run `devenv trust` in the \
    project if you trust everybody who can";

/// So many profiles may extend one another in a row.
const DEEPEST: usize = 32;

struct Loader<'a> {
    request: &'a LoadRequest<'a>,
    report: Report,
    layers: Vec<Layer>,
    /// Files that are laid already: one that is reached twice counts once, at its first place.
    done: Vec<PathBuf>,
    /// The files that are being read, each extending the next.
    open: Vec<(PathBuf, String)>,
    /// Whether it is of a Compose file, which declares its volumes.
    compose: bool,
}

impl Loader<'_> {
    /// Reads a file and what it extends, lowest layer first.
    fn layer(&mut self, located: Located) {
        let file = self.source(&located.shown, &located.bytes);
        let built_in = located.origin == Origin::BuiltIn;
        let layer = assemble::read(&self.report.sources, file, built_in, &mut self.report.findings);
        self.open.push((located.identity.clone(), located.name.clone()));
        // Filled in from the process's environment alone: the others are not known before all layers are.
        let extends: Vec<_> = layer.root.get("extends").into_iter().flat_map(Node::items).filter_map(|node| self.filled(node)).collect();
        for (wanted, span) in extends {
            self.extend(&located, &wanted, span);
        }
        self.open.pop();
        self.done.push(located.identity);
        self.layers.push(layer);
    }

    fn extend(&mut self, from: &Located, wanted: &str, span: Span) {
        let LoadRequest { project, user_directory, .. } = *self.request;
        // A profile that extends its own name means the one that it hides.
        let behind = (!find::is_path(wanted) && wanted == from.name).then_some(from.origin);
        let found = find::find(wanted, project, user_directory, from.directory.as_deref(), behind)
            .and_then(|found| found.map(|found| found.check(self.request.trusted).map(|()| found)).transpose());
        let found = match found {
            Ok(found) => found,
            Err(error) => {
                let error = LoadError::from(error);
                self.report.findings.error(span, "unreadable-profile", error.to_string()).maybe_hint(error.to_api().hint);
                return;
            }
        };
        let Some(found) = found else {
            let known = list(project, user_directory);
            let names = |examples: bool| {
                let usable = known.iter().filter(move |entry| examples || !entry.example).map(|entry| entry.name.as_str());
                usable.filter(|name| *name != from.name)
            };
            let hint = did_you_mean(wanted, names(true))
                .unwrap_or_else(|| format!("available profiles: {}; or pass a path", one_of(names(false))));
            self.report.findings.error(span, "unknown-profile", format!("profile `{wanted}` does not exist")).hint(hint);
            return;
        };
        if let Some(position) = self.open.iter().position(|(identity, _)| *identity == found.identity) {
            let mut way: Vec<&str> = self.open[position..].iter().map(|(_, name)| name.as_str()).collect();
            way.push(&found.name);
            let message = format!("these profiles extend each other: {}", way.join(" -> "));
            self.report.findings.error(span, "extends-cycle", message).hint("remove this `extends`");
            return;
        }
        if self.open.len() >= DEEPEST {
            self.report.findings.error(span, "too-deep", format!("`extends` is nested more than {DEEPEST} levels deep"));
        } else if !self.done.contains(&found.identity) {
            self.layer(found);
        }
    }

    fn filled(&self, node: &Node) -> Option<(String, Span)> {
        let expanded = interpolate::expand(node.text()?, self.request.environment, Grammar::Profile);
        // Unset variables are reported when the whole document is checked.
        expanded.troubles.is_empty().then_some((expanded.text, node.span))
    }

    /// Adds a file's text; bytes that are not UTF-8 are reported and replaced.
    fn source(&mut self, shown: &str, bytes: &[u8]) -> FileId {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let file = self.report.sources.add(shown, String::from_utf8_lossy(bytes));
        if let Err(error) = std::str::from_utf8(bytes) {
            let at = error.valid_up_to();
            let span = self.report.sources.span(file, at, at + '\u{fffd}'.len_utf8());
            let message = format!("the file is not UTF-8: invalid byte 0x{:02x}", bytes[at]);
            self.report.findings.error(span, "not-utf8", message).hint("save the file as UTF-8");
        }
        file
    }

    fn finish(mut self, name: &str) -> Result<Loaded, LoadError> {
        let layers = std::mem::take(&mut self.layers);
        let files = self.env_files(&layers);
        let written = assemble::lay(&layers).and_then(|root| root.get("variables").cloned());
        let variables = Variables::new(self.request.environment, files, written.as_ref());
        let Report { findings, sources } = &mut self.report;
        let mut assembled = assemble::assemble(layers, sources, variables, findings).expect("it is the profile itself");
        let Assembled { layers, merged, .. } = &mut assembled;
        references::expand(merged, |node, path| directory(self.request.project, shipped(layers, node.span), path));
        let named = references::files(&assembled.merged);
        let mut assets = BTreeMap::new();
        for one in &named {
            self.file(one, &assembled.layers, &mut assets);
        }
        if !self.compose {
            self.directories_as_volumes(&assembled.merged);
        }
        let Report { findings, .. } = &mut self.report;
        let mut services = IndexMap::new();
        let mut secrets = IndexMap::new();
        if !findings.has_errors() {
            services = assembled.merged.get("services").map(|node| convert::services(node, findings)).unwrap_or_default();
            graph::add_references(&mut services);
            secrets = assembled.merged.get("secrets").map(convert::secrets).unwrap_or_default();
            guard::secrets(&assembled.merged, &secrets, findings);
        }
        for (name, service) in &services {
            let entry = assembled.merged.get("services").and_then(|node| node.entry(name.as_str()));
            for path in service.kind.fields().assets() {
                let span = entry.map(|entry| graph::place_of(&entry.node, &path).unwrap_or(entry.key));
                if let Some(span) = span.filter(|_| !assets.contains_key(&path)) {
                    self.file(&Named { path, span, need: Need::Text }, &assembled.layers, &mut assets);
                }
            }
        }
        let description = assembled.merged.get("description").and_then(Node::text).map(str::to_owned);
        let overrides = guard::overrides(&assembled.merged);
        let profile = Profile {
            name: name.to_owned(),
            description,
            project: self.request.project.to_owned(),
            variables: assembled.variables.given(),
            overrides,
            secrets,
            services,
            networks: assembled.merged.get("networks").map(convert::networks).unwrap_or_default(),
            assets,
        };
        if !self.report.findings.has_errors() {
            let Report { findings, sources } = &mut self.report;
            guard::connections(&assembled, &compile::connections(&profile), &profile.overrides, sources, findings);
            guard::collisions(&assembled.merged, &profile, sources, findings);
        }
        self.report.findings.sort();
        if self.report.findings.has_errors() {
            return Err(LoadError::Invalid { name: name.to_owned(), report: self.report });
        }
        let origins = Origins::new(assembled, self.report.sources.clone());
        Ok(Loaded { profile, origins, report: self.report, shown: None })
    }

    /// The variables of all `env_file`s, a later one over an earlier one.
    fn env_files(&mut self, layers: &[Layer]) -> IndexMap<String, Given> {
        let list = assemble::lay(layers).and_then(|root| root.get("env_file").cloned());
        let mut given = IndexMap::new();
        for (path, span) in list.iter().flat_map(Node::items).filter_map(|node| self.filled(node)).collect::<Vec<_>>() {
            let (path, may_miss) = path.strip_suffix('?').map_or((path.as_str(), false), |path| (path, true));
            let on_disk = self.request.project.join(path);
            match read_bounded(&on_disk, LARGEST as u64) {
                Ok(bytes) => {
                    let file = self.source(&find::shown(&on_disk), &bytes);
                    let Report { findings, sources } = &mut self.report;
                    let before = findings.len();
                    given.extend(env_file::parse(sources, file, self.request.environment, &given, findings));
                    if self.outside(&on_disk) {
                        // A profile may name any file that its user can read, and must not print it.
                        let Report { findings, sources } = &mut self.report;
                        sources.conceal(file);
                        findings.conceal_since(before, file, "this line is not `NAME=value`");
                        self.outside_warning(path, span);
                    }
                }
                Err(ReadError::Missing) if may_miss => {}
                Err(unread) => {
                    self.report
                        .findings
                        .error(span, "missing-file", format!("`{path}` {unread}"))
                        .hint(format!("create {}, or write `{path}?` if the file is optional", find::shown(&on_disk)));
                }
            }
        }
        given
    }

    /// Whether a path, links followed, leads out of the project.
    fn outside(&self, path: &Path) -> bool {
        let real = |path: &Path| path.canonicalize().ok();
        matches!((real(path), real(self.request.project)), (Some(path), Some(project)) if !path.starts_with(&project))
    }

    fn outside_warning(&mut self, path: &str, span: Span) {
        let message = format!("`{path}` is outside the project");
        self.report
            .findings
            .warning(span, "outside-project", message)
            .hint("whoever wrote this profile has it read this file; is that meant?");
    }

    /// Reports volumes that have the name of a directory of the project: the directory was meant, and the volume would be empty.
    fn directories_as_volumes(&mut self, merged: &Node) {
        for (name, span) in references::volumes(merged) {
            if self.request.project.join(&name).is_dir() {
                self.report
                    .findings
                    .error(
                        span,
                        "directory-as-volume",
                        format!("`{name}` is the name of a volume, but the project has a directory `{name}`"),
                    )
                    .hint(format!("write `./{name}` to mount the directory, or give the volume another name"));
            }
        }
    }

    /// Checks that a file is there, and reads it if its text is wanted.
    fn file(&mut self, named: &Named, layers: &[Layer], assets: &mut BTreeMap<String, String>) {
        let on_disk = self.request.project.join(&named.path);
        let shipped = if shipped(layers, named.span) { embedded::files(&named.path) } else { Vec::new() };
        let there = on_disk.exists();
        if there && self.outside(&on_disk) && !self.report.findings.touches(named.span) {
            self.outside_warning(&named.path, named.span);
        }
        if there && named.need == Need::Text {
            match read_bounded(&on_disk, LARGEST as u64).map(String::from_utf8) {
                Ok(Ok(text)) => {
                    assets.insert(named.path.clone(), text);
                }
                Ok(Err(_)) => {
                    self.report.findings.error(named.span, "not-utf8", format!("`{}` is not UTF-8", named.path));
                }
                Err(unread) => {
                    self.report.findings.error(named.span, "missing-file", format!("`{}` {unread}", named.path));
                }
            }
        } else if there && named.need == Need::File && !on_disk.is_file() && !on_disk.is_dir() {
            self.report
                .findings
                .error(named.span, "missing-file", format!("`{}` {}", named.path, ReadError::NotAFile))
                .hint("name a file or a directory: a pipe or device may never end");
        } else if !there && !shipped.is_empty() {
            if named.need == Need::Text {
                assets.extend(shipped.into_iter().map(|(path, text)| (path.to_owned(), text.to_owned())));
            }
        } else if !there && !self.report.findings.touches(named.span) {
            let hint = find::similar(self.request.project, &named.path)
                .map_or_else(|| "paths are relative to the project directory".to_owned(), |near| format!("did you mean `{near}`?"));
            let message = format!("`{}` does not exist", named.path);
            match named.need {
                Need::Text | Need::File => self.report.findings.error(named.span, "missing-file", message),
                Need::Later => self.report.findings.warning(named.span, "missing-file", message),
            }
            .hint(hint);
        }
    }
}

/// Whether a place is in a shipped profile.
fn shipped(layers: &[Layer], span: Span) -> bool {
    layers.iter().any(|layer| layer.built_in && layer.file == span.file)
}

/// What a directory of the project holds, or else one that ships with the profile that names it.
fn directory(project: &Path, shipped: bool, path: &str) -> Option<Vec<String>> {
    let on_disk = project.join(path);
    if on_disk.exists() {
        return on_disk.is_dir().then(|| find::files_in(path, &on_disk));
    }
    let files = if shipped { embedded::files(path) } else { Vec::new() };
    let only = files.first().is_some_and(|(known, _)| *known == path);
    (!files.is_empty() && !only).then(|| files.into_iter().map(|(path, _)| path.to_owned()).collect())
}

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
    super::compose::is_compose(&text)
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
    let converted = super::compose::convert(devenv_compose::load(files, &Disk), request.name);
    let super::compose::Given { name, sources, findings, layer, shown } = converted
        .map_err(|(findings, sources)| LoadError::Invalid { name: request.name.to_owned(), report: Report::new(findings, sources) })?;
    let environment = BTreeMap::new();
    let profile = LoadRequest {
        project: request.project,
        profile: request.name,
        environment: &environment,
        user_directory: None,
        trusted: request.trusted,
    };
    let report = Report { findings, sources };
    let loader = Loader { request: &profile, report, layers: vec![layer], done: Vec::new(), open: Vec::new(), compose: true };
    let mut loaded = loader.finish(request.name)?;
    loaded.profile.description = loaded.profile.description.or(name.map(|name| format!("the Compose project {name}")));
    loaded.shown = Some(shown);
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

struct Disk;

impl devenv_compose::Files for Disk {
    fn read(&self, path: &Path) -> Result<Vec<u8>, String> {
        read_bounded(path, LARGEST as u64).map_err(|unread| unread.to_string())
    }

    fn has(&self, path: &Path) -> bool {
        path.exists()
    }
}
