// @ts-check
// Ready-made plots of each kind of server, from the figures that it gives: connections, statements, hits of caches, evictions, lag, disk.
import { rate } from "./samples.js";

/** @typedef {import("./samples.js").Series} Series */
/** @typedef {{title: string, unit?: string, names: string[], by?: string, rate?: boolean, hits?: boolean, misses?: boolean, words?: Record<string, string>}} Ready */

/**
 * `by`: one line for each value of this label, else one for each name. `rate`: values only grow, and their change per second is shown.
 * `hits`: the share of the first of two names in both. `misses`: the first are the misses among the second. Those of the same kind of server begin with the same word.
 * @type {Ready[]}
 */
const READY = [
  { title: "CPU", unit: "ratio", names: ["devenv_service_cpu_ratio"] },
  { title: "Memory", unit: "bytes", names: ["devenv_service_memory_bytes"] },
  { title: "Connections by state", names: ["pg_stat_activity_count"], by: "state" },
  { title: "Transactions / s", names: ["pg_stat_database_xact_commit", "pg_stat_database_xact_rollback"], rate: true, words: { pg_stat_database_xact_commit: "committed", pg_stat_database_xact_rollback: "rolled back" } },
  { title: "Hits of the buffer cache", unit: "ratio", names: ["pg_stat_database_blks_hit", "pg_stat_database_blks_read"], hits: true },
  { title: "Size of databases", unit: "bytes", names: ["pg_database_size_bytes"], by: "datname" },
  { title: "Deadlocks / s", names: ["pg_stat_database_deadlocks"], rate: true },
  { title: "Temporary files, bytes / s", unit: "bytes", names: ["pg_stat_database_temp_bytes"], rate: true },
  { title: "Connections", names: ["mysql_global_status_threads_connected", "mysql_global_status_threads_running"], words: { mysql_global_status_threads_connected: "connected", mysql_global_status_threads_running: "running" } },
  { title: "Queries / s", names: ["mysql_global_status_queries", "mysql_global_status_slow_queries"], rate: true, words: { mysql_global_status_queries: "all", mysql_global_status_slow_queries: "slow" } },
  { title: "Hits of the buffer pool", unit: "ratio", names: ["mysql_global_status_innodb_buffer_pool_reads", "mysql_global_status_innodb_buffer_pool_read_requests"], misses: true },
  { title: "Waits for rows / s", names: ["mysql_global_status_innodb_row_lock_waits", "mysql_global_status_innodb_deadlocks"], rate: true, words: { mysql_global_status_innodb_row_lock_waits: "waits", mysql_global_status_innodb_deadlocks: "deadlocks" } },
  { title: "Size of databases", unit: "bytes", names: ["mysql_info_schema_size_bytes"], by: "schema" },
  { title: "Commands / s", names: ["redis_commands_processed_total"], rate: true },
  { title: "Clients", names: ["redis_connected_clients", "redis_blocked_clients"], words: { redis_connected_clients: "connected", redis_blocked_clients: "blocked" } },
  { title: "Hits of keys", unit: "ratio", names: ["redis_keyspace_hits_total", "redis_keyspace_misses_total"], hits: true },
  { title: "Keys evicted and expired / s", names: ["redis_evicted_keys_total", "redis_expired_keys_total"], rate: true, words: { redis_evicted_keys_total: "evicted", redis_expired_keys_total: "expired" } },
  { title: "Data in memory", unit: "bytes", names: ["redis_memory_used_bytes", "redis_memory_max_bytes"], words: { redis_memory_used_bytes: "used", redis_memory_max_bytes: "limit" } },
  { title: "Changes not yet in a dump", names: ["redis_rdb_changes_since_last_save"] },
  { title: "Writes to AOF succeed", names: ["redis_aof_last_write_status", "redis_aof_enabled"], words: { redis_aof_last_write_status: "last write", redis_aof_enabled: "enabled" } },
  { title: "Lag of consumer groups", names: ["kafka_consumergroup_lag"], by: "consumergroup" },
  { title: "Messages / s by topic", names: ["kafka_topic_partition_current_offset"], by: "topic", rate: true },
  { title: "Consumed / s by group", names: ["kafka_consumergroup_current_offset"], by: "consumergroup", rate: true },
  { title: "Disk used", unit: "ratio", names: ["devenv_disk_used_ratio"], by: "volume" },
];

/** Names of all figures in ready-made plots. */
export const READY_NAMES = new Set(READY.flatMap((one) => one.names));

/**
 * The plots of one service for which there are figures.
 * @param {Series[]} all Of this service.
 * @returns {{title: string, unit?: string, times: number[], series: {label: string, values: (number | null)[]}[]}[]}
 */
export function readyMade(all) {
  return READY.flatMap((ready) => {
    const found = all.filter((one) => ready.names.includes(one.sample.name));
    if (!found.length) return [];
    const times = [...new Set(found.flatMap((one) => one.times))].sort((a, b) => a - b);
    /** @type {Map<string, Map<number, number>>} */
    const lines = new Map();
    for (const one of found) {
      const label = ready.by ? (one.sample.labels[ready.by] ?? one.sample.name) : (ready.words?.[one.sample.name] ?? one.sample.name);
      const line = lines.get(label) ?? new Map();
      lines.set(label, line);
      const values = ready.rate || ready.hits || ready.misses ? rate(one) : one.values;
      // Those of several databases or partitions are added up.
      one.times.forEach((time, at) => values[at] != null && line.set(time, (line.get(time) ?? 0) + Number(values[at])));
    }
    if (ready.hits || ready.misses) {
      const [first, second] = ready.names.map((name) => lines.get(name));
      if (!first || !second) return [];
      const share = (time) => {
        const [a, b] = [first.get(time), second.get(time)];
        const whole = ready.hits ? (a ?? 0) + (b ?? 0) : (b ?? 0);
        // Of nothing there is no share.
        return a == null || b == null || whole <= 0 ? null : ready.hits ? a / whole : Math.max(0, 1 - a / whole);
      };
      return [{ title: ready.title, unit: ready.unit, times, series: [{ label: "hits", values: times.map(share) }] }];
    }
    const series = [...lines].sort((a, b) => a[0].localeCompare(b[0])).slice(0, 8).map(([label, line]) => ({ label, values: times.map((time) => line.get(time) ?? null) }));
    return [{ title: ready.title, unit: ready.unit, times, series }];
  });
}
