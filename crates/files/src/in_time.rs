//! Work on disks that may never answer, such as a network file system whose server is gone: not on a thread of the runtime, and
//! with limits.
//!
//! Whatever the daemon does with a path that a project names goes through here. A thread that a disk holds up ends when the disk
//! answers; nobody waits for it any longer.
//!
//! Work on many or large files may take long, so it has two limits: one for all of it, and one for how long nothing may happen.
//! Files that [`crate::open_regular`] opens report each piece that is read; other work reports with [`progressed`].

use std::{
    cell::RefCell,
    fs, io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// How long a disk may take to say what is at a path.
const REACHED_WITHIN: Duration = Duration::from_secs(10);
/// How long all of the work may take: it may read gigabytes.
const DONE_WITHIN: Duration = Duration::from_mins(15);
/// How long nothing at all may be read.
pub(crate) const STALLED_AFTER: Duration = Duration::from_secs(30);

thread_local! {
    /// The steps of the work that this thread does.
    static STEPS: RefCell<Option<Arc<AtomicU64>>> = const { RefCell::new(None) };
}

/// Reports that the work of this thread goes on. Without effect outside of [`read_in_time`].
pub fn progressed() {
    STEPS.with_borrow(|steps| {
        if let Some(steps) = steps {
            steps.fetch_add(1, Ordering::Relaxed);
        }
    });
}

/// Does the work in a thread for such work, after a look at the paths that it begins with. A path that does not exist is for the work
/// to find out.
pub async fn read_in_time<T: Send + 'static>(paths: Vec<PathBuf>, work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    for path in paths {
        let place = path.display().to_string();
        within(REACHED_WITHIN, REACHED_WITHIN, &format!("the disk says nothing of {place}"), move || drop(fs::metadata(path))).await?;
    }
    within(DONE_WITHIN, STALLED_AFTER, "reading has not ended", work).await
}

async fn within<T: Send + 'static>(
    limit: Duration,
    stalled_after: Duration,
    otherwise: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let late = |message: String| io::Error::new(io::ErrorKind::TimedOut, message);
    let (began, steps) = (Instant::now(), Arc::<AtomicU64>::default());
    let mut task = tokio::task::spawn_blocking({
        let steps = steps.clone();
        move || {
            STEPS.set(Some(steps));
            // The thread is used again for other work.
            let _end = Reset;
            work()
        }
    });
    let mut seen = 0;
    loop {
        let left = limit.saturating_sub(began.elapsed());
        if let Ok(done) = tokio::time::timeout(left.min(stalled_after), &mut task).await {
            return done.map_err(io::Error::other);
        }
        let now = steps.load(Ordering::Relaxed);
        if left <= stalled_after {
            return Err(late(format!("{otherwise} within {} s", limit.as_secs())));
        }
        if now == seen {
            return Err(late(format!("the disk has answered nothing for {} s", stalled_after.as_secs())));
        }
        seen = now;
    }
}

struct Reset;

impl Drop for Reset {
    fn drop(&mut self) {
        STEPS.set(None);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    #[test]
    fn work_that_a_disk_holds_up_is_given_up_and_other_tasks_go_on() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (release, released) = mpsc::channel::<()>();
        let error = runtime.block_on(within(SHORT, SHORT, "the disk says nothing", move || released.recv())).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().starts_with("the disk says nothing within"), "{error}");
        release.send(()).unwrap();
        assert_eq!(runtime.block_on(read_in_time(vec!["/nonexistent".into()], || 7)).unwrap(), 7);
    }

    #[test]
    fn long_work_is_given_up_when_it_stalls_and_not_while_it_reports_progress() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (release, released) = mpsc::channel::<()>();
        let long = Duration::from_mins(1);
        let stalls = move || {
            progressed();
            released.recv()
        };
        let error = runtime.block_on(within(long, SHORT, "reading has not ended", stalls)).unwrap_err();
        assert!(error.kind() == io::ErrorKind::TimedOut && error.to_string().starts_with("the disk has answered nothing"), "{error}");
        release.send(()).unwrap();
        // Twice as long as nothing may happen, and that is long enough for a thread that waits for its turn on a busy machine.
        let stalled_after = SHORT * 20;
        let reads = move || {
            let began = Instant::now();
            while began.elapsed() < stalled_after * 2 {
                std::thread::sleep(SHORT / 5);
                progressed();
            }
            7
        };
        assert_eq!(runtime.block_on(within(long, stalled_after, "reading has not ended", reads)).unwrap(), 7);
        // What reads the file reports for itself.
        let reads = || {
            crate::read_bounded(std::path::Path::new("/proc/self/status"), 1 << 20)
                .map(|_| STEPS.with_borrow(|steps| steps.as_ref().unwrap().load(Ordering::Relaxed)))
        };
        assert!(runtime.block_on(within(long, long, "", reads)).unwrap().unwrap() > 0);
    }
}
