//! PostgreSQL: databases with owners, scripts with a ledger in each, leases that are copies, dumps.

mod access;
mod backup;
mod browse;
mod diagnosis;
mod exchange;
mod faults;
mod fields;
mod golden;
mod lease;
mod metrics;
pub mod probe;
pub mod provision;
mod rules;
mod scripts;
mod servers;
pub mod spec;
mod transfer;
pub(crate) mod workload;

use std::sync::Arc;

use crate::capability::{AddressError, Asker, Cause, FileField, ServiceKind, Variables, abilities};

pub use fields::Postgres;
#[cfg(fuzzing)]
pub use scripts::fuzzing;

/// The name in profiles and records.
pub const NAME: &str = "postgres";

/// The kind itself.
pub struct PostgresKind;

pub(crate) const KIND: PostgresKind = PostgresKind;

/// The rules for access and the map of system users, for servers that tests start by themselves.
#[cfg(any(feature = "testing", all(test, feature = "docker-tests")))]
pub(crate) fn access_rules() -> (String, &'static str) {
    (access::rules(false, "scram-sha-256"), access::MAP)
}

impl ServiceKind for PostgresKind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        include_str!("docs.md")
    }

    abilities!(rules, probes, servers, provisions, scripts, leases, metrics, backups, transfers, golden, faults, workloads, browse);

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
        diagnosis::CAUSES
    }
}
