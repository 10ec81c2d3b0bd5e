//! Redpanda: another server of Kafka's protocol, with all the abilities of Kafka's kind.

mod fields;

use std::sync::Arc;

use crate::{
    capability::{AddressError, Asker, FileField, ServiceKind, Variables, abilities},
    kafka,
};

pub use fields::Redpanda;

/// The name in profiles and records.
pub const NAME: &str = "redpanda";

/// The kind itself.
pub struct RedpandaKind;

pub(crate) const KIND: RedpandaKind = RedpandaKind;

impl ServiceKind for RedpandaKind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        include_str!("docs.md")
    }

    abilities!(rules, leases, backups, workloads, browse of &kafka::KIND);

    fn files(&self) -> &'static [FileField] {
        const FILES: &[FileField] = &[FileField::scripts(&["init"]), FileField::scripts(&["seed"])];
        FILES
    }

    fn asker(&self, variables: &Variables, service: &str) -> Result<Arc<dyn Asker>, AddressError> {
        kafka::workload::asker(variables, service)
    }
}
