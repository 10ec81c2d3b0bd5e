//! Checks who owns the other end of the socket: the client sends data only to a daemon of this user.
//!
//! The runtime directory is often below `/tmp`, where another user can create it first. The client checks the directory
//! before it connects, and the peer's credentials afterwards.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use tokio::net::UnixStream;

use super::ClientError;

/// Refuses a socket whose directory or file another user owns or can replace. A missing one is no error: no daemon listens.
pub(super) fn check_place(socket: &Path) -> Result<(), ClientError> {
    let directory = socket.parent().unwrap_or(Path::new("/"));
    let user = rustix::process::geteuid().as_raw();
    let refused = |path: &Path, reason: String| Err(ClientError::Foreign { path: path.to_owned(), reason });
    for path in [directory, socket] {
        let metadata = match fs::symlink_metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return refused(path, format!("cannot be checked: {error}")),
        };
        if metadata.uid() != user {
            return refused(path, format!("belongs to another user (user id {})", metadata.uid()));
        }
        // A link of this user may lead anywhere, so its target is checked.
        let target = if metadata.is_symlink() { fs::metadata(path) } else { Ok(metadata) };
        let Ok(target) = target else { return refused(path, "is a link to nothing that can be read".to_owned()) };
        if target.uid() != user {
            return refused(path, format!("leads to what belongs to another user (user id {})", target.uid()));
        }
        if path == directory && target.mode() & 0o022 != 0 {
            return refused(path, format!("is writable by other users (mode {:04o})", target.mode() & 0o7777));
        }
    }
    Ok(())
}

/// Connects, and checks that a process of this user or of root accepted.
pub(super) async fn connect(socket: &Path) -> Result<UnixStream, ClientError> {
    check_place(socket)?;
    let connection = UnixStream::connect(socket).await.map_err(|_| ClientError::NotRunning { socket: socket.to_owned() })?;
    let peer = connection.peer_cred().map_err(super::lost)?.uid();
    if peer == rustix::process::geteuid().as_raw() {
        return Ok(connection);
    }
    let reason = format!("is served by a process of another user (user id {peer})");
    Err(ClientError::Foreign { path: socket.to_owned(), reason })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;
    use crate::{Client, EngineSelection};

    #[tokio::test]
    async fn a_socket_in_a_directory_that_others_can_write_is_sent_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("devenv.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let client = Client::new(&socket).unwrap().with_engine(&EngineSelection::default());
        let error = client.daemon().await.unwrap_err();
        assert!(matches!(&error, ClientError::Foreign { .. }), "{error}");
        let accepted = tokio::time::timeout(std::time::Duration::from_millis(50), listener.accept()).await;
        assert!(accepted.is_err(), "somebody connected");
    }

    #[tokio::test]
    async fn a_socket_of_another_user_is_sent_nothing() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("devenv.sock");
        let _listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let client = Client::new(&socket).unwrap();
        for path in [socket.as_path(), directory.path()] {
            chown(path, Some(12345), None).unwrap();
            let error = client.daemon().await.unwrap_err();
            assert!(matches!(&error, ClientError::Foreign { path: foreign, .. } if foreign == path), "{error}");
            chown(path, Some(0), None).unwrap();
        }
    }

    #[test]
    fn an_own_directory_and_an_own_link_to_it_are_fine() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(directory.path(), &link).unwrap();
        for place in [directory.path().join("devenv.sock"), link.join("devenv.sock"), directory.path().join("absent/devenv.sock")] {
            check_place(&place).unwrap();
        }
    }
}
