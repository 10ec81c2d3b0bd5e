//! Invariants after every command, finished or not.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use devenv_api::{Phase, Status};
use serde_json::Value;

use super::TestDaemon;

/// Recovery and all operations take far less, but not on a machine that does something else.
const DEADLINE: Duration = Duration::from_mins(5);

impl TestDaemon {
    /// Waits until no environment starts or stops. Returns all of them.
    #[track_caller]
    pub(crate) fn quiet(&self) -> Vec<Status> {
        let late = Instant::now() + DEADLINE;
        loop {
            let statuses = self.ask(async |client| client.environments().await);
            let is_moving =
                |status: &&Status| !matches!(status.phase, Phase::Ready | Phase::Absent | Phase::Stopped | Phase::Asleep | Phase::Failed);
            let Some(moving) = statuses.iter().find(is_moving) else { return statuses };
            assert!(Instant::now() < late, "{} is still moving: {moving:?}", moving.instance);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// All strings in the records of environments: the names of their objects are among them.
    fn on_record(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(self.root.join("state/environments")).into_iter().flatten().flatten() {
            if let Ok(record) = fs::read(entry.path().join("environment.json")) {
                strings(&serde_json::from_slice(&record).unwrap(), &mut names);
            }
        }
        names
    }

    /// The names of all volumes that the engine has.
    pub(crate) fn all_volumes(&self) -> BTreeSet<String> {
        let described = self.engine.describe();
        described.lines().filter_map(|line| line.strip_prefix("volume ")?.split(' ').next()).map(str::to_owned).collect()
    }

    #[track_caller]
    pub(crate) fn nothing_is_paused(&self, when: &str) {
        let described = self.engine.describe();
        assert!(!described.contains(" paused with "), "{when}: something is paused:\n{described}");
    }

    /// Each of these data sets is in two volumes that a record names, and all volumes of environments that are up exist.
    #[track_caller]
    pub(crate) fn nothing_is_lost(&self, data: &[&str], when: &str) {
        let (there, known) = (self.all_volumes(), self.on_record());
        for word in data {
            let holders = there.iter().filter(|volume| known.contains(*volume) && self.data_in(volume) == *word).count();
            assert!(holders >= 2, "{when}: `{word}` is in {holders} recorded volumes instead of two:\n{}", self.engine.describe());
        }
        let record = |instance: &str| self.volumes(instance).into_values().filter(|volume| !there.contains(volume)).collect::<Vec<_>>();
        for status in self.ask(async |client| client.environments().await) {
            // A volume is recorded before it is made.
            let missing = if status.phase == Phase::Absent { Vec::new() } else { record(&status.instance) };
            assert!(missing.is_empty(), "{when}: {missing:?} of {} are recorded and do not exist", status.instance);
        }
    }

    /// Runs `gc`, and checks that the engine has only objects that records name.
    #[track_caller]
    pub(crate) fn nothing_is_left(&self, when: &str) {
        self.carry_out("gc");
        let known = self.on_record();
        self.nothing_is_half_made(when);
        let unknown: Vec<String> = self.all_volumes().into_iter().filter(|volume| !known.contains(volume)).collect();
        assert!(unknown.is_empty(), "{when}: {unknown:?} are in no record:\n{}", self.engine.describe());
        let up: Vec<String> = self
            .ask(async |client| client.environments().await)
            .into_iter()
            .filter(|status| status.phase != Phase::Absent)
            .map(|status| status.environment)
            .collect();
        let described = self.engine.describe();
        for line in described.lines().filter(|line| line.starts_with("container ") || line.starts_with("network ")) {
            assert!(up.iter().any(|environment| line.contains(environment.as_str())), "{when}: of no environment: {line}\n{described}");
        }
    }

    /// No database is left beside one in use, no directory without a manifest among backups, no part of a file.
    #[track_caller]
    fn nothing_is_half_made(&self, when: &str) {
        let described = self.engine.describe();
        assert!(!described.contains("staged=") && !described.contains("former="), "{when}: a database is left:\n{described}");
        for environment in fs::read_dir(self.root.join("state/environments")).into_iter().flatten().flatten() {
            let incoming = fs::read_dir(environment.path()).into_iter().flatten().flatten();
            let incoming: Vec<_> = incoming.filter(|entry| entry.file_name().to_string_lossy().starts_with("incoming-")).collect();
            assert!(incoming.is_empty(), "{when}: {incoming:?} are left");
            for backup in fs::read_dir(environment.path().join("backups")).into_iter().flatten().flatten() {
                assert!(backup.path().join("manifest.json").is_file(), "{when}: {} is no backup", backup.path().display());
            }
        }
        let parts = fs::read_dir(&self.project).unwrap().flatten().map(|entry| entry.path());
        let parts: Vec<_> = parts.filter(|path| path.extension().is_some_and(|extension| extension == "part")).collect();
        assert!(parts.is_empty(), "{when}: {parts:?} are left");
    }

    /// The ids of an environment's backups.
    pub(crate) fn backups(&self) -> Vec<String> {
        let target = self.target("default");
        self.ask(async |client| client.backups(&target).await).backups.into_iter().map(|backup| backup.id).collect()
    }

    /// Removes everything, and checks that the engine is empty.
    #[track_caller]
    pub(crate) fn can_be_emptied(&self, when: &str) {
        for status in self.quiet() {
            self.carry_out(&format!("down --volumes --instance {}", status.instance));
        }
        for status in self.quiet() {
            let target = self.target(&status.instance);
            for snapshot in self.ask(async |client| client.snapshots(&target).await).snapshots {
                self.carry_out(&format!("snapshot remove {} --instance {}", snapshot.name, status.instance));
            }
        }
        self.carry_out("gc --all");
        assert_eq!(self.engine.describe(), "", "{when}: left");
    }
}

/// Waits until a condition holds.
#[track_caller]
pub(crate) fn until(what: &str, is_so: impl Fn() -> bool) {
    let late = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < late, "{what}: not within {DEADLINE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn strings(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) => drop(found.insert(text.clone())),
        Value::Array(items) => items.iter().for_each(|item| strings(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| strings(field, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
