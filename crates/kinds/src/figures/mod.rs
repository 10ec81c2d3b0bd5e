//! Figures of servers for Prometheus: each server is asked in its own protocol when somebody scrapes, and never otherwise.
//!
//! Names are those of the exporters that people know (`pg_…`, `redis_…`, `kafka_…`), so that their rules and dashboards
//! fit. A server that does not answer is a figure too: `pg_up 0`. The daemon serves the [`Page`]s; nothing here listens.

mod page;

use std::time::Duration;

use devenv_spec::OfKind;
use tokio::time::timeout;

use crate::{capability::ServiceKind, provision::ProvisionContext};

pub use page::{Labels, Page};

/// Less than a scrape may take, so that a server that hangs is told as one that is down.
const LIMIT: Duration = Duration::from_secs(4);

/// The figures of what is provisioned there; nothing, for a server of which none are known.
pub async fn of(provision: &OfKind, cx: &ProvisionContext) -> Option<Page> {
    let figures = crate::of(provision).and_then(ServiceKind::figures)?;
    let (up, help) = figures.up();
    let answer = timeout(LIMIT, figures.ask(provision, cx)).await.unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}")));
    let mut page = answer.unwrap_or_else(|reason| {
        tracing::debug!(%reason, up, "A server gave no figures.");
        Page::default()
    });
    let is_up = !page.is_empty();
    page.gauge(up, help, &[], f64::from(u8::from(is_up)));
    Some(page)
}
