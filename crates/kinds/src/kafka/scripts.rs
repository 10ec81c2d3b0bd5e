//! `.jsonl` records and `.kafka.yaml` topics, and their ledger: the compacted topic `__devenv_ledger`.
//!
//! A topic and not a file on the volume, because a transaction can include both: the records of a file and its row are
//! committed together or not at all, and a client that reads committed records (the default of most) never sees half a
//! file. The producer's transactional id belongs to the file: the next attempt fences an interrupted one, and the broker
//! takes that back. Consumers here live for one read; nothing subscribes.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use devenv_spec::{OfKind, ScriptPlace};
use indexmap::IndexMap;
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header, OwnedHeaders},
    producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer},
};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    KafkaKind,
    deliveries::{Deliveries, Place, refused},
    login::Login,
    spec::KafkaTarget,
    wire,
};
use crate::{
    capability::{ScriptStore, Scripts},
    script::{
        Progress, Recorded, Script, ScriptContext, ScriptError, ScriptFormat,
        lines::{lines, plain},
        row::{self, Row},
        source,
    },
};

pub(super) const TOPICS: ScriptFormat = ScriptFormat("kafka-topics");
pub(super) const RECORDS: ScriptFormat = ScriptFormat("kafka-records");
const LEDGER: &str = "__devenv_ledger";
const PATIENCE: Duration = Duration::from_mins(1);
/// How often a broker is asked that is preparing itself.
const AGAIN: Duration = Duration::from_millis(10);

#[async_trait]
impl Scripts for KafkaKind {
    fn format(&self, name: &str, _packed: bool) -> Option<ScriptFormat> {
        [(".kafka.yaml", TOPICS), (".kafka.yml", TOPICS), (".jsonl", RECORDS)]
            .iter()
            .find(|(ending, _)| name.ends_with(ending))
            .map(|(_, format)| *format)
    }

    fn endings(&self) -> &'static str {
        "`.kafka.yaml` and `.jsonl`"
    }

    async fn open(
        &self,
        service: &str,
        target: &OfKind,
        _: &ScriptPlace,
        cx: &ScriptContext<'_>,
    ) -> Result<Box<dyn ScriptStore>, ScriptError> {
        let fail = |error: String| ScriptError::of(service, error);
        let KafkaTarget { port, login } = target.decode().map_err(|error| fail(error.to_string()))?;
        let login = Login::of(login.as_ref(), cx.vault).map_err(|error| fail(error.to_string()))?;
        Ok(Box::new(Broker { service: service.to_owned(), address: format!("127.0.0.1:{port}"), login }))
    }
}

struct Broker {
    service: String,
    address: String,
    login: Option<Login>,
}

/// A `.kafka.yaml` file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    topics: IndexMap<String, Topic>,
    #[serde(default)]
    records: Vec<Record>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Topic {
    #[serde(default = "one")]
    partitions: u32,
    #[serde(default)]
    settings: IndexMap<String, String>,
}

/// One record, in either kind of file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Record {
    topic: String,
    #[serde(default)]
    key: Option<Value>,
    /// `null` is a tombstone.
    value: Value,
    #[serde(default)]
    headers: IndexMap<String, Value>,
    #[serde(default)]
    partition: Option<i32>,
}

fn one() -> u32 {
    1
}

#[async_trait]
impl ScriptStore for Broker {
    async fn recorded(&mut self) -> Result<Vec<Recorded>, ScriptError> {
        let config = self.config();
        let found = tokio::task::spawn_blocking(move || read_ledger(config))
            .await
            .map_err(|error| ScriptError::of(&self.service, error.to_string()))?;
        let found = found.map_err(|error| self.broken(&error))?;
        Ok(row::recorded(found))
    }

    async fn accept(&mut self, script: &Script) -> Result<(), ScriptError> {
        self.write(script, Row::applied(script, None, Duration::ZERO)).await
    }

    async fn forget(&mut self, script: &Script) -> Result<(), ScriptError> {
        self.write(script, Row::forgotten(script)).await
    }

    async fn apply(&mut self, script: &Script, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
        let result = self.send(script, cx).await;
        if let Err(error) = &result
            && let Err(unrecorded) = self.write(script, Row::failed(script, error)).await
        {
            tracing::warn!(service = %self.service, path = %script.path, error = %unrecorded, "Cannot record the failure of a script.");
        }
        result
    }
}

impl Broker {
    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address).set("broker.address.family", "v4").set("client.id", "devenv");
        Login::configure(self.login.as_ref(), &mut config);
        config
    }

    fn broken(&self, error: &KafkaError) -> ScriptError {
        ScriptError::of(&self.service, error.to_string())
    }

    async fn send(&mut self, script: &Script, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
        // Every line is parsed before the first is sent, so that a bad one has no effect.
        let checking = script.clone();
        let checked = tokio::task::spawn_blocking(move || {
            read(&checking, &mut |_, _| Ok(()))?;
            if checking.format == TOPICS { Ok(document(&checking)?.topics) } else { Ok(IndexMap::new()) }
        });
        // Meanwhile the broker prepares: a failed script is recorded in the ledger too.
        let (checked, prepared) = tokio::join!(checked, self.prepare_transactions(script));
        let topics = checked.map_err(|error| ScriptError::of(&script.path, error.to_string()))??;
        prepared?;
        for (name, topic) in &topics {
            let settings: Vec<(&str, &str)> = topic.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            self.create(name, topic.partitions, &settings).await.map_err(|error| ScriptError { path: script.path.clone(), ..error })?;
        }
        let (config, sending) = (self.config(), script.clone());
        let (sender, mut counts) = tokio::sync::watch::channel((0u64, 0u64));
        let mut work = tokio::task::spawn_blocking(move || transaction(config, &sending, &sender));
        loop {
            // Both branches are cancel-safe: the handle is polled by reference, and a missed count is followed by a later one.
            tokio::select! {
                done = &mut work => return done.map_err(|error| ScriptError::of(&script.path, error.to_string()))?,
                Ok(()) = counts.changed() => {
                    let (rows, bytes) = *counts.borrow_and_update();
                    (cx.progress)(Progress { path: &script.path, rows, bytes, total_bytes: script.size });
                }
            }
        }
    }

    /// Makes the ledger, and waits until the broker coordinates transactions: when the first one ever comes, the broker makes a topic for
    /// them, and a client of librdkafka that has to wait for that asks twice a second.
    async fn prepare_transactions(&self, script: &Script) -> Result<(), ScriptError> {
        self.create(LEDGER, 1, &[("cleanup.policy", "compact")]).await?;
        let producer = producer_of(script);
        let asked = async {
            let mut broker = wire::Connection::open(TcpStream::connect(&self.address).await?, self.login.as_ref()).await?;
            loop {
                match broker.find_transaction_coordinator(&producer).await {
                    Err(error) if error.is_coming() => sleep(AGAIN).await,
                    answer => break answer.map(drop),
                }
            }
        };
        match timeout(PATIENCE, asked).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(ScriptError::of(&self.service, error.to_string())),
            Err(_) => Err(ScriptError::of(&self.service, format!("the broker does not accept transactions within {PATIENCE:?}"))),
        }
    }

    /// An existing topic is a success. Sent by our own request, as in provisioning: a client of librdkafka may wait for a
    /// minute to find the controller.
    async fn create(&self, name: &str, partitions: u32, settings: &[(&str, &str)]) -> Result<(), ScriptError> {
        let topic = wire::NewTopic { name, partitions, settings: settings.to_vec() };
        let asked = async {
            let mut broker = wire::Connection::open(TcpStream::connect(&self.address).await?, self.login.as_ref()).await?;
            broker.create_topics(&[topic]).await
        };
        let fail = |error: String| ScriptError::of(&self.service, error);
        let outcomes = timeout(PATIENCE, asked).await.map_err(|_| fail(format!("topic {name} was not created within {PATIENCE:?}")))?;
        for outcome in outcomes.map_err(|error| fail(error.to_string()))? {
            if outcome.code != wire::TOPIC_ALREADY_EXISTS {
                outcome.check("create the topic").map_err(|error| fail(error.to_string()))?;
            }
        }
        Ok(())
    }

    /// A row by itself, outside of any transaction.
    async fn write(&self, script: &Script, row: Row) -> Result<(), ScriptError> {
        self.create(LEDGER, 1, &[("cleanup.policy", "compact")]).await?;
        let (mut config, path) = (self.config(), script.path.clone());
        let written = tokio::task::spawn_blocking(move || {
            config.set("acks", "all").set("enable.idempotence", "true").set("message.timeout.ms", "30000");
            let producer: ThreadedProducer<DefaultProducerContext> = config.create()?;
            producer.send(BaseRecord::to(LEDGER).key(&path).payload(&row.text())).map_err(|(error, _)| error)?;
            producer.flush(PATIENCE)
        });
        written.await.map_err(|error| ScriptError::of(&self.service, error.to_string()))?.map_err(|error| self.broken(&error))
    }
}

/// The transactional id of the file's producer.
fn producer_of(script: &Script) -> String {
    let id = hex::encode(Sha256::digest(script.path.as_bytes()));
    format!("devenv-script-{}", &id[..16])
}

/// Sends the file and its row, and commits both.
fn transaction(mut config: ClientConfig, script: &Script, counts: &tokio::sync::watch::Sender<(u64, u64)>) -> Result<(), ScriptError> {
    let began = Instant::now();
    let fail = |error: KafkaError| ScriptError::of(&script.path, error.to_string());
    config
        .set("transactional.id", producer_of(script))
        .set("transaction.timeout.ms", "600000")
        .set("message.timeout.ms", "60000")
        .set("acks", "all")
        .set("linger.ms", "5")
        // The topic limits the size of a record.
        .set("message.max.bytes", "1000000000")
        .set("queue.buffering.max.kbytes", "262144");
    let deliveries = Deliveries::default();
    let producer: ThreadedProducer<Deliveries> = config.create_with_context(deliveries.clone()).map_err(fail)?;
    producer.init_transactions(PATIENCE).map_err(fail)?;
    producer.begin_transaction().map_err(fail)?;
    let mut rows = 0;
    let mut bytes = 0;
    let sent = read(script, &mut |place, record| {
        bytes += send(&producer, place, record).map_err(|error| refused(script, place, &error, script.format != TOPICS))?;
        rows += 1;
        if rows % 1000 == 0 {
            counts.send_replace((rows, bytes.min(script.size)));
        }
        Ok(())
    });
    let finished = sent.and_then(|()| {
        let row = Row::applied(script, Some(rows), began.elapsed()).text();
        enqueue(&producer, BaseRecord::with_opaque_to(LEDGER, 0).key(&script.path).payload(&row)).map_err(fail)?;
        producer.commit_transaction(PATIENCE).map_err(fail)
    });
    let finished = finished
        .map_err(|error| deliveries.refused().map_or(error, |(place, error)| refused(script, place, &error, script.format != TOPICS)));
    if finished.is_err() {
        // What cannot be aborted now is aborted by the next producer with this id, or by the broker's time-out.
        producer.abort_transaction(PATIENCE).ok();
    }
    counts.send_replace((rows, script.size));
    finished
}

/// Returns the length of its value.
fn send(producer: &ThreadedProducer<Deliveries>, place: Place, record: &Record) -> Result<u64, KafkaError> {
    let key = record.key.as_ref().filter(|key| !key.is_null()).map(plain);
    let value = (!record.value.is_null()).then(|| plain(&record.value));
    let mut built: BaseRecord<'_, String, String, Place> = BaseRecord::with_opaque_to(&record.topic, place);
    if let Some(key) = &key {
        built = built.key(key);
    }
    // Without a value it is a tombstone, which deletes its key from a compacted topic.
    if let Some(value) = &value {
        built = built.payload(value);
    }
    if let Some(partition) = record.partition {
        built = built.partition(partition);
    }
    if !record.headers.is_empty() {
        let mut headers = OwnedHeaders::new();
        for (name, value) in &record.headers {
            let value = (!value.is_null()).then(|| plain(value));
            headers = headers.insert(Header { key: name, value: value.as_ref() });
        }
        built = built.headers(headers);
    }
    enqueue(producer, built)?;
    Ok(value.map_or(0, |value| value.len() as u64))
}

/// Waits while the queue is full.
fn enqueue(producer: &ThreadedProducer<Deliveries>, mut record: BaseRecord<'_, String, String, Place>) -> Result<(), KafkaError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) if Instant::now() < deadline => {
                record = back;
                std::thread::sleep(Duration::from_millis(5));
            }
            Err((error, _)) => return Err(error),
        }
    }
}

/// The action for a record and its position.
pub(super) type Taker<'a> = dyn FnMut(Place, &Record) -> Result<(), ScriptError> + 'a;

/// Calls `with` for every record and its position.
pub(super) fn read(script: &Script, with: &mut Taker<'_>) -> Result<(), ScriptError> {
    if script.format == TOPICS {
        for (number, record) in (1..).zip(&document(script)?.records) {
            with(number, record)?;
        }
        return Ok(());
    }
    lines(script, |line, text| {
        let record: Record = serde_json::from_str(text).map_err(|error| {
            // The parser counts lines of this text, which has only one.
            let message = error.to_string();
            let message = message.split(" at line 1").next().unwrap_or(&message);
            ScriptError::of(&script.path, format!("{message} (column {})", error.column())).at(line)
        })?;
        with(usize::try_from(line).unwrap_or_default(), &record)
    })
}

fn document(script: &Script) -> Result<Document, ScriptError> {
    let input = source::open(script).map_err(|error| ScriptError::of(&script.path, format!("cannot be read: {error}")))?;
    let document: Option<Document> = serde_yaml::from_reader(input).map_err(|error| {
        let line = error.location().map(|location| location.line() as u64);
        ScriptError::of(&script.path, error.to_string()).at(line)
    })?;
    Ok(document.unwrap_or_default())
}

/// The last committed row of every path.
fn read_ledger(mut config: ClientConfig) -> Result<HashMap<String, Row>, KafkaError> {
    config
        .set("group.id", "devenv-ledger")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        // At the end of the ledger a broker waits this long for more before it says so.
        .set("fetch.wait.max.ms", "5")
        .set("isolation.level", "read_committed");
    let consumer: BaseConsumer = config.create()?;
    let known = consumer.fetch_metadata(None, PATIENCE)?;
    let mut rows = HashMap::new();
    if known.topics().iter().all(|topic| topic.name() != LEDGER) {
        return Ok(rows);
    }
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(LEDGER, 0, Offset::Beginning)?;
    consumer.assign(&from)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match consumer.poll(Duration::from_millis(500)) {
            Some(Ok(message)) => {
                let key = message.key().map(|key| String::from_utf8_lossy(key).into_owned());
                if let (Some(path), Some(row)) = (key, message.payload().and_then(|payload| serde_json::from_slice(payload).ok())) {
                    rows.insert(path, row);
                }
            }
            Some(Err(KafkaError::PartitionEOF(_))) => return Ok(rows),
            Some(Err(error)) => return Err(error),
            None if Instant::now() > deadline => return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut)),
            None => {}
        }
    }
}
