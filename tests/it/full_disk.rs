//! A full disk under the state directory: commands that change something say so and lose nothing, and work when there is space again.

use std::{fs, path::PathBuf, process::Command};

use devenv_engine::EngineError;

use crate::world::{World, until};

/// A small file system of its own; unmounted when it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None` if this process may not mount file systems.
    fn at(directory: PathBuf) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"]).arg(&directory).output().ok()?;
        mounted.status.success().then_some(Self(directory))
    }

    /// Uses up all space, also that which is left in files' last blocks.
    fn fill(&self) {
        for (number, size) in [1 << 16, 1 << 12, 1].into_iter().enumerate() {
            let mut file = fs::File::create(self.0.join(format!("filler-{number}"))).unwrap();
            let block = vec![0; size];
            while std::io::Write::write_all(&mut file, &block).is_ok() {}
        }
    }

    fn empty(&self) {
        for number in 0..3 {
            fs::remove_file(self.0.join(format!("filler-{number}"))).unwrap();
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A daemon that was killed may still have files open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_named_loses_nothing_and_stops_nothing_once_there_is_space() {
    let world = World::new();
    let Some(disk) = SmallDisk::at(world.state()) else { return };
    let daemon = world.up();
    daemon.expect(0, "snapshot save first");
    let (volumes, before) = (daemon.volumes("default"), daemon.status("default"));
    disk.fill();
    for line in ["status", "list", "logs", "env", "exec db -- echo hello"] {
        daemon.expect(0, line);
    }
    let changes = [
        "snapshot save second",
        "snapshot restore first",
        "snapshot remove first",
        "backup",
        "fork copy",
        "reset",
        "restart db",
        "stop db",
        "up shop",
        "down --volumes",
        "gc --all",
    ];
    for line in changes {
        let refused = daemon.expect(1, line);
        assert!(refused.stderr.contains("the disk is full") && refused.stderr.contains("df -h"), "{line}: {}", refused.stderr);
    }
    assert_eq!((daemon.status("default").phase, daemon.data("default")), (before.phase, vec!["yes".to_owned(); 2]));
    // A daemon that dies meanwhile loses nothing either.
    drop(daemon);
    disk.empty();
    let daemon = world.start();
    assert_eq!((daemon.volumes("default"), daemon.data("default")), (volumes, vec!["yes".to_owned(); 2]));
    for line in ["snapshot save second", "restart db", "fork copy", "snapshot restore first", "reset", "undo"] {
        daemon.expect(0, line);
    }
    until("ready", || daemon.phase() == "ready");
    daemon.nothing_is_left("after the disk was full");
    daemon.expect(0, "down --all --volumes");
    drop(daemon);
    drop(disk);
}

#[test]
fn a_full_disk_of_the_engine_is_named_with_what_to_remove() {
    let world = World::new();
    let daemon = world.up();
    let full = || EngineError::Refused {
        action: "do it".to_owned(),
        status: 500,
        message: "write /var/lib/docker/tmp/x: no space left on device".to_owned(),
    };
    for (call, line) in [
        ("create_volume", "snapshot save one"),
        ("create_volume", "fork copy"),
        ("create_container", "up shop --force-recreate"),
        ("start", "restart db"),
    ] {
        daemon.engine.fail_next(call, full());
        let refused = daemon.expect(1, line);
        let named = ["the disk of the container engine is full", "docker system df", "devenv gc --all"];
        assert!(named.iter().all(|words| refused.stderr.contains(words)), "{line}: {}", refused.stderr);
        daemon.run("up shop");
    }
    assert_eq!((daemon.phase().as_str(), daemon.data("default")), ("ready", vec!["yes".to_owned(); 2]));
}
