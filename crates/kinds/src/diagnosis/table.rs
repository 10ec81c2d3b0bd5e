//! Causes that any service may have, each by the words it leaves. The particular come before the general; a kind's own causes
//! come between the two tables.

use crate::capability::{Cause, Place};

/// Words are in small letters.
pub(super) const FIRST: &[Cause] = &[
    // What the engine says: the service never ran.
    Cause::new(
        Place::Engine,
        &["exec format error"],
        "the image of `{service}` is made for another processor than this machine's",
        "use an image that is built for this machine, or build it here with `build:`",
    ),
    Cause::new(
        Place::Log,
        &["exec format error"],
        "a program in the image of `{service}` is made for another processor than this machine's, or a script lacks its `#!` line",
        "use an image that is built for this machine, or give the script its first line",
    ),
    Cause::new(
        Place::Engine,
        &["executable file not found"],
        "the command of `{service}` starts a program that its image does not hold: `{1}`",
        "check `command` and `entrypoint` of `{service}`",
    ),
    Cause::new(
        Place::Engine,
        &["no such file or directory", "exec"],
        "the command of `{service}` starts a program that its image does not hold",
        "check `command` and `entrypoint` of `{service}`; for a script, check that its interpreter is in the image",
    ),
    Cause::new(
        Place::Engine,
        &["permission denied", "exec"],
        "the command of `{service}` is a file that may not be executed",
        "make it executable (`chmod +x`) where the image is built",
    ),
    Cause::new(
        Place::Engine,
        &["port is already allocated"],
        "a port of `{service}` on the host is taken by another container",
        "see who has it with `docker ps`, or choose another one under `services.{service}.ports`",
    ),
    Cause::new(
        Place::Engine,
        &["address already in use"],
        "a port of `{service}` on the host is taken by another program",
        "see who has it with `ss -ltnp`, or choose another one under `services.{service}.ports`",
    ),
    Cause::new(
        Place::Engine,
        &["toomanyrequests"],
        "the registry refuses more downloads for now",
        "log in with `docker login`, or wait; images that are here already are not asked for",
    ),
    Cause::new(
        Place::Engine,
        &["pull access denied"],
        "the image of `{service}` does not exist in the registry, or it is private",
        "check the image's name; log in with `docker login` if it is private; build it if it is local",
    ),
    Cause::new(
        Place::Engine,
        &["manifest", "unknown"],
        "the registry has the image of `{service}` but not this version of it",
        "check the `version` or the image's tag",
    ),
    Cause::new(
        Place::Engine,
        &["no matching manifest"],
        "the image of `{service}` is not published for this machine's processor",
        "use a version that is, or build it here with `build:`",
    ),
    Cause::new(
        Place::Engine,
        &["no such image"],
        "the image of `{service}` is not on this machine, and was not to be downloaded",
        "fetch it with `docker pull`, or start without `--offline`",
    ),
    Cause::new(
        Place::Engine,
        &["no such host"],
        "the registry's name cannot be resolved: this machine is not connected, or needs a proxy",
        "check the network; with the images on this machine, `devenv up` needs none",
    ),
    Cause::new(
        Place::Engine,
        &["tls handshake timeout"],
        "the registry does not answer in time: the network is slow, or a proxy is in the way",
        "check the network and the engine's proxy settings, then try again",
    ),
    Cause::new(
        Place::Engine,
        &["dial tcp", "i/o timeout"],
        "the registry cannot be reached",
        "check the network and the engine's proxy settings, then try again",
    ),
    Cause::new(
        Place::Anywhere,
        &["network is unreachable"],
        "there is no way to the network that `{service}` wants to reach",
        "check this machine's network, and that the address is one that containers can reach",
    ),
    Cause::new(
        Place::Engine,
        &["bind source path does not exist"],
        "a file or directory that `{service}` mounts does not exist on this machine",
        "create it, or correct `services.{service}.volumes`",
    ),
    Cause::new(
        Place::Engine,
        &["not a directory", "mount"],
        "`{service}` mounts a file on a directory, or a directory on a file",
        "check both sides of `services.{service}.volumes`: the host's path may be missing and have been made a directory",
    ),
    // The disk: whoever says it, nothing else matters until there is room.
    Cause::new(
        Place::Anywhere,
        &["no space left on device"],
        "the disk that `{service}` writes to is full",
        "make room (`devenv gc --all`, `docker system df`), then start it again",
    ),
    Cause::new(
        Place::Anywhere,
        &["disk quota exceeded"],
        "the disk quota that `{service}` writes under is used up",
        "make room or raise the quota, then start it again",
    ),
];

pub(super) const LAST: &[Cause] = &[
    // Whatever it is.
    Cause::new(
        Place::Log,
        &["address already in use"],
        "`{service}` wants to listen on a port that is taken already",
        "see who has it with `ss -ltnp`; a program of yours should listen on the port in its variable `PORT`",
    ),
    Cause::new(
        Place::Log,
        &["eaddrinuse"],
        "`{service}` wants to listen on a port that is taken already",
        "see who has it with `ss -ltnp`; a program of yours should listen on the port in its variable `PORT`",
    ),
    Cause::new(
        Place::Log,
        &["too many open files"],
        "`{service}` has more files and connections open than it may",
        "raise the limit (`ulimit -n`), or find what it does not close",
    ),
    Cause::new(
        Place::Log,
        &["illegal instruction"],
        "a program in the image of `{service}` needs a newer processor than this machine's",
        "use an image that is built for older processors",
    ),
    Cause::new(
        Place::Log,
        // A path is in it: a database that refuses a table to a client means something else.
        &["permission denied", "/"],
        "`{service}` may not use a file that it needs",
        "see which one with `devenv logs {service}`; a mounted file must be readable for the user that the image runs as",
    ),
];
