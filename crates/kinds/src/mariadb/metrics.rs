//! The server's status variables, under the names of mysqld_exporter.

use async_trait::async_trait;
use devenv_spec::OfKind;
use mysql_async::Error;

use super::{
    MariadbKind,
    provision::superuser,
    session::{Session, Texts, reason},
    spec::MariadbProvision,
};
use crate::{capability::MetricSource, metrics::Page, provision::ProvisionContext};

/// Status variable, name, help. Counters that only grow while the server runs.
const COUNTERS: [(&str, &str, &str); 16] = [
    ("QUESTIONS", "mysql_global_status_questions", "Number of statements sent by clients."),
    ("QUERIES", "mysql_global_status_queries", "Number of executed statements, including those of stored programs."),
    ("SLOW_QUERIES", "mysql_global_status_slow_queries", "Number of statements slower than long_query_time."),
    ("CONNECTIONS", "mysql_global_status_connections", "Number of attempted connections."),
    ("ABORTED_CONNECTS", "mysql_global_status_aborted_connects", "Number of failed connection attempts."),
    ("ABORTED_CLIENTS", "mysql_global_status_aborted_clients", "Number of connections whose client disconnected without closing them."),
    ("COM_COMMIT", "mysql_global_status_com_commit", "Number of COMMIT statements."),
    ("COM_ROLLBACK", "mysql_global_status_com_rollback", "Number of ROLLBACK statements."),
    ("BYTES_RECEIVED", "mysql_global_status_bytes_received", "Bytes received from clients."),
    ("BYTES_SENT", "mysql_global_status_bytes_sent", "Bytes sent to clients."),
    ("INNODB_BUFFER_POOL_READS", "mysql_global_status_innodb_buffer_pool_reads", "Number of page reads from disk."),
    ("INNODB_BUFFER_POOL_READ_REQUESTS", "mysql_global_status_innodb_buffer_pool_read_requests", "Number of page reads."),
    ("INNODB_ROW_LOCK_WAITS", "mysql_global_status_innodb_row_lock_waits", "Number of waits for row locks."),
    ("INNODB_ROW_LOCK_TIME", "mysql_global_status_innodb_row_lock_time", "Milliseconds spent waiting for row locks."),
    ("INNODB_DEADLOCKS", "mysql_global_status_innodb_deadlocks", "Number of detected deadlocks."),
    ("INNODB_LOG_WAITS", "mysql_global_status_innodb_log_waits", "Number of waits for a flush of the log buffer."),
];

const GAUGES: [(&str, &str, &str); 6] = [
    ("UPTIME", "mysql_global_status_uptime", "Seconds since the server started."),
    ("THREADS_CONNECTED", "mysql_global_status_threads_connected", "Number of open connections."),
    ("THREADS_RUNNING", "mysql_global_status_threads_running", "Number of connections that execute a statement."),
    ("INNODB_BUFFER_POOL_BYTES_DATA", "mysql_global_status_innodb_buffer_pool_bytes_data", "Bytes of data in the buffer pool."),
    ("INNODB_BUFFER_POOL_BYTES_DIRTY", "mysql_global_status_innodb_buffer_pool_bytes_dirty", "Bytes of dirty pages in the buffer pool."),
    ("INNODB_ROW_LOCK_CURRENT_WAITS", "mysql_global_status_innodb_row_lock_current_waits", "Current number of waits for row locks."),
];

const STATUS: &str = "SELECT UPPER(VARIABLE_NAME), VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS";
const LIMITS: &str = "SELECT @@max_connections, @@innodb_buffer_pool_size";
const SIZES: &str = "SELECT TABLE_SCHEMA, SUM(DATA_LENGTH), SUM(INDEX_LENGTH) FROM information_schema.TABLES \
    WHERE TABLE_SCHEMA NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema') GROUP BY 1 ORDER BY 1";
const SESSIONS: &str = "SELECT COALESCE(DB, ''), COMMAND, COUNT(*) FROM information_schema.PROCESSLIST \
    WHERE ID <> CONNECTION_ID() AND USER <> 'system user' GROUP BY 1, 2 ORDER BY 1, 2";

#[async_trait]
impl MetricSource for MariadbKind {
    fn up(&self) -> (&'static str, &'static str) {
        ("mysql_up", "Whether MariaDB answers.")
    }

    async fn ask(&self, provision: &OfKind, cx: &ProvisionContext) -> Result<Page, String> {
        let wanted: MariadbProvision = provision.decode().map_err(|error| error.to_string())?;
        let login = superuser(&wanted.target(), &cx.vault, cx.authority.clone(), None).map_err(|error| error.to_string())?;
        let mut session = login.open().await.map_err(|error| reason(&error))?;
        let page = read(&mut session).await.map_err(|error| reason(&error));
        session.close().await;
        page
    }
}

async fn read(session: &mut Session) -> Result<Page, Error> {
    let mut page = Page::default();
    status(&mut page, &session.rows(STATUS).await?);
    for row in session.rows(LIMITS).await? {
        page.gauge("mysql_global_variables_max_connections", "Maximum number of connections.", &[], number(row.first()));
        page.gauge("mysql_global_variables_innodb_buffer_pool_size", "Size of the buffer pool in bytes.", &[], number(row.get(1)));
    }
    for row in session.rows(SIZES).await? {
        let Some(Some(schema)) = row.first() else { continue };
        for (component, value) in [("data_length", row.get(1)), ("index_length", row.get(2))] {
            let labels = [("schema", schema.as_str()), ("component", component)];
            page.gauge("mysql_info_schema_size_bytes", "Disk space of the database in bytes.", &labels, number(value));
        }
    }
    for row in session.rows(SESSIONS).await? {
        if let [Some(schema), Some(command), _] = &row[..] {
            let labels = [("schema", schema.as_str()), ("command", command.as_str())];
            page.gauge("mysql_info_schema_processlist_threads", "Number of client connections.", &labels, number(row.get(2)));
        }
    }
    Ok(page)
}

fn status(page: &mut Page, rows: &[Texts]) {
    for row in rows {
        let Some(Some(variable)) = row.first() else { continue };
        if let Some((_, name, help)) = COUNTERS.iter().find(|(known, ..)| known == variable) {
            page.counter(name, help, &[], number(row.get(1)));
        } else if let Some((_, name, help)) = GAUGES.iter().find(|(known, ..)| known == variable) {
            page.gauge(name, help, &[], number(row.get(1)));
        }
    }
}

/// The server's own text of a number.
fn number(text: Option<&Option<String>>) -> f64 {
    text.and_then(Option::as_deref).and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_from_the_status_have_the_names_that_rules_expect() {
        let row = |name: &str, value: &str| vec![Some(name.to_owned()), Some(value.to_owned())];
        let mut page = Page::default();
        status(&mut page, &[row("THREADS_CONNECTED", "3"), row("QUESTIONS", "70"), row("OTHER", "1")]);
        let text = page.to_string();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(samples, ["mysql_global_status_threads_connected 3", "mysql_global_status_questions 70"]);
    }
}
