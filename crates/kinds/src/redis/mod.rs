//! Redis: ACL users, commands and keys as scripts, leases by numbered database, dumps.

mod backup;
mod diagnosis;
mod faults;
mod fields;
mod lease;
mod metrics;
pub mod probe;
mod provision;
mod rules;
mod scripts;
pub mod spec;
mod workload;

use std::sync::Arc;

use crate::capability::{
    AddressError, Asker, Backups, Cause, Faults, FileField, Leases, MetricSource, Probes, Provisions, Rules, Scripts, ServiceKind,
    Transfers, Variables, Workloads,
};

pub use fields::Redis;

/// As profiles and records name it.
pub const NAME: &str = "redis";

/// The kind itself.
pub struct RedisKind;

pub(crate) const KIND: RedisKind = RedisKind;

impl ServiceKind for RedisKind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        include_str!("docs.md")
    }

    fn rules(&self) -> &dyn Rules {
        self
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

    fn figures(&self) -> Option<&dyn MetricSource> {
        Some(self)
    }

    fn backups(&self) -> Option<&dyn Backups> {
        Some(self)
    }

    fn transfers(&self) -> Option<&dyn Transfers> {
        Some(self)
    }

    fn faults(&self) -> Option<&dyn Faults> {
        Some(self)
    }

    fn workloads(&self) -> Option<&dyn Workloads> {
        Some(self)
    }

    fn asker(&self, variables: &Variables, service: &str) -> Result<Arc<dyn Asker>, AddressError> {
        workload::asker(variables, service)
    }

    fn causes(&self) -> &'static [Cause] {
        diagnosis::CAUSES
    }
}
