//! A small project of real files whose changes a test observes.

use std::{fs, process::Command, time::Duration};

use tokio::time::timeout;

use super::super::*;

/// Without an observation for this long, there is none.
const QUIET: Duration = Duration::from_millis(250);
/// Even a busy machine observes a change within this time.
pub(super) const DEADLINE: Duration = Duration::from_secs(30);

pub(super) struct Project {
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
        Self { directory, watcher, observations, extent }
    }

    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    pub(super) async fn next(&mut self) -> Observation {
        timeout(DEADLINE, self.observations.recv()).await.expect("an observation within the deadline").unwrap()
    }

    /// The files of exactly one change.
    pub(super) async fn one_change(&mut self, what: &str) -> Vec<String> {
        let Ok(Some(Observation::Changed(change))) = timeout(DEADLINE, self.observations.recv()).await else {
            panic!("{what}: no change");
        };
        self.nothing_after(what, &change.paths).await;
        change.paths.iter().map(|path| path.strip_prefix(self.directory.path()).unwrap().display().to_string()).collect()
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
