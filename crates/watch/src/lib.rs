//! Reports that a service's files have changed: once for each save, whatever the editor does, and only if the content differs.
//!
//! Theory of operation. One thread for each environment (`source.rs`) receives write events from the kernel. It watches
//! directories, not files, and only those that no ignore rule excludes (`filter.rs`). Touched paths wait in a
//! debounce (`debounce.rs`) until the writer seems finished; then their bytes are compared with a snapshot (`tree.rs`), and
//! only a difference is a change. A feedback loop, in which a service's own build, start or work changes what it watches, is broken
//! (`breaker.rs`). `src/reload` decides what follows from a change. The port proxy (`port_proxy.rs`) serves one of its answers, the swap.

mod breaker;
mod debounce;
mod filter;
mod limits;
mod port_proxy;
mod rhythm;
mod source;
mod tree;
mod watched;

use std::{
    path::{Path, PathBuf},
    thread,
    time::Instant,
};

use tokio::sync::{mpsc, oneshot};

pub use port_proxy::{PortProxy, RetiredBackend};

/// Observations that wait to be received. Each corresponds to a save by a person, so the channel never fills up.
const OBSERVATIONS: usize = 256;

/// One `watch` entry of a service.
#[derive(Debug, Clone)]
pub struct Rule {
    pub service: String,
    /// The index of the entry in the service's `watch` list.
    pub index: usize,
    /// Files and directories, absolute.
    pub paths: Vec<PathBuf>,
    /// Globs, as in `.gitignore` at the project's root.
    pub ignore: Vec<String>,
    /// Globs of the files that alone count; all of them, if there are none.
    pub include: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    Changed(Change),
    /// The kernel grants no more watches: the remaining directories are polled.
    Limited(Limited),
    /// The service itself keeps changing files that it watches; these changes do not count any more.
    FeedbackLoop(FeedbackLoop),
}

/// The content of files differs from the last change, or from the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub service: String,
    pub rule: usize,
    /// Sorted. Includes files that were removed.
    pub paths: Vec<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    /// Directories with a watch.
    pub watched: usize,
    /// Directories that are polled.
    pub polled: usize,
    /// The name and value of the kernel's limit.
    pub setting: &'static str,
    pub limit: Option<u64>,
    /// The command that raises the limit.
    pub fix: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedbackLoop {
    pub service: String,
    pub rule: usize,
    pub paths: Vec<PathBuf>,
    /// The writer's process id and name, if it still had one of the files open.
    pub writer: Option<(u32, String)>,
    /// They were written while the service ran, not by its build or start.
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

    /// With at most this many of the kernel's watches.
    async fn start_within(project: &Path, rules: Vec<Rule>, watches: Option<usize>) -> (Self, mpsc::Receiver<Observation>, Extent) {
        let (observations, receiver) = mpsc::channel(OBSERVATIONS);
        // Unbounded here, but the kernel's queue bounds it: the callback only passes events on.
        let (messages, inbox) = std::sync::mpsc::channel();
        let (ready, is_ready) = oneshot::channel();
        let (project, events) = (project.to_owned(), messages.clone());
        let thread = thread::spawn(move || source::run(&project, rules, watches, (events, inbox), observations, ready));
        let extent = is_ready.await.unwrap_or(Extent { directories: 0, polled: 0, files: 0 });
        (Self { messages, thread: Some(thread) }, receiver, extent)
    }

    /// A build or start of the service begins: files that are written now may be its own work. `marker` identifies its
    /// processes, if it has any.
    pub fn work_begins(&self, service: &str, marker: Option<&str>) {
        let (service, marker) = (service.to_owned(), marker.map(ToOwned::to_owned));
        // If the thread has ended, nothing is watched and there is nothing to do.
        let _ = self.messages.send(source::Message::WorkBegins { service, marker, at: Instant::now() });
    }

    /// Returns when all watched files have been read once. Blocks.
    #[cfg(test)]
    fn read_first_bytes(&self) {
        let (done, is_done) = std::sync::mpsc::channel();
        let _ = self.messages.send(source::Message::ReadAll { done });
        is_done.recv().expect("the watching thread lives as long as its watcher");
    }

    /// The service waits for another one: nothing of it runs, so it writes nothing, until work begins again.
    pub fn waits(&self, service: &str) {
        let _ = self.messages.send(source::Message::Waits { service: service.to_owned() });
    }

    /// The build has ended, or the service is ready, or either has failed.
    pub fn work_ends(&self, service: &str) {
        let _ = self.messages.send(source::Message::WorkEnds { service: service.to_owned(), at: Instant::now() });
    }
}

/// The files that a rule watches now.
pub fn files(project: &Path, rule: &Rule) -> Vec<PathBuf> {
    let mut filter = filter::Filter::new(project, rule);
    let mut files = Vec::new();
    let mut left: Vec<PathBuf> = rule.paths.clone();
    while let Some(path) = left.pop() {
        devenv_files::progressed();
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
        // Not joined: it may be reading a large file, and ends by itself.
        drop(self.thread.take());
    }
}

#[cfg(test)]
mod tests;
