//! The daemon's socket, which is created again when its file is removed. Programs that clean up runtime directories (systemd at the
//! last logout, cleaners of `/tmp`) remove it, and then no client could reach the daemon. So the daemon checks the file every second, and
//! creates directory, lock and socket again. The server accepts connections through it.

use std::{
    fs::File,
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
    time::Duration,
};

use axum::serve::Listener;
use devenv_api::{ApiError, ErrorCode};
use tokio::{
    net::{UnixListener, UnixStream, unix::SocketAddr},
    time::{Interval, MissedTickBehavior, interval},
};

use super::lock::lock;
use crate::{error::describe, paths::Paths};

/// Between checks of the socket's file.
const LOOK: Duration = Duration::from_secs(1);

/// Identifies a file: device and inode.
type Identity = (u64, u64);

pub(super) struct Socket {
    listener: UnixListener,
    paths: Paths,
    /// The file that the listener is bound to.
    bound: Option<Identity>,
    /// Held as long as the daemon runs; replaced when its file was removed.
    runtime_lock: File,
    looks: Interval,
}

impl Socket {
    /// `runtime_lock` is held, so an existing socket belongs to no daemon.
    pub(super) fn bind(paths: Paths, runtime_lock: File) -> Result<Self, ApiError> {
        let listener = listen(&paths.socket())?;
        let bound = identity(&paths.socket());
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self { listener, paths, bound, runtime_lock, looks })
    }

    /// Creates again what has been removed. What fails is tried again at the next check.
    fn look(&mut self) {
        if self.bound.is_some() && identity(&self.paths.socket()) == self.bound {
            return;
        }
        match self.make_again() {
            Ok(true) => tracing::warn!(socket = %self.paths.socket().display(), "The socket had been removed; it was made again."),
            // A client's new daemon holds it; it ends when it finds the state directory locked.
            Ok(false) => tracing::debug!("The runtime directory is locked by another process for the moment."),
            Err(error) => tracing::warn!(error = error.message, "The socket has been removed, and cannot be made again yet."),
        }
    }

    /// False if another process holds the lock of the runtime directory.
    fn make_again(&mut self) -> Result<bool, ApiError> {
        self.paths.create().map_err(|error| ApiError::new(ErrorCode::Failed, describe(&error)))?;
        let own = self.runtime_lock.metadata().ok().map(|data| (data.dev(), data.ino()));
        if own.is_none() || identity(&self.paths.lock()) != own {
            let Some(lock) = lock(&self.paths.lock())? else { return Ok(false) };
            self.runtime_lock = lock;
        }
        self.listener = listen(&self.paths.socket())?;
        self.bound = identity(&self.paths.socket());
        Ok(true)
    }
}

impl Listener for Socket {
    type Io = UnixStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (UnixStream, SocketAddr) {
        loop {
            // Both branches are cancel-safe: accepting, and a tick.
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => return accepted,
                    Err(error) => {
                        tracing::warn!(%error, "Cannot accept a connection.");
                        // Too many open files, for example: the next attempt is after the next check.
                        self.looks.tick().await;
                    }
                },
                _ = self.looks.tick() => self.look(),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

fn identity(path: &Path) -> Option<Identity> {
    std::fs::symlink_metadata(path).ok().map(|data| (data.dev(), data.ino()))
}

fn listen(path: &Path) -> Result<UnixListener, ApiError> {
    let failed = |error: io::Error| ApiError::new(ErrorCode::Internal, format!("cannot listen on {}: {error}", path.display()));
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    // The directory has mode 0700, so nobody was able to connect in between.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_whose_file_is_removed_is_there_again_soon() {
        type Damage = fn(&Paths);
        let damages: [(&str, Damage); 4] = [
            ("the socket", |paths| std::fs::remove_file(paths.socket()).unwrap()),
            ("the lock", |paths| std::fs::remove_file(paths.lock()).unwrap()),
            ("the directory", |paths| std::fs::remove_dir_all(&paths.runtime).unwrap()),
            ("the directory, which is made anew", |paths| {
                std::fs::remove_dir_all(&paths.runtime).unwrap();
                std::fs::create_dir(&paths.runtime).unwrap();
            }),
        ];
        for (what, damage) in damages {
            let root = tempfile::tempdir().unwrap();
            let paths = Paths { state: root.path().join("state"), runtime: root.path().join("run"), config: root.path().join("config") };
            paths.create().unwrap();
            let held = lock(&paths.lock()).unwrap().unwrap();
            let mut socket = Socket::bind(paths.clone(), held).unwrap();
            damage(&paths);
            let connected = async {
                while UnixStream::connect(paths.socket()).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            let both = async { tokio::join!(connected, socket.accept()) };
            tokio::time::timeout(Duration::from_secs(30), both).await.unwrap_or_else(|_| panic!("{what}: nobody can connect"));
            if what != "the lock" {
                assert!(lock(&paths.lock()).unwrap().is_none(), "{what}: the lock is held again");
            }
        }
    }
}
