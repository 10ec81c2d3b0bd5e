//! Loading within a limit: a disk that a profile names, such as a network mount, may never answer.

use std::{sync::mpsc, time::Duration};

use devenv_api::{ApiError, ErrorCode};
use devenv_profile::{LoadError, load::Loaded};

use super::NotLoaded;

/// Far longer than the largest project takes.
const LONGEST: Duration = Duration::from_secs(20);

/// Loads on a thread of its own, which ends with the process if a disk holds it up.
pub(super) fn loaded(load: impl FnOnce() -> Result<Loaded, LoadError> + Send + 'static) -> Result<Loaded, NotLoaded> {
    let (done, is_done) = mpsc::channel();
    std::thread::spawn(move || done.send(load()));
    is_done.recv_timeout(LONGEST).map_or_else(
        |_| {
            let message = format!("the files of the profile could not be read within {} s", LONGEST.as_secs());
            let error =
                ApiError::new(ErrorCode::Failed, message).hint("check whether the disks that it names answer, such as network mounts");
            Err(NotLoaded::Other(error.into()))
        },
        |loaded| loaded.map_err(NotLoaded::Load),
    )
}
