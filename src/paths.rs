//! The paths of this machine, and every environment variable that devenv itself reads.
//!
//! Resolved once at the start from the variables; nothing else in the program reads them.

use std::{
    ffi::OsString,
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// A variable that devenv reads.
pub(crate) struct EnvironmentVariable {
    pub(crate) name: &'static str,
    pub(crate) meaning: &'static str,
}

pub(crate) const STATE_DIR: &str = "DEVENV_STATE_DIR";
pub(crate) const RUNTIME_DIR: &str = "DEVENV_RUNTIME_DIR";
pub(crate) const CONFIG_DIR: &str = "DEVENV_CONFIG_DIR";
pub(crate) const LOG: &str = "DEVENV_LOG";
pub(crate) const IMPORT_URL: &str = "DEVENV_IMPORT_URL";
pub(crate) const MEMORY_BUDGET: &str = "DEVENV_MEMORY_BUDGET";
pub(crate) const DOCKER_HOST: &str = "DOCKER_HOST";
pub(crate) const DOCKER_CONTEXT: &str = "DOCKER_CONTEXT";
pub(crate) const DOCKER_TLS_VERIFY: &str = "DOCKER_TLS_VERIFY";
pub(crate) const DOCKER_CERT_PATH: &str = "DOCKER_CERT_PATH";
/// Read by `devenv_engine::docker::Selection`.
pub(crate) const SSH_CONFIG: &str = "DEVENV_SSH_CONFIG";
/// The shell whose completion script asks for candidates.
pub(crate) const COMPLETE: &str = "DEVENV_COMPLETE";
/// What `devenv hook` has set in this shell.
pub(crate) const HOOK: &str = "DEVENV_HOOK";
pub(crate) const CI: &str = "CI";
pub(crate) const NO_COLOR: &str = "NO_COLOR";

/// All of them, in the order of the reference.
pub(crate) const VARIABLES: &[EnvironmentVariable] = &[
    EnvironmentVariable {
        name: STATE_DIR,
        meaning: "Directory for state: secrets, port reservations, logs, records. Default: `$XDG_STATE_HOME/devenv`, else \
            `~/.local/state/devenv`. Its id marks every container, network and volume that devenv creates, so several state directories \
            can share an engine.",
    },
    EnvironmentVariable {
        name: RUNTIME_DIR,
        meaning: "Directory for the daemon's socket and lock. Each runtime directory has one daemon. Default: `$XDG_RUNTIME_DIR/devenv`, \
            else `/tmp/devenv-<uid>`. Mode 0700.",
    },
    EnvironmentVariable {
        name: CONFIG_DIR,
        meaning: "Directory for your own configuration. Profiles in its `profiles/` are found after the project's. Default: \
            `$XDG_CONFIG_HOME/devenv`, else `~/.config/devenv`.",
    },
    EnvironmentVariable {
        name: LOG,
        meaning: "Log filter of the daemon, such as `info` (the default) or `devenv::reconcile=debug`. The log is `daemon.log` in the \
            state directory.",
    },
    EnvironmentVariable {
        name: IMPORT_URL,
        meaning: "URL that `devenv import SERVICE` reads from if the command line names none. It may contain a password.",
    },
    EnvironmentVariable {
        name: MEMORY_BUDGET,
        meaning: "What the containers of all environments of a daemon may take together, such as `8GiB`, read when the daemon starts. While they \
            take more, the environment that nobody has used for the longest time is put to sleep, if its profile says `sleep`. Default: no limit.",
    },
    EnvironmentVariable {
        name: DOCKER_HOST,
        meaning: "Address of the container engine, as in Docker. If it is set and nothing answers there, devenv exits with 3 and tries no other.",
    },
    EnvironmentVariable {
        name: DOCKER_CONTEXT,
        meaning: "Docker context to use, as in Docker. `--context` and `DOCKER_HOST` take precedence.",
    },
    EnvironmentVariable {
        name: DOCKER_TLS_VERIFY,
        meaning: "If set, the engine at `DOCKER_HOST` is reached over TLS and verified by the certificates of `DOCKER_CERT_PATH`, as in Docker.",
    },
    EnvironmentVariable {
        name: DOCKER_CERT_PATH,
        meaning: "Directory with `ca.pem`, and with `cert.pem` and `key.pem` if the engine asks for a client's certificate. Default: `~/.docker`.",
    },
    EnvironmentVariable {
        name: SSH_CONFIG,
        meaning: "Configuration file for `ssh` (`ssh -F`) when the engine's address is `ssh://USER@HOST:PORT`. Default: your own `~/.ssh/config`.",
    },
    EnvironmentVariable {
        name: COMPLETE,
        meaning: "Set by completion scripts: print candidates for the word at the cursor, for this shell.",
    },
    EnvironmentVariable { name: HOOK, meaning: "Set by `devenv hook` in your shell: what its variables were before." },
    EnvironmentVariable { name: CI, meaning: "If set (and not `false`), print progress as plain lines, even on a terminal." },
    EnvironmentVariable { name: NO_COLOR, meaning: "If set, print no colours." },
];

#[derive(Debug, thiserror::Error)]
pub(crate) enum PathsError {
    #[error("no home directory: neither HOME nor {variable} is set")]
    NoHome { variable: &'static str },
    #[error("{variable} is `{}`, which is not an absolute path", path.display())]
    Relative { variable: &'static str, path: PathBuf },
    #[error("the socket path is longer than the kernel's limit of {limit} bytes: {}", path.display())]
    SocketTooLong { path: PathBuf, limit: usize },
    #[error("{} belongs to another user ({})", path.display(), user_name(*owner))]
    Foreign { path: PathBuf, owner: u32 },
    /// Of a directory of the user's own.
    #[error("{} belongs to {}, so that devenv may be unable to use it", path.display(), user_name(*owner))]
    ForeignFile { path: PathBuf, owner: u32, directory: PathBuf },
    #[error("cannot create the directory {}", path.display())]
    Create { path: PathBuf, source: io::Error },
}

/// The directories of one daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Paths {
    /// Kept between boots.
    pub(crate) state: PathBuf,
    /// Gone with the boot; holds the socket and the lock.
    pub(crate) runtime: PathBuf,
    /// The user's own profiles and settings.
    pub(crate) config: PathBuf,
}

/// The length of `sun_path` without the final zero.
const SOCKET_PATH_LIMIT: usize = 107;

impl Paths {
    /// From the process's environment.
    pub(crate) fn resolve() -> Result<Self, PathsError> {
        Self::from_variables(|name| std::env::var_os(name), rustix::process::getuid().as_raw())
    }

    /// A variable that is empty counts as unset.
    fn from_variables(variable: impl Fn(&str) -> Option<OsString>, uid: u32) -> Result<Self, PathsError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let own = |name: &'static str| match set(name) {
            Some(path) if path.is_relative() => Err(PathsError::Relative { variable: name, path }),
            other => Ok(other),
        };
        // The XDG specification says that a relative path must be ignored here.
        let xdg = |name: &str| set(name).filter(|path| path.is_absolute()).map(|path| path.join("devenv"));
        let home = |rest: &str, variable| set("HOME").map(|home| home.join(rest)).ok_or(PathsError::NoHome { variable });

        let state = match own(STATE_DIR)?.or_else(|| xdg("XDG_STATE_HOME")) {
            Some(path) => path,
            None => home(".local/state/devenv", STATE_DIR)?,
        };
        let config = match own(CONFIG_DIR)?.or_else(|| xdg("XDG_CONFIG_HOME")) {
            Some(path) => path,
            // Profiles of the user's own are optional, so their absence is no error.
            None => home(".config/devenv", CONFIG_DIR).unwrap_or_else(|_| state.join("config")),
        };
        let runtime = own(RUNTIME_DIR)?.or_else(|| xdg("XDG_RUNTIME_DIR")).unwrap_or_else(|| PathBuf::from(format!("/tmp/devenv-{uid}")));
        let paths = Self { state, runtime, config };
        let socket = paths.socket();
        if socket.as_os_str().len() > SOCKET_PATH_LIMIT {
            return Err(PathsError::SocketTooLong { path: socket, limit: SOCKET_PATH_LIMIT });
        }
        Ok(paths)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.runtime.join("devenv.sock")
    }

    /// Held by the daemon as long as it runs.
    pub(crate) fn lock(&self) -> PathBuf {
        self.runtime.join("devenv.lock")
    }

    /// Where a daemon that was started on demand writes its log.
    pub(crate) fn daemon_log(&self) -> PathBuf {
        self.state.join("daemon.log")
    }

    /// Held by the daemon as long as it runs; names that daemon.
    pub(crate) fn state_lock(&self) -> PathBuf {
        self.state.join("lock")
    }

    /// The daemon that has, or last had, the state directory; `None` if a former version wrote none.
    pub(crate) fn recorded_daemon(&self) -> Option<DaemonRecord> {
        serde_json::from_slice(&fs::read(self.state_lock()).ok()?).ok()
    }

    /// Creates the state and runtime directories for this user only, and refuses directories of other users, and their files in the
    /// state directory.
    pub(crate) fn create(&self) -> Result<(), PathsError> {
        let uid = rustix::process::getuid().as_raw();
        for path in [&self.state, &self.runtime] {
            private_directory(path, uid)?;
        }
        // Root can use all of them, and gives some to the users of containers.
        match foreign_file(&self.state, uid, DEPTH).filter(|_| uid != 0) {
            Some((path, owner)) => Err(PathsError::ForeignFile { path, owner, directory: self.state.clone() }),
            None => Ok(()),
        }
    }

    /// Refuses existing directories of other users. Creates nothing.
    pub(crate) fn check_owner(&self) -> Result<(), PathsError> {
        let uid = rustix::process::getuid().as_raw();
        for path in [&self.state, &self.runtime] {
            match fs::metadata(path) {
                Ok(data) if data.uid() != uid => return Err(PathsError::Foreign { path: path.clone(), owner: data.uid() }),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The content of the state directory's lock: its holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DaemonRecord {
    pub(crate) pid: u32,
    pub(crate) socket: PathBuf,
}

/// How deep the state directory is searched for files of other users: to the records of environments.
const DEPTH: usize = 3;

/// The first file or directory of another user, the highest one first.
fn foreign_file(directory: &Path, uid: u32, depth: usize) -> Option<(PathBuf, u32)> {
    let entries: Vec<_> =
        fs::read_dir(directory).ok()?.flatten().filter_map(|entry| Some((entry.path(), entry.metadata().ok()?))).collect();
    if let Some((path, data)) = entries.iter().find(|(_, data)| data.uid() != uid) {
        return Some((path.clone(), data.uid()));
    }
    let below = entries.iter().filter(|(_, data)| data.is_dir() && depth > 1);
    below.into_iter().find_map(|(path, _)| foreign_file(path, uid, depth - 1))
}

/// The name in the user database, or the number.
pub(crate) fn user_name(uid: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let number = uid.to_string();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("the user {number}"))
}

fn private_directory(path: &Path, uid: u32) -> Result<(), PathsError> {
    let failed = |source| PathsError::Create { path: path.to_owned(), source };
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    // `/tmp` is shared: a link or directory that another user created there must not be used.
    let metadata = fs::symlink_metadata(path).map_err(failed)?;
    let metadata = if metadata.is_symlink() && metadata.uid() == uid { fs::metadata(path).map_err(failed)? } else { metadata };
    if metadata.uid() != uid {
        return Err(PathsError::Foreign { path: path.to_owned(), owner: metadata.uid() });
    }
    if metadata.mode() & 0o077 != 0 {
        fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o700)).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(variables: &[(&str, &str)]) -> Result<Paths, PathsError> {
        let variables: Vec<(String, OsString)> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(*value))).collect();
        Paths::from_variables(|name| variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()), 1000)
    }

    #[test]
    fn own_variables_go_before_xdg_and_xdg_before_home() {
        let home = ("HOME", "/home/ada");
        let paths = resolve(&[home]).unwrap();
        assert_eq!(paths.state, Path::new("/home/ada/.local/state/devenv"));
        assert_eq!(paths.runtime, Path::new("/tmp/devenv-1000"));
        assert_eq!(paths.config, Path::new("/home/ada/.config/devenv"));

        let xdg = [home, ("XDG_STATE_HOME", "/s"), ("XDG_RUNTIME_DIR", "/run/user/1000"), ("XDG_CONFIG_HOME", "relative")];
        let paths = resolve(&xdg).unwrap();
        assert_eq!(paths.state, Path::new("/s/devenv"));
        assert_eq!(paths.socket(), Path::new("/run/user/1000/devenv/devenv.sock"));
        assert_eq!(paths.config, Path::new("/home/ada/.config/devenv"));

        let paths = resolve(&[(STATE_DIR, "/own/state"), (RUNTIME_DIR, "/own/run"), ("XDG_STATE_HOME", "")]).unwrap();
        assert_eq!((paths.state.as_path(), paths.runtime.as_path()), (Path::new("/own/state"), Path::new("/own/run")));
    }

    #[test]
    fn a_path_that_cannot_work_is_refused_with_its_variable() {
        assert!(matches!(resolve(&[]), Err(PathsError::NoHome { variable: STATE_DIR })));
        assert!(matches!(resolve(&[("HOME", "/h"), (STATE_DIR, "here")]), Err(PathsError::Relative { variable: STATE_DIR, .. })));
        let long = format!("/{}", "x".repeat(110));
        assert!(matches!(resolve(&[("HOME", "/h"), (RUNTIME_DIR, &long)]), Err(PathsError::SocketTooLong { .. })));
    }

    #[test]
    fn directories_are_private_even_if_they_were_not() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths { state: root.path().join("a/state"), runtime: root.path().join("run"), config: root.path().join("c") };
        fs::create_dir(&paths.runtime).unwrap();
        paths.create().unwrap();
        for path in [&paths.state, &paths.runtime] {
            assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o700, "{}", path.display());
        }
        assert!(!paths.config.exists());
    }

    #[test]
    fn a_file_of_another_user_is_found_wherever_it_is_the_highest_one_first() {
        let root = tempfile::tempdir().unwrap();
        let uid = rustix::process::getuid().as_raw();
        fs::create_dir_all(root.path().join("environments/shop")).unwrap();
        fs::write(root.path().join("environments/shop/environment.json"), "{}").unwrap();
        assert_eq!(foreign_file(root.path(), uid, DEPTH), None);
        let (path, owner) = foreign_file(root.path(), uid + 1, DEPTH).unwrap();
        assert_eq!((path, owner), (root.path().join("environments"), uid));
        if uid == 0 {
            for file in ["environments/shop/environment.json", "environments/shop", "environments"] {
                std::os::unix::fs::chown(root.path().join(file), Some(65_534), None).unwrap();
                assert_eq!(foreign_file(root.path(), uid, DEPTH).unwrap(), (root.path().join(file), 65_534));
            }
        }
        assert_eq!(user_name(0), "root");
        assert_eq!(user_name(4_000_000_000), "the user 4000000000");
    }

    #[test]
    fn a_runtime_directory_of_another_user_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let uid = rustix::process::getuid().as_raw();
        assert!(matches!(private_directory(root.path(), uid + 1), Err(PathsError::Foreign { .. })));
    }
}
