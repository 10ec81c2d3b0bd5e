//! PgBouncer before a PostgreSQL service.

mod diagnosis;
mod fields;
mod probe;
pub mod spec;

use crate::capability::{Cause, Probes, ServiceKind};

pub use fields::Pgbouncer;

/// As profiles and records name it.
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

    fn probes(&self) -> Option<&dyn Probes> {
        Some(self)
    }

    fn causes(&self) -> &'static [Cause] {
        diagnosis::CAUSES
    }
}
