//! Faults of brokers of Kafka's protocol.

mod fill;
mod pause;

use async_trait::async_trait;
use devenv_faults::FaultKind;
use devenv_spec::{OfKind, ServiceName};
use serde::{Deserialize, Serialize};

use super::{KafkaKind, NAME, spec::KafkaProvision};
use crate::capability::{Effect, FaultSite, Faults};

/// What is done, as data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Action {
    Fill { topic: String, bytes: u64 },
}

/// The step that removes the topic.
const TOPIC: &str = "kafka-topic";

#[derive(Debug, Serialize, Deserialize)]
struct Topic {
    service: ServiceName,
    topic: String,
}

#[async_trait]
impl Faults for KafkaKind {
    fn kinds(&self) -> &'static [&'static dyn FaultKind] {
        &[&fill::KafkaFill, &pause::KafkaPause]
    }

    async fn inject(&self, action: &OfKind, site: &mut dyn FaultSite) -> Result<Effect, String> {
        let Action::Fill { topic, bytes } = action.decode().map_err(|error| error.to_string())?;
        let port = port(site)?;
        site.will_undo(OfKind::new(TOPIC, &Topic { service: site.service().name.clone(), topic: topic.clone() }))?;
        fill::make_topic(port, &topic).await?;
        fill::fill(port, topic, bytes).await
    }

    fn steps(&self) -> &'static [&'static str] {
        &[TOPIC]
    }

    async fn undo(&self, step: &OfKind, site: &mut dyn FaultSite) -> Result<(), String> {
        let Topic { topic, .. } = step.decode().map_err(|error| error.to_string())?;
        fill::remove_topic(port(site)?, &topic).await
    }
}

fn port(site: &dyn FaultSite) -> Result<u16, String> {
    let declared = KafkaProvision::of(site.service());
    declared.map(|declared| declared.port).ok_or_else(|| format!("{} is not a server that this fault supports", site.service().name))
}
