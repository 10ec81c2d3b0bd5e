//! Backups: what a service's own tools write of its data, with counts and checksums taken at the same moment.
//!
//! A snapshot is a copy of files for this machine and this version; a backup is a dump that another server, also of a
//! later version, can load. The daemon decides where files go and who may write in the meantime; this module knows how each kind of data is
//! written, read back, counted and compared. Nothing here has a password in a process's arguments.

mod compare;
mod retention;
mod staging;

use std::path::Path;

pub use crate::capability::BackupError;
pub use compare::{compare, verified};
pub use retention::outdated;
pub(crate) use staging::{former_name, staged_name};

/// For its owner alone.
pub(crate) async fn private(path: &Path) -> std::io::Result<tokio::fs::File> {
    // What is there may be a link, a device or readable by others.
    devenv_files::check_replaceable(path)?;
    let no_link = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let file = tokio::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).custom_flags(no_link).open(path).await?;
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)).await?;
    Ok(file)
}
