//! PostgreSQL: connections, sizes, transactions and deadlocks, by database.

use async_trait::async_trait;
use devenv_spec::OfKind;
use tokio_postgres::Client;

use super::{
    PostgresKind,
    provision::{Superuser, rows},
    spec::PostgresProvision,
};
use crate::{capability::MetricSource, metrics::Page, provision::ProvisionContext};

const DATABASES: &str = "SELECT datname, pg_database_size(datid), xact_commit, xact_rollback, deadlocks, blks_read, blks_hit, temp_bytes \
    FROM pg_stat_database WHERE datname IS NOT NULL AND datname NOT LIKE 'template%' ORDER BY 1";
const CONNECTIONS: &str = "SELECT coalesce(datname, ''), coalesce(state, 'unknown'), count(*) FROM pg_stat_activity \
    WHERE backend_type = 'client backend' AND pid <> pg_backend_pid() GROUP BY 1, 2 ORDER BY 1, 2";
const SERVER: &str = "SELECT current_setting('max_connections'), extract(epoch FROM pg_postmaster_start_time())";

#[async_trait]
impl MetricSource for PostgresKind {
    fn up(&self) -> (&'static str, &'static str) {
        ("pg_up", "Whether PostgreSQL answers.")
    }

    async fn ask(&self, provision: &OfKind, cx: &ProvisionContext) -> Result<Page, String> {
        let server = provision.decode().map_err(|error| error.to_string())?;
        ask(&server, cx).await
    }
}

async fn ask(server: &PostgresProvision, cx: &ProvisionContext) -> Result<Page, String> {
    let superuser = Superuser::of(server, cx).map_err(|error| error.to_string())?;
    superuser.ask("devenv metrics", read).await
}

async fn read(client: Client) -> Result<Page, tokio_postgres::Error> {
    const BY_DATABASE: [(&str, &str); 7] = [
        ("pg_database_size_bytes", "Disk space of the database in bytes."),
        ("pg_stat_database_xact_commit", "Number of committed transactions."),
        ("pg_stat_database_xact_rollback", "Number of rolled back transactions."),
        ("pg_stat_database_deadlocks", "Number of detected deadlocks."),
        ("pg_stat_database_blks_read", "Number of blocks read from disk."),
        ("pg_stat_database_blks_hit", "Number of blocks found in the buffer cache."),
        ("pg_stat_database_temp_bytes", "Bytes that queries wrote to temporary files."),
    ];
    let mut page = Page::default();
    for row in rows(&client, DATABASES).await? {
        let Some((Some(database), values)) = row.split_first() else { continue };
        for (index, ((name, help), value)) in BY_DATABASE.iter().zip(values).enumerate() {
            let (labels, value) = ([("datname", database.as_str())], number(value.as_deref()));
            if index == 0 { page.gauge(name, help, &labels, value) } else { page.counter(name, help, &labels, value) }
        }
    }
    for row in rows(&client, CONNECTIONS).await? {
        if let [Some(database), Some(state), count] = &row[..] {
            let labels = [("datname", database.as_str()), ("state", state.as_str())];
            page.gauge("pg_stat_activity_count", "Number of client connections.", &labels, number(count.as_deref()));
        }
    }
    for row in rows(&client, SERVER).await? {
        if let [connections, started] = &row[..] {
            page.gauge("pg_settings_max_connections", "Maximum number of connections.", &[], number(connections.as_deref()));
            page.gauge("pg_postmaster_start_time_seconds", "Start time of the server.", &[], number(started.as_deref()));
        }
    }
    Ok(page)
}

/// The server's own text of a number.
fn number(text: Option<&str>) -> f64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}
