//! The files and directories that a profile names: whether they exist, and their texts.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use devenv_files::{ReadError, read_bounded};
use indexmap::IndexMap;

use super::{Loader, Report};
use crate::{
    assemble::{self, Layer},
    embedded,
    env_file::{self, Given},
    find,
    references::{self, Named, Need},
    source::Span,
    tree::Node,
    yaml::LARGEST,
};

impl Loader<'_> {
    /// The variables of all `env_file`s, a later one over an earlier one.
    pub(super) fn env_files(&mut self, layers: &[Layer]) -> IndexMap<String, Given> {
        let list = assemble::lay(layers).and_then(|root| root.get("env_file").cloned());
        let mut given = IndexMap::new();
        for (path, span) in list.iter().flat_map(Node::items).filter_map(|node| self.filled(node)).collect::<Vec<_>>() {
            let (path, may_miss) = path.strip_suffix('?').map_or((path.as_str(), false), |path| (path, true));
            let on_disk = self.request.project.join(path);
            match read_bounded(&on_disk, LARGEST as u64) {
                Ok(bytes) => {
                    let file = self.source(&find::shown(&on_disk), &bytes);
                    let Report { findings, sources, .. } = &mut self.report;
                    let before = findings.len();
                    given.extend(env_file::parse(sources, file, self.request.environment, &given, findings));
                    if self.outside(&on_disk).is_some() {
                        // A profile may name any file that its user can read, and must not print it.
                        let Report { findings, sources, .. } = &mut self.report;
                        sources.conceal(file);
                        findings.conceal_since(before, file, "this line is not `NAME=value`");
                    }
                    self.warn_if_outside(&on_disk, path, span);
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

    /// Where a path, links followed, leads if that is out of the project.
    fn outside(&self, path: &Path) -> Option<PathBuf> {
        let project = self.request.project.canonicalize().ok()?;
        path.canonicalize().ok().filter(|path| !path.starts_with(&project))
    }

    pub(super) fn warn_if_outside(&mut self, on_disk: &Path, path: &str, span: Span) {
        let Some(real) = self.outside(on_disk) else { return };
        if self.report.outside.contains(&real) {
            return;
        }
        self.report.outside.push(real);
        let message = format!("`{path}` is outside the project");
        self.report
            .findings
            .warning(span, "outside-project", message)
            .hint("this profile makes devenv read that file; check that this is intended");
    }

    /// Reports volumes that have the name of a directory of the project: the directory was meant, and the volume would be empty.
    pub(super) fn directories_as_volumes(&mut self, merged: &Node) {
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
    pub(super) fn file(&mut self, named: &Named, layers: &[Layer], assets: &mut BTreeMap<String, String>) {
        let on_disk = self.request.project.join(&named.path);
        let shipped = if shipped(layers, named.span) { embedded::files(&named.path) } else { Vec::new() };
        let there = on_disk.exists();
        if there && !self.report.findings.touches(named.span) {
            self.warn_if_outside(&on_disk, &named.path, named.span);
            if named.need == Need::File && on_disk.is_dir() && self.outside(&on_disk).is_none() {
                // A link among the scripts of a directory leads out of the project as well as one that is named.
                for path in find::files_in(&named.path, &on_disk) {
                    self.warn_if_outside(&self.request.project.join(&path), &path, named.span);
                }
            }
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
pub(super) fn shipped(layers: &[Layer], span: Span) -> bool {
    layers.iter().any(|layer| layer.built_in && layer.file == span.file)
}

/// What a directory of the project holds, or else one that ships with the profile that names it.
pub(super) fn directory(project: &Path, shipped: bool, path: &str) -> Option<Vec<String>> {
    let on_disk = project.join(path);
    if on_disk.exists() {
        return on_disk.is_dir().then(|| find::files_in(path, &on_disk));
    }
    let files = if shipped { embedded::files(path) } else { Vec::new() };
    let only = files.first().is_some_and(|(known, _)| *known == path);
    (!files.is_empty() && !only).then(|| files.into_iter().map(|(path, _)| path.to_owned()).collect())
}
