//! The commands that change an environment with data, each with its initial state and its resulting state.
//! Other files disturb them: they kill the daemon or the client, interrupt them, collect garbage meanwhile, or make calls panic.

use std::fs;

use devenv_engine::{ComposeProject, ComposeVolume};

use crate::world::TestDaemon;

pub(crate) struct Change {
    pub(crate) command: &'static str,
    /// The kind of its operation.
    pub(crate) kind: &'static str,
    /// Restores the initial state of the command, also after the command was disturbed.
    pub(crate) before: fn(&TestDaemon),
    pub(crate) is_done: fn(&TestDaemon) -> bool,
}

pub(crate) const SNAPSHOT_SAVE: Change = Change {
    command: "snapshot save one",
    kind: "snapshot-save",
    before: |daemon| {
        if has_snapshot(daemon) {
            daemon.carry_out("snapshot remove one");
        }
        daemon.write_data("default", "yes");
    },
    is_done: has_snapshot,
};

pub(crate) const SNAPSHOT_RESTORE: Change = Change {
    command: "snapshot restore one",
    kind: "snapshot-restore",
    before: |daemon| {
        if !has_snapshot(daemon) {
            daemon.write_data("default", "yes");
            daemon.carry_out("snapshot save one");
        }
        daemon.write_data("default", "changed");
    },
    is_done: |daemon| daemon.data("default") == ["yes", "yes"],
};

pub(crate) const SNAPSHOT_REMOVE: Change = Change {
    command: "snapshot remove one",
    kind: "snapshot-remove",
    before: |daemon| {
        if !has_snapshot(daemon) {
            daemon.carry_out("snapshot save one");
        }
    },
    is_done: |daemon| !has_snapshot(daemon),
};

/// A second operation brings the copy up, which is not awaited.
pub(crate) const FORK: Change = Change {
    command: "fork copy",
    kind: "fork",
    before: |daemon| {
        daemon.carry_out("down --volumes --instance copy");
        daemon.carry_out("gc --all");
    },
    is_done: |daemon| daemon.data("copy") == ["yes", "yes"],
};

pub(crate) const RESET: Change = Change {
    command: "reset",
    kind: "reset",
    before: |daemon| daemon.write_data("default", "yes"),
    is_done: |daemon| daemon.data("default") == ["none", "none"],
};

pub(crate) const UNDO: Change = Change {
    command: "undo",
    kind: "undo",
    before: |daemon| {
        daemon.carry_out("gc --all");
        daemon.write_data("default", "yes");
        daemon.carry_out("reset");
    },
    is_done: |daemon| daemon.data("default") == ["yes", "yes"],
};

pub(crate) const DOWN_WITH_VOLUMES: Change = Change {
    command: "down --volumes",
    kind: "down",
    before: |daemon| {
        daemon.expect(0, "up shop");
        daemon.write_data("default", "yes");
    },
    is_done: |daemon| daemon.phase() == "absent" && daemon.volumes("default").is_empty(),
};

pub(crate) const UP: Change =
    Change { command: "up shop", kind: "up", before: |daemon| daemon.carry_out("down"), is_done: |daemon| daemon.phase() == "ready" };

pub(crate) const RESTART: Change = Change {
    command: "restart",
    kind: "restart",
    before: |daemon| drop(daemon.expect(0, "up shop")),
    is_done: |daemon| daemon.phase() == "ready",
};

pub(crate) const STOP: Change =
    Change { command: "stop", kind: "stop", before: |daemon| daemon.carry_out("start"), is_done: |daemon| daemon.phase() == "stopped" };

pub(crate) const START: Change =
    Change { command: "start", kind: "start", before: |daemon| daemon.carry_out("stop"), is_done: |daemon| daemon.phase() == "ready" };

pub(crate) const SLEEP: Change = Change {
    command: "sleep",
    kind: "sleep",
    before: |daemon| {
        let profile = format!("sleep: {{}}\n{}", crate::world::SHOP);
        fs::write(daemon.project.join("profiles/shop.yaml"), profile).unwrap();
        daemon.expect(0, "up shop");
    },
    is_done: |daemon| daemon.phase() == "asleep",
};

pub(crate) const WAKE: Change = Change {
    command: "wake",
    kind: "wake",
    before: |daemon| {
        (SLEEP.before)(daemon);
        daemon.carry_out("sleep");
    },
    is_done: |daemon| daemon.phase() == "ready",
};

/// Its containers are frozen instead of stopped.
pub(crate) const FREEZE: Change = Change {
    command: "sleep",
    kind: "sleep",
    before: |daemon| {
        let profile = format!("sleep: {{ mode: freeze }}\n{}", crate::world::SHOP);
        fs::write(daemon.project.join("profiles/shop.yaml"), profile).unwrap();
        daemon.expect(0, "up shop");
    },
    is_done: |daemon| daemon.phase() == "asleep" && daemon.engine.describe().contains(" paused with "),
};

pub(crate) const THAW: Change = Change {
    command: "wake",
    kind: "wake",
    before: |daemon| {
        (FREEZE.before)(daemon);
        daemon.carry_out("sleep");
    },
    is_done: |daemon| daemon.phase() == "ready",
};

/// There are volumes in the trash, of an environment that is up and of one that is down.
pub(crate) const GC: Change = Change {
    command: "gc --all",
    kind: "gc",
    before: |daemon| {
        daemon.expect(0, "up shop --instance copy");
        daemon.carry_out("down --volumes --instance copy");
        daemon.carry_out("reset");
        daemon.write_data("default", "yes");
    },
    is_done: |daemon| daemon.all_volumes().len() == 2,
};

/// A dump of `db`, and a copy of the files of `cache`.
pub(crate) const BACKUP: Change = Change {
    command: "backup",
    kind: "backup",
    before: |daemon| {
        for environment in fs::read_dir(daemon.root.join("state/environments")).unwrap().flatten() {
            // There may be none.
            let _ = fs::remove_dir_all(environment.path().join("backups"));
        }
        daemon.write_data("default", "yes");
    },
    is_done: |daemon| daemon.backups().len() == 1,
};

/// Replaces a database in a running server, and files in a new volume: both or none.
pub(crate) const BACKUP_RESTORE: Change = Change {
    command: "backup restore latest",
    kind: "backup-restore",
    before: |daemon| {
        if daemon.backups().is_empty() {
            daemon.write_data("default", "yes");
            daemon.carry_out("backup");
        }
        daemon.write_data("default", "changed");
    },
    is_done: |daemon| daemon.data("default") == ["yes", "yes"],
};

pub(crate) const IMPORT: Change = Change {
    command: "import db dump",
    kind: "import",
    before: |daemon| {
        fs::write(daemon.project.join("dump"), "imported").unwrap();
        daemon.write_data("default", "yes");
    },
    is_done: |daemon| daemon.data("default") == ["yes", "imported"],
};

pub(crate) const EXPORT: Change = Change {
    command: "export db out",
    kind: "export",
    before: |daemon| {
        for file in ["out", "out.manifest.json"] {
            // There may be none.
            let _ = fs::remove_file(daemon.project.join(file));
        }
        daemon.write_data("default", "yes");
    },
    is_done: |daemon| ["out", "out.manifest.json"].iter().all(|file| daemon.project.join(file).is_file()),
};

/// The data of a Compose project whose services have the names of the profile's.
pub(crate) const TAKE_OVER: Change = Change {
    command: "move --from-compose -f compose.yaml",
    kind: "move",
    before: |daemon| {
        let volume = |name: &str| ComposeVolume {
            name: format!("shop_{name}"),
            key: Some(name.to_owned()),
            mountpoint: std::path::PathBuf::new(),
            mounts: Vec::new(),
        };
        let text = "name: shop\nservices:\n  db: { image: 'data:1', volumes: ['rows:/rows'] }\n  cache: { image: 'data:1', volumes: ['keys:/keys'] }\n\
                    volumes: { rows: , keys: }\n";
        fs::write(daemon.project.join("compose.yaml"), text).unwrap();
        let project = ComposeProject { volumes: vec![volume("rows"), volume("keys")], running: Vec::new() };
        daemon.engine.set_compose_project("shop", project);
        for name in ["shop_rows", "shop_keys"] {
            fs::write(daemon.engine.files_of(name).join("data"), "composed").unwrap();
        }
        daemon.write_data("default", "yes");
    },
    is_done: |daemon| daemon.data("default") == ["composed", "composed"],
};

fn has_snapshot(daemon: &TestDaemon) -> bool {
    daemon.record("default").is_some_and(|record| record["snapshots"]["one"].is_object())
}

/// A test for each change, which calls `disturb` with it.
macro_rules! for_changes {
    ($disturb:path: $($change:ident as $test:ident),* $(,)?) => {
        $(
            #[test]
            fn $test() {
                $disturb(&crate::changes::$change);
            }
        )*
    };
}

pub(crate) use for_changes;
