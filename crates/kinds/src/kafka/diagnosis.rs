//! Causes of Kafka's failures, each by the words it leaves. Pure.

use crate::capability::{Cause, Place};

/// Words are in small letters. The particular come before the general.
pub(super) const CAUSES: &[Cause] = &[
    Cause::new(
        Place::Log,
        &["invalid cluster.id in"],
        "the volume of `{service}` belongs to another Kafka cluster than the one that is to run on it",
        "remove `CLUSTER_ID` from the profile, or make the volume anew with `devenv down --volumes`",
    ),
    Cause::new(
        Place::Log,
        &["inconsistentclusteridexception"],
        "the volume of `{service}` belongs to another Kafka cluster than the one that is to run on it",
        "remove `CLUSTER_ID` from the profile, or make the volume anew with `devenv down --volumes`",
    ),
    Cause::new(
        Place::Log,
        &["stored node id", "doesn't match"],
        "the volume of `{service}` belongs to a Kafka broker with another id",
        "remove `node.id` from `settings` of `{service}`, or make the volume anew with `devenv down --volumes`",
    ),
    Cause::new(Place::Log, &["outofmemoryerror"], "Kafka's Java machine ran out of memory", "raise `services.{service}.resources.memory`"),
    Cause::new(
        Place::Log,
        &["there is insufficient memory for the java runtime environment"],
        "there is too little memory for Kafka's Java machine",
        "raise `services.{service}.resources.memory`",
    ),
    Cause::new(
        Place::Log,
        &["advertised.listeners", "requirement failed"],
        "Kafka's listeners do not fit together",
        "remove `listeners` and `advertised.listeners` from `settings` of `{service}`: devenv sets both",
    ),
    Cause::new(
        Place::Log,
        &["error creating broker listeners"],
        "Kafka's listeners do not fit together",
        "remove `listeners` and `advertised.listeners` from `settings` of `{service}`: devenv sets both",
    ),
    Cause::new(Place::Log, &["configexception: "], "Kafka does not take its configuration: {rest}", "correct `settings` of `{service}`"),
    Cause::new(
        Place::Log,
        &["corruptrecordexception"],
        "the volume of `{service}` is damaged, as by two brokers that wrote to it at once",
        "restore a snapshot with `devenv snapshot restore`, or make the volume anew with `devenv down --volumes`",
    ),
    Cause::new(
        Place::Log,
        &["accessdeniedexception: "],
        "Kafka may not use {rest}: it belongs to another user than the one Kafka runs as",
        "use a volume of devenv's own rather than a directory of the host, or `chown` it to the image's user",
    ),
    Cause::new(
        Place::Log,
        &["configexception"],
        "Kafka does not take its configuration",
        "correct `settings` of `{service}`: `devenv logs {service}` quotes the setting",
    ),
    Cause::new(
        Place::Log,
        &["all log dirs in", "have failed"],
        "Kafka cannot write to its volume any more",
        "see the error above in `devenv logs {service}`: most often a full disk, or files of another user",
    ),
    Cause::new(
        Place::Log,
        &["failed to acquire lock on file"],
        "another Kafka runs on the same volume",
        "stop the other one: two services, or two environments, must not share a volume",
    ),
    Cause::new(
        Place::Probe,
        &["tells its clients to use"],
        "Kafka tells its clients another address than the one on which it is published",
        "remove `advertised.listeners` from `settings` of `{service}`: devenv sets it",
    ),
];
