//! Kafka in a container that the user configures.

use devenv_spec::{OfKind, Probe, SecretRef, Template};

use super::{KafkaKind, NAME, spec::KafkaProbe};
use crate::{
    capability::{ServerFacts, Servers},
    describe::{Connection, Context},
};

impl Servers for KafkaKind {
    fn images(&self) -> &'static [&'static str] {
        &["apache/kafka", "apache/kafka-native", "confluentinc/cp-kafka", "bitnami/kafka"]
    }

    fn programs(&self) -> &'static [&'static str] {
        &["/etc/kafka/docker/run", "/etc/confluent/docker/run"]
    }

    /// The port of the host listener, by the usual names of that listener, else the default port.
    fn port(&self, facts: &ServerFacts<'_>) -> u16 {
        let advertised = facts.first(["KAFKA_ADVERTISED_LISTENERS", "KAFKA_CFG_ADVERTISED_LISTENERS"]).unwrap_or_default();
        let on_host = advertised.split(',').find(|listener| listener.contains("//localhost:") || listener.contains("//127.0.0.1:"));
        on_host.and_then(|listener| listener.rsplit(':').next()?.trim().parse().ok()).unwrap_or(9092)
    }

    fn question(&self, _facts: &ServerFacts<'_>, port: u16, _secret: &dyn Fn(&str) -> SecretRef) -> Option<Probe> {
        Some(Probe::OfKind(OfKind::new(NAME, &KafkaProbe { port, login: None })))
    }

    fn command(&self, facts: &ServerFacts<'_>) -> Option<Vec<String>> {
        let port = self.port(facts);
        let tool = "$(command -v kafka-broker-api-versions || command -v kafka-broker-api-versions.sh || echo /opt/kafka/bin/kafka-broker-api-versions.sh)";
        let script = format!("{tool} --bootstrap-server localhost:{port} >/dev/null 2>&1");
        Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), script])
    }

    fn connection(&self, _facts: &ServerFacts<'_>, port: u16, cx: &Context<'_>, connection: &mut Connection) {
        let brokers = || cx.address(port, |host, port| Template::text(format!("{host}:{port}")));
        connection.variable(cx, "BROKERS", brokers());
        connection.host_and_port(cx, port);
        connection.short_form("KAFKA_BROKERS", brokers());
        connection.short_form("KAFKA_BOOTSTRAP_SERVERS", brokers());
    }
}
