//! What is said of Kafka and of Redpanda alike: topics, groups, and where clients find the broker.

use devenv_spec::{ContainerSpec, KafkaProvision, Probe, Provision, Stop, Template, TopicSpec, Variable};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Connection, Context, Description, PortNeed};

/// Of the listener for containers; also the number by which a profile fixes the port, for it is the usual one.
pub(super) const NETWORK: u16 = 9092;
/// Of the listener for programs on the host.
pub(super) const HOST: u16 = 9094;

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    #[serde(default = "one")]
    pub partitions: u32,
    /// Topic settings, such as `retention.ms`.
    #[serde(default)]
    pub settings: IndexMap<String, String>,
}

impl Default for Topic {
    fn default() -> Self {
        Self { partitions: one(), settings: IndexMap::new() }
    }
}

fn one() -> u32 {
    1
}

pub(super) fn ports() -> Vec<PortNeed> {
    vec![PortNeed { known_as: NETWORK, ..PortNeed::any(HOST) }]
}

/// A broker that is probed by Kafka's protocol, with its topics and groups.
pub(super) fn describe(cx: &Context<'_>, container: ContainerSpec, topics: &IndexMap<String, Topic>, groups: &[String]) -> Description {
    let topics =
        topics.iter().map(|(name, topic)| TopicSpec { name: name.clone(), partitions: topic.partitions, settings: topic.settings.clone() });
    let provision = KafkaProvision { port: cx.port(HOST), topics: topics.collect(), consumer_groups: groups.to_vec() };
    Description {
        provision: vec![Provision::Kafka(provision)],
        ..Description::server(container, Probe::Kafka { port: cx.port(HOST) }, Stop::new("SIGTERM", 30))
    }
}

pub(super) fn connection(cx: &Context<'_>) -> Connection {
    let brokers = Variable {
        host: cx.address(HOST, |host, port| Template::text(format!("{host}:{port}"))).host,
        container: Template::text(format!("{}:{NETWORK}", cx.name)),
    };
    let mut connection = Connection::default();
    connection.variable(cx, "BROKERS", brokers.clone());
    connection.short_form("KAFKA_BROKERS", brokers.clone());
    connection.short_form("KAFKA_BOOTSTRAP_SERVERS", brokers.clone());
    connection.url("brokers", brokers.host.redacted());
    connection
}
