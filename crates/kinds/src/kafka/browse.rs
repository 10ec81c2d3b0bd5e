//! Kafka: topics and consumer groups, the newest records, and one new record.
//!
//! Topics and groups are read over one short connection with our own requests. Records are read by the client library, because
//! they may be compressed; its consumer joins no group and commits nothing.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use devenv_api::{DataGroup, DataGroupKind, DataItem, DataItemKind, Produced, Rows};
use devenv_spec::{Probe, ServiceSpec};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::{BorrowedMessage, Header, Headers, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use tokio::net::TcpStream;

use super::{
    KafkaKind, NAME,
    login::Login,
    spec::{KafkaProbe, KafkaProvision},
    wire::{Connection, Offset as GroupOffset, WireError},
};
use crate::{
    browse::{MOST_ITEMS, paged},
    capability::{Browse, BrowseError, NewRecord, ProvisionContext, RowsPage},
};

const TOPICS: &str = "topics";
const GROUPS: &str = "consumer-groups";
/// The newest records of each partition among which a filter searches, and beyond which no page goes.
const MOST_RECORDS: i64 = 10_000;
/// Records are read until they have this many bytes.
const ENOUGH: usize = 7 << 20;
/// How long records are read.
const READING: Duration = Duration::from_secs(6);
/// Consumer groups whose lag is shown.
const MOST_GROUPS: usize = 100;

#[async_trait]
impl Browse for KafkaKind {
    async fn outline(&self, service: &ServiceSpec, filter: Option<&str>, cx: &ProvisionContext) -> Result<Vec<DataGroup>, BrowseError> {
        let broker = Broker::of(service, cx)?;
        let wanted = |name: &str| filter.is_none_or(|text| name.contains(text));
        let seen = broker.look().await.map_err(refused)?;
        let more = seen.topics.iter().filter(|(name, _)| wanted(name)).count() > MOST_ITEMS;
        let topics = seen.topics.iter().filter(|(name, _)| wanted(name)).take(MOST_ITEMS).map(|(name, partitions)| DataItem {
            name: name.clone(),
            kind: DataItemKind::Topic,
            rows: Some(seen.records(name, *partitions)),
            bytes: None,
            detail: Some(format!("partitions: {partitions}")),
        });
        let groups = seen.groups.iter().filter(|(name, _)| wanted(name)).map(|(name, committed)| DataItem {
            name: name.clone(),
            kind: DataItemKind::ConsumerGroup,
            rows: Some(committed.len() as u64),
            bytes: None,
            detail: Some(format!("lag: {}", committed.iter().map(|one| seen.lag(one).unwrap_or(0)).sum::<i64>())),
        });
        let group = |name: &str, kind, items, more| DataGroup { name: name.to_owned(), kind, items, more };
        Ok(vec![
            group(TOPICS, DataGroupKind::Topics, topics.collect(), more),
            group(GROUPS, DataGroupKind::ConsumerGroups, groups.collect(), seen.more_groups),
        ])
    }

    async fn rows(&self, service: &ServiceSpec, page: &RowsPage, cx: &ProvisionContext) -> Result<Rows, BrowseError> {
        let broker = Broker::of(service, cx)?;
        match page.group.as_str() {
            TOPICS => {
                let (partitions, page) = (broker.partitions(&page.item).await?, page.clone());
                // The client library blocks.
                let read = tokio::task::spawn_blocking(move || broker.records(partitions, &page));
                read.await.map_err(|error| BrowseError::Refused(error.to_string()))?.map_err(failed)
            }
            GROUPS => broker.group(page).await,
            other => Err(BrowseError::NotFound(format!("there is no group `{other}`: it is `{TOPICS}` or `{GROUPS}`"))),
        }
    }

    async fn produce(&self, service: &ServiceSpec, record: &NewRecord, cx: &ProvisionContext) -> Result<Produced, BrowseError> {
        let broker = Broker::of(service, cx)?;
        broker.partitions(&record.topic).await?;
        let mut config = broker.config();
        config.set("message.timeout.ms", "5000").set("linger.ms", "0");
        let producer: FutureProducer = config.create().map_err(failed)?;
        let mut headers = OwnedHeaders::new();
        for (key, value) in &record.headers {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let mut sent = FutureRecord::to(&record.topic).payload(&record.value).headers(headers);
        if let Some(key) = &record.key {
            sent = sent.key(key);
        }
        let delivered = producer.send(sent, Duration::from_secs(5)).await.map_err(|(error, _)| failed(error))?;
        Ok(Produced { partition: delivered.partition, offset: delivered.offset })
    }
}

struct Broker {
    address: String,
    login: Option<Login>,
}

/// Topics and groups at one moment.
struct Seen {
    /// With the number of partitions.
    topics: Vec<(String, u32)>,
    starts: HashMap<(String, i32), i64>,
    ends: HashMap<(String, i32), i64>,
    groups: Vec<(String, Vec<GroupOffset>)>,
    more_groups: bool,
}

impl Seen {
    fn records(&self, topic: &str, partitions: u32) -> u64 {
        let count = |partition: i32| {
            let place = (topic.to_owned(), partition);
            u64::try_from(self.ends.get(&place)? - self.starts.get(&place).copied().unwrap_or(0)).ok()
        };
        (0..partitions as i32).filter_map(count).sum::<u64>()
    }

    fn lag(&self, committed: &GroupOffset) -> Option<i64> {
        let end = self.ends.get(&(committed.topic.clone(), committed.partition))?;
        Some((end - committed.offset).max(0))
    }
}

impl Broker {
    fn of(service: &ServiceSpec, cx: &ProvisionContext) -> Result<Self, BrowseError> {
        let (port, login) = match (KafkaProvision::of(service), &service.probe) {
            (Some(declared), _) => (declared.port, declared.login),
            (None, Probe::OfKind(probe)) if probe.kind == NAME => {
                let known: KafkaProbe = probe.decode().map_err(|error| BrowseError::Refused(error.to_string()))?;
                (known.port, known.login)
            }
            _ => return Err(BrowseError::Refused(format!("devenv has no address of `{}`", service.name))),
        };
        Ok(Self { address: format!("127.0.0.1:{port}"), login: Login::of(login.as_ref(), &cx.vault)? })
    }

    fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.address)
            .set("broker.address.family", "v4")
            .set("client.id", "devenv-browse")
            .set("allow.auto.create.topics", "false")
            .set("log_level", "0");
        Login::configure(self.login.as_ref(), &mut config);
        config
    }

    async fn open(&self) -> Result<Connection, WireError> {
        Connection::open(TcpStream::connect(&self.address).await?, self.login.as_ref()).await
    }

    /// Without the broker's own topics.
    async fn look(&self) -> Result<Seen, WireError> {
        let mut broker = self.open().await?;
        let metadata = broker.metadata(None).await?;
        let shown = metadata.topics.into_iter().filter(|topic| !topic.name.starts_with("__"));
        let mut topics: Vec<(String, u32)> = shown.map(|topic| (topic.name, topic.leaders.len() as u32)).collect();
        topics.sort();
        let place = |one: GroupOffset| ((one.topic, one.partition), one.offset);
        let ends = broker.ends(&topics).await?.into_iter().map(place).collect();
        let starts = broker.starts(&topics).await?.into_iter().map(place).collect();
        let mut names = broker.groups().await?;
        names.sort();
        let more_groups = names.len() > MOST_GROUPS;
        names.truncate(MOST_GROUPS);
        let mut groups = Vec::new();
        for name in names {
            match broker.committed(&name).await {
                Ok(committed) => groups.push((name, committed)),
                // Its coordinator is being elected.
                Err(WireError::Refused { .. }) => groups.push((name, Vec::new())),
                Err(error) => return Err(error),
            }
        }
        Ok(Seen { topics, starts, ends, groups, more_groups })
    }

    /// How many partitions the topic has. A question for all topics: one by name could make it.
    async fn partitions(&self, topic: &str) -> Result<i32, BrowseError> {
        let found = async { self.open().await?.metadata(None).await }.await.map_err(refused)?;
        let found = found.topics.into_iter().find(|found| found.name == topic);
        found.map(|found| found.leaders.len() as i32).ok_or_else(|| BrowseError::NotFound(format!("there is no topic `{topic}`")))
    }

    async fn group(&self, page: &RowsPage) -> Result<Rows, BrowseError> {
        let seen = self.look().await.map_err(refused)?;
        let found = seen.groups.iter().find(|(name, _)| *name == page.item);
        let (_, committed) = found.ok_or_else(|| BrowseError::NotFound(format!("there is no consumer group `{}`", page.item)))?;
        let mut committed = committed.clone();
        committed.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        let rows = committed.iter().map(|one| {
            let end = seen.ends.get(&(one.topic.clone(), one.partition));
            let number = |number: i64| Some(number.to_string());
            vec![
                Some(one.topic.clone()),
                Some(one.partition.to_string()),
                number(one.offset),
                end.copied().and_then(number),
                seen.lag(one).and_then(number),
            ]
        });
        Ok(paged(&["topic", "partition", "committed", "end", "lag"], rows.collect(), page, false))
    }

    /// The newest records first. Blocks.
    fn records(&self, partitions: i32, page: &RowsPage) -> Result<Rows, KafkaError> {
        let mut config = self.config();
        config
            .set("group.id", "devenv-browse")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", "read_committed");
        let consumer: BaseConsumer = config.create()?;
        let deadline = Instant::now() + READING;
        let wanted =
            if page.filter.is_some() || page.sort.is_some() { MOST_RECORDS } else { page.offset as i64 + i64::from(page.limit) + 1 };
        let wanted = wanted.min(MOST_RECORDS);
        let (mut from, mut open, mut left_out) = (TopicPartitionList::new(), HashMap::new(), false);
        for partition in 0..partitions {
            let (start, end) = consumer.fetch_watermarks(&page.item, partition, READING)?;
            if end > start {
                from.add_partition_offset(&page.item, partition, Offset::Offset(start.max(end - wanted)))?;
                left_out |= start < end - wanted;
                open.insert(partition, end);
            }
        }
        consumer.assign(&from)?;
        let (mut found, mut size, mut is_whole) = (Vec::new(), 0, true);
        while !open.is_empty() {
            if Instant::now() > deadline || size > ENOUGH {
                is_whole = false;
                break;
            }
            match consumer.poll(Duration::from_millis(200)) {
                Some(Ok(message)) => {
                    if open.get(&message.partition()).is_some_and(|end| message.offset() + 1 >= *end) {
                        open.remove(&message.partition());
                    }
                    let row = record(&message);
                    size += row.iter().flatten().map(String::len).sum::<usize>();
                    found.push(((message.timestamp().to_millis().unwrap_or(0), message.offset()), row));
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => drop(open.remove(&partition)),
                Some(Err(error)) => return Err(error),
                None => {}
            }
        }
        found.sort_by_key(|(newest, _)| std::cmp::Reverse(*newest));
        let rows = found.into_iter().map(|(_, row)| row).collect();
        let mut rows = paged(&["partition", "offset", "time", "key", "value", "headers"], rows, page, left_out || !is_whole);
        if !is_whole {
            rows.message = Some("these are not all of the newest records: the limit of time or size was reached".to_owned());
        } else if left_out && page.filter.is_some() {
            rows.message = Some(format!("searched the newest {MOST_RECORDS} records of each partition"));
        }
        Ok(rows)
    }
}

fn record(message: &BorrowedMessage<'_>) -> Vec<Option<String>> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let time = message.timestamp().to_millis().and_then(|time| jiff::Timestamp::from_millisecond(time).ok());
    let headers = message.headers().map(|headers| {
        let one = |header: Header<'_, &[u8]>| format!("{}={}", header.key, header.value.map(text).unwrap_or_default());
        headers.iter().map(one).collect::<Vec<_>>().join(", ")
    });
    vec![
        Some(message.partition().to_string()),
        Some(message.offset().to_string()),
        time.map(|time| time.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()),
        message.key().map(text),
        message.payload().map(text),
        headers.filter(|headers| !headers.is_empty()),
    ]
}

fn refused(error: WireError) -> BrowseError {
    match error {
        WireError::Io(error) => BrowseError::Refused(format!("the broker does not answer: {error}")),
        error => BrowseError::Refused(error.to_string()),
    }
}

fn failed(error: KafkaError) -> BrowseError {
    BrowseError::Refused(error.rdkafka_error_code().map_or_else(|| error.to_string(), |code| code.to_string()))
}
