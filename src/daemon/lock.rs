//! The locks of a daemon: one daemon for a runtime directory, and one for a state directory. The lock of the state directory
//! contains its holder, so that clients find a daemon whose socket is elsewhere or has been removed.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use devenv_api::{ApiError, ErrorCode};

use crate::paths::{DaemonRecord, Paths};

/// The held lock, or `None` if another process holds it.
pub(super) fn lock(path: &Path) -> Result<Option<File>, ApiError> {
    let fail = |error: io::Error| ApiError::new(ErrorCode::Internal, format!("cannot lock {}: {error}", path.display()));
    let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(fail(error)),
    }
}

/// The lock of the state directory, with this process's id in it. `None` if a daemon for the same runtime directory
/// holds it: its socket has been removed, and it makes a new one shortly.
pub(super) fn lock_state(paths: &Paths) -> Result<Option<File>, ApiError> {
    let Some(mut file) = lock(&paths.state_lock())? else {
        let holder = paths.recorded_daemon();
        return match holder {
            Some(holder) if holder.socket == paths.socket() => Ok(None),
            holder => Err(held(paths, holder.as_ref())),
        };
    };
    let record = DaemonRecord { pid: std::process::id(), socket: paths.socket() };
    // Without it, clients know less about this daemon.
    if let Err(error) = write(&mut file, &record) {
        tracing::warn!(%error, "Cannot record this daemon in the lock of the state directory.");
    }
    Ok(Some(file))
}

fn write(file: &mut File, record: &DaemonRecord) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(&serde_json::to_vec(record)?)
}

fn held(paths: &Paths, holder: Option<&DaemonRecord>) -> ApiError {
    let state = paths.state.display();
    let Some(holder) = holder else {
        return ApiError::new(ErrorCode::Conflict, format!("another daemon uses the state directory {state}"))
            .hint("stop that daemon, a process `devenv daemon run`; its environments keep running, and the next command takes them over");
    };
    let message =
        format!("the daemon with process id {} uses the state directory {state}, and listens at {}", holder.pid, holder.socket.display());
    let runtime = holder.socket.parent().unwrap_or(Path::new("/")).display();
    ApiError::new(ErrorCode::Conflict, message).hint(format!(
        "set DEVENV_RUNTIME_DIR to {runtime} to use that daemon, or run `kill {}` to stop it: its environments keep running, and the next \
         command takes them over",
        holder.pid
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(root: &Path, runtime: &str) -> Paths {
        Paths { state: root.join("state"), runtime: root.join(runtime), config: root.join("config") }
    }

    #[test]
    fn a_second_daemon_for_a_state_directory_names_the_first_and_how_to_reach_it() {
        let root = tempfile::tempdir().unwrap();
        let first = paths(root.path(), "run");
        std::fs::create_dir(&first.state).unwrap();
        let held = lock_state(&first).unwrap().unwrap();
        let error = lock_state(&paths(root.path(), "elsewhere")).unwrap_err();
        let hint = error.hint.unwrap();
        assert!(error.message.contains(&std::process::id().to_string()) && error.message.contains("run/devenv.sock"), "{}", error.message);
        assert!(hint.contains("DEVENV_RUNTIME_DIR") && hint.contains("kill ") && !hint.contains("DEVENV_STATE_DIR"), "{hint}");
        assert!(lock_state(&first).unwrap().is_none(), "the same runtime directory: the daemon is the one that is wanted");
        drop(held);
        assert!(lock_state(&paths(root.path(), "elsewhere")).unwrap().is_some());
        assert_eq!(first.recorded_daemon().unwrap().socket, root.path().join("elsewhere/devenv.sock"));
    }
}
