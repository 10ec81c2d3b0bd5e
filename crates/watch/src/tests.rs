//! The ways in which real editors and tools write, on real files, each with the exact number of changes.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::Write,
    os::unix::fs::{PermissionsExt, symlink},
    process::Command,
    time::Duration,
};

#[cfg(feature = "docker-tests")]
use tokio::time::timeout;

use super::*;

/// A writer of many files that pauses for less makes one change, though the watcher may notice what it writes a little late.
const PAUSE: Duration = Duration::from_millis(20);
/// A burst of writes that lasts longer is reported in parts.
const LONGEST_BURST: Duration = Duration::from_secs(5);

mod loops;
mod project;
#[cfg(feature = "docker-tests")]
mod real_tools;

#[cfg(feature = "docker-tests")]
use project::DEADLINE;
use project::{Project, sleep};

#[tokio::test(flavor = "multi_thread")]
async fn each_way_of_saving_is_one_change_of_that_file() {
    type Save = fn(&Path, &str);
    let ways: [(&str, Save); 13] = [
        ("in place", |path, text| fs::write(path, text).unwrap()),
        ("rename over", |path, text| {
            fs::write(path.with_extension("tmp"), text).unwrap();
            fs::rename(path.with_extension("tmp"), path).unwrap();
        }),
        ("backup, then new", |path, text| {
            fs::rename(path, path.with_extension("py~")).unwrap();
            fs::write(path, text).unwrap();
            fs::remove_file(path.with_extension("py~")).unwrap();
        }),
        ("vim: probe file, backup, write, remove", |path, text| {
            let directory = path.parent().unwrap();
            fs::write(directory.join(".server.py.swp"), "swap").unwrap();
            fs::write(directory.join("4913"), "").unwrap();
            fs::remove_file(directory.join("4913")).unwrap();
            fs::rename(path, path.with_extension("py~")).unwrap();
            let mut file = File::create(path).unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file.sync_all().unwrap();
            drop(file);
            fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
            fs::remove_file(path.with_extension("py~")).unwrap();
            fs::remove_file(directory.join(".server.py.swp")).unwrap();
        }),
        ("emacs: lock link, backup copy, write", |path, text| {
            let lock = path.parent().unwrap().join(".#server.py");
            symlink("user@host.1:1", &lock).unwrap();
            fs::write(path.parent().unwrap().join("#server.py#"), text).unwrap();
            sleep(60);
            fs::copy(path, path.with_extension("py~")).unwrap();
            fs::write(path, text).unwrap();
            fs::remove_file(path.parent().unwrap().join("#server.py#")).unwrap();
            fs::remove_file(lock).unwrap();
        }),
        ("VS Code: truncate, then write", |path, text| {
            let mut file = File::create(path).unwrap();
            sleep(10);
            file.write_all(text.as_bytes()).unwrap();
        }),
        ("a slow truncate, then write", |path, text| {
            let mut file = File::create(path).unwrap();
            sleep(200);
            file.write_all(text.as_bytes()).unwrap();
        }),
        ("JetBrains: temporary file, old aside, rename, remove", |path, text| {
            let (temporary, old) = (path.with_extension("py___jb_tmp___"), path.with_extension("py___jb_old___"));
            fs::write(&temporary, text).unwrap();
            sleep(60);
            fs::rename(path, &old).unwrap();
            fs::rename(&temporary, path).unwrap();
            fs::remove_file(old).unwrap();
        }),
        ("in pieces", |path, text| {
            let mut file = File::create(path).unwrap();
            for piece in text.as_bytes().chunks(4) {
                file.write_all(piece).unwrap();
                sleep(2);
            }
        }),
        ("delete and create", |path, text| {
            fs::remove_file(path).unwrap();
            fs::write(path, text).unwrap();
        }),
        ("delete and create, slowly", |path, text| {
            fs::remove_file(path).unwrap();
            sleep(15);
            fs::write(path, text).unwrap();
        }),
        ("rsync: slow temporary file, then rename", |path, text| {
            let temporary = path.parent().unwrap().join(".server.py.Xy12Za");
            let mut file = File::create(&temporary).unwrap();
            file.write_all(b"half").unwrap();
            sleep(80);
            file.write_all(text.as_bytes()).unwrap();
            drop(file);
            fs::rename(temporary, path).unwrap();
        }),
        ("through a hard link from elsewhere", |path, text| {
            let elsewhere = path.parent().unwrap().parent().unwrap().join("elsewhere");
            fs::write(&elsewhere, text).unwrap();
            fs::rename(elsewhere, path).unwrap();
        }),
    ];
    let mut project = Project::new().await;
    for (number, (way, save)) in ways.iter().enumerate() {
        save(&project.path("app/server.py"), &format!("print('version {number}') # {}\n", "x".repeat(40)));
        assert_eq!(project.one_change(way).await, ["app/server.py"], "{way}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_of_equal_bytes_is_no_change() {
    type Act = fn(&Path);
    let acts: [(&str, Act); 8] = [
        ("touch", |path| File::options().write(true).open(path).unwrap().set_modified(std::time::SystemTime::now()).unwrap()),
        ("same bytes", |path| fs::write(path, fs::read(path).unwrap()).unwrap()),
        ("same bytes by rename", |path| {
            fs::copy(path, path.with_extension("new")).unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        }),
        ("chmod", |path| fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap()),
        ("read", |path| drop(fs::read(path).unwrap())),
        ("changed and changed back", |path| {
            let text = fs::read(path).unwrap();
            fs::write(path, "other").unwrap();
            fs::write(path, text).unwrap();
        }),
        ("an empty directory", |path| fs::create_dir(path.with_extension("d")).unwrap()),
        ("ignored files", |path| {
            let directory = path.parent().unwrap();
            for name in ["x.log", "x.ignored", "server.py~", ".server.py.swp", "x.pyc"] {
                fs::write(directory.join(name), "x").unwrap();
            }
            for name in ["build", "__pycache__", "deep/build"] {
                fs::create_dir(directory.join(name)).unwrap();
                fs::write(directory.join(name).join("x"), "x").unwrap();
            }
        }),
    ];
    let mut project = Project::new().await;
    for (what, act) in acts {
        act(&project.path("app/server.py"));
        if what == "changed and changed back" { project.nothing_of_all(what).await } else { project.nothing(what).await }
    }
    fs::write(project.path("outside.py"), "x").unwrap();
    project.nothing("a file that is not watched").await;
    fs::write(project.path("app/server.py"), "at last").unwrap();
    assert_eq!(project.one_change("a real change afterwards").await, ["app/server.py"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn directories_that_come_move_and_go_are_one_change_each() {
    let mut project = Project::new().await;
    fs::create_dir_all(project.path("app/new/below")).unwrap();
    fs::write(project.path("app/new/below/x.py"), "1\n").unwrap();
    assert_eq!(project.one_change("a file in a new directory").await, ["app/new/below/x.py"]);
    fs::write(project.path("app/new/below/x.py"), "2\n").unwrap();
    assert_eq!(project.one_change("a save in the new directory").await, ["app/new/below/x.py"]);

    fs::create_dir(project.path("in")).unwrap();
    fs::write(project.path("in/y.py"), "1\n").unwrap();
    fs::rename(project.path("in"), project.path("app/in")).unwrap();
    assert_eq!(project.one_change("a directory moved in").await, ["app/in/y.py"]);
    fs::rename(project.path("app/in"), project.path("app/moved")).unwrap();
    assert_eq!(project.one_change("moved within").await, ["app/in/y.py", "app/moved/y.py"]);
    fs::write(project.path("app/moved/y.py"), "2\n").unwrap();
    assert_eq!(project.one_change("a save after the move").await, ["app/moved/y.py"]);
    fs::rename(project.path("app/moved"), project.path("out")).unwrap();
    assert_eq!(project.one_change("moved out").await, ["app/moved/y.py"]);
    fs::write(project.path("out/y.py"), "3\n").unwrap();
    project.nothing("a save where it is now").await;

    fs::remove_dir_all(project.path("app/new")).unwrap();
    assert_eq!(project.one_change("a directory removed").await, ["app/new/below/x.py"]);
    fs::create_dir_all(project.path("app/new/below")).unwrap();
    fs::write(project.path("app/new/below/x.py"), "4\n").unwrap();
    assert_eq!(project.one_change("and made again").await, ["app/new/below/x.py"]);
    fs::remove_dir_all(project.path("app/deep")).unwrap();
    fs::create_dir_all(project.path("app/deep/deeper")).unwrap();
    fs::write(project.path("app/deep/deeper/module.py"), "x = 1\n").unwrap();
    project.nothing_of_all("removed and made again at once with the same bytes").await;
    fs::write(project.path("app/deep/deeper/module.py"), "x = 2\n").unwrap();
    assert_eq!(project.one_change("a save in what was made again").await, ["app/deep/deeper/module.py"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_is_one_change() {
    let mut project = Project::new().await;
    for (name, count) in [("few", 300), ("many", 10_000)] {
        // On a busy machine this test itself may pause: then there may be one change before and one after each pause.
        let (began, mut last, mut pauses) = (Instant::now(), Instant::now(), 0);
        for index in 0..count {
            let directory = project.path(&format!("app/{name}/{}", index / 100));
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join(format!("{index}.py")), index.to_string()).unwrap();
            pauses += u64::from(last.elapsed() > PAUSE);
            last = Instant::now();
        }
        let allowed = 1 + pauses + began.elapsed().as_secs() / LONGEST_BURST.as_secs();
        let (mut files, mut reported, mut changes) = (HashSet::new(), 0, 0);
        while files.len() < count {
            let Observation::Changed(change) = project.next().await else { panic!("only changes are expected") };
            reported += change.paths.len();
            files.extend(change.paths);
            changes += 1;
        }
        // A file in whose middle the test paused may have been read before and after the pause.
        assert!(reported <= count + pauses as usize, "{reported} files are reported instead of {count}, with {pauses} pauses");
        assert!(changes <= allowed, "{changes} changes with {pauses} pauses in {:?}", began.elapsed());
        project.nothing_of_all("the burst's next part").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn git_checkout_and_stash_are_one_change_each() {
    let mut project = Project::with(&["app"], None, |root| {
        for index in 0..200 {
            fs::write(root.join(format!("app/file{index}.py")), "main\n").unwrap();
        }
        let git = |arguments: &[&str]| {
            let status = Command::new("git")
                .args(["-c", "user.name=t", "-c", "user.email=t@example.org"])
                .args(arguments)
                .current_dir(root)
                .output()
                .unwrap();
            assert!(status.status.success(), "git {arguments:?}");
        };
        git(&["init", "-q", "-b", "main"]);
        git(&["add", "."]);
        git(&["commit", "-qm", "one"]);
        git(&["checkout", "-qb", "other"]);
        for index in 0..200 {
            fs::write(root.join(format!("app/file{index}.py")), "other\n").unwrap();
        }
        fs::create_dir(root.join("app/only-other")).unwrap();
        fs::write(root.join("app/only-other/x.py"), "x\n").unwrap();
        git(&["add", "."]);
        git(&["commit", "-qm", "two"]);
    })
    .await;
    project.git(&["checkout", "-q", "main"]);
    assert_eq!(project.one_change("checkout").await.len(), 201);
    project.git(&["checkout", "-q", "other"]);
    assert_eq!(project.one_change("checkout back").await.len(), 201);
    fs::write(project.path("app/file1.py"), "edited\n").unwrap();
    assert_eq!(project.one_change("edit").await, ["app/file1.py"]);
    project.git(&["stash", "-q"]);
    assert_eq!(project.one_change("stash").await, ["app/file1.py"]);
    project.git(&["stash", "pop", "-q"]);
    assert_eq!(project.one_change("stash pop").await, ["app/file1.py"]);
    // A checkout that pauses between two files.
    fs::write(project.path(".git/index.lock"), "").unwrap();
    fs::write(project.path("app/file2.py"), "first\n").unwrap();
    sleep(150);
    fs::write(project.path("app/file3.py"), "second\n").unwrap();
    fs::remove_file(project.path(".git/index.lock")).unwrap();
    assert_eq!(project.one_change("under git's lock").await, ["app/file2.py", "app/file3.py"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_followed_once_and_may_lead_nowhere() {
    let mut project = Project::with(&["app"], None, |root| {
        fs::create_dir(root.join("library")).unwrap();
        fs::write(root.join("library/lib.py"), "1\n").unwrap();
        fs::write(root.join("settings.yaml"), "1\n").unwrap();
        symlink("../library", root.join("app/library")).unwrap();
        symlink("..", root.join("app/deep/up")).unwrap();
        symlink("../settings.yaml", root.join("app/settings.yaml")).unwrap();
        symlink("nowhere", root.join("app/broken")).unwrap();
    })
    .await;
    fs::write(project.path("library/lib.py"), "2\n").unwrap();
    assert_eq!(project.one_change("in a linked directory").await, ["app/library/lib.py"]);
    fs::write(project.path("settings.yaml"), "2\n").unwrap();
    assert_eq!(project.one_change("a linked file").await, ["app/settings.yaml"]);
    symlink("nowhere else", project.path("app/broken2")).unwrap();
    assert_eq!(project.one_change("a broken link").await, ["app/broken2"]);
    fs::remove_file(project.path("app/broken")).unwrap();
    assert_eq!(project.one_change("a broken link removed").await, ["app/broken"]);
    fs::write(project.path("app/server.py"), "2\n").unwrap();
    assert_eq!(project.one_change("a file that a link to above leads to as well").await, ["app/server.py"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_single_file_and_a_directory_that_is_made_later_can_be_watched() {
    let mut project = Project::with(&["config.yaml", "later/src"], None, |root| fs::write(root.join("config.yaml"), "1").unwrap()).await;
    fs::write(project.path("config.yaml"), "2").unwrap();
    assert_eq!(project.one_change("the file").await, ["config.yaml"]);
    fs::write(project.path("other.yaml"), "2").unwrap();
    project.nothing("its neighbour").await;
    fs::remove_file(project.path("config.yaml")).unwrap();
    assert_eq!(project.one_change("the file removed").await, ["config.yaml"]);
    fs::write(project.path("config.yaml"), "3").unwrap();
    assert_eq!(project.one_change("the file made again").await, ["config.yaml"]);
    fs::create_dir_all(project.path("later/src")).unwrap();
    fs::write(project.path("later/src/x.py"), "1").unwrap();
    assert_eq!(project.one_change("the directory").await, ["later/src/x.py"]);
    fs::rename(project.path("later"), project.path("gone")).unwrap();
    assert_eq!(project.one_change("the directory above, away").await, ["later/src/x.py"]);
    fs::rename(project.path("gone"), project.path("later")).unwrap();
    assert_eq!(project.one_change("and back").await, ["later/src/x.py"]);
    fs::write(project.path("later/src/x.py"), "2").unwrap();
    assert_eq!(project.one_change("the directory, away and back").await, ["later/src/x.py"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_ignore_file_changes_what_is_watched_and_nothing_else() {
    let mut project = Project::new().await;
    fs::write(project.path("app/x.log"), "1").unwrap();
    fs::write(project.path(".gitignore"), "*.py\n").unwrap();
    project.nothing("the ignore file").await;
    fs::write(project.path("app/server.py"), "ignored now").unwrap();
    project.nothing("a file that is ignored now").await;
    fs::write(project.path("app/x.log"), "2").unwrap();
    assert_eq!(project.one_change("a file that counts now").await, ["app/x.log"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_enough_watches_the_rest_is_polled_and_the_remedy_named() {
    let mut project = Project::with(&["app"], Some(5), |root| {
        for index in 0..30 {
            fs::create_dir(root.join(format!("app/d{index}"))).unwrap();
            fs::write(root.join(format!("app/d{index}/x.py")), "1\n").unwrap();
        }
    })
    .await;
    assert_eq!((project.extent.directories, project.extent.polled, project.extent.files), (34, 29, 32));
    let Observation::Limited(limited) = project.next().await else { panic!("not reported") };
    assert_eq!((limited.watched, limited.polled, limited.setting), (5, 29, "max_user_watches"));
    assert!(limited.fix.starts_with("sudo sysctl fs.inotify.max_user_watches="), "{}", limited.fix);
    for index in [0, 29] {
        fs::write(project.path(&format!("app/d{index}/x.py")), "longer\n").unwrap();
        assert_eq!(project.one_change("a polled file").await, [format!("app/d{index}/x.py")]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_is_reported_within_60_milliseconds() {
    let mut project = Project::new().await;
    let mut delays = Vec::new();
    // The fastest ones show what devenv takes; the others show what else the machine does.
    while delays.len() < 40 || delays.iter().filter(|delay| **delay < Duration::from_millis(60)).count() < 5 {
        assert!(delays.len() < 1000, "the fastest: {:?}", delays.iter().min());
        let began = Instant::now();
        fs::write(project.path("app/server.py"), format!("round {}", delays.len())).unwrap();
        project.next().await;
        delays.push(began.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
