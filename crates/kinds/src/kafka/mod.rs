//! Apache Kafka: topics and groups, records as scripts, leases by prefix. What it has of the protocol is Redpanda's too.

mod backup;
mod diagnosis;
mod faults;
mod fields;
mod figures;
mod lease;
mod probe;
mod provision;
mod scripts;
pub mod spec;
pub(crate) mod topics;
pub mod wire;

use crate::capability::{Backups, Cause, Faults, Figures, FileField, Leases, Probes, Provisions, Scripts, ServiceKind};

pub use fields::Kafka;

/// As profiles and records name it.
pub const NAME: &str = "kafka";

/// The kind itself.
pub struct KafkaKind;

pub(crate) const KIND: KafkaKind = KafkaKind;

impl ServiceKind for KafkaKind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        include_str!("docs.md")
    }

    fn files(&self) -> &'static [FileField] {
        const FILES: &[FileField] = &[FileField::scripts(&["init"]), FileField::scripts(&["seed"])];
        FILES
    }

    fn probes(&self) -> Option<&dyn Probes> {
        Some(self)
    }

    fn provisions(&self) -> Option<&dyn Provisions> {
        Some(self)
    }

    fn scripts(&self) -> Option<&dyn Scripts> {
        Some(self)
    }

    fn leases(&self) -> Option<&dyn Leases> {
        Some(self)
    }

    fn figures(&self) -> Option<&dyn Figures> {
        Some(self)
    }

    fn backups(&self) -> Option<&dyn Backups> {
        Some(self)
    }

    fn faults(&self) -> Option<&dyn Faults> {
        Some(self)
    }

    fn causes(&self) -> &'static [Cause] {
        diagnosis::CAUSES
    }
}
