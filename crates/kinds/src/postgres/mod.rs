//! PostgreSQL: databases with owners, scripts with a ledger in each, leases that are copies, dumps.

mod backup;
mod diagnosis;
mod faults;
mod fields;
mod golden;
mod lease;
mod metrics;
pub mod probe;
pub mod provision;
mod rules;
mod scripts;
pub mod spec;
mod transfer;
pub(crate) mod workload;

use std::sync::Arc;

use crate::capability::{
    AddressError, Asker, Backups, Cause, Faults, FileField, Golden, Leases, MetricSource, Probes, Provisions, Rules, Scripts, ServiceKind,
    Transfers, Variables, Workloads,
};

pub use fields::Postgres;

/// As profiles and records name it.
pub const NAME: &str = "postgres";

/// The kind itself.
pub struct PostgresKind;

pub(crate) const KIND: PostgresKind = PostgresKind;

impl ServiceKind for PostgresKind {
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
        const FILES: &[FileField] = &[
            FileField::scripts(&["admin_init"]),
            FileField::scripts(&["init"]),
            FileField::scripts(&["seed"]),
            FileField::scripts(&["databases", "*", "init"]),
            FileField::scripts(&["databases", "*", "seed"]),
        ];
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

    fn golden(&self) -> Option<&dyn Golden> {
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
