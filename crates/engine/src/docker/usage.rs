//! The resource usage of a container, read once: the engine's own second sample would take a second.

use std::{collections::HashMap, time::Duration};

use serde::Deserialize;

use super::{
    client::Client,
    wire::{Call, segment},
};
use crate::{EngineError, Usage};

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    cpu_stats: Cpu,
    #[serde(default)]
    memory_stats: Memory,
}

#[derive(Default, Deserialize)]
struct Cpu {
    #[serde(default)]
    cpu_usage: CpuUsage,
    #[serde(default)]
    online_cpus: u32,
}

#[derive(Default, Deserialize)]
struct CpuUsage {
    /// Nanoseconds.
    #[serde(default)]
    total_usage: u64,
}

#[derive(Default, Deserialize)]
struct Memory {
    #[serde(default)]
    usage: u64,
    #[serde(default)]
    limit: u64,
    #[serde(default)]
    stats: HashMap<String, u64>,
}

pub(super) async fn read(client: &Client, id: &str) -> Result<Option<Usage>, EngineError> {
    let call = Call::get("report a container's resource usage", format!("/containers/{}/stats", segment(id)));
    let document: Option<Document> = client.wire.find(call.with("stream", "false").with("one-shot", "true")).await?;
    Ok(document.and_then(usage))
}

/// For a container that does not run all values are zero.
fn usage(document: Document) -> Option<Usage> {
    let Document { cpu_stats: cpu, memory_stats: memory } = document;
    if cpu.cpu_usage.total_usage == 0 {
        return None;
    }
    // The name in version two of control groups, then that in version one.
    let cache = ["inactive_file", "total_inactive_file"].iter().find_map(|name| memory.stats.get(*name)).copied().unwrap_or(0);
    Some(Usage {
        cpu: Duration::from_nanos(cpu.cpu_usage.total_usage),
        processors: cpu.online_cpus.max(1),
        memory: memory.usage.saturating_sub(cache),
        memory_limit: memory.limit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_cache_is_not_counted_and_a_container_that_does_not_run_has_no_usage() {
        let running = r#"{"cpu_stats":{"cpu_usage":{"total_usage":1500000000},"online_cpus":2},
            "memory_stats":{"usage":300,"limit":1000,"stats":{"cache":150,"total_inactive_file":100}},"new":1}"#;
        let expected = Usage { cpu: Duration::from_millis(1500), processors: 2, memory: 200, memory_limit: 1000 };
        assert_eq!(usage(serde_json::from_str(running).unwrap()), Some(expected));
        assert_eq!(usage(serde_json::from_str(r#"{"cpu_stats":{"cpu_usage":{"total_usage":0}},"memory_stats":{}}"#).unwrap()), None);
    }
}
