//! Kafka: a client could produce and consume now.
//!
//! Each step rules out a false positive of an open port. Metadata: it is a broker and not docker-proxy, the broker is
//! registered and not fenced, and it advertises the address on which we reach it. A coordinator
//! for a group: the controller accepts changes and partitions get leaders, because the first such request makes the broker
//! create `__consumer_offsets` (COORDINATOR_NOT_AVAILABLE until then), exactly what the first consumer would wait for.
//! The group's offsets: the coordinator has loaded that partition. Nothing is created that a client would not.

use std::time::Duration;

use async_trait::async_trait;
use devenv_spec::OfKind;
use tokio::time::{Instant, sleep};

use super::{
    KafkaKind,
    login::Login,
    spec::{KafkaLogin, KafkaProbe},
    wire::{Connection, WireError},
};
use crate::{
    capability::Probes,
    probe::{ProbeContext, ProbeFailure, ProbeSuccess, connect, unreachable},
};

const GROUP: &str = "devenv-probe";
/// How long a coordinator that is being elected is waited for on the same connection.
const COMING: Duration = Duration::from_millis(500);

#[async_trait]
impl Probes for KafkaKind {
    async fn ask(&self, question: &OfKind, cx: &ProbeContext) -> Result<ProbeSuccess, ProbeFailure> {
        let KafkaProbe { port, login } = question.decode()?;
        let login = match login {
            Some(KafkaLogin { user, password }) => Some(Login { user, password: cx.reveal(&password)? }),
            None => None,
        };
        ask(port, login.as_ref()).await
    }

    fn port(&self, question: &OfKind) -> Option<u16> {
        question.decode().ok().map(|probe: KafkaProbe| probe.port)
    }

    /// ApiVersions 0, correlation 1; without padding no client id, otherwise a long one.
    fn greeting(&self, padding: Option<usize>) -> Option<Vec<u8>> {
        const HEADER: [u8; 8] = [0, 18, 0, 0, 0, 0, 0, 1];
        let said = match padding {
            None => [&HEADER[..], &[0xff, 0xff]].concat(),
            Some(padding) => [&HEADER[..], &(padding as u16).to_be_bytes(), &vec![b'x'; padding]].concat(),
        };
        Some([&(said.len() as u32).to_be_bytes()[..], &said].concat())
    }
}

/// The diagnosis knows this message.
pub(super) fn advertises(found: &[String], port: u16) -> String {
    format!("the broker advertises {} instead of 127.0.0.1:{port}", found.join(", "))
}

async fn ask(port: u16, login: Option<&Login>) -> Result<ProbeSuccess, ProbeFailure> {
    let failed = |error| failure(port, error);
    let mut broker = Connection::open(connect(port).await?, login).await.map_err(failed)?;
    let metadata = broker.metadata(Some(&[])).await.map_err(failed)?;
    let Some(listed) = metadata.brokers.iter().find(|broker| broker.port == i32::from(port) && is_loopback(&broker.host)) else {
        let found: Vec<_> = metadata.brokers.iter().map(|broker| format!("{}:{}", broker.host, broker.port)).collect();
        return Err(ProbeFailure::said(if found.is_empty() {
            "the broker is not registered with the controller yet".to_owned()
        } else {
            advertises(&found, port)
        }));
    };
    if metadata.controller < 0 {
        return Err(ProbeFailure::said("the cluster has no controller yet"));
    }
    let until = Instant::now() + COMING;
    let coordinator = loop {
        match coordinator(&mut broker).await {
            Err(error) if error.is_coming() && Instant::now() < until => sleep(Duration::from_millis(5)).await,
            answer => break answer.map_err(failed)?,
        }
    };
    Ok(ProbeSuccess::of(format!(
        "broker {} of {} at {}:{port}, coordinator {}",
        listed.id,
        metadata.brokers.len(),
        listed.host,
        coordinator
    )))
}

async fn coordinator(broker: &mut Connection) -> Result<i32, WireError> {
    let coordinator = broker.find_coordinator(GROUP).await?;
    broker.committed(GROUP).await?;
    Ok(coordinator)
}

/// Resolving would ask the network; these are the names of a host listener.
fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn failure(port: u16, error: WireError) -> ProbeFailure {
    match error {
        WireError::Io(error) => unreachable(port, &error),
        WireError::Malformed => ProbeFailure::silent(format!("the server at 127.0.0.1:{port} is not a Kafka broker")),
        WireError::Refused { .. } => ProbeFailure::said(error.to_string()),
    }
}
