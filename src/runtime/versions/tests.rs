use std::{
    process::Command,
    time::{Duration, Instant},
};

use devenv_spec::{ContainerSpec, OnDependencyRestart, Resources, RestartPolicy, RestartWhen, Stop};
use indexmap::IndexMap;

use super::*;

struct Project {
    directory: tempfile::TempDir,
    versions: Versions,
    spec: ServiceSpec,
}

impl Project {
    /// A program in `api`, with a watched part and settings beside it that are not watched.
    fn new() -> Self {
        Self::with(&["sh", "src/main.sh"], None)
    }

    fn with(command: &[&str], build: Option<&str>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap().join("shop");
        for (path, text) in [
            ("api/src/main.sh", "for part in src/*.part; do . $part; done\necho $WORD $(cat settings) $(cat ../common)\n"),
            ("api/src/greet.part", "WORD=good\n"),
            ("api/settings", "today"),
            ("common", "shared"),
        ] {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let rule = WatchRule {
            paths: vec![root.join("api/src")],
            ignore: Vec::new(),
            include: Vec::new(),
            build: build.map(|build| vec![build.to_owned()]),
            directory: root.join("api"),
            reaction: Reaction::Restart,
        };
        let process = ProcessSpec {
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            directory: root.join("api"),
            environment: IndexMap::new(),
            ports: Vec::new(),
            fronted: false,
            resources: Resources::default(),
        };
        let spec = ServiceSpec {
            name: "api".parse().unwrap(),
            kind: "process".into(),
            workload: Workload::Process(process),
            depends_on: IndexMap::new(),
            on_dependency_restart: OnDependencyRestart::Ignore,
            optional: false,
            probe: Probe::Tcp { port: 1 },
            provision: Vec::new(),
            scripts: None,
            watch: vec![rule],
            proof: None,
            ready_timeout: Duration::from_mins(1),
            stop: Stop { signal: "SIGTERM".into(), grace: Duration::from_secs(10) },
            restart: RestartPolicy { policy: RestartWhen::Always, attempts: 3 },
            urls: IndexMap::new(),
            sleep: None,
        };
        let versions = Versions::new(directory.path().join("versions"), root);
        Self { directory, versions, spec }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join("shop").join(path)
    }

    /// Writes, and waits until what follows has a later time.
    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        self.wait_until_later_than(&path);
    }

    /// The kernel's clock of files is coarse.
    fn wait_until_later_than(&self, path: &Path) {
        let written = fs::metadata(path).unwrap().modified().unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let probe = self.directory.path().join("clock");
            fs::write(&probe, "").unwrap();
            if fs::metadata(probe).unwrap().modified().unwrap() > written {
                return;
            }
            assert!(Instant::now() < deadline, "the clock stands still");
        }
    }

    /// It has become ready after a start with the files as they are.
    fn is_ready(&self, run: u32) {
        self.versions.propose(&self.spec, run, SystemTime::now());
        self.versions.confirm(&self.spec.name, run);
    }

    /// The output of a start.
    fn runs(&self) -> String {
        let Workload::Process(process) = self.versions.to_start(&self.spec).workload else { unreachable!() };
        let output = Command::new(&process.command[0]).args(&process.command[1..]).current_dir(&process.directory).output().unwrap();
        let text = if output.status.success() { output.stdout } else { output.stderr };
        String::from_utf8_lossy(&text).trim().to_owned()
    }
}

#[test]
fn the_version_that_was_ready_runs_again_among_todays_other_files() {
    let project = Project::new();
    project.write("api/src/greet.part", "WORD=good\n");
    project.is_ready(3);
    assert_eq!(project.runs(), "good today shared");
    project.write("api/src/greet.part", "echo broken >&2; exit 1\n");
    project.write("api/src/added.part", "WORD=newer\n");
    project.write("api/settings", "tomorrow");
    assert!(project.runs().contains("broken"), "the present files, until it falls back");
    assert_eq!(project.versions.fall_back(&project.spec), Some(3));
    assert_eq!(project.runs(), "good tomorrow shared", "what is not watched is today's");
    let tree = project.versions.tree(&project.spec.name);
    assert!(!tree.join("api/src/added.part").exists(), "what came with the newer version is not of this one");
    assert_eq!(project.versions.fall_back(&project.spec), None, "there is nothing before it");
}

#[test]
fn it_is_left_when_its_files_are_saved_again_or_a_restart_is_asked_for() {
    let project = Project::new();
    project.write("api/src/greet.part", "WORD=good\n");
    project.is_ready(1);
    project.write("api/src/greet.part", "echo broken >&2; exit 1\n");
    project.versions.fall_back(&project.spec).unwrap();
    assert_eq!(project.runs(), "good today shared");
    project.is_ready(2);
    project.versions.go_on(&project.spec.name);
    assert!(project.runs().contains("broken"), "asked for");

    assert_eq!(project.versions.fall_back(&project.spec), Some(1), "what it fell back to was not kept as if it were the new one");
    assert_eq!(project.runs(), "good today shared");
    project.write("api/src/greet.part", "WORD=mended\n");
    assert_eq!(project.runs(), "mended today shared", "by whatever it is started");
    project.is_ready(4);
    project.write("api/src/greet.part", "echo broken >&2; exit 1\n");
    assert_eq!(project.versions.fall_back(&project.spec), Some(4));
    assert_eq!(project.runs(), "mended today shared");
    project.versions.forget(&project.spec.name);
    assert_eq!(project.versions.fall_back(&project.spec), None);
}

#[test]
fn it_is_left_when_a_file_is_restored_with_an_old_time_or_one_is_removed() {
    let long_ago = SystemTime::now() - Duration::from_hours(10_000);
    let restored = |project: &Project| {
        project.write("backup", "WORD=mended\n");
        File::options().write(true).open(project.path("backup")).unwrap().set_modified(long_ago).unwrap();
        fs::rename(project.path("backup"), project.path("api/src/greet.part")).unwrap();
    };
    let removed = |project: &Project| fs::remove_file(project.path("api/src/greet.part")).unwrap();
    for change in [&restored as &dyn Fn(&Project), &removed] {
        let project = Project::new();
        project.write("api/src/greet.part", "WORD=good\n");
        project.is_ready(1);
        project.write("api/src/greet.part", "echo broken >&2; exit 1\n");
        project.versions.fall_back(&project.spec).unwrap();
        assert_eq!(project.runs(), "good today shared");
        change(&project);
        assert_ne!(project.runs(), "good today shared");
    }
}

#[test]
fn a_mark_of_an_earlier_devenv_still_counts() {
    let project = Project::new();
    project.write("api/src/greet.part", "WORD=good\n");
    project.is_ready(1);
    project.write("api/src/greet.part", "echo broken >&2; exit 1\n");
    let mark = project.versions.mark(&project.spec.name);
    File::create_new(&mark).unwrap();
    project.wait_until_later_than(&mark);
    assert_eq!(project.runs(), "good today shared");
    project.write("api/src/greet.part", "WORD=mended\n");
    assert_eq!(project.runs(), "mended today shared");
}

#[test]
fn files_written_after_the_start_are_not_recorded() {
    let project = Project::new();
    project.write("api/src/greet.part", "WORD=good\n");
    project.is_ready(1);
    let started = SystemTime::now();
    project.write("api/src/greet.part", "echo broken >&2; exit 1\n");
    project.write("api/src/greet.part", "echo broken twice >&2; exit 1\n");
    project.versions.propose(&project.spec, 2, started);
    project.versions.confirm(&project.spec.name, 2);
    assert_eq!(project.versions.fall_back(&project.spec), Some(1));
    assert_eq!(project.runs(), "good today shared");
}

#[test]
fn a_version_that_ends_before_its_readiness_is_confirmed_is_never_started_again() {
    let project = Project::new();
    project.is_ready(1);
    for run in [2, 3] {
        project.write("api/src/greet.part", &format!("WORD=fails-{run}\n"));
        project.versions.propose(&project.spec, run, SystemTime::now());
    }
    // Only the last one is there to be confirmed.
    project.versions.confirm(&project.spec.name, 2);
    assert_eq!(project.versions.fall_back(&project.spec), Some(1));
    assert_eq!(project.runs(), "good today shared");
    project.versions.go_on(&project.spec.name);
    project.versions.confirm(&project.spec.name, 3);
    assert_eq!(project.versions.fall_back(&project.spec), Some(3));
    assert_eq!(project.runs(), "fails-3 today shared");
}

#[test]
fn the_result_of_a_build_is_kept_if_the_command_names_it() {
    let mut project = Project::with(&["sh", "dist/main.sh"], Some("make"));
    project.write("api/dist/main.sh", ". dist/part.sh; echo $WORD\n");
    project.write("api/dist/part.sh", "WORD=good\n");
    project.is_ready(1);
    project.write("api/src/greet.part", "WORD=other\n");
    project.write("api/dist/part.sh", "WORD=bad\n");
    assert_eq!(project.runs(), "bad");
    assert_eq!(project.versions.fall_back(&project.spec), Some(1));
    assert_eq!(project.runs(), "good", "a script's neighbours are of its version");

    project.versions.forget(&project.spec.name);
    let Workload::Process(process) = &mut project.spec.workload else { unreachable!() };
    process.command = ["sh", "-c", "sh dist/main.sh"].map(ToOwned::to_owned).to_vec();
    project.is_ready(2);
    assert_eq!(project.versions.fall_back(&project.spec), None, "else it would be a mixture");
}

#[test]
fn another_command_or_too_much_is_no_version_to_go_back_to() {
    let mut project = Project::new();
    project.write("api/src/greet.part", "WORD=good\n");
    project.is_ready(1);
    let former = project.spec.clone();
    let Workload::Process(process) = &mut project.spec.workload else { unreachable!() };
    process.command.push("--verbose".to_owned());
    assert_eq!(project.versions.fall_back(&project.spec), None, "the profile has changed since");

    project.spec = former;
    File::create(project.path("api/src/large")).unwrap().set_len(BYTES + 1).unwrap();
    project.write("api/src/greet.part", "WORD=again\n");
    project.is_ready(2);
    assert_eq!(project.versions.fall_back(&project.spec), None);
}

#[test]
fn without_a_probe_a_good_version_cannot_be_told_from_a_bad_one() {
    let mut project = Project::new();
    project.write("api/src/greet.part", "WORD=good\n");
    project.spec.probe = Probe::None;
    project.is_ready(1);
    assert_eq!(project.versions.fall_back(&project.spec), None);
}

#[test]
fn a_container_gets_the_files_of_the_version_before() {
    let mut project = Project::new();
    project.spec.workload = Workload::Container(ContainerSpec::new("image"));
    project.spec.watch[0].reaction = Reaction::Sync { to: "/app".into(), signal: None, exec: None };
    project.write("api/src/greet.part", "WORD=good\n");
    project.is_ready(1);
    project.write("api/src/greet.part", "echo broken >&2; exit 1\n");
    assert!(project.versions.synced_files(&project.spec).is_none(), "today's, until it falls back");
    project.versions.fall_back(&project.spec).unwrap();
    let files = project.versions.synced_files(&project.spec).unwrap();
    let greet = files.iter().find(|file| file.path == "/app/greet.part").unwrap();
    assert_eq!((files.len(), greet.content.as_ref()), (2, b"WORD=good\n".as_slice()));
}

#[test]
fn a_file_whose_name_is_not_utf_8_is_kept_like_any_other() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};
    let project = Project::new();
    let odd = project.path("api/src").join(OsStr::from_bytes(b"caf\xe9.part"));
    fs::write(&odd, "WORD=odd\n").unwrap();
    project.write("api/src/greet.part", "WORD=good\n");
    project.is_ready(3);
    project.write("api/src/greet.part", "echo broken >&2; exit 1\n");
    assert_eq!(project.versions.fall_back(&project.spec), Some(3));
    assert_eq!(project.runs(), "good today shared");
    assert!(project.versions.manifest(&project.spec.name).unwrap().files.0.keys().any(|file| odd.ends_with(file)));
}

#[test]
fn unwatched_changes_are_found_by_content_whatever_the_file_times() {
    let changed = |change: &dyn Fn(&Project)| -> Vec<PathBuf> {
        let project = Project::new();
        project.write("api/src/greet.part", "WORD=good\n");
        let start = AdoptedStart { run: 7, at: SystemTime::now() };
        project.is_ready(7);
        change(&project);
        let changes = project.versions.changes_since(&project.spec, start);
        changes.into_values().flatten().map(|path| path.strip_prefix(project.path("api/src")).unwrap().to_owned()).collect()
    };
    assert!(changed(&|_| {}).is_empty());
    let touched = |project: &Project| project.write("api/src/greet.part", "WORD=good\n");
    assert!(changed(&touched).is_empty(), "it was written again, with the same content");
    let restored = |project: &Project| {
        project.write("api/src/greet.part", "WORD=evil\n");
        let long_ago = SystemTime::now() - Duration::from_hours(10_000);
        File::options().write(true).open(project.path("api/src/greet.part")).unwrap().set_modified(long_ago).unwrap();
    };
    assert_eq!(changed(&restored), [Path::new("greet.part")], "as with `cp -p`");
    assert_eq!(changed(&|project| project.write("api/src/new.part", "")), [Path::new("new.part")]);
    assert_eq!(changed(&|project| fs::remove_file(project.path("api/src/greet.part")).unwrap()), [Path::new("greet.part")]);
}

#[test]
fn after_a_start_that_was_not_recorded_later_writes_count_as_changes() {
    let project = Project::new();
    project.write("api/src/greet.part", "WORD=good\n");
    let start = AdoptedStart { run: 7, at: SystemTime::now() };
    assert!(project.versions.changes_since(&project.spec, start).is_empty());
    project.write("backup", "WORD=mended\n");
    let long_ago = SystemTime::now() - Duration::from_hours(10_000);
    File::options().write(true).open(project.path("backup")).unwrap().set_modified(long_ago).unwrap();
    fs::rename(project.path("backup"), project.path("api/src/greet.part")).unwrap();
    assert_eq!(project.versions.changes_since(&project.spec, start).into_values().flatten().count(), 1);
}
