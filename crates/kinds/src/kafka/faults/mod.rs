//! Faults of brokers of Kafka's protocol.

mod fill;
mod pause;

use async_trait::async_trait;
use devenv_faults::FaultKind;
use devenv_spec::{OfKind, ServiceName};
use serde::{Deserialize, Serialize};

use super::{KafkaKind, NAME, login::Login, spec::KafkaProvision};
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
        let broker = Broker::of(site)?;
        site.will_undo(OfKind::new(TOPIC, &Topic { service: site.service().name.clone(), topic: topic.clone() }))?;
        fill::make_topic(&broker, &topic).await?;
        fill::fill(&broker, topic, bytes).await
    }

    fn steps(&self) -> &'static [&'static str] {
        &[TOPIC]
    }

    async fn undo(&self, step: &OfKind, site: &mut dyn FaultSite) -> Result<(), String> {
        let Topic { topic, .. } = step.decode().map_err(|error| error.to_string())?;
        fill::remove_topic(&Broker::of(site)?, &topic).await
    }
}

/// The broker, and how to log in.
struct Broker {
    port: u16,
    login: Option<Login>,
}

impl Broker {
    fn of(site: &dyn FaultSite) -> Result<Self, String> {
        let declared = KafkaProvision::of(site.service())
            .ok_or_else(|| format!("{} is not a server that this fault supports", site.service().name))?;
        let login = Login::of(declared.login.as_ref(), site.vault()).map_err(|error| error.to_string())?;
        Ok(Self { port: declared.port, login })
    }
}
