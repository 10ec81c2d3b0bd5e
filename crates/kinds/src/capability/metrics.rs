//! A server's own metrics, for Prometheus.

use async_trait::async_trait;
use devenv_spec::OfKind;

use super::{Page, ProvisionContext};

/// The metrics of one kind.
#[async_trait]
pub trait MetricSource: Send + Sync {
    /// Name and help of the metric that says whether the server answers.
    fn up(&self) -> (&'static str, &'static str);

    /// Asks the server for its metrics; an error if it does not answer. `provision` is what the kind declared for it.
    async fn ask(&self, provision: &OfKind, cx: &ProvisionContext) -> Result<Page, String>;
}
