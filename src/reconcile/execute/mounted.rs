//! Files of containers whose file system is read-only: the engine writes none into such a container, so each is mounted from the host.
//!
//! They lie in the environment's own directory, which only its user reaches, and are written again before each start.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt, chown},
    path::Path,
};

use devenv_engine::{CreatedMount, UploadFile};
use devenv_files::Durability;
use devenv_spec::{ContainerSpec, ServiceName};

use super::{Effects, OperationError};

/// Whether the files of a container are mounted instead of written into it.
pub(super) fn is_wanted(container: &ContainerSpec) -> bool {
    container.options.read_only
}

impl Effects {
    /// Writes the files of a service where they are mounted from; the mounts.
    pub(super) fn mounted_files(&self, service: &ServiceName, files: &[UploadFile]) -> Result<Vec<CreatedMount>, OperationError> {
        let directory = self.runtime.mounted_files(service);
        crate::blocking::in_place(|| write(&directory, files))
            .map_err(|error| OperationError::Other(format!("cannot write the files to mount below {}: {error}", directory.display())))
    }
}

fn write(directory: &Path, files: &[UploadFile]) -> io::Result<Vec<CreatedMount>> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mount = |(number, file): (usize, &UploadFile)| {
        let path = directory.join(number.to_string());
        place(&path, file)?;
        Ok(CreatedMount::Host { path, target: file.path.clone(), read_only: true })
    };
    files.iter().enumerate().map(mount).collect()
}

/// With the owner and the mode that are wanted. Only root gives files away: for others the file is readable by every user of the
/// container, and on the host its directory keeps everybody else out.
fn place(path: &Path, file: &UploadFile) -> io::Result<()> {
    let mut beside = devenv_files::unfinished(path, 0o600)?;
    beside.write_all(&file.content)?;
    let given = chown(beside.path(), Some(file.uid), Some(file.gid)).is_ok();
    let mode = if given { file.mode } else { file.mode | 0o444 };
    fs::set_permissions(beside.path(), fs::Permissions::from_mode(mode))?;
    devenv_files::put_in_place(beside, path, Durability::Cached)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_whatever_their_mode_and_have_it() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("web");
        let file = |content: &'static str| UploadFile {
            path: "/run/secrets/key".to_owned(),
            mode: 0o444,
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            content: content.into(),
        };
        for content in ["one", "two"] {
            let mounts = write(&place, &[file(content)]).unwrap();
            let CreatedMount::Host { path, target, read_only: true } = &mounts[0] else { panic!("{mounts:?}") };
            assert_eq!((fs::read_to_string(path).unwrap().as_str(), target.as_str()), (content, "/run/secrets/key"));
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o444);
        }
        assert_eq!(fs::metadata(&place).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
