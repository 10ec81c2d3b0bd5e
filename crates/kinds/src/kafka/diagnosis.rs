//! Causes of Kafka's failures, recognised by their text. Pure.

use crate::capability::{Cause, Place};

/// The text is in lower case. Specific causes come before general ones.
pub(super) const CAUSES: &[Cause] = &[
    Cause::new(
        Place::Log,
        &["invalid cluster.id in"],
        "the volume of `{service}` belongs to another Kafka cluster",
        "remove `CLUSTER_ID` from the profile, or start over with `devenv down --volumes`",
    ),
    Cause::new(
        Place::Log,
        &["inconsistentclusteridexception"],
        "the volume of `{service}` belongs to another Kafka cluster",
        "remove `CLUSTER_ID` from the profile, or start over with `devenv down --volumes`",
    ),
    Cause::new(
        Place::Log,
        &["stored node id", "doesn't match"],
        "the volume of `{service}` belongs to a Kafka broker with another id",
        "remove `node.id` from `settings` of `{service}`, or start over with `devenv down --volumes`",
    ),
    Cause::new(Place::Log, &["outofmemoryerror"], "Kafka's JVM ran out of memory", "raise `services.{service}.resources.memory`"),
    Cause::new(
        Place::Log,
        &["there is insufficient memory for the java runtime environment"],
        "not enough memory for Kafka's JVM",
        "raise `services.{service}.resources.memory`",
    ),
    Cause::new(
        Place::Log,
        &["advertised.listeners", "requirement failed"],
        "Kafka's listeners contradict each other",
        "remove `listeners` and `advertised.listeners` from `settings` of `{service}`: devenv sets both",
    ),
    Cause::new(
        Place::Log,
        &["error creating broker listeners"],
        "Kafka's listeners contradict each other",
        "remove `listeners` and `advertised.listeners` from `settings` of `{service}`: devenv sets both",
    ),
    Cause::new(Place::Log, &["configexception: "], "Kafka rejects its configuration: {rest}", "fix `settings` of `{service}`"),
    Cause::new(
        Place::Log,
        &["corruptrecordexception"],
        "the volume of `{service}` is damaged, possibly by two brokers that wrote to it at once",
        "restore a snapshot with `devenv snapshot restore`, or start over with `devenv down --volumes`",
    ),
    Cause::new(
        Place::Log,
        &["accessdeniedexception: "],
        "Kafka cannot access {rest}: it belongs to another user than the one Kafka runs as",
        "use a volume instead of a host directory, or `chown` the directory to the image's user",
    ),
    Cause::new(
        Place::Log,
        &["configexception"],
        "Kafka rejects its configuration",
        "fix `settings` of `{service}`: `devenv logs {service}` quotes the setting",
    ),
    Cause::new(
        Place::Log,
        &["all log dirs in", "have failed"],
        "Kafka can no longer write to its volume",
        "see the error above in `devenv logs {service}`: usually a full disk, or files of another user",
    ),
    Cause::new(
        Place::Log,
        &["failed to acquire lock on file"],
        "another Kafka broker runs on the same volume",
        "stop it: services and environments must not share a volume",
    ),
    Cause::new(
        Place::Probe,
        &["the broker advertises"],
        "Kafka advertises another address than the one it is published on",
        "remove `advertised.listeners` from `settings` of `{service}`: devenv sets it",
    ),
];
