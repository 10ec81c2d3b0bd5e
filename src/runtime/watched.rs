//! Files of `watch` rules, as the watcher looks for them and as containers get them. Used by versions and by hot reload.

use std::{os::unix::fs::PermissionsExt, path::Path};

use devenv_engine::UploadFile;
use devenv_spec::{ServiceName, WatchRule};
use devenv_watch::Rule;

/// A rule as the watcher knows it.
pub(crate) fn watched(service: &ServiceName, index: usize, rule: &WatchRule) -> Rule {
    Rule { service: service.to_string(), index, paths: rule.paths.clone(), ignore: rule.ignore.clone(), include: rule.include.clone() }
}

/// The file as it goes into a container; `None` if it is gone or does not belong there.
pub(crate) fn upload(rule: &WatchRule, file: &Path) -> Option<UploadFile> {
    let path = rule.target(file)?;
    let mode = std::fs::metadata(file).ok()?.permissions().mode() & 0o777;
    Some(UploadFile { path, mode, uid: 0, gid: 0, content: std::fs::read(file).ok()?.into() })
}
