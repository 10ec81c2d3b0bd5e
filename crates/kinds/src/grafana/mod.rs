//! Grafana, with data sources and dashboards provisioned.

mod fields;

use std::sync::Arc;

use crate::capability::{AddressError, Asker, FileField, FileUse, ServiceKind, Variables};

pub use fields::Grafana;

/// The name in profiles and records.
pub const NAME: &str = "grafana";

/// The kind itself.
pub struct GrafanaKind;

pub(crate) const KIND: GrafanaKind = GrafanaKind;

impl ServiceKind for GrafanaKind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        include_str!("docs.md")
    }

    fn files(&self) -> &'static [FileField] {
        const FILES: &[FileField] = &[FileField { path: &["dashboards"], used_for: FileUse::Text(&["json"]) }];
        FILES
    }

    fn asker(&self, variables: &Variables, service: &str) -> Result<Arc<dyn Asker>, AddressError> {
        crate::capability::asker::http(variables, service)
    }
}
