//! From files to one tree: each is read, filled in, checked, and laid on the ones before, with what it includes and extends.

mod include;

use std::{
    cell::Cell,
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use devenv_document::{
    env_file::{self, Given},
    interpolate::{self, Grammar, Lookup},
    source::{FileId, Findings, Sources, Span},
    spelling::did_you_mean,
    tree::{Content, Node},
    yaml::{self, Parsed},
};
use indexmap::IndexMap;

use crate::{
    check,
    keys::DOCUMENT,
    merge::{self, OVERRIDE, RESET, Tags},
    normal,
    paths::{lexical, relocate},
};

/// The disk, as far as Compose files name it.
pub trait Files {
    /// The file's bytes, or why it cannot be read: `does not exist`.
    fn read(&self, path: &Path) -> Result<Vec<u8>, String>;
    fn has(&self, path: &Path) -> bool;
}

/// What is to be loaded.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Where the paths of the result start: absolute.
    pub project: &'a Path,
    /// The files, the first one lowest: absolute. Their relative paths start at the first one's directory.
    pub files: &'a [PathBuf],
    /// The process's environment.
    pub environment: &'a BTreeMap<String, String>,
    /// Profiles of the files to take in; those of `COMPOSE_PROFILES` if there are none.
    pub profiles: &'a [String],
    /// Services to take in whatever their profiles say.
    pub services: &'a [String],
}

/// So many files may include one another in a row, and so many may be read.
const DEEPEST_INCLUDE: usize = 16;
const MOST_FILES: usize = 200;
/// So many services may extend one another in a row.
const DEEPEST_EXTENDS: usize = 32;
/// What `extends` may copy, and what variables may add, in bytes.
const MOST_COPIED: usize = 32 << 20;
const MOST_FILLED: usize = 16 << 20;

/// The variables of files: the process's environment, then `.env`.
pub(crate) struct Variables<'a> {
    process: &'a BTreeMap<String, String>,
    files: IndexMap<String, Given>,
    name: String,
    left: Cell<usize>,
}

impl Variables<'_> {
    fn find(&self, name: &str) -> Option<String> {
        let given = self.process.get(name).or_else(|| self.files.get(name).map(|given| &given.value));
        given.cloned().or_else(|| (name == "COMPOSE_PROJECT_NAME").then(|| self.name.clone()))
    }
}

impl Lookup for Variables<'_> {
    fn value(&self, name: &str) -> Option<String> {
        let value = self.find(name);
        let left = self.left.get().checked_sub(value.as_ref().map_or(64, String::len));
        self.left.set(left.unwrap_or_default());
        value.filter(|_| left.is_some())
    }

    fn names(&self) -> Vec<String> {
        self.process.keys().chain(self.files.keys()).cloned().collect()
    }

    fn exhausted(&self) -> bool {
        self.left.get() == 0
    }
}

pub(crate) struct Loader<'a> {
    pub(crate) request: Request<'a>,
    pub(crate) files: &'a dyn Files,
    pub(crate) sources: Sources,
    pub(crate) findings: Findings,
    pub(crate) tags: Tags,
    read: usize,
    copied: usize,
    /// Files that are being included, each by the one before.
    including: Vec<PathBuf>,
    /// Files that `extends` has read already, filled in.
    extended: BTreeMap<PathBuf, Option<Node>>,
}

/// Where a file's paths and variables come from.
pub(crate) struct Place<'v> {
    /// Where its relative paths start.
    pub(crate) directory: PathBuf,
    pub(crate) variables: Variables<'v>,
}

impl Place<'_> {
    /// As Docker Compose decides it: `COMPOSE_PROJECT_NAME`, then `name:` of the files, then the directory's name.
    pub(crate) fn project_name(&self, written: Option<&str>) -> String {
        let variables = &self.variables;
        let given =
            variables.process.get("COMPOSE_PROJECT_NAME").or_else(|| variables.files.get("COMPOSE_PROJECT_NAME").map(|given| &given.value));
        let given = given.map(String::as_str).filter(|name| !name.is_empty());
        // A directory's name loses what a project's name cannot begin with.
        given.or(written).unwrap_or_else(|| variables.name.trim_start_matches(['-', '_'])).to_owned()
    }
}

impl<'a> Loader<'a> {
    pub(crate) fn new(request: Request<'a>, files: &'a dyn Files) -> Self {
        Self {
            request,
            files,
            sources: Sources::default(),
            findings: Findings::default(),
            tags: Tags::new(),
            read: 0,
            copied: 0,
            including: Vec::new(),
            extended: BTreeMap::new(),
        }
    }

    /// Where the request's files start.
    pub(crate) fn place(&mut self) -> Place<'a> {
        let directory = self.request.files.first().and_then(|file| file.parent()).unwrap_or(self.request.project).to_owned();
        let files = self.dot_env(&directory.join(".env"), &IndexMap::new(), false);
        Place { variables: self.variables(&directory, files), directory }
    }

    fn variables(&self, directory: &Path, files: IndexMap<String, Given>) -> Variables<'a> {
        let name = directory.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let name = name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect();
        Variables { process: self.request.environment, files, name, left: Cell::new(MOST_FILLED) }
    }

    fn dot_env(&mut self, path: &Path, before: &IndexMap<String, Given>, needed: bool) -> IndexMap<String, Given> {
        let mut given = before.clone();
        if needed || self.files.has(path) {
            let start = Span { line: 1, column: 1, start: 0, end: 0, file: self.sources.add(path.display().to_string(), "") };
            if let Some(file) = self.source(path, start) {
                given.extend(env_file::parse(&self.sources, file, self.request.environment, before, &mut self.findings));
            }
        }
        given
    }

    /// Reads a file that `span` names; none if it cannot be read, which is reported.
    pub(crate) fn source(&mut self, path: &Path, span: Span) -> Option<FileId> {
        self.read += 1;
        if self.read > MOST_FILES {
            self.findings.error(span, "too-many", format!("more than {MOST_FILES} files are read"));
            return None;
        }
        match self.files.read(path) {
            Err(reason) => {
                self.findings.error(span, "missing-file", format!("`{}` {reason}", path.display()));
                None
            }
            Ok(bytes) => {
                let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
                let Ok(text) = std::str::from_utf8(bytes) else {
                    self.findings.error(span, "not-utf8", format!("`{}` is not UTF-8", path.display()));
                    return None;
                };
                let shown = path.strip_prefix(self.request.project).unwrap_or(path).display().to_string();
                Some(self.sources.add(shown, text))
            }
        }
    }

    /// All files of the request on one another.
    pub(crate) fn root(&mut self, place: &Place<'_>) -> Option<Node> {
        let mut merged: Option<Node> = None;
        let files = self.request.files;
        for path in files {
            let start = Span { line: 1, column: 1, start: 0, end: 0, file: self.sources.add(path.display().to_string(), "") };
            let Some(root) = self.file(path, start, place) else { continue };
            match &mut merged {
                Some(merged) => merge::merge(merged, root, &self.tags),
                None => merged = Some(root),
            }
        }
        let mut merged = merged?;
        merge::strip(&mut merged, &self.tags);
        Some(merged)
    }

    /// One file, with what it includes and extends.
    fn file(&mut self, path: &Path, span: Span, place: &Place<'_>) -> Option<Node> {
        let mut root = self.parsed(path, span, place)?;
        relocate(&mut root, &place.directory, self.request.project);
        let names: Vec<String> = root.get("services").into_iter().flat_map(Node::entries).map(|(name, _)| name.to_owned()).collect();
        for name in names {
            let mut way = vec![(path.to_owned(), name.clone())];
            if let Some(service) = self.service(&root, &name, path, place, &mut way)
                && let Some(known) = root.get_mut("services").and_then(|services| services.get_mut(&name))
            {
                *known = service;
            }
        }
        if let Some(include) = root.get("include").cloned() {
            self.include(&mut root, &include, path, place);
        }
        Some(root)
    }

    /// A file by itself: filled in, checked, in long forms.
    fn parsed(&mut self, path: &Path, span: Span, place: &Place<'_>) -> Option<Node> {
        let file = self.source(path, span)?;
        let before = self.findings.len();
        let language = yaml::Language { tags: &[RESET, OVERRIDE], documents: true };
        let Parsed { root, more, complete, tags } = yaml::parse_with(&self.sources, file, language, &mut self.findings);
        self.tags.extend(tags);
        let mut merged = self.document(root, (complete, before), place)?;
        for next in more.into_iter().filter(|next| !matches!(next.content, Content::Null)) {
            // Each is laid on the ones before, like a further file.
            let next = self.document(next, (complete, before), place)?;
            merge::merge(&mut merged, next, &self.tags);
        }
        Some(merged)
    }

    /// One document of a file. `before` is the number of findings before the file.
    fn document(&mut self, mut root: Node, (complete, before): (bool, usize), place: &Place<'_>) -> Option<Node> {
        if matches!(root.content, Content::Null) {
            return (complete && self.findings.len() == before).then_some(Node { content: Content::Map(IndexMap::new()), ..root });
        }
        if root.map().is_none() {
            self.findings.error(root.span, "wrong-type", format!("a Compose file is a mapping, but this is {}", root.noun()));
            return None;
        }
        self.fill(&mut root, &place.variables);
        if complete {
            check::mapping(&root, "", DOCUMENT, &mut self.findings);
        }
        normal::document(&mut root, &mut self.findings);
        Some(root)
    }

    fn fill(&mut self, node: &mut Node, variables: &Variables<'_>) {
        let span = node.span;
        match &mut node.content {
            Content::Null => {}
            Content::List(items) => items.iter_mut().for_each(|item| self.fill(item, variables)),
            Content::Map(entries) => entries.values_mut().for_each(|entry| self.fill(&mut entry.node, variables)),
            Content::Scalar(scalar) if scalar.text.contains('$') => {
                let expanded = interpolate::expand(&scalar.text, variables, Grammar::Compose);
                for trouble in expanded.troubles {
                    let finding = if trouble.required || trouble.code != "unset-variable" {
                        self.findings.error(span, trouble.code, trouble.message)
                    } else {
                        self.findings.warning(span, trouble.code, format!("{}: an empty text is used", trouble.message))
                    };
                    finding.maybe_hint(trouble.hint);
                }
                scalar.text = expanded.text;
            }
            Content::Scalar(_) => {}
        }
    }

    /// A service with what it extends below it; none if it extends nothing.
    fn service(&mut self, root: &Node, name: &str, path: &Path, place: &Place<'_>, way: &mut Vec<(PathBuf, String)>) -> Option<Node> {
        let service = root.get("services")?.get(name)?;
        let extends = service.get("extends")?;
        let Some(wanted) = extends.get("service").and_then(Node::text).map(str::to_owned) else {
            self.findings.error(extends.span, "missing-field", "`extends` needs `service`");
            return None;
        };
        let (from, other) = match extends.get("file").filter(|file| file.text().is_some()) {
            None => (path.to_owned(), None),
            Some(file) => {
                // Relative to the file's own directory, whatever the project's is.
                let beside = path.parent().unwrap_or(path);
                let from = lexical(&beside.join(file.text().unwrap_or_default()));
                let known = self.extended.get(&from).cloned();
                let other = known.unwrap_or_else(|| {
                    let directory = from.parent().unwrap_or(&from).to_owned();
                    let mut root = self.parsed(&from, file.span, place);
                    if let Some(root) = &mut root {
                        relocate(root, &directory, self.request.project);
                    }
                    self.extended.insert(from.clone(), root.clone());
                    root
                });
                (from, Some(other?))
            }
        };
        let step = (from.clone(), wanted.clone());
        if way.contains(&step) || way.len() >= DEEPEST_EXTENDS {
            let names: Vec<&str> = way.iter().map(|(_, name)| name.as_str()).chain([wanted.as_str()]).collect();
            let message = format!("these services extend each other, or too many in a row: {}", names.join(" -> "));
            self.findings.error(extends.span, "extends-cycle", message);
            return None;
        }
        let root = other.as_ref().unwrap_or(root);
        let Some(base) = root.get("services").and_then(|services| services.get(&wanted)) else {
            let names: Vec<&str> = root.get("services").into_iter().flat_map(Node::entries).map(|(name, _)| name).collect();
            let message = format!("the service `{wanted}` does not exist in {}", from.display());
            self.findings.error(extends.span, "unknown-service", message).maybe_hint(did_you_mean(&wanted, names));
            return None;
        };
        way.push(step);
        let mut below = self.service(root, &wanted, &from, place, way).unwrap_or_else(|| base.clone());
        way.pop();
        self.copied += merge::weight(&below);
        if self.copied > MOST_COPIED {
            self.findings.error(extends.span, "too-large", "what `extends` copies exceeds the size limit");
            return None;
        }
        let mut over = service.clone();
        if let Some(map) = over.map_mut() {
            map.shift_remove("extends");
        }
        if let Some(map) = below.map_mut() {
            map.shift_remove("extends");
        }
        merge::merge(&mut below, over, &self.tags);
        Some(below)
    }
}
