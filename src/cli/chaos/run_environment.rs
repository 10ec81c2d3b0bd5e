//! Where the runs of scenarios are kept: a directory for each, in `chaos/` of the state directory. One run at a time in an environment.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use devenv_api::{ApiError, EnvironmentTarget, ErrorCode};

use crate::{cli::failure::internal, paths::Paths};

/// The number of runs that are kept.
const KEPT: usize = 20;

/// The directory of the runs of one environment, of which one runs at a time.
pub(super) struct RunEnvironment {
    directory: PathBuf,
    _lock: fs::File,
}

impl RunEnvironment {
    pub(super) fn take(paths: &Paths, target: &EnvironmentTarget) -> Result<Self, ApiError> {
        let failed = |error: io::Error| internal("cannot create the directory for runs", error);
        let directory = paths.state.join("chaos");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(failed)?;
        let name = devenv_chaos::lock_name(&target.project, &target.instance);
        let lock = fs::OpenOptions::new().create(true).truncate(false).write(true).open(directory.join(name)).map_err(failed)?;
        lock.try_lock().map_err(|_| {
            ApiError::new(ErrorCode::Conflict, "another scenario is running in this environment").hint("use another `--instance`")
        })?;
        Ok(Self { directory, _lock: lock })
    }

    /// A name that no other run has, and its directory.
    pub(super) fn new_run(&self) -> io::Result<(String, PathBuf)> {
        self.forget();
        loop {
            let run: String = std::iter::repeat_with(|| char::from(b'a' + rand::random_range(0..26))).take(6).collect();
            let directory = self.directory.join(&run);
            match fs::DirBuilder::new().mode(0o700).create(&directory) {
                Ok(()) => return Ok((run, directory)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes all but the newest runs; one that cannot be removed stays.
    fn forget(&self) {
        let made = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut runs: Vec<_> = entries.filter(|path| path.is_dir()).filter_map(|path| Some((made(&path)?, path))).collect();
        runs.sort();
        for (_, path) in runs.iter().rev().skip(KEPT - 1) {
            let _ = fs::remove_dir_all(path);
        }
    }
}
