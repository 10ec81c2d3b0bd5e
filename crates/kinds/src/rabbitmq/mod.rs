//! RabbitMQ: virtual hosts with users, definitions and messages with a ledger, leases that are virtual hosts.

mod amqp;
mod causes;
mod fields;
mod lease;
mod management;
mod probe;
mod provision;
#[cfg(all(test, feature = "docker-tests"))]
mod real_tests;
mod scripts;
pub mod spec;

use crate::capability::{Cause, FileField, ServiceKind, abilities};

pub use fields::Rabbitmq;

/// As profiles and records name it.
pub const NAME: &str = "rabbitmq";

/// The kind itself.
pub struct RabbitmqKind;

pub(crate) const KIND: RabbitmqKind = RabbitmqKind;

impl ServiceKind for RabbitmqKind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        include_str!("docs.md")
    }

    abilities!(probes, provisions, scripts, leases);

    fn files(&self) -> &'static [FileField] {
        const FILES: &[FileField] = &[FileField::scripts(&["definitions"]), FileField::scripts(&["seed"])];
        FILES
    }

    fn causes(&self) -> &'static [Cause] {
        causes::CAUSES
    }
}
