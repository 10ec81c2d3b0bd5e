//! The pure middle part of loading: layers as text in, one checked document out. All problems are reported at once.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
};

use indexmap::IndexMap;

use super::{
    check,
    env_file::Given,
    extensions,
    interpolate::{self, Grammar, Lookup},
    merge::merge,
    shape,
    source::{FileId, Findings, Sources},
    tree::{Content, Node},
    validate,
    yaml::{self, Parsed},
};

/// One file of a profile, in the order in which layers are merged.
#[derive(Debug, Clone)]
pub(crate) struct Layer {
    pub file: FileId,
    pub root: Node,
    pub complete: bool,
    /// Built into devenv: the files that it names are looked for in the project, then among the built-in files.
    pub built_in: bool,
}

/// The merged layers, with variables expanded and everything checked.
pub(super) struct Assembled {
    /// With variables expanded.
    pub(super) layers: Vec<Layer>,
    pub(super) merged: Node,
    pub(super) variables: Variables,
}

/// The most that variables may add to one profile, in bytes.
const MOST: usize = 16 << 20;

/// The maximum number of unset variables to report.
const UNSET: usize = 200;

/// Parses one file, and reports its YAML errors.
pub(super) fn read(sources: &Sources, file: FileId, built_in: bool, findings: &mut Findings) -> Layer {
    let Parsed { mut root, complete, .. } = yaml::parse(sources, file, findings);
    extensions::remove(&mut root, &shape::document());
    Layer { file, root, complete, built_in }
}

/// The merged layers, with their original text.
pub(super) fn lay(layers: &[Layer]) -> Option<Node> {
    let document = shape::document();
    layers.iter().map(|layer| layer.root.clone()).reduce(|base, over| {
        // An empty file changes nothing.
        if matches!(over.content, Content::Null) { base } else { merge(base, over, &document) }
    })
}

/// Expands, checks and merges the layers.
pub(super) fn assemble(mut layers: Vec<Layer>, sources: &Sources, variables: Variables, findings: &mut Findings) -> Option<Assembled> {
    for layer in &mut layers {
        interpolate::fill(&mut layer.root, sources, &variables);
        let cut_off = (!layer.complete).then(|| findings.last_line(layer.file)).flatten();
        let before = findings.len();
        check::layer(&layer.root, layer.complete, findings);
        // In a file that ends in a syntax error, only what precedes that line is reliable.
        if let Some(line) = cut_off {
            findings.retain_since(before, |finding| finding.span.line < line);
        }
    }
    let merged = lay(&layers)?;
    if layers.iter().all(|layer| layer.complete) {
        check::whole(&merged, findings);
        validate::document(&merged, sources, findings);
    }
    Some(Assembled { layers, merged, variables })
}

/// The variables that a profile may use: the process's environment, then `env_file`, then its own `variables`.
pub(crate) struct Variables {
    pub(super) process: BTreeMap<String, String>,
    pub(super) files: IndexMap<String, Given>,
    /// The original text; a value may refer to other variables.
    profile: IndexMap<String, String>,
    known: RefCell<HashMap<String, Option<String>>>,
    left: Cell<usize>,
}

impl Variables {
    pub(super) fn new(process: &BTreeMap<String, String>, files: IndexMap<String, Given>, written: Option<&Node>) -> Self {
        let profile = written
            .into_iter()
            .flat_map(Node::entries)
            .filter_map(|(name, entry)| Some((name.to_owned(), entry.node.text()?.to_owned())))
            .collect();
        Self { process: process.clone(), files, profile, known: RefCell::default(), left: Cell::new(MOST) }
    }

    /// The variables for services and `devenv env`: the profile's own and those of its files, in the order of precedence.
    pub(super) fn given(&self) -> IndexMap<String, String> {
        self.profile.keys().chain(self.files.keys()).filter_map(|name| Some((name.clone(), self.value(name)?))).collect()
    }

    fn find(&self, name: &str) -> Option<String> {
        if let Some(value) = self.process.get(name) {
            return Some(value.clone());
        }
        if let Some(given) = self.files.get(name) {
            return Some(given.value.clone());
        }
        let written = self.profile.get(name)?;
        if let Some(known) = self.known.borrow().get(name) {
            return known.clone();
        }
        // A variable that refers to itself, perhaps through others, is unset.
        self.known.borrow_mut().insert(name.to_owned(), None);
        let expanded = interpolate::expand(written, self, Grammar::Profile);
        let value = expanded.troubles.is_empty().then_some(expanded.text);
        self.known.borrow_mut().insert(name.to_owned(), value.clone());
        value
    }
}

impl Lookup for Variables {
    fn value(&self, name: &str) -> Option<String> {
        let value = self.find(name);
        let cost = value.as_ref().map_or(MOST / UNSET, String::len);
        let left = self.left.get().checked_sub(cost);
        self.left.set(left.unwrap_or_default());
        value.filter(|_| left.is_some())
    }

    fn names(&self) -> Vec<String> {
        self.process.keys().chain(self.files.keys()).chain(self.profile.keys()).cloned().collect()
    }

    fn exhausted(&self) -> bool {
        self.left.get() == 0
    }
}
