//! A small project of real files whose changes a test observes.

use std::{
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::timeout;

use super::super::*;

/// Without an observation for this long, there is none.
const QUIET: Duration = Duration::from_millis(250);
/// Even a busy machine observes a change within this time.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// A pause that a writer makes between two steps of one save is shorter.
const HELD_UP: Duration = Duration::from_millis(10);

/// Whether this machine holds threads up for longer than a writer pauses: then a save of several steps may be observed in parts.
pub(super) struct Busy(Arc<AtomicBool>);

impl Busy {
    fn watched() -> Self {
        let busy = Arc::new(AtomicBool::new(false));
        let noticed = Arc::downgrade(&busy);
        std::thread::spawn(move || {
            let mut last = Instant::now();
            while let Some(busy) = noticed.upgrade() {
                std::thread::sleep(Duration::from_millis(1));
                if last.elapsed() > HELD_UP {
                    busy.store(true, Ordering::Relaxed);
                }
                last = Instant::now();
            }
        });
        Self(busy)
    }

    pub(super) fn is(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

pub(super) struct Project {
    pub(super) busy: Busy,
    pub(super) directory: tempfile::TempDir,
    pub(super) watcher: Watcher,
    pub(super) observations: mpsc::Receiver<Observation>,
    pub(super) extent: Extent,
}

impl Project {
    /// A small project in which `app` is watched.
    pub(super) async fn new() -> Self {
        Self::with(&["app"], None, |_| {}).await
    }

    pub(super) async fn with(paths: &[&str], watches: Option<usize>, prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("app/deep/deeper")).unwrap();
        fs::write(root.join("app/server.py"), "print('one')\n").unwrap();
        fs::write(root.join("app/deep/deeper/module.py"), "x = 1\n").unwrap();
        fs::write(root.join(".gitignore"), "*.log\nbuild/\n").unwrap();
        prepare(root);
        let paths = paths.iter().map(|path| root.join(path)).collect();
        let rule = Rule { service: "api".to_owned(), index: 0, paths, ignore: vec!["*.ignored".to_owned()], include: Vec::new() };
        let (watcher, observations, extent) = Watcher::start_within(root, vec![rule], watches).await;
        // First bytes are read in the background; a touch before that would count.
        watcher.read_first_bytes();
        Self { busy: Busy::watched(), directory, watcher, observations, extent }
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    pub(super) async fn next(&mut self) -> Observation {
        timeout(DEADLINE, self.observations.recv()).await.expect("an observation within the deadline").unwrap()
    }

    /// The files of exactly one change; on a busy machine, of its parts.
    pub(super) async fn one_change(&mut self, what: &str) -> Vec<String> {
        let Ok(Some(Observation::Changed(change))) = timeout(DEADLINE, self.observations.recv()).await else {
            panic!("{what}: no change");
        };
        let mut paths = change.paths;
        while self.busy.is() {
            let Ok(Some(more)) = timeout(QUIET, self.observations.recv()).await else { break };
            let Observation::Changed(part) = more else { panic!("{what}: {more:?}") };
            paths.extend(part.paths);
            paths.sort();
            paths.dedup();
        }
        self.nothing_after(what, &paths).await;
        paths.iter().map(|path| path.strip_prefix(self.directory.path()).unwrap().display().to_string()).collect()
    }

    /// As [`Self::nothing`], after several steps of which a busy machine may show some.
    pub(super) async fn nothing_of_all(&mut self, what: &str) {
        while self.busy.is() && timeout(QUIET, self.observations.recv()).await.is_ok() {}
        self.nothing(what).await;
    }

    pub(super) async fn nothing(&mut self, what: &str) {
        self.nothing_after(what, &[]).await;
    }

    pub(super) async fn nothing_after(&mut self, what: &str, seen_before: &[PathBuf]) {
        if let Ok(more) = timeout(QUIET, self.observations.recv()).await {
            let observed = format!("{more:?}");
            let first = seen_before.len();
            panic!("{what}: one observation too many after one of {first} files: {}", observed.chars().take(400).collect::<String>());
        }
    }

    pub(super) fn git(&self, arguments: &[&str]) {
        let output = Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"])
            .args(arguments)
            .current_dir(self.directory.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

pub(super) fn sleep(milliseconds: u64) {
    std::thread::sleep(Duration::from_millis(milliseconds));
}
