//! A log that grows.

use std::time::{Duration, Instant};

use devenv_faults::{ExpectedEffect, FaultKind, Form, Injection, Parameter, Refusal, Target, Undoing, Values};
use devenv_spec::OfKind;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    error::RDKafkaErrorCode,
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};

use super::{Action, Broker, Login, NAME};
use crate::capability::Effect;

const PATIENCE: Duration = Duration::from_mins(2);
const RECORD: usize = 256 * 1024;

pub(super) struct KafkaFill;

impl FaultKind for KafkaFill {
    fn name(&self) -> &'static str {
        "kafka-fill"
    }

    fn about(&self) -> &'static str {
        "Fill a new topic with data, and remove the topic at the end."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Lease
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::new("bytes", Form::Size, "The amount of data.").or("64MiB"),
            Parameter::new("topic", Form::Text, "The name of the topic.").or("devenv-fill"),
        ];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.of_kind(self.name(), NAME)?;
        let topic = values.text("topic").unwrap_or("devenv-fill").to_owned();
        let action = Action::Fill { topic, bytes: values.bytes("bytes").unwrap_or(0) };
        Ok(Injection { action: devenv_faults::Action::OfKind(OfKind::new(NAME, &action)), expected: ExpectedEffect::Effect })
    }
}

/// Random bytes, which cannot be compressed.
pub(super) async fn fill(server: &Broker, topic: String, bytes: u64) -> Result<Effect, String> {
    let config = config(server);
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
        Ok(Effect::yes(format!("{sent} bytes were written to the topic {topic}")))
    });
    work.await.map_err(|error| error.to_string())?
}

pub(super) async fn remove_topic(server: &Broker, topic: &str) -> Result<(), String> {
    let removed = admin(server)?.delete_topics(&[topic], &options()).await.map_err(|error| error.to_string())?;
    match removed.into_iter().next() {
        Some(Err((_, code))) if code != RDKafkaErrorCode::UnknownTopicOrPartition && code != RDKafkaErrorCode::UnknownTopic => {
            Err(code.to_string())
        }
        _ => Ok(()),
    }
}

pub(super) async fn make_topic(server: &Broker, topic: &str) -> Result<(), String> {
    let topic = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
    let made = admin(server)?.create_topics(&[topic], &options()).await.map_err(|error| error.to_string())?;
    match made.into_iter().next() {
        Some(Err((_, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => Err(code.to_string()),
        _ => Ok(()),
    }
}

fn admin(server: &Broker) -> Result<AdminClient<DefaultClientContext>, String> {
    config(server).create().map_err(|error| error.to_string())
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(Duration::from_secs(10)))
}

fn config(server: &Broker) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", format!("127.0.0.1:{}", server.port));
    Login::configure(server.login.as_ref(), &mut config);
    config
}
