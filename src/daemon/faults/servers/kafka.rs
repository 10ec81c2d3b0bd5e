//! Kafka and Redpanda.

use std::time::{Duration, Instant};

use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    error::RDKafkaErrorCode,
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};

use super::Server;
use crate::kinds::kafka::spec::KafkaProvision;

const PATIENCE: Duration = Duration::from_mins(2);
const RECORD: usize = 256 * 1024;

impl Server {
    fn broker(&self) -> Result<ClientConfig, String> {
        let port = self.provision(KafkaProvision::of)?.port;
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", format!("127.0.0.1:{port}"));
        Ok(config)
    }

    /// Random bytes, which no compression makes small.
    pub(in super::super) async fn fill(&self, topic: &str, bytes: u64) -> Result<String, String> {
        let (config, topic) = (self.broker()?, topic.to_owned());
        let work = tokio::task::spawn_blocking(move || {
            let producer: ThreadedProducer<DefaultProducerContext> = config.create().map_err(|error| error.to_string())?;
            let record: Vec<u8> = (0..RECORD).map(|_| rand::random()).collect();
            let (mut sent, began) = (0u64, Instant::now());
            while sent < bytes {
                let length = (bytes - sent).min(RECORD as u64) as usize;
                match producer.send(BaseRecord::<(), [u8]>::to(&topic).payload(&record[..length])) {
                    Ok(()) => sent += length as u64,
                    Err((error, _)) if error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull) && began.elapsed() < PATIENCE => {
                        let _ = producer.flush(Duration::from_secs(1));
                    }
                    Err((error, _)) => return Err(error.to_string()),
                }
            }
            producer.flush(PATIENCE).map_err(|error| error.to_string())?;
            Ok(format!("{sent} bytes were written to the topic {topic}"))
        });
        work.await.map_err(|error| error.to_string())?
    }

    pub(in super::super) async fn remove_topic(&self, topic: &str) -> Result<(), String> {
        let admin: AdminClient<DefaultClientContext> = self.broker()?.create().map_err(|error| error.to_string())?;
        let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
        let removed = admin.delete_topics(&[topic], &options).await.map_err(|error| error.to_string())?;
        match removed.into_iter().next() {
            Some(Err((_, code))) if code != RDKafkaErrorCode::UnknownTopicOrPartition && code != RDKafkaErrorCode::UnknownTopic => {
                Err(code.to_string())
            }
            _ => Ok(()),
        }
    }

    pub(in super::super) async fn make_topic(&self, topic: &str) -> Result<(), String> {
        let admin: AdminClient<DefaultClientContext> = self.broker()?.create().map_err(|error| error.to_string())?;
        let options = AdminOptions::new().request_timeout(Some(Duration::from_secs(10)));
        let made = admin
            .create_topics(&[NewTopic::new(topic, 1, TopicReplication::Fixed(1))], &options)
            .await
            .map_err(|error| error.to_string())?;
        match made.into_iter().next() {
            Some(Err((_, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => Err(code.to_string()),
            _ => Ok(()),
        }
    }
}
