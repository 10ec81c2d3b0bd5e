//! Backups: dumps by a service's own tools, with counts and checksums of the same moment.
//!
//! A snapshot is a copy of files for this machine and this version; a backup is a dump that another server, also of a
//! later version, can load. The daemon decides where files go and who may write in the meantime; this module knows how each kind of data is
//! written, read back, counted and compared. No password is in a process's arguments.

mod compare;
mod retention;
mod staging;

use std::{
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::Path,
};

use tokio::sync::oneshot;

pub use crate::capability::BackupError;
pub use compare::{compare, verified};
pub use retention::outdated;
pub(crate) use staging::{former_name, staged_name};

/// Characters of what tools printed that an error shows.
const LONGEST_PRINTED: usize = 1000;

/// What tools printed, on one line, without the lines that begin with one of our own marks.
pub(crate) fn printed(said: &str, marks: &[char]) -> String {
    let lines = said.lines().filter(|line| !line.starts_with(marks)).map(str::trim).filter(|line| !line.is_empty());
    let mut text = lines.collect::<Vec<_>>().join("; ");
    if let Some((end, _)) = text.char_indices().nth(LONGEST_PRINTED) {
        text.truncate(end);
    }
    if text.is_empty() { "it printed no error".to_owned() } else { text }
}

/// Readable only by its owner. If the caller is cancelled, nothing appears at the path after that.
pub(crate) async fn private(path: &Path) -> std::io::Result<tokio::fs::File> {
    let (path, (give, given)) = (path.to_owned(), oneshot::channel());
    tokio::task::spawn_blocking(move || {
        let opened = open_private(&path);
        if let Err(Ok(unwanted)) = give.send(opened) {
            drop(unwanted);
            // It fails if the cancelled operation has removed it already.
            let _ = std::fs::remove_file(&path);
        }
    });
    let opened = given.await.unwrap_or_else(|_| Err(std::io::Error::other("the thread that opens it ended")))?;
    Ok(tokio::fs::File::from_std(opened))
}

fn open_private(path: &Path) -> std::io::Result<std::fs::File> {
    // An existing path may be a link, a device or readable by others.
    devenv_files::check_replaceable(path)?;
    let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).custom_flags(no_link).open(path)?;
    file.set_permissions(PermissionsExt::from_mode(0o600))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_dump_whose_maker_was_cancelled_does_not_appear_later() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("dump");
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
        runtime.block_on(async {
            let (go, gone) = std::sync::mpsc::channel::<()>();
            let busy = tokio::task::spawn_blocking(move || gone.recv());
            // It is the next one's turn as soon as the only thread is free.
            let mut opening = Box::pin(private(&path));
            assert!(futures_util::poll!(&mut opening).is_pending());
            drop(opening);
            go.send(()).unwrap();
            busy.await.unwrap().unwrap();
            tokio::task::spawn_blocking(|| {}).await.unwrap();
            assert!(!path.exists());
        });
    }

    #[tokio::test]
    async fn a_dump_is_its_owners_alone_and_takes_no_place_of_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let (open, link) = (directory.path().join("open"), directory.path().join("link"));
        fs::write(&open, "former").unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
        private(&open).await.unwrap();
        assert_eq!(fs::metadata(&open).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&open, "kept").unwrap();
        std::os::unix::fs::symlink(&open, &link).unwrap();
        assert!(private(&link).await.is_err());
        assert!(private(std::path::Path::new("/dev/null")).await.is_err());
        assert_eq!(fs::read_to_string(&open).unwrap(), "kept");
    }
}
