//! Redpanda: another server of Kafka's protocol, which does all that Kafka's abilities ask of one.

mod fields;

use std::sync::Arc;

use crate::{
    capability::{AddressError, Asker, Backups, FileField, Leases, Rules, ServiceKind, Variables, Workloads},
    kafka,
};

pub use fields::Redpanda;

/// As profiles and records name it.
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

    fn rules(&self) -> &dyn Rules {
        &kafka::KIND
    }

    fn files(&self) -> &'static [FileField] {
        const FILES: &[FileField] = &[FileField::scripts(&["init"]), FileField::scripts(&["seed"])];
        FILES
    }

    fn leases(&self) -> Option<&dyn Leases> {
        Some(&kafka::KIND)
    }

    fn backups(&self) -> Option<&dyn Backups> {
        Some(&kafka::KIND)
    }

    fn workloads(&self) -> Option<&dyn Workloads> {
        Some(&kafka::KIND)
    }

    fn asker(&self, variables: &Variables, service: &str) -> Result<Arc<dyn Asker>, AddressError> {
        kafka::workload::asker(variables, service)
    }
}
