//! Jaeger: traces over OTLP.

mod fields;
mod probe;
mod rules;
pub mod spec;
mod traces;

use std::sync::Arc;

use crate::capability::{AddressError, Asker, ServiceKind, Variables, abilities};

pub use fields::Jaeger;

/// The name in profiles and records.
pub const NAME: &str = "jaeger";

/// The kind itself.
pub struct JaegerKind;

pub(crate) const KIND: JaegerKind = JaegerKind;

impl ServiceKind for JaegerKind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        include_str!("docs.md")
    }

    abilities!(rules, probes, trace_source);

    fn asker(&self, variables: &Variables, service: &str) -> Result<Arc<dyn Asker>, AddressError> {
        crate::capability::asker::http(variables, service)
    }
}
