//! Redpanda, with Kafka's protocol.
//!
//! Its development mode answers before data is on disk: acknowledged data survives a kill, but not a power cut. Cluster
//! settings are in its bootstrap file, which a volume reads only once, at its first start.

use std::{collections::BTreeMap, fmt::Write as _};

use devenv_spec::{ContainerSpec, FileSpec, Mount, SecretRef, Size};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::describe::{Connection, Context, Describe, Description, Facts, Metrics, MetricsEndpoint, PortNeed};
use crate::kafka::topics::{self, Declared, HOST, NETWORK, Topic};

/// Redpanda, a Kafka-compatible broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redpanda {
    /// The version of Redpanda.
    #[serde(default = "default_version")]
    pub version: String,
    /// Topics to create before the service is ready, by name.
    #[serde(default)]
    pub topics: IndexMap<String, Topic>,
    /// Consumer groups to create before the service is ready.
    #[serde(default)]
    pub consumer_groups: Vec<String>,
    /// Create undeclared topics on first use.
    #[serde(default = "yes")]
    pub auto_create: bool,
    /// Cluster settings, as for `rpk cluster config set`.
    #[serde(default)]
    pub settings: IndexMap<String, String>,
    /// Files of records to produce once, before `seed`.
    #[serde(default)]
    pub init: Vec<String>,
    /// Seed data to produce once.
    #[serde(default)]
    pub seed: Vec<String>,
}

fn default_version() -> String {
    "v25.2.1".to_owned()
}

fn yes() -> bool {
    true
}

const ADMIN: u16 = 9644;
const BOOTSTRAP: &str = "/etc/redpanda/.bootstrap.yaml";

impl Describe for Redpanda {
    fn ports(&self) -> Vec<PortNeed> {
        topics::ports()
    }

    fn secrets(&self, _service: &str) -> Vec<SecretRef> {
        Vec::new()
    }

    fn describe(&self, cx: &Context<'_>) -> Description {
        let mut container = ContainerSpec::new(format!("redpandadata/redpanda:{}", self.version));
        let arguments = [
            "redpanda".to_owned(),
            "start".to_owned(),
            "--mode=dev-container".to_owned(),
            "--smp=1".to_owned(),
            format!("--memory={}M", memory(cx.declared.memory)),
            format!("--kafka-addr=network://0.0.0.0:{NETWORK},host://0.0.0.0:{HOST}"),
            format!("--advertise-kafka-addr=network://{}:{NETWORK},host://127.0.0.1:{}", cx.name, cx.port(HOST)),
            format!("--rpc-addr={}:33145", cx.name),
            format!("--advertise-rpc-addr={}:33145", cx.name),
        ];
        container.command = Some(arguments.into());
        container.files.push(FileSpec::readable(BOOTSTRAP, self.bootstrap()));
        container.mounts.push(Mount::volume("data", "/var/lib/redpanda/data"));
        let declared = Declared {
            topics: &self.topics,
            consumer_groups: &self.consumer_groups,
            init: &self.init,
            seed: &self.seed,
            login: None,
            users: Vec::new(),
        };
        topics::describe(cx, container, &declared)
    }

    fn connection(&self, cx: &Context<'_>) -> Connection {
        topics::connection(cx)
    }

    fn facts(&self, cx: &Context<'_>) -> Facts {
        let host = cx.name.to_string();
        Facts {
            kind: "redpanda",
            address: Some((host.clone(), NETWORK)),
            metrics: Metrics::Served(MetricsEndpoint { host, port: ADMIN, path: "/public_metrics".to_owned() }),
            ..Facts::default()
        }
    }
}

impl Redpanda {
    fn bootstrap(&self) -> String {
        let mut settings = BTreeMap::from([
            ("auto_create_topics_enabled".to_owned(), self.auto_create.to_string()),
            ("group_initial_rebalance_delay".to_owned(), "0".to_owned()),
            ("group_topic_partitions".to_owned(), "4".to_owned()),
        ]);
        settings.extend(self.settings.clone());
        let mut text = String::new();
        for (name, value) in settings {
            let _ = writeln!(text, "{name}: {value}");
        }
        text
    }
}

/// In megabytes, for Redpanda itself: a tenth of a limit is for the rest of the container.
fn memory(limit: Option<Size>) -> u64 {
    limit.map_or(1024, |limit| (limit.bytes() >> 20) * 9 / 10)
}

#[cfg(test)]
mod tests {
    use devenv_profile::testing::given;
    use serde_json::json;

    #[test]
    fn it_is_started_as_its_documentation_says_and_serves_kafkas_names() {
        let given = given(
            "events",
            json!({"redpanda": {
                "topics": { "orders": { "partitions": 3 } },
                "settings": { "log_segment_size": "16777216" },
            }}),
        );
        insta::assert_snapshot!(given.rendered(), @r##"
        image: redpandadata/redpanda:v25.2.1
        command: ["redpanda","start","--mode=dev-container","--smp=1","--memory=1024M","--kafka-addr=network://0.0.0.0:9092,host://0.0.0.0:9094","--advertise-kafka-addr=network://events:9092,host://127.0.0.1:20000","--rpc-addr=events:33145","--advertise-rpc-addr=events:33145"]
        mount: volume data at /var/lib/redpanda/data
        port: 127.0.0.1:20000 -> 9094
        file: /etc/redpanda/.bootstrap.yaml 0444 0:0
          auto_create_topics_enabled: true
          group_initial_rebalance_delay: 0
          group_topic_partitions: 4
          log_segment_size: 16777216
        probe: {"kafka":{"port":20000}}
        provision: {"kafka":{"port":20000,"topics":[{"name":"orders","partitions":3,"settings":{}}],"consumer_groups":[]}}
        stop: SIGTERM 30s
        restart: Always 5
        "##);
        insta::assert_snapshot!(given.variables(), @r##"
        EVENTS_BROKERS=127.0.0.1:20000 | events:9092
        KAFKA_BROKERS=127.0.0.1:20000 | events:9092
        KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:20000 | events:9092
        DEVENV_ENVIRONMENT=shop-default-1a2b3c4d
        DEVENV_PROJECT=/home/ada/shop
        DEVENV_INSTANCE=default
        "##);
    }
}
