//! Causes that any service may have, each with its text. Specific ones come before general ones; a kind's own causes
//! come between the two tables.

use crate::capability::{Cause, Place};

const FREE_ENGINE_DISK: &str = "free space there: `docker system df` shows what uses it, `devenv gc --all` removes what devenv does not need, `docker image \
     prune --all` images without a container; then run `devenv up` again";

/// The text is in lower case.
pub(super) const FIRST: &[Cause] = &[
    // Messages of the engine: the service never ran.
    Cause::new(
        Place::Engine,
        &["exec format error"],
        "the image of `{service}` is for another CPU architecture than this machine's",
        "use an image for this architecture, or build it here with `build:`",
    ),
    Cause::new(
        Place::Log,
        &["exec format error"],
        "a program in the image of `{service}` is for another CPU architecture, or a script lacks its `#!` line",
        "use an image for this architecture, or add the first line of the script",
    ),
    Cause::new(
        Place::Engine,
        &["executable file not found"],
        "the command of `{service}` starts a program that is not in its image: `{1}`",
        "check `command` and `entrypoint` of `{service}`",
    ),
    Cause::new(
        Place::Engine,
        &["no such file or directory", "exec"],
        "the command of `{service}` starts a program that is not in its image",
        "check `command` and `entrypoint` of `{service}`; for a script, check that its interpreter is in the image",
    ),
    Cause::new(
        Place::Engine,
        &["permission denied", "exec"],
        "the command of `{service}` is a file that is not executable",
        "make it executable (`chmod +x`) where the image is built",
    ),
    Cause::new(
        Place::Engine,
        &["port is already allocated"],
        "another container uses a host port of `{service}`",
        "find it with `docker ps`, or set another port under `services.{service}.ports`",
    ),
    Cause::new(
        Place::Engine,
        &["address already in use"],
        "another program uses a host port of `{service}`",
        "find it with `ss -ltnp`, or set another port under `services.{service}.ports`",
    ),
    Cause::new(
        Place::Engine,
        &["toomanyrequests"],
        "the registry's rate limit for pulls is exceeded",
        "log in with `docker login`, or wait; local images are not pulled again",
    ),
    Cause::new(
        Place::Engine,
        &["pull access denied"],
        "the image of `{service}` does not exist in the registry, or is private",
        "check the image's name; log in with `docker login` if it is private, or build it if it is local",
    ),
    Cause::new(
        Place::Engine,
        &["manifest", "unknown"],
        "the registry has the image of `{service}`, but not this version",
        "check `version` or the image's tag",
    ),
    Cause::new(
        Place::Engine,
        &["no matching manifest"],
        "the image of `{service}` is not published for this machine's CPU architecture",
        "use a version that is, or build it here with `build:`",
    ),
    Cause::new(
        Place::Engine,
        &["does not exist locally"],
        "the image of `{service}` does not exist locally, and pulling is disabled",
        "pull it with `devenv fetch`, or start without `--offline`",
    ),
    Cause::new(
        Place::Engine,
        &["no such host"],
        "the registry's host name cannot be resolved: this machine is offline, or needs a proxy",
        "check the network; `devenv up` works without one if the images exist locally",
    ),
    Cause::new(
        Place::Engine,
        &["tls handshake timeout"],
        "the registry does not answer in time: the network is slow, or a proxy interferes",
        "check the network and the engine's proxy settings, then try again",
    ),
    Cause::new(
        Place::Engine,
        &["dial tcp", "i/o timeout"],
        "the registry is unreachable",
        "check the network and the engine's proxy settings, then try again",
    ),
    Cause::new(
        Place::Anywhere,
        &["network is unreachable"],
        "the network that `{service}` connects to is unreachable",
        "check this machine's network, and that containers can reach the address",
    ),
    Cause::new(
        Place::Engine,
        &["bind source path does not exist"],
        "a file or directory that `{service}` mounts does not exist",
        "create it, or fix `services.{service}.volumes`",
    ),
    Cause::new(
        Place::Engine,
        &["not a directory", "mount"],
        "`{service}` mounts a file on a directory, or a directory on a file",
        "check both sides of `services.{service}.volumes`; the engine may have created a missing host path as a directory",
    ),
    // A full disk comes first: nothing else matters until there is space.
    Cause::new(
        Place::Engine,
        &["the engine refused to", "no space left on device"],
        "the disk of the container engine is full",
        FREE_ENGINE_DISK,
    ),
    Cause::new(
        Place::Engine,
        &["cannot build the image", "no space left on device"],
        "the disk of the container engine is full",
        FREE_ENGINE_DISK,
    ),
    Cause::new(
        Place::Anywhere,
        &["no space left on device"],
        "the disk that `{service}` writes to is full",
        "free space (`devenv gc --all`, `docker system df`), then start it again",
    ),
    Cause::new(
        Place::Anywhere,
        &["disk quota exceeded"],
        "the disk quota of `{service}` is exceeded",
        "free space or raise the quota, then start it again",
    ),
];

pub(super) const LAST: &[Cause] = &[
    // Any other reason.
    Cause::new(
        Place::Log,
        &["address already in use"],
        "`{service}` listens on a port that is already in use",
        "find the other program with `ss -ltnp`; your own program should listen on the port in the variable `PORT`",
    ),
    Cause::new(
        Place::Log,
        &["eaddrinuse"],
        "`{service}` listens on a port that is already in use",
        "find the other program with `ss -ltnp`; your own program should listen on the port in the variable `PORT`",
    ),
    Cause::new(
        Place::Log,
        &["too many open files"],
        "`{service}` exceeds its limit of open files and connections",
        "raise the limit (`ulimit -n`), or find the leak",
    ),
    Cause::new(
        Place::Log,
        &["illegal instruction"],
        "a program in the image of `{service}` needs a newer CPU",
        "use an image for older CPUs",
    ),
    Cause::new(
        Place::Log,
        // It contains a path: a database that refuses a table to a client means something else.
        &["permission denied", "/"],
        "`{service}` has no permission for a file that it needs",
        "see which one with `devenv logs {service}`; the image's user must be able to read mounted files",
    ),
];
