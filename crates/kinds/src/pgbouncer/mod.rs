//! PgBouncer in front of a PostgreSQL service.

mod diagnosis;
mod fields;
mod probe;
mod rules;
pub mod spec;

use std::sync::Arc;

use crate::capability::{AddressError, Asker, Cause, ServiceKind, Variables, abilities};

pub use fields::Pgbouncer;

/// The name in profiles and records.
pub const NAME: &str = "pgbouncer";

/// The kind itself.
pub struct PgbouncerKind;

pub(crate) const KIND: PgbouncerKind = PgbouncerKind;

impl ServiceKind for PgbouncerKind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        include_str!("docs.md")
    }

    abilities!(rules, probes);

    fn asker(&self, variables: &Variables, service: &str) -> Result<Arc<dyn Asker>, AddressError> {
        crate::rows::asker::<crate::postgres::workload::Server>(variables, service)
    }

    fn causes(&self) -> &'static [Cause] {
        diagnosis::CAUSES
    }
}
