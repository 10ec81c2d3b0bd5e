//! Causes of Redis's failures, recognised by their text. Pure.

use crate::capability::{Cause, Place};

/// The text is in lower case. Specific causes come before general ones.
pub(super) const CAUSES: &[Cause] = &[
    Cause::new(
        Place::Log,
        &[">>> '"],
        "this version of Redis rejects a line of its configuration: '{rest}",
        "fix it under `settings` of `{service}`",
    ),
    Cause::new(
        Place::Log,
        &["bad directive or wrong number of arguments"],
        "this version of Redis has no such setting, or rejects its value",
        "fix `settings` of `{service}`: `devenv logs {service}` quotes the line",
    ),
    Cause::new(
        Place::Log,
        &["fatal config file error"],
        "Redis rejects its configuration",
        "fix `settings` of `{service}`: `devenv logs {service}` quotes the line",
    ),
    Cause::new(
        Place::Log,
        &["bad file format reading the append only file"],
        "the append-only file of `{service}` is damaged",
        "restore a snapshot with `devenv snapshot restore`, or repair a copy with `redis-check-aof --fix`, which truncates it",
    ),
    Cause::new(
        Place::Log,
        &["unexpected end of file reading the append only file"],
        "the append-only file of `{service}` ends in the middle of a command",
        "set `aof-load-truncated: yes`, or repair a copy with `redis-check-aof --fix`",
    ),
    Cause::new(
        Place::Log,
        &["can't handle rdb format version"],
        "the data of `{service}` was written by a newer version of Redis",
        "set `version` to that of the data, or start over with `devenv down --volumes`",
    ),
    Cause::new(
        Place::Log,
        &["fatal error loading the db"],
        "the dump of `{service}` cannot be read",
        "restore a snapshot with `devenv snapshot restore`, or start over with `devenv down --volumes`",
    ),
    Cause::new(
        Place::Log,
        &["wrong signature trying to load db from file"],
        "the dump of `{service}` is not a Redis dump",
        "restore a snapshot with `devenv snapshot restore`, or start over with `devenv down --volumes`",
    ),
    Cause::new(
        Place::Log,
        &["short read or oom loading db"],
        "the dump of `{service}` is truncated",
        "restore a snapshot with `devenv snapshot restore`, or start over with `devenv down --volumes`",
    ),
    Cause::new(
        Place::Log,
        &["can't open", "append", "permission denied"],
        "the data of `{service}` belongs to another user than the one Redis runs as",
        "use a volume instead of a host directory, or `chown` the directory to the image's user",
    ),
    Cause::new(
        Place::Log,
        &["out of memory allocating"],
        "Redis ran out of memory",
        "lower `maxmemory` of `{service}`, or raise `services.{service}.resources.memory`",
    ),
    Cause::new(
        Place::Probe,
        &["wrongpass"],
        "Redis has another password than the one that devenv stored",
        "remove `requirepass` and ACL settings from `settings` of `{service}`",
    ),
    Cause::new(
        Place::Probe,
        &["misconf"],
        "Redis cannot save its dump, and therefore refuses writes",
        "see `devenv logs {service}` for the reason, usually a full disk",
    ),
];
