//! Apache Kafka, one broker in KRaft mode.
//!
//! Three listeners, because a client connects to the address that the broker advertises: `HOST` for programs on the host (published,
//! and advertised with the leased port), `NETWORK` for containers (advertised by the service's name) and `CONTROLLER`,
//! which is not reachable from outside of the container.

use std::collections::BTreeMap;

use devenv_spec::{ContainerSpec, FileSpec, Mount, SecretRef, Size, Template, Variable};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    spec::KafkaLogin,
    topics::{self, Declared, HOST, NETWORK, Topic},
};
use crate::describe::{Connection, Context, Describe, Description, Facts, FirstStart, Metrics, PortNeed};

/// Apache Kafka, a single broker in KRaft mode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    /// The version of Kafka.
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
    /// Broker settings, as in `server.properties`.
    #[serde(default)]
    pub settings: IndexMap<String, String>,
    /// Whether clients need a password: `none`, or `scram` for SASL/SCRAM-SHA-512. The user is `app`, with a generated password in
    /// `NAME_PASSWORD` and `KAFKA_PASSWORD`.
    #[serde(default)]
    pub auth: Auth,
    /// Files of records to produce once, before `seed`.
    #[serde(default)]
    pub init: Vec<String>,
    /// Seed data to produce once.
    #[serde(default)]
    pub seed: Vec<String>,
}

/// How clients show who they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Auth {
    /// Everybody who reaches the broker may use it.
    #[default]
    None,
    /// By SASL/SCRAM-SHA-512, without encryption.
    Scram,
}

fn default_version() -> String {
    "4.3.1".to_owned()
}

fn yes() -> bool {
    true
}

const CONTROLLER: u16 = 9093;
/// Of the broker's connections to itself, where the others ask for a password.
const OWN: u16 = 9095;
/// The image's user.
const USER: u32 = 1000;
/// devenv's own user on the broker.
const ADMIN: &str = "devenv";
/// The user for programs.
const APP: &str = "app";
const LOGINS: &str = "/run/devenv/kafka-logins.conf";

/// A broker that starts often and runs briefly: little to compile, little to collect. Measured on two cores, start to first
/// topic usable: 1.3 to 2 s with these, 2.7 s with the image's own. What changes how classes are verified must not be
/// added: the image's class-data archives would then be refused.
const JVM: &str = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Djava.awt.headless=true";

impl Describe for Kafka {
    fn ports(&self) -> Vec<PortNeed> {
        topics::ports()
    }

    fn secrets(&self, service: &str) -> Vec<SecretRef> {
        match self.auth {
            Auth::None => Vec::new(),
            Auth::Scram => [ADMIN, APP].map(|user| SecretRef::new(service, user)).into(),
        }
    }

    fn describe(&self, cx: &Context<'_>) -> Description {
        let mut container = ContainerSpec::new(format!("apache/kafka:{}", self.version));
        let mut variable = |name: &str, value: String| container.environment.insert(name.to_owned(), Template::text(value));
        variable("CLUSTER_ID", cluster_id(cx.environment.as_str(), cx.name.as_str()));
        variable("KAFKA_HEAP_OPTS", heap(cx.declared.memory));
        let passwords = if self.auth == Auth::Scram { format!(" -Djava.security.auth.login.config={LOGINS}") } else { String::new() };
        variable("KAFKA_JVM_PERFORMANCE_OPTS", format!("{JVM}{passwords}"));
        for (name, value) in self.broker_settings(cx) {
            variable(&environment_name(&name), value);
        }
        container.mounts.push(Mount::volume("data", "/var/lib/kafka/data"));
        container.mounts.push(Mount::memory("/etc/kafka/secrets"));
        container.mounts.push(Mount::memory("/mnt/shared/config"));
        let login = |user: &str| KafkaLogin { user: user.to_owned(), password: cx.secret(user) };
        let is_scram = self.auth == Auth::Scram;
        if is_scram {
            container.files.push(FileSpec::private(LOGINS, USER, logins(cx)));
        }
        let declared = Declared {
            topics: &self.topics,
            consumer_groups: &self.consumer_groups,
            init: &self.init,
            seed: &self.seed,
            login: is_scram.then(|| login(ADMIN)),
            users: if is_scram { vec![login(APP)] } else { Vec::new() },
        };
        topics::describe(cx, container, &declared)
    }

    fn connection(&self, cx: &Context<'_>) -> Connection {
        let mut connection = topics::connection(cx);
        if self.auth == Auth::Scram {
            let text = |text: &str| Variable::same(Template::text(text));
            for (name, value) in [
                ("USERNAME", text(APP)),
                ("PASSWORD", Variable::same(Template::secret(cx.secret(APP)))),
                ("SECURITY_PROTOCOL", text("SASL_PLAINTEXT")),
                ("SASL_MECHANISM", text("SCRAM-SHA-512")),
            ] {
                connection.variable(cx, name, value.clone());
                connection.short_form(&format!("KAFKA_{name}"), value);
            }
        }
        connection
    }

    fn first_start(&self, _cx: &Context<'_>) -> FirstStart {
        let missing = !self.topics.is_empty();
        FirstStart {
            missing: missing
                .then(|| "its topics are made at their first use, with the default number of partitions".to_owned())
                .into_iter()
                .collect(),
            ..FirstStart::default()
        }
    }

    fn facts(&self, cx: &Context<'_>) -> Facts {
        Facts { kind: "kafka", metrics: Metrics::Asked, address: Some((cx.name.to_string(), NETWORK)), ..Facts::default() }
    }
}

impl Kafka {
    /// `server.properties`, without the comments.
    fn broker_settings(&self, cx: &Context<'_>) -> BTreeMap<String, String> {
        let mut settings: BTreeMap<String, String> = BTreeMap::new();
        let mut set = |name: &str, value: &str| settings.insert(name.to_owned(), value.to_owned());
        set("node.id", "1");
        set("process.roles", "broker,controller");
        set("controller.quorum.voters", &format!("1@127.0.0.1:{CONTROLLER}"));
        set("controller.listener.names", "CONTROLLER");
        set("inter.broker.listener.name", "NETWORK");
        set("listener.security.protocol.map", "CONTROLLER:PLAINTEXT,HOST:PLAINTEXT,NETWORK:PLAINTEXT");
        set("listeners", &format!("HOST://0.0.0.0:{HOST},NETWORK://0.0.0.0:{NETWORK},CONTROLLER://127.0.0.1:{CONTROLLER}"));
        set("advertised.listeners", &format!("HOST://127.0.0.1:{},NETWORK://{}:{NETWORK}", cx.port(HOST), cx.name));
        // Not the mount itself: a volume with its own file system has a `lost+found`, which Kafka takes for a topic.
        set("log.dirs", "/var/lib/kafka/data/broker");
        set("auto.create.topics.enable", if self.auto_create { "true" } else { "false" });
        // There is one broker, so everything has one copy, and few partitions mean few files to create at first use.
        for name in ["offsets.topic", "transaction.state.log", "share.coordinator.state.topic"] {
            set(&format!("{name}.replication.factor"), "1");
            set(&format!("{name}.num.partitions"), "4");
        }
        set("transaction.state.log.min.isr", "1");
        set("share.coordinator.state.topic.min.isr", "1");
        set("group.initial.rebalance.delay.ms", "0");
        // After SIGKILL the controller waits for the session of the dead broker to expire: 9 s by default.
        set("broker.session.timeout.ms", "2000");
        set("broker.heartbeat.interval.ms", "500");
        if self.auth == Auth::Scram {
            Self::ask_for_passwords(cx, &mut settings);
        }
        settings.extend(self.settings.clone());
        settings
    }

    /// The listeners that others reach ask for a password. The broker reaches itself by one on its own loopback, as the controller's is.
    fn ask_for_passwords(cx: &Context<'_>, settings: &mut BTreeMap<String, String>) {
        let mut set = |name: &str, value: String| settings.insert(name.to_owned(), value);
        set("listener.security.protocol.map", "CONTROLLER:PLAINTEXT,OWN:PLAINTEXT,HOST:SASL_PLAINTEXT,NETWORK:SASL_PLAINTEXT".to_owned());
        set("inter.broker.listener.name", "OWN".to_owned());
        set(
            "listeners",
            format!("HOST://0.0.0.0:{HOST},NETWORK://0.0.0.0:{NETWORK},OWN://127.0.0.1:{OWN},CONTROLLER://127.0.0.1:{CONTROLLER}"),
        );
        let port = cx.port(HOST);
        set("advertised.listeners", format!("HOST://127.0.0.1:{port},NETWORK://{}:{NETWORK},OWN://127.0.0.1:{OWN}", cx.name));
        set("sasl.enabled.mechanisms", "SCRAM-SHA-512,PLAIN".to_owned());
    }
}

/// Where the broker looks for the users of PLAIN, with which devenv's own clients log in. Those of SCRAM are in its own log.
fn logins(cx: &Context<'_>) -> Template {
    let user = |file: Template, user: &str| file.then(format!(" user_{user}=\"")).then_secret(cx.secret(user)).then("\"");
    let head = "KafkaServer {\n  org.apache.kafka.common.security.scram.ScramLoginModule required;\n  \
        org.apache.kafka.common.security.plain.PlainLoginModule required";
    [ADMIN, APP].into_iter().fold(Template::text(head), user).then(";\n};\n")
}

/// The image decodes it: `.` is `_`, `_` is `__`, `-` is `___`.
fn environment_name(setting: &str) -> String {
    let mut name = "KAFKA_".to_owned();
    for character in setting.chars() {
        match character {
            '.' => name.push('_'),
            '_' => name.push_str("__"),
            '-' => name.push_str("___"),
            other => name.extend(other.to_uppercase()),
        }
    }
    name
}

/// Constant, so that a recreated container fits its existing volume.
fn cluster_id(environment: &str, service: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digest = Sha256::new().chain_update(environment).chain_update([0]).chain_update(service).finalize();
    let mut bits = u128::from_be_bytes(digest[..16].try_into().expect("a SHA-256 digest has 32 bytes"));
    // Its first character must not be `-`, because the image passes it to a command line.
    bits >>= 1;
    // 22 characters hold 132 bits: base64 pads the 128 at their end.
    let character = |index: u32| if index == 21 { (bits & 3) << 4 } else { bits >> (122 - 6 * index) & 63 };
    (0..22).map(|index| char::from(ALPHABET[character(index) as usize])).collect()
}

/// Half of the container's memory limit: the other half is for the page cache and the JVM's own needs.
fn heap(limit: Option<Size>) -> String {
    let largest = limit.map_or(512, |limit| ((limit.bytes() >> 20) / 2).max(128));
    format!("-Xms{}m -Xmx{largest}m", largest.min(256))
}

#[cfg(test)]
mod tests {
    use super::*;
    use devenv_profile::testing::given;
    use serde_json::json;

    #[test]
    fn a_broker_gets_all_its_addresses_before_it_starts() {
        let given = given(
            "events",
            json!({"kafka": {
                "topics": { "user-events": { "partitions": 2, "settings": { "retention.ms": "60000" } } },
                "consumer_groups": ["user-service-consumer"],
                "auto_create": false,
                "settings": { "message.max.bytes": "2000000", "broker.session.timeout.ms": "9000" },
            }}),
        )
        .with(|service| service.resources.memory = Some("1GiB".parse().unwrap()));
        insta::assert_snapshot!(given.rendered(), @r##"
        image: apache/kafka:4.3.1
        variable: CLUSTER_ID=GYSWHZlHXwPGc96Yz5pNEQ
        variable: KAFKA_HEAP_OPTS=-Xms256m -Xmx512m
        variable: KAFKA_JVM_PERFORMANCE_OPTS=-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData -Djava.awt.headless=true
        variable: KAFKA_ADVERTISED_LISTENERS=HOST://127.0.0.1:20000,NETWORK://events:9092
        variable: KAFKA_AUTO_CREATE_TOPICS_ENABLE=false
        variable: KAFKA_BROKER_HEARTBEAT_INTERVAL_MS=500
        variable: KAFKA_BROKER_SESSION_TIMEOUT_MS=9000
        variable: KAFKA_CONTROLLER_LISTENER_NAMES=CONTROLLER
        variable: KAFKA_CONTROLLER_QUORUM_VOTERS=1@127.0.0.1:9093
        variable: KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS=0
        variable: KAFKA_INTER_BROKER_LISTENER_NAME=NETWORK
        variable: KAFKA_LISTENER_SECURITY_PROTOCOL_MAP=CONTROLLER:PLAINTEXT,HOST:PLAINTEXT,NETWORK:PLAINTEXT
        variable: KAFKA_LISTENERS=HOST://0.0.0.0:9094,NETWORK://0.0.0.0:9092,CONTROLLER://127.0.0.1:9093
        variable: KAFKA_LOG_DIRS=/var/lib/kafka/data/broker
        variable: KAFKA_MESSAGE_MAX_BYTES=2000000
        variable: KAFKA_NODE_ID=1
        variable: KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS=4
        variable: KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR=1
        variable: KAFKA_PROCESS_ROLES=broker,controller
        variable: KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR=1
        variable: KAFKA_SHARE_COORDINATOR_STATE_TOPIC_NUM_PARTITIONS=4
        variable: KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR=1
        variable: KAFKA_TRANSACTION_STATE_LOG_MIN_ISR=1
        variable: KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS=4
        variable: KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR=1
        mount: volume data at /var/lib/kafka/data
        mount: memory at /etc/kafka/secrets
        mount: memory at /mnt/shared/config
        port: 127.0.0.1:20000 -> 9094
        probe: {"kafka":{"port":20000}}
        provision: {"kafka":{"port":20000,"topics":[{"name":"user-events","partitions":2,"settings":{"retention.ms":"60000"}}],"consumer_groups":["user-service-consumer"]}}
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

    #[test]
    fn a_fixed_port_is_known_by_kafkas_usual_number() {
        let given = given("events", json!({ "kafka": {} })).with(|service| {
            service.ports.insert(9092, 19092);
        });
        let spec = given.spec();
        assert_eq!(spec.services["events"].ports(), BTreeMap::from([(9094, 19092)]));
        assert_eq!(spec.variables["KAFKA_BROKERS"].host.to_string(), "127.0.0.1:19092");
        assert_eq!(spec.variables["KAFKA_BROKERS"].container.to_string(), "events:9092");
    }

    #[test]
    fn settings_get_the_names_by_which_the_image_reads_them() {
        for (setting, name) in [("node.id", "KAFKA_NODE_ID"), ("a_b.c", "KAFKA_A__B_C"), ("a-b", "KAFKA_A___B")] {
            assert_eq!(environment_name(setting), name);
        }
    }

    #[test]
    fn a_cluster_id_is_stable_different_for_each_service_and_safe_on_a_command_line() {
        assert_eq!(cluster_id("shop-default-1a2b3c4d", "events"), cluster_id("shop-default-1a2b3c4d", "events"));
        assert_ne!(cluster_id("shop-default-1a2b3c4d", "events"), cluster_id("shop-default-1a2b3c4d", "audit"));
        for index in 0..500 {
            let id = cluster_id("shop", &format!("events-{index}"));
            assert_eq!(id.len(), 22);
            assert!(id.starts_with(|first: char| first.is_ascii_alphabetic()), "{id}");
            assert!(id.ends_with(['A', 'Q', 'g', 'w']), "{id} has bits beyond the 128");
        }
    }
    #[test]
    fn with_passwords_every_listener_that_others_reach_asks_for_one_and_none_is_in_a_variable_of_the_container() {
        let given = given("events", json!({ "kafka": { "auth": "scram" } }));
        let spec = given.spec();
        let container = spec.services["events"].container().unwrap();
        let variable = |name: &str| container.environment[name].to_string();
        assert_eq!(
            variable("KAFKA_LISTENER_SECURITY_PROTOCOL_MAP"),
            "CONTROLLER:PLAINTEXT,OWN:PLAINTEXT,HOST:SASL_PLAINTEXT,NETWORK:SASL_PLAINTEXT"
        );
        for listener in variable("KAFKA_LISTENERS").split(',') {
            let is_own = listener.starts_with("OWN:") || listener.starts_with("CONTROLLER:");
            assert_eq!(is_own, listener.contains("//127.0.0.1:"), "{listener}");
        }
        assert!(container.environment.values().all(|value| !value.to_string().contains("secret:")));
        assert_eq!((container.files[0].mode, container.files[0].uid), (0o400, 1000));
        insta::assert_snapshot!(container.files[0].content.to_string(), @r#"
        KafkaServer {
          org.apache.kafka.common.security.scram.ScramLoginModule required;
          org.apache.kafka.common.security.plain.PlainLoginModule required user_devenv="${secret:events/devenv}" user_app="${secret:events/app}";
        };
        "#);
        for (name, value) in [
            ("KAFKA_USERNAME", "app"),
            ("EVENTS_PASSWORD", "${secret:events/app}"),
            ("KAFKA_SECURITY_PROTOCOL", "SASL_PLAINTEXT"),
            ("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"),
        ] {
            assert_eq!(spec.variables[name].host.to_string(), value);
        }
    }
}
