//! Causes of failures, by the words that the server leaves.

use crate::capability::{Cause, Place};

pub(super) const CAUSES: &[Cause] = &[
    Cause::new(
        Place::Log,
        &["you've tried to set", "no setting with that name"],
        "RabbitMQ does not know a setting: {rest}",
        "correct it under `services.{service}.settings`",
    ),
    Cause::new(
        Place::Log,
        &["error generating configuration"],
        "RabbitMQ refuses a value of its settings",
        "correct it under `services.{service}.settings`; `devenv logs {service}` says which",
    ),
    Cause::new(
        Place::Log,
        &["failed to initialize feature flags registry"],
        "the data of `{service}` was written by a newer RabbitMQ than `services.{service}.version`",
        "set the version that wrote it, or begin anew with `devenv reset {service}`",
    ),
    Cause::new(
        Place::Log,
        &["required feature flag not enabled"],
        "the data of `{service}` was written by an older RabbitMQ whose features are not all enabled",
        "start the older `version`, run `devenv exec {service} -- rabbitmqctl enable_feature_flag all`, then change `services.{service}.version`",
    ),
    Cause::new(
        Place::Log,
        &["cookie file", "must be accessible by owner only"],
        "the data of `{service}` came with other rights on its files",
        "begin anew with `devenv reset {service}`, or restore a snapshot",
    ),
    Cause::new(
        Place::Anywhere,
        &["disk resource limit alarm set"],
        "the disk of `{service}` is nearly full, so it takes no messages",
        "free space, or lower `disk_free_limit.absolute` under `services.{service}.settings`",
    ),
    Cause::new(
        Place::Anywhere,
        &["memory resource limit alarm set"],
        "`{service}` uses as much memory as it may, so it takes no messages",
        "consume or purge its queues, or raise `services.{service}.resources.memory`",
    ),
    Cause::new(
        Place::Probe,
        &["access_refused"],
        "`{service}` does not take the password that devenv keeps",
        "start it again with `devenv restart {service}`: its users are set at each start",
    ),
];
