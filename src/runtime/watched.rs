//! Files of `watch` rules, as the watcher looks for them and as containers get them. Used by versions and by hot reload.

use std::{os::unix::fs::PermissionsExt, path::Path};

use devenv_engine::UploadFile;
use devenv_files::ReadError;
use devenv_spec::{ServiceName, WatchRule};
use devenv_watch::Rule;

/// A rule as the watcher knows it.
pub(crate) fn watched(service: &ServiceName, index: usize, rule: &WatchRule) -> Rule {
    Rule { service: service.to_string(), index, paths: rule.paths.clone(), ignore: rule.ignore.clone(), include: rule.include.clone() }
}

/// The largest file that is copied into a container, in bytes: it is in memory meanwhile.
const LARGEST: u64 = 256 << 20;

/// The file as it goes into a container; `None` if it is gone or does not belong there. Otherwise why it is not copied.
pub(crate) fn upload(rule: &WatchRule, file: &Path) -> Result<Option<UploadFile>, String> {
    let Some(path) = rule.target(file) else { return Ok(None) };
    match read(file) {
        Ok((mode, content)) => Ok(Some(UploadFile { path, mode, uid: 0, gid: 0, content: content.into() })),
        Err(ReadError::Missing) => Ok(None),
        // In the place of a file.
        Err(ReadError::NotAFile) if file.is_dir() => Ok(None),
        Err(error) => Err(format!("{} {error}", file.display())),
    }
}

fn read(file: &Path) -> Result<(u32, Vec<u8>), ReadError> {
    let opened = devenv_files::open_regular(file)?;
    let mode = opened.metadata()?.permissions().mode() & 0o777;
    Ok((mode, opened.bounded(LARGEST)?))
}

#[cfg(test)]
mod tests {
    use devenv_spec::Reaction;

    use super::*;

    #[test]
    fn a_file_goes_into_a_container_a_pipe_or_a_file_without_end_does_not() {
        let directory = tempfile::tempdir().unwrap();
        let rule = WatchRule {
            paths: vec![directory.path().to_owned()],
            ignore: Vec::new(),
            include: Vec::new(),
            build: None,
            directory: directory.path().to_owned(),
            reaction: Reaction::Sync { to: "/app".to_owned(), signal: None, exec: None },
        };
        let at = |name: &str| directory.path().join(name);
        std::fs::write(at("a"), "text").unwrap();
        assert_eq!(upload(&rule, &at("a")).unwrap().unwrap().content, "text");
        assert!(upload(&rule, &at("gone")).unwrap().is_none());
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(upload(&rule, &at("pipe")).unwrap_err().ends_with("is not a regular file"));
        std::fs::File::create(at("large")).unwrap().set_len(LARGEST + 1).unwrap();
        assert!(upload(&rule, &at("large")).unwrap_err().contains("is larger than"));
    }
}
