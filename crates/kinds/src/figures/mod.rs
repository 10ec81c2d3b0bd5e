//! Figures of servers for Prometheus: each server is asked in its own protocol when somebody scrapes, and never otherwise.
//!
//! Names are those of the exporters that people know (`pg_…`, `redis_…`, `kafka_…`), so that their rules and dashboards
//! fit. A server that does not answer is a figure too: `pg_up 0`. The daemon serves the [`Page`]s; nothing here listens.

mod kafka;
mod page;
mod postgres;
mod redis;

use std::time::Duration;

use devenv_spec::Provision;
use tokio::time::timeout;

use crate::provision::ProvisionContext;

pub use page::{Labels, Page};

/// Less than a scrape may take, so that a server that hangs is told as one that is down.
const LIMIT: Duration = Duration::from_secs(4);

/// The figures of what is provisioned there; nothing, for a server of which none are known.
pub async fn of(provision: &Provision, cx: &ProvisionContext) -> Option<Page> {
    let (up, help) = match provision {
        Provision::Postgres(_) => ("pg_up", "Whether PostgreSQL answers."),
        Provision::Redis(_) => ("redis_up", "Whether Redis answers."),
        Provision::Kafka(_) => ("kafka_up", "Whether the broker answers."),
        Provision::S3(_) => return None,
    };
    let asked = async {
        match provision {
            Provision::Postgres(server) => postgres::ask(server, cx).await,
            Provision::Redis(server) => redis::ask(server, cx).await,
            Provision::Kafka(server) => kafka::ask(server).await.map_err(|error| error.to_string()),
            Provision::S3(_) => Ok(Page::default()),
        }
    };
    let answer = timeout(LIMIT, asked).await.unwrap_or_else(|_| Err(format!("no answer within {LIMIT:?}")));
    let mut page = answer.unwrap_or_else(|reason| {
        tracing::debug!(%reason, up, "A server gave no figures.");
        Page::default()
    });
    let is_up = !page.is_empty();
    page.gauge(up, help, &[], f64::from(u8::from(is_up)));
    Some(page)
}
