//! Reports that a service's files have changed: once for each save, whatever the editor does, and never without a change.
//!
//! Theory of operation. One thread for each environment (`source.rs`) hears of writes from the kernel, by watches on
//! directories, not files, and only on those that no ignore rule excludes (`filter.rs`). Touched paths wait in a
//! debounce (`debounce.rs`) until the writer seems done; then their bytes are compared with a snapshot (`tree.rs`), and
//! only a difference is a change. A loop, in which a service's own build, start or work changes what it watches, is broken
//! (`breaker.rs`). What follows from a change is decided elsewhere; the port proxy (`port_proxy.rs`) serves one answer, the swap.

mod breaker;
mod debounce;
mod filter;
mod limits;
mod port_proxy;
mod rhythm;
mod source;
mod tree;

use std::{
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use tokio::sync::{mpsc, oneshot};

pub use port_proxy::{PortProxy, RetiredBackend};

/// Observations that wait to be received; each corresponds to a save by a human, so it never fills up.
const OBSERVATIONS: usize = 256;

/// One `watch` entry of a service.
#[derive(Debug, Clone)]
pub struct Rule {
    pub service: String,
    /// Which of the service's entries it is.
    pub index: usize,
    /// Files and directories, absolute.
    pub paths: Vec<PathBuf>,
    /// Globs, as in `.gitignore` at the project's root.
    pub ignore: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    Changed(Change),
    /// The kernel has no more watches to give: the rest is polled.
    Limited(Limited),
    /// Something of the service's own keeps changing what it watches; these changes do not count any more.
    FeedbackLoop(FeedbackLoop),
}

/// The content of files differs from what it was at the last change, or at the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub service: String,
    pub rule: usize,
    /// Sorted; those that are gone included.
    pub paths: Vec<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    /// Directories with a watch.
    pub watched: usize,
    /// Directories that are looked at every so often.
    pub polled: usize,
    /// The limit's name and value.
    pub setting: &'static str,
    pub limit: Option<u64>,
    /// The line that mends it.
    pub fix: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedbackLoop {
    pub service: String,
    pub rule: usize,
    pub paths: Vec<PathBuf>,
    /// The writer's process id and name, if it still had one of the files open.
    pub writer: Option<(u32, String)>,
    /// They were written while the service ran, rather than by its build or start.
    pub while_running: bool,
}

/// Watches the files of one environment as long as it lives.
#[derive(Debug)]
pub struct Watcher {
    messages: std::sync::mpsc::Sender<source::Message>,
    thread: Option<thread::JoinHandle<()>>,
}

/// How much is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    pub directories: usize,
    pub polled: usize,
    pub files: usize,
}

impl Watcher {
    /// Returns once every later change will be seen.
    pub async fn start(project: &Path, rules: Vec<Rule>) -> (Self, mpsc::Receiver<Observation>, Extent) {
        Self::start_within(project, rules, None).await
    }

    /// With at most so many of the kernel's watches.
    async fn start_within(project: &Path, rules: Vec<Rule>, watches: Option<usize>) -> (Self, mpsc::Receiver<Observation>, Extent) {
        let (observations, receiver) = mpsc::channel(OBSERVATIONS);
        // Bounded by what the kernel queues, for the callback does nothing but pass on.
        let (messages, inbox) = std::sync::mpsc::channel();
        let (ready, is_ready) = oneshot::channel();
        let (project, events) = (project.to_owned(), messages.clone());
        let thread = thread::spawn(move || source::run(&project, rules, watches, (events, inbox), observations, ready));
        let extent = is_ready.await.unwrap_or(Extent { directories: 0, polled: 0, files: 0 });
        (Self { messages, thread: Some(thread) }, receiver, extent)
    }

    /// A build or a start of the service begins: what is written now may be its own work. `marker` is that of its
    /// processes, if they have one.
    pub fn work_begins(&self, service: &str, marker: Option<&str>) {
        let (service, marker) = (service.to_owned(), marker.map(ToOwned::to_owned));
        // A thread that is gone watches nothing.
        let _ = self.messages.send(source::Message::WorkBegins { service, marker, at: Instant::now() });
    }

    /// Returns when all that is watched has been read once. Blocks.
    #[cfg(test)]
    fn read_first_bytes(&self) {
        let (done, is_done) = std::sync::mpsc::channel();
        let _ = self.messages.send(source::Message::ReadAll { done });
        is_done.recv().expect("the watching thread lives as long as its watcher");
    }

    /// The build has ended, or the service is ready, or both have failed.
    pub fn work_ends(&self, service: &str) {
        let _ = self.messages.send(source::Message::WorkEnds { service: service.to_owned(), at: Instant::now() });
    }
}

/// The files that a rule watches, as they are now.
pub fn files(project: &Path, rule: &Rule) -> Vec<PathBuf> {
    let mut filter = filter::Filter::new(project, &rule.ignore, &rule.paths);
    let mut files = Vec::new();
    let mut left: Vec<PathBuf> = rule.paths.clone();
    while let Some(path) = left.pop() {
        let is_directory = path.is_dir();
        if filter.ignores(&path, is_directory) {
            continue;
        }
        if is_directory {
            filter.load(&path);
            left.extend(std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()));
        } else if path.is_file() && !path.file_name().is_some_and(filter::Filter::is_ignore_file) {
            files.push(path);
        }
    }
    files.sort_unstable();
    files
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.messages.send(source::Message::Stop);
        // Not joined: it may be in the middle of reading a large file, and ends by itself.
        drop(self.thread.take());
    }
}

#[cfg(test)]
mod tests;
