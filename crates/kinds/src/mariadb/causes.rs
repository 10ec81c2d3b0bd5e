//! Causes of failures, recognised by the server's messages.

use crate::capability::{Cause, Place};

pub(super) const CAUSES: &[Cause] = &[
    Cause::new(Place::Log, &["unknown variable"], "MariaDB has no setting {1}", "fix it under `services.{service}.settings`"),
    Cause::new(
        Place::Log,
        &["error while setting value"],
        "MariaDB rejects the value of a setting: {rest}",
        "fix it under `services.{service}.settings`",
    ),
    Cause::new(
        Place::Log,
        &["innodb: upgrade after a crash is not supported"],
        "the data of `{service}` was written by an older MariaDB that did not stop cleanly",
        "start the older `version` once and stop it with `devenv stop {service}`, then change `services.{service}.version`",
    ),
    Cause::new(
        Place::Log,
        &["innodb: unsupported redo log format"],
        "the data of `{service}` was written by a newer MariaDB than `services.{service}.version`",
        "set `version` to the one that wrote it, or start over with `devenv reset {service}`",
    ),
    Cause::new(
        Place::Log,
        &["unable to lock ./ibdata1"],
        "another MariaDB server uses the data of `{service}`",
        "stop the other container that mounts this volume (find it with `docker ps`)",
    ),
    Cause::new(
        Place::Log,
        &["innodb: cannot allocate memory for the buffer pool"],
        "the buffer pool of `{service}` does not fit into its memory limit",
        "lower `innodb_buffer_pool_size` under `services.{service}.settings`, or raise `services.{service}.resources.memory`",
    ),
    Cause::new(
        Place::Log,
        &["can't open and lock privilege tables"],
        "the data directory of `{service}` has no MariaDB catalogue: its first start was interrupted, or the volume contains something else",
        "start over with `devenv reset {service}`",
    ),
    Cause::new(
        Place::Log,
        &["database page corruption"],
        "a page of the data of `{service}` is damaged",
        "restore a backup (`devenv backup list`) or a snapshot, or start over with `devenv reset {service}`",
    ),
    Cause::new(
        Place::Log,
        &["the table", "is full"],
        "the disk of `{service}` is full",
        "raise `services.{service}.storage.size`, or free space",
    ),
    Cause::new(
        Place::Probe,
        &["too many connections"],
        "all connections of `{service}` are in use",
        "raise `max_connections` under `services.{service}.settings`, or find the client that leaks connections with `SHOW PROCESSLIST`",
    ),
    Cause::new(
        Place::Probe,
        &["access denied", "28000"],
        "the data of `{service}` has another password than the one that devenv stored",
        "run `devenv restart {service}`: the superuser's password is set at each start",
    ),
];
