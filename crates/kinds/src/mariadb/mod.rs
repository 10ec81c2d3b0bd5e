//! MariaDB: databases with owners, scripts with a ledger, leases that are copies, dumps.

mod backup;
mod blueprint;
mod browse;
mod causes;
mod csv;
mod dump;
mod faults;
mod fields;
#[cfg(fuzzing)]
pub mod fuzzing;
mod golden;
mod lease;
mod ledger;
mod metrics;
mod probe;
mod provision;
#[cfg(all(test, feature = "docker-tests"))]
mod real_tests;
mod scripts;
mod servers;
mod session;
pub mod spec;
mod swap;
mod transfer;
mod workload;

use std::sync::Arc;

use crate::capability::{AddressError, Asker, Cause, FileField, ServiceKind, Variables, abilities};

pub use fields::Mariadb;

/// The name in profiles and records.
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

    abilities!(probes, servers, provisions, scripts, leases, backups, transfers, golden, metrics, faults, workloads, browse);

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

    fn asker(&self, variables: &Variables, service: &str) -> Result<Arc<dyn Asker>, AddressError> {
        crate::rows::asker::<workload::Server>(variables, service)
    }

    fn causes(&self) -> &'static [Cause] {
        causes::CAUSES
    }
}
