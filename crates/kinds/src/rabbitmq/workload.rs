//! Messages of RabbitMQ, for chaos runs: each is published once, persistent, and acknowledged by the broker's confirm.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::timeout;

use super::{
    RabbitmqKind,
    amqp::AmqpError,
    channel::{Channel, Confirmation},
    fields::AMQP,
};
use crate::{
    capability::{
        AddressError, Asker, Client, Line, Observed, Reply, Silent, Variables, Work, WorkError, WorkloadKind, WorkloadSite, Workloads,
        asker::silent, mark, unmark,
    },
    transfer::Address,
};

/// The time limit for all messages of a queue.
const READ: Duration = Duration::from_mins(1);
const ANSWER: Duration = Duration::from_secs(10);

impl Workloads for RabbitmqKind {
    fn kinds(&self) -> &'static [&'static dyn WorkloadKind] {
        &[&RabbitmqMessages]
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "RabbitmqWorkload")]
#[expect(dead_code, reason = "the fields that all workloads have are read by the scenario")]
struct Fields {
    /// The service.
    service: String,
    /// The number of concurrent clients.
    #[serde(default)]
    clients: Option<u32>,
    /// Operations per second of all clients together: `400/s`.
    #[serde(default)]
    rate: Option<String>,
    /// The type of the durable queue.
    #[serde(default)]
    queue: QueueType,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum QueueType {
    #[default]
    Quorum,
    Classic,
}

struct RabbitmqMessages;

impl WorkloadKind for RabbitmqMessages {
    fn name(&self) -> &'static str {
        "rabbitmq-messages"
    }

    fn about(&self) -> &'static str {
        "Persistent messages that are published to a durable queue, acknowledged by publisher confirms."
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Fields>()
    }

    fn work(&self, fields: &Value, site: &WorkloadSite<'_>) -> Result<Arc<dyn Work>, WorkError> {
        let Fields { queue, .. } = Fields::deserialize(fields).map_err(|error| WorkError::Said(error.to_string()))?;
        let name = format!("devenv-chaos-{}-{}", site.run, site.label);
        Ok(Arc::new(Messages { broker: Broker::found(site.variables, site.service)?, queue: name, kind: queue }))
    }
}

/// How to check whether it answers.
pub(super) fn asker(variables: &Variables, service: &str) -> Result<Arc<dyn Asker>, AddressError> {
    Ok(Arc::new(Broker::found(variables, service)?))
}

/// The first virtual host, as its user.
#[derive(Clone)]
struct Broker {
    port: u16,
    user: String,
    password: String,
    vhost: String,
}

struct Open(Channel);

#[async_trait]
impl Asker for Broker {
    async fn open(&self) -> Result<Box<dyn Line>, Silent> {
        Ok(Box::new(Open(self.channel().await.map_err(silent)?)))
    }
}

#[async_trait]
impl Line for Open {
    async fn ask(&mut self) -> Result<(), Silent> {
        self.0.ask().await.map_err(silent)
    }
}

impl Broker {
    fn found(variables: &Variables, service: &str) -> Result<Self, AddressError> {
        let unreadable = |reason: &str| AddressError::Unreadable { name: Variables::name(service, "URL"), reason: reason.to_owned() };
        let address = Address::parse(variables.of(service, "URL")?).map_err(unreadable)?.ok_or_else(|| unreadable("it is a path"))?;
        Ok(Self {
            port: address.port.unwrap_or(AMQP),
            user: address.user.unwrap_or_default(),
            password: address.password.unwrap_or_default(),
            vhost: address.database.unwrap_or_else(|| "/".to_owned()),
        })
    }

    async fn channel(&self) -> Result<Channel, AmqpError> {
        Channel::open(self.port, &self.user, &self.password, &self.vhost).await
    }
}

struct Messages {
    broker: Broker,
    queue: String,
    kind: QueueType,
}

struct Publisher {
    broker: Broker,
    queue: String,
    number: u32,
    channel: Option<Channel>,
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, AmqpError>>) -> Result<T, WorkError> {
    timeout(limit, work).await.map_err(|_| WorkError::Late(limit))?.map_err(|error| WorkError::Said(error.to_string()))
}

#[async_trait]
impl Work for Messages {
    async fn set_up(&self) -> Result<(), WorkError> {
        let kind = match self.kind {
            QueueType::Quorum => "quorum",
            QueueType::Classic => "classic",
        };
        within(ANSWER, async { self.broker.channel().await?.declare(&self.queue, kind).await }).await
    }

    fn client(&self, number: u32) -> Box<dyn Client> {
        Box::new(Publisher { broker: self.broker.clone(), queue: self.queue.clone(), number, channel: None })
    }

    async fn read_back(&self) -> Result<Option<Observed>, WorkError> {
        let read = async {
            let mut observed = Observed::default();
            let mut channel = self.broker.channel().await?;
            loop {
                match channel.get(&self.queue).await {
                    Ok(Some(body)) => match unmark(&String::from_utf8_lossy(&body)) {
                        Some(operation) => *observed.found.entry(operation).or_default() += 1,
                        None => observed.strangers += 1,
                    },
                    Ok(None) => return Ok(observed),
                    // A broker that came back without the queue has lost every message of it.
                    Err(AmqpError::Refused(reason)) if reason.starts_with("NOT_FOUND") => return Ok(observed),
                    Err(error) => return Err(error),
                }
            }
        };
        within(READ, read).await.map(Some)
    }

    async fn clean_up(&self) -> Result<(), WorkError> {
        within(ANSWER, async { self.broker.channel().await?.delete(&self.queue).await }).await
    }
}

#[async_trait]
impl Client for Publisher {
    async fn connect(&mut self) -> Result<(), String> {
        self.channel = None;
        let mut channel = self.broker.channel().await.map_err(|error| error.to_string())?;
        channel.confirm().await.map_err(|error| error.to_string())?;
        self.channel = Some(channel);
        Ok(())
    }

    async fn operate(&mut self, sequence: u64) -> Reply {
        let Some(channel) = &mut self.channel else { return Reply::Refused("not connected".to_owned()) };
        match channel.publish(&self.queue, mark(self.number, sequence).as_bytes()).await {
            Ok(Confirmation::Accepted) => Reply::Acknowledged,
            Ok(Confirmation::Refused(reason)) => Reply::Refused(reason.to_owned()),
            Err(error) => Reply::Unknown(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_is_found_by_the_address_that_an_application_uses() {
        let url = "amqp://a%2Fb:s@127.0.0.1:5673/a%2Fb".to_owned();
        let variables = Variables([("QUEUE_URL".to_owned(), url)].into());
        let broker = Broker::found(&variables, "queue").unwrap();
        assert_eq!((broker.port, broker.user.as_str(), broker.vhost.as_str()), (5673, "a/b", "a/b"));
        assert!(Broker::found(&variables, "other").is_err());
    }
}
