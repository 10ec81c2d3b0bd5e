//! Records of Kafka: each is produced once, keyed by its client.
//!
//! Producing happens here. Reading happens in a child process of this binary, because a crash of the client library
//! must not end the run.

use std::{
    collections::HashSet,
    ffi::OsString,
    io::Write,
    process::{ExitCode, Stdio},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    producer::{FutureProducer, FutureRecord, Producer},
};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::TcpStream;

use super::{KafkaKind, login::Login, wire};
use crate::capability::{
    AddressError, Asker, Client, Line, Observed, Reply, Silent, Variables, Work, WorkError, WorkloadKind, WorkloadSite, Workloads,
    asker::silent, mark, unmark,
};

const PARTITIONS: i32 = 4;
const READ: Duration = Duration::from_mins(1);
/// The hidden command that reads.
const READER: &str = "chaos-read-kafka";
const READER_USER: &str = "DEVENV_READER_USER";
const READER_PASSWORD: &str = "DEVENV_READER_PASSWORD";

impl Workloads for KafkaKind {
    fn kinds(&self) -> &'static [&'static dyn WorkloadKind] {
        &[&KafkaRecords]
    }
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "KafkaWorkload")]
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
    /// Which answer acknowledges a record: that of all replicas, of the leader, or none.
    #[serde(default)]
    acks: Acks,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Acks {
    #[default]
    All,
    Leader,
    None,
}

struct KafkaRecords;

impl WorkloadKind for KafkaRecords {
    fn name(&self) -> &'static str {
        "kafka-records"
    }

    fn about(&self) -> &'static str {
        "Records that are produced with `acks=all`."
    }

    fn schema(&self, generator: &mut SchemaGenerator) -> Schema {
        generator.subschema_for::<Fields>()
    }

    fn work(&self, fields: &Value, site: &WorkloadSite<'_>) -> Result<Arc<dyn Work>, WorkError> {
        let Fields { acks, .. } = Fields::deserialize(fields).map_err(|error| WorkError::Said(error.to_string()))?;
        let topic = format!("devenv-chaos-{}-{}", site.run, site.label);
        Ok(Arc::new(Records { brokers: Brokers::of(site.variables, site.service)?, topic, acks }))
    }
}

/// How to check whether it answers.
pub(crate) fn asker(variables: &Variables, service: &str) -> Result<Arc<dyn Asker>, AddressError> {
    Ok(Arc::new(Brokers::of(variables, service)?))
}

/// Where they are, and how to log in. Each question is a connection of its own.
#[derive(Clone)]
struct Brokers {
    addresses: String,
    login: Option<Login>,
}

impl Brokers {
    fn of(variables: &Variables, service: &str) -> Result<Self, AddressError> {
        let login = match (variables.of(service, "USERNAME"), variables.of(service, "PASSWORD")) {
            (Ok(user), Ok(password)) => Some(Login { user: user.to_owned(), password: password.to_owned() }),
            _ => None,
        };
        Ok(Self { addresses: variables.of(service, "BROKERS")?.to_owned(), login })
    }
}

#[async_trait]
impl Asker for Brokers {
    async fn open(&self) -> Result<Box<dyn Line>, Silent> {
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Line for Brokers {
    async fn ask(&mut self) -> Result<(), Silent> {
        let stream = TcpStream::connect(self.addresses.split(',').next().unwrap_or_default()).await.map_err(silent)?;
        stream.set_nodelay(true).map_err(silent)?;
        let mut broker = wire::Connection::open(stream, self.login.as_ref()).await.map_err(silent)?;
        broker.metadata(None).await.map(drop).map_err(silent)
    }
}

struct Records {
    brokers: Brokers,
    topic: String,
    acks: Acks,
}

struct Sender {
    brokers: Brokers,
    topic: String,
    acks: Acks,
    number: u32,
    producer: Option<FutureProducer>,
}

impl Records {
    fn admin(&self) -> Result<AdminClient<DefaultClientContext>, WorkError> {
        config(&self.brokers).create().map_err(|error: KafkaError| WorkError::Said(error.to_string()))
    }
}

fn config(brokers: &Brokers) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &brokers.addresses)
        .set("broker.address.family", "v4")
        .set("client.id", "devenv-chaos")
        .set("reconnect.backoff.ms", "20")
        .set("reconnect.backoff.max.ms", "200")
        .set("log_level", "0");
    Login::configure(brokers.login.as_ref(), &mut config);
    config
}

#[async_trait]
impl Work for Records {
    async fn set_up(&self) -> Result<(), WorkError> {
        let wrong = |error: String| WorkError::Said(error);
        let topic = NewTopic::new(&self.topic, PARTITIONS, TopicReplication::Fixed(1));
        let made = self.admin()?.create_topics([&topic], &AdminOptions::new().operation_timeout(Some(Duration::from_secs(10)))).await;
        for outcome in made.map_err(|error| wrong(error.to_string()))? {
            outcome.map_err(|(topic, code)| wrong(format!("{topic}: {code}")))?;
        }
        Ok(())
    }

    fn client(&self, number: u32) -> Box<dyn Client> {
        Box::new(Sender { brokers: self.brokers.clone(), topic: self.topic.clone(), acks: self.acks, number, producer: None })
    }

    async fn read_back(&self) -> Result<Option<Observed>, WorkError> {
        let wrong = |error: std::io::Error| WorkError::Said(format!("the Kafka reader: {error}"));
        let program = std::env::current_exe().map_err(wrong)?;
        let mut reader = tokio::process::Command::new(program);
        reader.args([READER, &self.brokers.addresses, &self.topic]);
        // Every user of the machine can read arguments.
        if let Some(Login { user, password }) = &self.brokers.login {
            reader.envs([(READER_USER, user), (READER_PASSWORD, password)]);
        }
        reader.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let output = tokio::time::timeout(READ, reader.output()).await.map_err(|_| WorkError::Late(READ))?.map_err(wrong)?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(WorkError::Said(format!("the Kafka reader exited with {}: {}", output.status, words.trim())));
        }
        let mut observed = Observed::default();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            match unmark(line) {
                Some(operation) => *observed.found.entry(operation).or_default() += 1,
                None => observed.strangers += 1,
            }
        }
        Ok(Some(observed))
    }

    async fn clean_up(&self) -> Result<(), WorkError> {
        let deleted = self.admin()?.delete_topics(&[&self.topic], &AdminOptions::new()).await;
        deleted.map(drop).map_err(|error| WorkError::Said(error.to_string()))
    }
}

#[async_trait]
impl Client for Sender {
    async fn connect(&mut self) -> Result<(), String> {
        // A producer reconnects on its own; only one that failed permanently is replaced.
        if self.producer.as_ref().is_some_and(|producer| producer.client().fatal_error().is_none()) {
            return Ok(());
        }
        let mut config = config(&self.brokers);
        let acks = match self.acks {
            Acks::All => "all",
            Acks::Leader => "1",
            Acks::None => "0",
        };
        // The protocol knows no idempotent producer that asks for less than all.
        let idempotent = if self.acks == Acks::All { "true" } else { "false" };
        config.set("acks", acks).set("enable.idempotence", idempotent).set("message.timeout.ms", "5000").set("linger.ms", "0");
        self.producer = Some(config.create().map_err(|error: KafkaError| error.to_string())?);
        Ok(())
    }

    async fn operate(&mut self, sequence: u64) -> Reply {
        let Some(producer) = &self.producer else { return Reply::Refused("not connected".to_owned()) };
        let (key, payload) = (self.number.to_string(), mark(self.number, sequence));
        match producer.send(FutureRecord::to(&self.topic).key(&key).payload(&payload), Duration::ZERO).await {
            Ok(_) => Reply::Acknowledged,
            Err((error, _)) => Reply::Unknown(error.to_string()),
        }
    }

    /// Longer than the producer's own limit, so that the producer reports the outcome of a record.
    fn patience(&self) -> Duration {
        Duration::from_secs(7)
    }
}

/// The hidden command, if the arguments name it: prints every value of a topic, one per line.
pub(super) fn main_if_asked(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    if arguments.next()? != READER {
        return None;
    }
    let (addresses, topic) = (arguments.next()?.into_string().ok()?, arguments.next()?.into_string().ok()?);
    let login = match (std::env::var(READER_USER), std::env::var(READER_PASSWORD)) {
        (Ok(user), Ok(password)) => Some(Login { user, password }),
        _ => None,
    };
    let brokers = Brokers { addresses, login };
    let values = read(&brokers, &topic);
    let written = match &values {
        Ok(values) => std::io::stdout().write_all((values.join("\n") + "\n").trim_start().as_bytes()),
        Err(error) => std::io::stderr().write_all(error.to_string().as_bytes()),
    };
    Some(if values.is_ok() && written.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn read(brokers: &Brokers, topic: &str) -> Result<Vec<String>, KafkaError> {
    let mut config = config(brokers);
    config
        .set("group.id", "devenv-chaos-reader")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create()?;
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(20))?;
    let mut from = TopicPartitionList::new();
    let mut open = HashSet::new();
    for partition in metadata.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions) {
        from.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
        open.insert(partition.id());
    }
    consumer.assign(&from)?;
    let mut values = Vec::new();
    while !open.is_empty() {
        match consumer.poll(Duration::from_secs(20)) {
            Some(Ok(message)) => values.push(String::from_utf8_lossy(message.payload().unwrap_or_default()).into_owned()),
            Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
            Some(Err(error)) => return Err(error),
            None => return Err(KafkaError::MessageConsumption(rdkafka::error::RDKafkaErrorCode::OperationTimedOut)),
        }
    }
    Ok(values)
}
