//! Kafka: a client could produce and consume now.
//!
//! Each step rules out a way in which an open port lies. ApiVersions: it is a broker, not docker-proxy. Metadata: the
//! broker is registered and not fenced, and the address that it tells its clients is the one on which we reach it. A
//! coordinator for a group: the controller takes changes and partitions get leaders, for the first such question makes
//! the broker create `__consumer_offsets` (COORDINATOR_NOT_AVAILABLE until then), exactly what the first consumer would
//! wait for. The group's offsets: the coordinator has loaded that partition. Nothing is created that a client would not.

use super::{ProbeFailure, Receipt, connect, unreachable};
use super::kafka_wire::{Connection, WireError};

const GROUP: &str = "devenv-probe";

pub(super) async fn ask(port: u16) -> Result<Receipt, ProbeFailure> {
    let mut broker = Connection::new(connect(port).await?);
    let failed = |error| failure(port, error);
    broker.api_versions().await.map_err(failed)?;
    let metadata = broker.metadata(Some(&[])).await.map_err(failed)?;
    let Some(listed) = metadata.brokers.iter().find(|broker| broker.port == i32::from(port) && is_loopback(&broker.host)) else {
        let told: Vec<_> = metadata.brokers.iter().map(|broker| format!("{}:{}", broker.host, broker.port)).collect();
        return Err(ProbeFailure::said(if told.is_empty() {
            "the broker is not registered with the controller yet".to_owned()
        } else {
            format!("the broker tells its clients to use {}, and not 127.0.0.1:{port}", told.join(", "))
        }));
    };
    if metadata.controller < 0 {
        return Err(ProbeFailure::said("the cluster has no controller yet"));
    }
    let coordinator = broker.find_coordinator(GROUP).await.map_err(failed)?;
    broker.committed(GROUP).await.map_err(failed)?;
    Ok(Receipt::of(format!(
        "broker {} of {} at {}:{port}, coordinator {}",
        listed.id,
        metadata.brokers.len(),
        listed.host,
        coordinator.id
    )))
}

/// Resolving would ask the network; these are the names that a host listener is given.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn failure(port: u16, error: WireError) -> ProbeFailure {
    match error {
        WireError::Io(error) => unreachable(port, &error),
        WireError::Malformed => ProbeFailure::silent(format!("what answers at 127.0.0.1:{port} is no Kafka broker")),
        WireError::Refused { .. } => ProbeFailure::said(error.to_string()),
    }
}
