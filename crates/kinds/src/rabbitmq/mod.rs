//! RabbitMQ: virtual hosts with users, definitions and messages with a ledger, leases that are virtual hosts.

mod amqp;
mod backup;
mod causes;
mod channel;
mod fields;
#[cfg(fuzzing)]
pub mod fuzzing;
mod lease;
mod management;
mod probe;
mod provision;
mod queues;
#[cfg(all(test, feature = "docker-tests"))]
mod real_tests;
mod scripts;
mod servers;
pub mod spec;
mod workload;

use std::sync::Arc;

use crate::capability::{AddressError, Asker, Cause, FileField, ServiceKind, Variables, abilities};

pub use fields::Rabbitmq;

/// The name in profiles and records.
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

    abilities!(probes, servers, provisions, scripts, leases, backups, workloads);

    fn files(&self) -> &'static [FileField] {
        const FILES: &[FileField] = &[FileField::scripts(&["definitions"]), FileField::scripts(&["seed"])];
        FILES
    }

    fn asker(&self, variables: &Variables, service: &str) -> Result<Arc<dyn Asker>, AddressError> {
        workload::asker(variables, service)
    }

    fn causes(&self) -> &'static [Cause] {
        causes::CAUSES
    }
}
