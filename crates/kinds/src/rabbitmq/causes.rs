//! Causes of failures, recognised by the server's messages.

use crate::capability::{Cause, Place};

pub(super) const CAUSES: &[Cause] = &[
    Cause::new(
        Place::Log,
        &["you've tried to set", "no setting with that name"],
        "RabbitMQ has no such setting: {rest}",
        "fix it under `services.{service}.settings`",
    ),
    Cause::new(
        Place::Log,
        &["error generating configuration"],
        "RabbitMQ rejects a value of its settings",
        "fix it under `services.{service}.settings`; `devenv logs {service}` names the setting",
    ),
    Cause::new(
        Place::Log,
        &["failed to initialize feature flags registry"],
        "the data of `{service}` was written by a newer RabbitMQ than `services.{service}.version`",
        "set `version` to the one that wrote it, or start over with `devenv reset {service}`",
    ),
    Cause::new(
        Place::Log,
        &["required feature flag not enabled"],
        "the data of `{service}` was written by an older RabbitMQ with disabled feature flags",
        "start the older `version`, run `devenv exec {service} -- rabbitmqctl enable_feature_flag all`, then change `services.{service}.version`",
    ),
    Cause::new(
        Place::Log,
        &["cookie file", "must be accessible by owner only"],
        "the files of `{service}` have the wrong permissions",
        "start over with `devenv reset {service}`, or restore a snapshot",
    ),
    Cause::new(
        Place::Anywhere,
        &["disk resource limit alarm set"],
        "the disk of `{service}` is nearly full, so it accepts no messages",
        "free space, or lower `disk_free_limit.absolute` under `services.{service}.settings`",
    ),
    Cause::new(
        Place::Anywhere,
        &["memory resource limit alarm set"],
        "`{service}` has reached its memory limit, so it accepts no messages",
        "consume or purge its queues, or raise `services.{service}.resources.memory`",
    ),
    Cause::new(
        Place::Probe,
        &["access_refused"],
        "`{service}` does not accept the password that devenv stored",
        "run `devenv restart {service}`: its users are set at each start",
    ),
];
