//! The process shim's socket. Its path may be longer than a socket address can be, so it is named from its directory.

use std::{
    fs, io,
    os::{
        fd::AsRawFd,
        unix::{
            fs::PermissionsExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
};

use rustix::fs::{Mode, OFlags};

const SOCKET: &str = "control.sock";

/// Replaces the socket of an earlier process.
pub(super) fn listen(directory: &Path) -> io::Result<UnixListener> {
    let _ = fs::remove_file(directory.join(SOCKET));
    let listener = within(directory, |path| UnixListener::bind(path))?;
    fs::set_permissions(directory.join(SOCKET), fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Never blocks: a socket of this type connects at once or is refused.
pub(super) fn connect(directory: &Path) -> io::Result<UnixStream> {
    let socket = within(directory, |path| UnixStream::connect(path))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

pub(super) fn remove(directory: &Path) {
    let _ = fs::remove_file(directory.join(SOCKET));
}

fn within<T>(directory: &Path, act: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let handle = rustix::fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    act(Path::new(&format!("/proc/self/fd/{}/{SOCKET}", handle.as_raw_fd())))
}
