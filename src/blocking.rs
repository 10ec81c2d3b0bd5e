//! Short blocking work, such as reading or syncing a file, in the middle of a task.
//!
//! Called by tasks that must have the result before they continue, in their own order: the environment's task saves its
//! record, the fault journal is read. Long work belongs to `tokio::task::spawn_blocking`.

use std::{path::Path, time::Duration};

use devenv_api::{ApiError, ErrorCode};
use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs it on this thread; the runtime moves the other tasks of the thread to another one.
pub(crate) fn in_place<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => tokio::task::block_in_place(work),
        // Tests have one thread, and threads outside of a runtime delay no task.
        _ => work(),
    }
}

/// The same for work that a disk of a project may hold up: `None` if it takes longer. Its thread then ends when the disk answers.
pub(crate) fn in_place_within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, is_done) = std::sync::mpsc::channel();
    let begun = std::thread::Builder::new().name("project-files".to_owned()).spawn(move || done.send(work()));
    begun.ok()?;
    in_place(|| is_done.recv_timeout(limit).ok())
}

/// Fails if the disk of a path that a user or a profile names does not answer, before anything waits for it.
pub(crate) async fn reachable(path: &Path) -> Result<(), ApiError> {
    devenv_files::read_in_time(vec![path.to_owned()], || ()).await.map_err(|error| ApiError::new(ErrorCode::Failed, error.to_string()))
}

/// Whether a project's directory does not exist any more. One on a disk that does not answer is not gone.
pub(crate) async fn is_gone(project: &Path) -> bool {
    reachable(project).await.is_ok() && !project.exists()
}

/// For tests: whether another task of a single-threaded runtime continues while `work` blocks, until that task calls
/// the function that it is given.
#[cfg(test)]
pub(crate) fn lets_others_go_on<W>(work: impl FnOnce() -> W + Send + 'static, release: impl FnOnce() + Send + 'static)
where
    W: Future<Output = ()> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (done, is_done) = std::sync::mpsc::channel();
    runtime.spawn(async move {
        let other = tokio::spawn(async move {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            // It may block as well, until somebody reads what it writes.
            tokio::task::spawn_blocking(release).await.unwrap();
        });
        work().await;
        other.await.unwrap();
        let _ = done.send(());
    });
    let ended = is_done.recv_timeout(std::time::Duration::from_secs(20));
    runtime.shutdown_background();
    ended.expect("the only thread of the runtime is held");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_tasks_go_on_while_one_blocks_in_place() {
        let (release, released) = std::sync::mpsc::channel();
        lets_others_go_on(|| async move { in_place(|| released.recv().unwrap()) }, move || release.send(()).unwrap());
    }

    #[test]
    fn work_that_a_disk_holds_up_is_waited_for_only_so_long() {
        let (release, released) = std::sync::mpsc::channel::<()>();
        assert_eq!(in_place_within(Duration::from_millis(50), move || released.recv()), None);
        assert_eq!(in_place_within(Duration::from_secs(20), || 7), Some(7));
        drop(release);
    }
}
