//! Causes of PostgreSQL's failures, recognised by their text. Pure.

use crate::capability::{Cause, Place};

/// Lines of the server's own log. With this mark they concern a single client.
const fn log(words: &'static [&'static str], cause: &'static str, fix: &'static str) -> Cause {
    Cause { without: &["error:  "], ..Cause::new(Place::Log, words, cause, fix) }
}

/// The text is in lower case. Specific causes come before general ones.
pub(super) const CAUSES: &[Cause] = &[
    log(
        &["could not map anonymous shared memory"],
        "PostgreSQL requests more shared memory than it has: `shared_buffers` is too large for its memory limit",
        "lower `settings.shared_buffers` of `{service}`, or raise `services.{service}.resources.memory`",
    ),
    log(
        &["cannot allocate memory"],
        "PostgreSQL requests more memory than its limit: `shared_buffers` is too large",
        "lower `settings.shared_buffers` of `{service}`, or raise `services.{service}.resources.memory`",
    ),
    Cause::new(
        Place::Probe,
        &["no pg_hba.conf entry"],
        "the server accepts no connections from outside: the first start of `{service}` was interrupted before its data was complete",
        "start over with `devenv reset {service}`, or restore a snapshot",
    ),
    log(
        &["initialized by postgresql version", "not compatible"],
        "the data of `{service}` was created by another major version of PostgreSQL",
        "set `version` to that of the data and run `devenv backup` first; or drop the data with `devenv down --volumes`",
    ),
    log(
        &["database files are incompatible with server"],
        "the data of `{service}` was created by another major version or another build of PostgreSQL",
        "set `version` to that of the data and run `devenv backup` first; or drop the data with `devenv down --volumes`",
    ),
    log(
        &["in 18+, these docker images are configured to store database data"],
        "the volume has its data where images before PostgreSQL 18 store it",
        "set `version` to that of the data and run `devenv backup` first; or drop the data with `devenv down --volumes`",
    ),
    log(
        &["is not a valid data directory"],
        "the volume of `{service}` contains something other than PostgreSQL data, or incomplete data",
        "restore a snapshot, or start over with `devenv down --volumes`",
    ),
    log(&["exists but is not empty"], "PostgreSQL cannot initialize a volume that is not empty", "start over with `devenv down --volumes`"),
    log(
        &["lock file", "already exists"],
        "another PostgreSQL server runs on the same data",
        "stop it: services and environments must not share a volume",
    ),
    log(
        &["unrecognized configuration parameter"],
        "this version of PostgreSQL has no setting `{1}`",
        "fix or remove `{1}` under `settings` of `{service}`; settings of an extension need its library preloaded",
    ),
    log(
        &["invalid value for parameter"],
        "PostgreSQL rejects the value `{2}` of the setting `{1}`",
        "fix `{1}` under `settings` of `{service}`",
    ),
    log(
        &["is outside the valid range for parameter"],
        "the value of the PostgreSQL setting `{1}` is out of range",
        "fix `{1}` under `settings` of `{service}`",
    ),
    log(
        &["could not access file", "no such file or directory"],
        "PostgreSQL cannot load the library `{1}`, which is not in its image",
        "remove it from `shared_preload_libraries`, or use an image that contains the extension",
    ),
    log(
        &["data directory", "has wrong ownership"],
        "the data of `{service}` belongs to another user than the one PostgreSQL runs as",
        "use a volume instead of a host directory, or `chown` the directory to the image's user",
    ),
    log(
        &["data directory", "has invalid permissions"],
        "other users can read the data of `{service}`, which PostgreSQL refuses",
        "`chmod 0700` the directory, or use a volume",
    ),
    log(
        &["could not locate a valid checkpoint record"],
        "the data of `{service}` is damaged: its write-ahead log has no valid checkpoint",
        "restore a snapshot with `devenv snapshot restore`, or start over with `devenv down --volumes`",
    ),
    log(
        &["database is uninitialized and superuser password is not specified"],
        "the image needs a superuser password, but none is set",
        "remove the entry that overrides the environment of `{service}` from the profile",
    ),
    Cause::new(
        Place::Probe,
        &["password authentication failed"],
        "the data of `{service}` was created with another password than the one that devenv stored",
        "restore devenv's state directory, or start over with `devenv down --volumes` (`devenv undo` brings the data back)",
    ),
    Cause::new(
        Place::Probe,
        &["too many clients already"],
        "all PostgreSQL connections are in use",
        "raise `settings.max_connections` of `{service}`, or lower the pools of its clients",
    ),
];
