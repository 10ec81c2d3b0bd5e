//! Causes of PostgreSQL's failures, each by the words it leaves. Pure.

use crate::capability::{Cause, Place};

/// What the server's own log says. With this mark it writes of the affair of a client.
const fn log(words: &'static [&'static str], cause: &'static str, fix: &'static str) -> Cause {
    Cause { without: &["error:  "], ..Cause::new(Place::Log, words, cause, fix) }
}

/// Words are in small letters. The particular come before the general.
pub(super) const CAUSES: &[Cause] = &[
    log(
        &["could not map anonymous shared memory"],
        "PostgreSQL asks for more shared memory than there is: `shared_buffers` is too large for the memory it was given",
        "lower `settings.shared_buffers` of `{service}`, or raise `services.{service}.resources.memory`",
    ),
    log(
        &["cannot allocate memory"],
        "PostgreSQL asks for more memory than it was given: `shared_buffers` is too large for it",
        "lower `settings.shared_buffers` of `{service}`, or raise `services.{service}.resources.memory`",
    ),
    Cause::new(
        Place::Probe,
        &["no pg_hba.conf entry"],
        "the server lets nobody in from outside: the first start of `{service}` was broken off before its data was whole",
        "make it anew with `devenv reset {service}`, or take it back from a snapshot",
    ),
    log(
        &["initialized by postgresql version", "not compatible"],
        "the data of `{service}` was made by another major version of PostgreSQL than the one that is to run",
        "set the `version` back to that of the data and `devenv backup` it first; or drop the data with `devenv down --volumes`",
    ),
    log(
        &["database files are incompatible with server"],
        "the data of `{service}` was made by another major version of PostgreSQL, or one that was built differently",
        "set the `version` back to that of the data and `devenv backup` it first; or drop the data with `devenv down --volumes`",
    ),
    log(
        &["in 18+, these docker images are configured to store database data"],
        "the volume holds data in the place where images before PostgreSQL 18 kept it",
        "set the `version` back to that of the data and `devenv backup` it first; or drop the data with `devenv down --volumes`",
    ),
    log(
        &["is not a valid data directory"],
        "the volume of `{service}` holds something that is no PostgreSQL data, or only a part of it",
        "take the volume back from a snapshot, or make it anew with `devenv down --volumes`",
    ),
    log(
        &["exists but is not empty"],
        "PostgreSQL wants to initialise a volume in which there is something else",
        "make the volume of `{service}` anew with `devenv down --volumes`",
    ),
    log(
        &["lock file", "already exists"],
        "another PostgreSQL runs on the same data",
        "stop the other one: two services, or two environments, must not share a volume",
    ),
    log(
        &["unrecognized configuration parameter"],
        "PostgreSQL of this version knows no setting `{1}`",
        "correct or remove `{1}` under `settings` of `{service}`; the setting of an extension needs its library preloaded",
    ),
    log(
        &["invalid value for parameter"],
        "PostgreSQL does not take the value `{2}` for its setting `{1}`",
        "correct `{1}` under `settings` of `{service}`",
    ),
    log(
        &["is outside the valid range for parameter"],
        "PostgreSQL does not take so small or so large a value for its setting `{1}`",
        "correct `{1}` under `settings` of `{service}`",
    ),
    log(
        &["could not access file", "no such file or directory"],
        "PostgreSQL is to load the library `{1}`, which its image does not hold",
        "remove it from `shared_preload_libraries`, or use an image that holds the extension",
    ),
    log(
        &["data directory", "has wrong ownership"],
        "the data of `{service}` belongs to another user than the one PostgreSQL runs as",
        "use a volume of devenv's own rather than a directory of the host, or `chown` it to the image's user",
    ),
    log(
        &["data directory", "has invalid permissions"],
        "the data of `{service}` may be read by others, which PostgreSQL refuses",
        "`chmod 0700` the directory, or use a volume of devenv's own",
    ),
    log(
        &["could not locate a valid checkpoint record"],
        "the data of `{service}` is damaged: its write-ahead log has no valid checkpoint",
        "restore a snapshot with `devenv snapshot restore`, or make the volume anew with `devenv down --volumes`",
    ),
    log(
        &["database is uninitialized and superuser password is not specified"],
        "the image wants a superuser password and was given none",
        "remove what overrides the environment of `{service}` in the profile",
    ),
    Cause::new(
        Place::Probe,
        &["password authentication failed"],
        "the data of `{service}` was made with another password than the one that devenv keeps",
        "put devenv's state directory back, or make the volume anew with `devenv down --volumes` (`devenv undo` takes it back)",
    ),
    Cause::new(
        Place::Probe,
        &["too many clients already"],
        "all connections of PostgreSQL are taken",
        "raise `settings.max_connections` of `{service}`, or lower the pools of its clients",
    ),
];
