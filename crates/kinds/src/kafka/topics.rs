//! What Kafka and Redpanda have in common: topics, groups, and where clients find the broker.

use devenv_spec::{ContainerSpec, ScriptPlace, ScriptSource, Stop, Template, Variable};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spec::{KafkaLogin, KafkaProbe, KafkaProvision, KafkaTarget, TopicSpec};
use crate::describe::{Connection, Context, DeclaredScripts, Description, PortNeed};

/// Of the listener for containers; also the number by which a profile fixes the port, because it is the default port.
pub(crate) const NETWORK: u16 = 9092;
/// Of the listener for programs on the host.
pub(crate) const HOST: u16 = 9094;

/// A topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Topic {
    /// The number of partitions.
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

pub(crate) fn ports() -> Vec<PortNeed> {
    vec![PortNeed { known_as: NETWORK, ..PortNeed::any(HOST) }]
}

/// What a broker declares, whichever server it is.
pub(crate) struct Declared<'a> {
    pub(crate) topics: &'a IndexMap<String, Topic>,
    pub(crate) consumer_groups: &'a [String],
    pub(crate) init: &'a [String],
    pub(crate) seed: &'a [String],
    /// As whom devenv logs in, and who else may, where the broker asks for a password.
    pub(crate) login: Option<KafkaLogin>,
    pub(crate) users: Vec<KafkaLogin>,
}

/// A broker that is probed by Kafka's protocol, with its topics, groups and scripts.
pub(crate) fn describe(cx: &Context<'_>, container: ContainerSpec, declared: &Declared<'_>) -> Description {
    let topics = declared.topics.iter().map(|(name, topic)| TopicSpec {
        name: name.clone(),
        partitions: topic.partitions,
        settings: topic.settings.clone(),
    });
    let port = cx.port(HOST);
    let login = || declared.login.clone();
    let provision = KafkaProvision {
        port,
        topics: topics.collect(),
        consumer_groups: declared.consumer_groups.to_vec(),
        login: login(),
        users: declared.users.clone(),
    };
    let target = KafkaTarget { port, login: login() }.into_target();
    let source = |paths: &[String], seed| ScriptSource { place: ScriptPlace::Service, paths: paths.to_vec(), seed };
    Description {
        scripts: Some(DeclaredScripts::of(target, [source(declared.init, false), source(declared.seed, true)])),
        provision: vec![provision.into_provision()],
        ..Description::server(container, KafkaProbe { port, login: login() }.into_probe(), Stop::new("SIGTERM", 30))
    }
}

pub(crate) fn connection(cx: &Context<'_>) -> Connection {
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
