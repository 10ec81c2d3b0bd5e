//! Metrics of servers for Prometheus: each server is queried in its own protocol on a scrape, and never otherwise.
//!
//! Names are those of the well-known exporters (`pg_…`, `redis_…`, `kafka_…`), so that their rules and dashboards
//! fit. A server that does not answer is a metric too: `pg_up 0`. The daemon serves the [`Page`]s; nothing here listens.

use std::time::Duration;

use devenv_spec::OfKind;
use tokio::time::timeout;

pub use crate::capability::{Labels, Page, PageSample};
use crate::capability::{ProvisionContext, ServiceKind};

/// Shorter than the scrape time-out, so that a server that hangs is reported as down.
const LIMIT: Duration = Duration::from_secs(4);

/// The metrics of the provisioned server; `None` if its kind has none.
pub async fn of(provision: &OfKind, cx: &ProvisionContext) -> Option<Page> {
    let source = crate::of(provision).and_then(ServiceKind::metrics)?;
    let (up, help) = source.up();
    let answer = timeout(LIMIT, source.ask(provision, cx)).await.unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}")));
    let mut page = answer.unwrap_or_else(|reason| {
        tracing::debug!(%reason, up, "Cannot read a server's metrics.");
        Page::default()
    });
    let is_up = !page.is_empty();
    page.gauge(up, help, &[], f64::from(u8::from(is_up)));
    Some(page)
}
