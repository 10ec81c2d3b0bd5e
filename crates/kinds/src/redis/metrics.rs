//! Redis: the metrics of `INFO`.

use async_trait::async_trait;
use devenv_spec::OfKind;

use super::{
    RedisKind,
    probe::{session, words},
    spec::RedisProvision,
};
use crate::{capability::MetricSource, metrics::Page, provision::ProvisionContext};

/// Field of `INFO`, name, help. Those that only grow while the server runs.
const COUNTERS: [(&str, &str, &str); 7] = [
    ("total_commands_processed", "redis_commands_processed_total", "Number of processed commands."),
    ("total_connections_received", "redis_connections_received_total", "Number of accepted connections."),
    ("rejected_connections", "redis_rejected_connections_total", "Number of connections refused because of `maxclients`."),
    ("keyspace_hits", "redis_keyspace_hits_total", "Number of lookups that found a key."),
    ("keyspace_misses", "redis_keyspace_misses_total", "Number of lookups that found no key."),
    ("evicted_keys", "redis_evicted_keys_total", "Number of keys evicted because of `maxmemory`."),
    ("expired_keys", "redis_expired_keys_total", "Number of expired keys."),
];

const GAUGES: [(&str, &str, &str); 9] = [
    ("used_memory", "redis_memory_used_bytes", "Memory in use in bytes."),
    ("maxmemory", "redis_memory_max_bytes", "Memory limit in bytes; 0 is unlimited."),
    ("used_memory_rss", "redis_memory_used_rss_bytes", "Memory allocated from the operating system in bytes."),
    ("connected_clients", "redis_connected_clients", "Number of connected clients."),
    ("blocked_clients", "redis_blocked_clients", "Number of clients waiting in a blocking command."),
    ("uptime_in_seconds", "redis_uptime_in_seconds", "Seconds since the server started."),
    ("rdb_changes_since_last_save", "redis_rdb_changes_since_last_save", "Changes since the last dump."),
    ("rdb_last_save_time", "redis_rdb_last_save_timestamp_seconds", "Time of the last dump."),
    ("aof_enabled", "redis_aof_enabled", "Whether the append-only file is enabled."),
];

/// Fields that say `ok` or `err`.
const STATUSES: [(&str, &str, &str); 3] = [
    ("rdb_last_bgsave_status", "redis_rdb_last_bgsave_status", "Whether the last dump succeeded."),
    ("aof_last_write_status", "redis_aof_last_write_status", "Whether the last write to the append-only file succeeded."),
    ("aof_last_bgrewrite_status", "redis_aof_last_bgrewrite_status", "Whether the last rewrite of the append-only file succeeded."),
];

#[async_trait]
impl MetricSource for RedisKind {
    fn up(&self) -> (&'static str, &'static str) {
        ("redis_up", "Whether Redis answers.")
    }

    async fn ask(&self, provision: &OfKind, cx: &ProvisionContext) -> Result<Page, String> {
        let server = provision.decode().map_err(|error| error.to_string())?;
        ask(&server, cx).await
    }
}

async fn ask(server: &RedisProvision, cx: &ProvisionContext) -> Result<Page, String> {
    let password = cx.vault.reveal(&server.password).map_err(|error| error.to_string())?;
    let tls = cx.trust(server.tls).map_err(|error| error.to_string())?;
    let info = session(server.port, "default", &password, tls, |mut connection| async move {
        Ok(redis::cmd("INFO").query_async::<String>(&mut connection).await?)
    });
    Ok(read(&info.await.map_err(|error| words(server.port, error))?))
}

fn read(info: &str) -> Page {
    let mut page = Page::default();
    for (field, value) in info.lines().filter_map(|line| line.trim_end().split_once(':')) {
        if let Some((_, name, help)) = COUNTERS.iter().find(|(known, ..)| *known == field) {
            page.counter(name, help, &[], value.parse().unwrap_or(f64::NAN));
        } else if let Some((_, name, help)) = GAUGES.iter().find(|(known, ..)| *known == field) {
            page.gauge(name, help, &[], value.parse().unwrap_or(f64::NAN));
        } else if let Some((_, name, help)) = STATUSES.iter().find(|(known, ..)| *known == field) {
            page.gauge(name, help, &[], f64::from(u8::from(value == "ok")));
        } else if field.strip_prefix("db").is_some_and(|number| number.parse::<u32>().is_ok()) {
            // `db0:keys=3,expires=1,avg_ttl=0`
            for part in value.split(',').filter_map(|part| part.split_once('=')) {
                let (labels, count) = ([("db", field)], part.1.parse().unwrap_or(f64::NAN));
                match part.0 {
                    "keys" => page.gauge("redis_db_keys", "Number of keys in the database.", &labels, count),
                    "expires" => page.gauge("redis_db_keys_expiring", "Number of keys in the database with an expiry.", &labels, count),
                    _ => {}
                }
            }
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_from_info_have_the_names_that_rules_expect() {
        let info = "# Memory\r\nused_memory:1048576\r\nmaxmemory:0\r\n# Persistence\r\nrdb_last_bgsave_status:err\r\naof_enabled:1\r\n\
                    # Stats\r\nevicted_keys:7\r\n# Keyspace\r\ndb0:keys=3,expires=1,avg_ttl=0\r\n";
        let text = read(info).to_string();
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                "redis_memory_used_bytes 1048576",
                "redis_memory_max_bytes 0",
                "redis_rdb_last_bgsave_status 0",
                "redis_aof_enabled 1",
                "redis_evicted_keys_total 7",
                "redis_db_keys{db=\"db0\"} 3",
                "redis_db_keys_expiring{db=\"db0\"} 1",
            ]
        );
        assert!(read("").is_empty());
    }
}
