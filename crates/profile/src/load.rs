//! Loads a validated profile by name. With the modules in `load/` and `find`, the only code here that reads the disk.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use devenv_api::{ApiError, ErrorCode, Problem};
use indexmap::IndexMap;

use super::{
    access,
    assemble::{self, Assembled, Layer, Variables},
    compile, convert, diagnostic,
    document::{Profile, SecretSource},
    find::{self, Located, Origin},
    graph, guard,
    interpolate::{self, Grammar},
    origin::Origins,
    powers,
    references::{self, Named, Need},
    source::{FileId, Findings, Source, Sources, Span},
    spelling::{all_of, did_you_mean, one_of},
    tree::Node,
};

mod compose_files;
mod named_files;

use named_files::{directory, shipped};

pub use super::find::{Refused, find_project, list};
pub use compose_files::{ComposeRequest, compose_files, is_compose, load_compose};

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
    /// For Compose files, the name under which Docker Compose runs them.
    pub compose_project: Option<String>,
}

/// Everything that was found, with the texts to show it in.
#[derive(Debug, Clone, Default)]
pub struct Report {
    findings: Findings,
    sources: Sources,
    /// Files and directories outside the project, links followed, that the profile has devenv read.
    outside: Vec<PathBuf>,
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
    let named = Some(located.identity.clone()).filter(|_| {
        let path = Path::new(request.profile);
        find::is_path(request.profile) && is_elsewhere(path, request.project)
    });
    let named = named.into_iter().collect();
    let mut loader =
        Loader { request, report: Report::default(), layers: Vec::new(), done: Vec::new(), open: Vec::new(), compose: false, named };
    loader.layer(located);
    loader.finish(&name)
}

/// Whether a path that the user named is outside the project as it is written. A link in the project is the project's.
fn is_elsewhere(path: &Path, project: &Path) -> bool {
    let path = std::path::absolute(path).map(|path| powers::without_dots(&path)).unwrap_or_default();
    let real = project.canonicalize().unwrap_or_else(|_| project.to_owned());
    !path.starts_with(project) && !path.starts_with(real)
}

impl Report {
    pub(super) fn new(findings: Findings, sources: Sources) -> Self {
        Self { findings, sources, outside: Vec::new() }
    }

    /// Hides the text of files outside the project, but for those that the user named: a project may name any file that its user
    /// can read, also by a link, and must not have it printed.
    fn conceal_outside(&mut self, project: &Path, named: impl Fn(&Path) -> bool) {
        let Ok(project) = project.canonicalize() else { return };
        let real = |source: &Source| Path::new(&source.name).canonicalize().ok();
        let is_outside = |path: PathBuf| !path.starts_with(&project) && !named(&path);
        let hidden: Vec<FileId> =
            self.sources.files().filter(|(_, source)| real(source).is_some_and(is_outside)).map(|(file, _)| file).collect();
        for file in hidden {
            self.sources.conceal(file);
            self.findings.conceal_since(0, file, HIDDEN);
        }
    }

    pub fn outside(&self) -> &[PathBuf] {
        &self.outside
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
const TRUST: &str = "anyone who can write a profile can run programs as you; take it over (`chown`, `chmod go-w`), or run `devenv trust` in the \
    project if you trust everyone who can";

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
    /// Files that the user named, links followed.
    named: Vec<PathBuf>,
}

/// The message of a problem in a file whose text is not shown.
const HIDDEN: &str = "this is no part of a profile (its text is not shown, since the file is outside the project)";

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
        let Report { findings, sources, .. } = &mut self.report;
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
        for (name, source) in &secrets {
            let place = assembled.merged.get("secrets").and_then(|node| node.entry(name.as_str()));
            if let (SecretSource::File(path), Some(place)) = (source, place) {
                self.warn_if_outside(&self.request.project.join(path), path, place.key);
            }
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
            network: assembled.merged.get("network").map(convert::own_network).unwrap_or_default(),
            networks: assembled.merged.get("networks").map(convert::networks).unwrap_or_default(),
            sleep: assembled.merged.get("sleep").and_then(convert::sleep),
            assets,
        };
        if !self.report.findings.has_errors() {
            let Report { findings, sources, .. } = &mut self.report;
            guard::connections(&assembled, &compile::connections(&profile), &profile.overrides, sources, findings);
            guard::collisions(&assembled.merged, &profile, sources, findings);
            if profile.services.values().any(|service| service.access.is_some()) {
                access::check(&assembled.merged, &profile, &compile::draft(&profile).services, findings);
            }
        }
        let request = self.request;
        let own = request.user_directory.and_then(|directory| directory.canonicalize().ok());
        let Self { report, named, .. } = &mut self;
        report.conceal_outside(request.project, |path| {
            named.iter().any(|named| named == path) || own.as_ref().is_some_and(|own| path.starts_with(own))
        });
        self.report.findings.sort();
        if self.report.findings.has_errors() {
            return Err(LoadError::Invalid { name: name.to_owned(), report: self.report });
        }
        let origins = Origins::new(assembled, self.report.sources.clone());
        Ok(Loaded { profile, origins, report: self.report, shown: None, compose_project: None })
    }
}
