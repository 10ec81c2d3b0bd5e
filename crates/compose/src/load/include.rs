//! What a file includes: other files with their own paths and variables, whose resources stand beside its own.

use std::path::Path;

use devenv_document::{
    source::Span,
    tree::{Content, Entry, Node, shortened},
};
use indexmap::IndexMap;

use super::{DEEPEST_INCLUDE, Loader, Place};
use crate::{merge, paths::lexical};

impl Loader<'_> {
    /// Lays on `root`, from the file `path`, what its `include` names.
    pub(super) fn include(&mut self, root: &mut Node, include: &Node, path: &Path, place: &Place<'_>) {
        self.including.push(path.to_owned());
        for entry in include.items().chain(include.scalar().map(|_| include)) {
            let long = entry.map().is_some();
            let texts = |name: &str| -> Vec<(String, Span)> {
                let node = entry.get(name);
                let items = node.into_iter().flat_map(|node| node.items().chain(node.scalar().map(|_| node)));
                items.filter_map(|node| Some((node.text()?.to_owned(), node.span))).collect()
            };
            let paths = if long { texts("path") } else { entry.text().map(|text| (text.to_owned(), entry.span)).into_iter().collect() };
            let Some((first, span)) = paths.first().cloned() else {
                self.findings.error(entry.span, "missing-field", "`include` needs a `path`");
                continue;
            };
            let beside = path.parent().unwrap_or(path);
            let first = lexical(&beside.join(&first));
            if self.including.contains(&first) || self.including.len() >= DEEPEST_INCLUDE {
                let message = format!(
                    "{} includes itself, or files are included more than {DEEPEST_INCLUDE} deep",
                    shortened(&first.display().to_string())
                );
                self.findings.error(span, "include-cycle", message);
                continue;
            }
            let directory = match texts("project_directory").first() {
                Some((directory, _)) => lexical(&beside.join(directory)),
                None => first.parent().unwrap_or(&first).to_owned(),
            };
            let mut given = place.variables.files.clone();
            let files = texts("env_file");
            if files.is_empty() && directory != place.directory {
                given = self.dot_env(&directory.join(".env"), &given, false);
            }
            for (file, _) in files {
                given = self.dot_env(&lexical(&beside.join(file)), &given, true);
            }
            let inner = Place { variables: self.variables(&directory, given), directory };
            let mut included: Option<Node> = None;
            for (path, span) in &paths {
                let Some(root) = self.file(&lexical(&beside.join(path)), *span, &inner) else { continue };
                match &mut included {
                    Some(included) => merge::merge(included, root, &self.tags),
                    None => included = Some(root),
                }
            }
            if let Some(included) = included {
                self.take_in(root, included);
            }
        }
        self.including.pop();
    }

    /// The resources of an included file beside those of the one that includes it.
    fn take_in(&mut self, root: &mut Node, included: Node) {
        let Content::Map(sections) = included.content else { return };
        let Some(entries) = root.map_mut() else { return };
        for (section, entry) in sections {
            if !matches!(section.as_str(), "services" | "networks" | "volumes" | "configs" | "secrets") {
                continue;
            }
            let own = entries
                .entry(section)
                .or_insert_with(|| Entry { key: entry.key, node: Node { span: entry.node.span, content: Content::Map(IndexMap::new()) } });
            let (Some(own), Content::Map(more)) = (own.node.map_mut(), entry.node.content) else { continue };
            for (name, entry) in more {
                match own.get(&name) {
                    None => {
                        own.insert(name, entry);
                    }
                    Some(known) if same(&known.node, &entry.node) => {}
                    Some(known) => {
                        let place = self.sources.place(entry.key);
                        self.findings
                            .error(known.key, "given-twice", format!("`{name}` is also defined in an included file ({place})"))
                            .hint("change it in a file of its own, given by a second `-f` or `compose.override.yaml`");
                    }
                }
            }
        }
    }
}

/// Whether two trees say the same, wherever they stand.
fn same(one: &Node, other: &Node) -> bool {
    match (&one.content, &other.content) {
        (Content::Null, Content::Null) => true,
        (Content::Scalar(one), Content::Scalar(other)) => one.text == other.text,
        (Content::List(one), Content::List(other)) => one.len() == other.len() && one.iter().zip(other).all(|(a, b)| same(a, b)),
        (Content::Map(one), Content::Map(other)) => {
            one.len() == other.len() && one.iter().all(|(key, a)| other.get(key).is_some_and(|b| same(&a.node, &b.node)))
        }
        _ => false,
    }
}
