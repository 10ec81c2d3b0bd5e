//! Causes of Redis's failures, each by the words it leaves. Pure.

use crate::capability::{Cause, Place};

/// Words are in small letters. The particular come before the general.
pub(super) const CAUSES: &[Cause] = &[
    Cause::new(
        Place::Log,
        &[">>> '"],
        "Redis of this version does not take a line of its configuration: '{rest}",
        "correct it under `settings` of `{service}`",
    ),
    Cause::new(
        Place::Log,
        &["bad directive or wrong number of arguments"],
        "Redis of this version knows no such setting, or not with this value",
        "correct `settings` of `{service}`: `devenv logs {service}` quotes the line",
    ),
    Cause::new(
        Place::Log,
        &["fatal config file error"],
        "Redis does not take its configuration",
        "correct `settings` of `{service}`: `devenv logs {service}` quotes the line",
    ),
    Cause::new(
        Place::Log,
        &["bad file format reading the append only file"],
        "the append-only file of `{service}` is damaged",
        "restore a snapshot with `devenv snapshot restore`, or repair a copy with `redis-check-aof --fix`, which cuts the rest off",
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
        "the data of `{service}` was written by a newer Redis than the one that is to run",
        "set the `version` to that of the data, or make the volume anew with `devenv down --volumes`",
    ),
    Cause::new(
        Place::Log,
        &["fatal error loading the db"],
        "the dump of `{service}` cannot be read",
        "restore a snapshot with `devenv snapshot restore`, or make the volume anew with `devenv down --volumes`",
    ),
    Cause::new(
        Place::Log,
        &["wrong signature trying to load db from file"],
        "the dump of `{service}` is no Redis dump",
        "restore a snapshot with `devenv snapshot restore`, or make the volume anew with `devenv down --volumes`",
    ),
    Cause::new(
        Place::Log,
        &["short read or oom loading db"],
        "the dump of `{service}` ends in the middle",
        "restore a snapshot with `devenv snapshot restore`, or make the volume anew with `devenv down --volumes`",
    ),
    Cause::new(
        Place::Log,
        &["can't open", "append", "permission denied"],
        "the data of `{service}` belongs to another user than the one Redis runs as",
        "use a volume of devenv's own rather than a directory of the host, or `chown` it to the image's user",
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
        "Redis takes another password than the one that devenv keeps",
        "remove `requirepass` and ACL settings of your own from `settings` of `{service}`",
    ),
    Cause::new(
        Place::Probe,
        &["misconf"],
        "Redis cannot write its dump and refuses to be written to",
        "see `devenv logs {service}` for the reason, most often a full disk",
    ),
];
