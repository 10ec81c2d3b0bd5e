//! Work on disks that may never answer, such as a network file system whose server is gone: not on a thread of the runtime, and
//! with limits.
//!
//! Whatever the daemon does with a path that a project names goes through here. A thread that a disk holds up ends when the disk
//! answers; nobody waits for it any longer.

use std::{fs, io, path::PathBuf, time::Duration};

/// How long a disk may take to say what is at a path.
const REACHED_WITHIN: Duration = Duration::from_secs(10);
/// How long all of the work may take: it may read gigabytes.
const DONE_WITHIN: Duration = Duration::from_mins(15);

/// Does the work in a thread for such work, after a look at the paths that it begins with. A path that does not exist is for the work
/// to find out.
pub async fn read_in_time<T: Send + 'static>(paths: Vec<PathBuf>, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    for path in paths {
        let place = path.display().to_string();
        within(REACHED_WITHIN, &format!("the disk says nothing of {place}"), move || drop(fs::metadata(path))).await?;
    }
    within(DONE_WITHIN, "reading has not ended", work).await
}

async fn within<T: Send + 'static>(limit: Duration, otherwise: &str, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    match tokio::time::timeout(limit, tokio::task::spawn_blocking(work)).await {
        Ok(done) => done.map_err(io::Error::other),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, format!("{otherwise} within {} s", limit.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn work_that_a_disk_holds_up_is_given_up_and_other_tasks_go_on() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (release, released) = mpsc::channel::<()>();
        let error = runtime.block_on(within(Duration::from_millis(50), "the disk says nothing", move || released.recv())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().starts_with("the disk says nothing within"), "{error}");
        release.send(()).unwrap();
        assert_eq!(runtime.block_on(read_in_time(vec!["/nonexistent".into()], || 7)).unwrap(), 7);
    }
}
