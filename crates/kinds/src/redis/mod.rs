//! Redis: ACL users, commands and keys as scripts, leases by numbered database, dumps.

mod backup;
mod browse;
mod diagnosis;
mod faults;
mod fields;
mod lease;
mod metrics;
pub mod probe;
mod provision;
mod rules;
mod scripts;
mod servers;
pub mod spec;
mod workload;

use std::sync::Arc;

use crate::capability::{AddressError, Asker, Cause, FileField, ServiceKind, Variables, abilities};

pub use fields::Redis;
#[cfg(fuzzing)]
pub use scripts::fuzzing;

/// The name in profiles and records.
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

    abilities!(rules, probes, servers, provisions, scripts, leases, metrics, backups, transfers, faults, workloads, browse);

    fn files(&self) -> &'static [FileField] {
        const FILES: &[FileField] = &[FileField::scripts(&["init"]), FileField::scripts(&["seed"])];
        FILES
    }

    fn asker(&self, variables: &Variables, service: &str) -> Result<Arc<dyn Asker>, AddressError> {
        workload::asker(variables, service)
    }

    fn causes(&self) -> &'static [Cause] {
        diagnosis::CAUSES
    }
}
