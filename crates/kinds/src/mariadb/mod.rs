//! MariaDB: databases with owners, scripts with a ledger, leases that are copies, dumps.

mod backup;
mod blueprint;
mod causes;
mod csv;
mod fields;
mod golden;
mod lease;
mod ledger;
mod metrics;
mod probe;
mod provision;
#[cfg(all(test, feature = "docker-tests"))]
mod real_tests;
mod scripts;
mod session;
pub mod spec;
mod swap;
mod transfer;
mod workload;

use std::sync::Arc;

use crate::capability::{
    AddressError, Asker, Backups, Cause, FileField, Golden, Leases, MetricSource, Probes, Provisions, Scripts, ServiceKind, Transfers,
    Variables, Workloads,
};

pub use fields::Mariadb;

/// As profiles and records name it.
pub const NAME: &str = "mariadb";

/// The kind itself.
pub struct MariadbKind;

pub(crate) const KIND: MariadbKind = MariadbKind;

impl ServiceKind for MariadbKind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        include_str!("docs.md")
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

    fn backups(&self) -> Option<&dyn Backups> {
        Some(self)
    }

    fn transfers(&self) -> Option<&dyn Transfers> {
        Some(self)
    }

    fn golden(&self) -> Option<&dyn Golden> {
        Some(self)
    }

    fn figures(&self) -> Option<&dyn MetricSource> {
        Some(self)
    }

    fn workloads(&self) -> Option<&dyn Workloads> {
        Some(self)
    }

    fn asker(&self, variables: &Variables, service: &str) -> Result<Arc<dyn Asker>, AddressError> {
        workload::asker(variables, service)
    }

    fn causes(&self) -> &'static [Cause] {
        causes::CAUSES
    }
}
