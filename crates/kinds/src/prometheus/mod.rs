//! Prometheus, scraping the environment's services.

mod fields;
mod history;
mod rules;

use std::sync::Arc;

use crate::capability::{AddressError, Asker, FileField, FileUse, ServiceKind, Variables, abilities};

pub use fields::Prometheus;

/// The name in profiles and records.
pub const NAME: &str = "prometheus";

/// The kind itself.
pub struct PrometheusKind;

pub(crate) const KIND: PrometheusKind = PrometheusKind;

impl ServiceKind for PrometheusKind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        include_str!("docs.md")
    }

    abilities!(rules, metric_history);

    fn files(&self) -> &'static [FileField] {
        const FILES: &[FileField] = &[FileField { path: &["rules"], used_for: FileUse::Text(&["yml", "yaml"]) }];
        FILES
    }

    fn asker(&self, variables: &Variables, service: &str) -> Result<Arc<dyn Asker>, AddressError> {
        crate::capability::asker::http(variables, service)
    }
}
