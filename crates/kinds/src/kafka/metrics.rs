//! Kafka: the end offsets of topics, and the lag of consumer groups.

use std::collections::HashMap;

use async_trait::async_trait;
use devenv_spec::OfKind;
use tokio::net::TcpStream;

use super::{
    KafkaKind,
    login::Login,
    spec::KafkaProvision,
    wire::{Connection, WireError},
};
use crate::{capability::MetricSource, metrics::Page, provision::ProvisionContext};

#[async_trait]
impl MetricSource for KafkaKind {
    fn up(&self) -> (&'static str, &'static str) {
        ("kafka_up", "Whether the broker answers.")
    }

    async fn ask(&self, provision: &OfKind, cx: &ProvisionContext) -> Result<Page, String> {
        let server: KafkaProvision = provision.decode().map_err(|error| error.to_string())?;
        let login = Login::of(server.login.as_ref(), &cx.vault).map_err(|error| error.to_string())?;
        ask(&server, login.as_ref()).await.map_err(|error| error.to_string())
    }
}

async fn ask(server: &KafkaProvision, login: Option<&Login>) -> Result<Page, WireError> {
    let mut broker = Connection::open(TcpStream::connect(("127.0.0.1", server.port)).await?, login).await?;
    let metadata = broker.metadata(None).await?;
    let mut page = Page::default();
    page.gauge("kafka_brokers", "Number of brokers in the cluster.", &[], metadata.brokers.len() as f64);
    // The broker's own topics are left out.
    let topics: Vec<(String, u32)> = metadata
        .topics
        .into_iter()
        .filter(|topic| !topic.name.starts_with("__"))
        .map(|topic| (topic.name, topic.leaders.len() as u32))
        .collect();
    for (topic, partitions) in &topics {
        page.gauge("kafka_topic_partitions", "Number of partitions of the topic.", &[("topic", topic)], f64::from(*partitions));
    }
    let ends: HashMap<(String, i32), i64> =
        broker.ends(&topics).await?.into_iter().map(|end| ((end.topic, end.partition), end.offset)).collect();
    for (topic, partitions) in &topics {
        for partition in 0..*partitions as i32 {
            if let Some(end) = ends.get(&(topic.clone(), partition)) {
                let labels = [("topic", topic.as_str()), ("partition", &partition.to_string())];
                page.gauge("kafka_topic_partition_current_offset", "Offset of the next record.", &labels, *end as f64);
            }
        }
    }
    for group in broker.groups().await? {
        let committed = match broker.committed(&group).await {
            // Its coordinator is being elected.
            Err(WireError::Refused { .. }) => continue,
            committed => committed?,
        };
        for committed in committed {
            let Some(end) = ends.get(&(committed.topic.clone(), committed.partition)) else { continue };
            let partition = committed.partition.to_string();
            let labels = [("consumergroup", group.as_str()), ("topic", committed.topic.as_str()), ("partition", partition.as_str())];
            page.gauge("kafka_consumergroup_current_offset", "Offset that the group has committed.", &labels, committed.offset as f64);
            let behind = (end - committed.offset).max(0);
            page.gauge("kafka_consumergroup_lag", "Number of records that the group has not read yet.", &labels, behind as f64);
        }
    }
    Ok(page)
}
