//! The few Kafka requests that probing and provisioning need, over one connection that lives inside the caller's future.
//!
//! librdkafka keeps threads and reconnects by itself, which is wrong for one request every 10 ms to a broker that is not
//! running yet. All requests use their last fixed-layout versions or older, which brokers from 2.1 to 4.x answer.

use std::collections::HashMap;

mod login;
mod offsets;
mod removal;

pub use offsets::Offset;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

const LARGEST: usize = 8 << 20;

#[derive(Debug, thiserror::Error)]
pub enum WireError {
    #[error("the network failed")]
    Io(#[from] std::io::Error),
    #[error("the broker's answer is truncated or not in Kafka's protocol")]
    Malformed,
    #[error("{what}: {}", name(*code))]
    Refused { what: String, code: i16 },
}

impl WireError {
    /// The group's coordinator is being created, loads, or moves: the same request may succeed in a moment.
    pub fn is_coming(&self) -> bool {
        matches!(self, Self::Refused { code: 14..=16, .. })
    }
}

/// One connection to one broker.
pub struct Connection<S = TcpStream> {
    stream: S,
    correlation: i32,
}

pub struct Broker {
    pub id: i32,
    pub host: String,
    pub port: i32,
}

pub struct Metadata {
    pub brokers: Vec<Broker>,
    pub controller: i32,
    pub topics: Vec<Topic>,
}

pub struct Topic {
    pub code: i16,
    pub name: String,
    /// Leader by partition; -1 while there is none.
    pub leaders: Vec<i32>,
}

/// The topics of a request; `None` is everything.
pub type Names<'a> = Option<&'a [&'a str]>;

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub fn new(stream: S) -> Self {
        Self { stream, correlation: 0 }
    }

    pub async fn metadata(&mut self, topics: Names<'_>) -> Result<Metadata, WireError> {
        let mut body = BytesMut::new();
        put_names(&mut body, topics);
        let mut answer = self.call(3, 1, body).await?;
        let brokers = answer.array(|answer| {
            let broker = Broker { id: answer.int()?, host: answer.string()?, port: answer.int()? };
            answer.nullable()?;
            Ok(broker)
        })?;
        let controller = answer.int()?;
        let topics = answer.array(|answer| {
            let (code, name) = (answer.short()?, answer.string()?);
            answer.byte()?;
            let mut partitions = answer.array(|answer| {
                answer.short()?;
                let (partition, leader) = (answer.int()?, answer.int()?);
                answer.array(Answer::int)?;
                answer.array(Answer::int)?;
                Ok((partition, leader))
            })?;
            partitions.sort_unstable();
            Ok(Topic { code, name, leaders: partitions.into_iter().map(|(_, leader)| leader).collect() })
        })?;
        Ok(Metadata { brokers, controller, topics })
    }

    /// The broker that coordinates a consumer group. The first call ever has the broker create `__consumer_offsets`.
    pub async fn find_coordinator(&mut self, group: &str) -> Result<i32, WireError> {
        self.coordinator(group, 0, "group").await
    }

    /// The broker that coordinates the transactions of a producer. The first call ever has the broker create `__transaction_state`.
    pub async fn find_transaction_coordinator(&mut self, producer: &str) -> Result<i32, WireError> {
        self.coordinator(producer, 1, "producer").await
    }

    async fn coordinator(&mut self, name: &str, key_type: i8, what: &str) -> Result<i32, WireError> {
        let mut body = BytesMut::new();
        put_string(&mut body, name);
        body.put_i8(key_type);
        let mut answer = self.call(10, 1, body).await?;
        answer.int()?;
        let code = answer.short()?;
        answer.nullable()?;
        check(|| format!("no coordinator for the {what} `{name}`"), code)?;
        answer.int()
    }

    /// Commits offset 0 as a consumer that is no member: only an empty or unknown group accepts it.
    pub async fn commit_start(&mut self, group: &str, topics: &[(String, u32)]) -> Result<(), WireError> {
        let mut body = BytesMut::new();
        put_string(&mut body, group);
        body.put_i32(-1);
        put_string(&mut body, "");
        body.put_i64(-1);
        put_array(&mut body, topics, |body, (topic, partitions)| {
            put_string(body, topic);
            let partitions: Vec<u32> = (0..*partitions).collect();
            put_array(body, &partitions, |body, partition| {
                body.put_u32(*partition);
                body.put_i64(0);
                put_string(body, "");
            });
        });
        let mut answer = self.call(8, 2, body).await?;
        let codes = answer.array(|answer| {
            answer.string()?;
            answer.array(|answer| {
                answer.int()?;
                answer.short()
            })
        })?;
        for code in codes.into_iter().flatten() {
            check(|| format!("commit for the group `{group}`"), code)?;
        }
        Ok(())
    }

    /// Returns one refusal per topic; an existing topic is one too.
    pub async fn create_topics(&mut self, topics: &[NewTopic<'_>]) -> Result<Vec<Outcome>, WireError> {
        let mut body = BytesMut::new();
        put_array(&mut body, topics, |body, topic| {
            put_string(body, topic.name);
            body.put_u32(topic.partitions);
            body.put_i16(1);
            body.put_i32(0);
            put_array(body, &topic.settings, |body, (name, value)| {
                put_string(body, name);
                put_string(body, value);
            });
        });
        body.put_i32(ADMIN_MILLISECONDS);
        body.put_u8(0);
        let mut answer = self.call(19, 2, body).await?;
        answer.int()?;
        answer.array(|answer| Ok(Outcome { name: answer.string()?, code: answer.short()?, message: answer.nullable()? }))
    }

    /// Grows a topic to `partitions`.
    pub async fn grow(&mut self, topic: &str, partitions: u32) -> Result<Vec<Outcome>, WireError> {
        let mut body = BytesMut::new();
        put_array(&mut body, &[topic], |body, topic| {
            put_string(body, topic);
            body.put_u32(partitions);
            body.put_i32(-1);
        });
        body.put_i32(ADMIN_MILLISECONDS);
        body.put_u8(0);
        let mut answer = self.call(37, 0, body).await?;
        answer.int()?;
        answer.array(|answer| Ok(Outcome { name: answer.string()?, code: answer.short()?, message: answer.nullable()? }))
    }

    /// The current values of the named settings of topics, by topic.
    pub async fn topic_settings(&mut self, topics: &[(&str, Vec<&str>)]) -> Result<HashMap<String, Vec<(String, String)>>, WireError> {
        let mut body = BytesMut::new();
        put_array(&mut body, topics, |body, (topic, names)| {
            body.put_i8(TOPIC);
            put_string(body, topic);
            put_array(body, names, |body, name| put_string(body, name));
        });
        body.put_u8(0);
        let mut answer = self.call(32, 1, body).await?;
        answer.int()?;
        let topics = answer.array(|answer| {
            let (code, message) = (answer.short()?, answer.nullable()?);
            answer.byte()?;
            let name = answer.string()?;
            let settings = answer.array(|answer| {
                let (name, value) = (answer.string()?, answer.nullable()?.unwrap_or_default());
                answer.byte()?;
                answer.byte()?;
                answer.byte()?;
                answer.array(|answer| Ok((answer.string()?, answer.nullable()?, answer.byte()?)))?;
                Ok((name, value))
            })?;
            Outcome { name: name.clone(), code, message }.check("read the settings of the topic")?;
            Ok((name, settings))
        })?;
        Ok(topics.into_iter().collect())
    }

    /// Changes these settings of a topic and leaves its others as they are.
    pub async fn alter_topic(&mut self, topic: &str, settings: &[(&str, &str)]) -> Result<(), WireError> {
        let mut body = BytesMut::new();
        put_array(&mut body, &[topic], |body, topic| {
            body.put_i8(TOPIC);
            put_string(body, topic);
            put_array(body, settings, |body, (name, value)| {
                put_string(body, name);
                body.put_i8(0);
                put_string(body, value);
            });
        });
        body.put_u8(0);
        let mut answer = self.call(44, 0, body).await?;
        answer.int()?;
        let outcomes = answer.array(|answer| {
            let (code, message) = (answer.short()?, answer.nullable()?);
            answer.byte()?;
            Ok(Outcome { name: answer.string()?, code, message })
        })?;
        outcomes.into_iter().try_for_each(|outcome| outcome.check("change the settings of the topic"))
    }

    async fn call(&mut self, key: i16, version: i16, body: BytesMut) -> Result<Answer, WireError> {
        self.correlation += 1;
        let mut request = BytesMut::new();
        request.put_i32(0);
        request.put_i16(key);
        request.put_i16(version);
        request.put_i32(self.correlation);
        put_string(&mut request, "devenv");
        request.unsplit(body);
        let length = i32::try_from(request.len() - 4).map_err(|_| WireError::Malformed)?;
        request[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&request).await?;
        let length = usize::try_from(self.stream.read_i32().await?).map_err(|_| WireError::Malformed)?;
        if !(4..=LARGEST).contains(&length) {
            return Err(WireError::Malformed);
        }
        let mut answer = vec![0; length];
        self.stream.read_exact(&mut answer).await?;
        let mut answer = Answer(answer.into());
        if answer.int()? == self.correlation { Ok(answer) } else { Err(WireError::Malformed) }
    }
}

/// Kafka's error for creating an existing topic.
pub const TOPIC_ALREADY_EXISTS: i16 = 36;
const TOPIC: i8 = 2;
const ADMIN_MILLISECONDS: i32 = 10_000;

pub struct NewTopic<'a> {
    pub name: &'a str,
    pub partitions: u32,
    pub settings: Vec<(&'a str, &'a str)>,
}

/// The outcome for one of several items of a request.
pub struct Outcome {
    pub name: String,
    pub code: i16,
    pub message: Option<String>,
}

impl Outcome {
    pub fn check(&self, action: &str) -> Result<(), WireError> {
        let message = self.message.as_deref().map(|message| format!(" ({message})")).unwrap_or_default();
        check(|| format!("cannot {action} `{}`{message}", self.name), self.code)
    }
}

/// An answer that is read from the front; it may end anywhere.
struct Answer(Bytes);

impl Answer {
    fn byte(&mut self) -> Result<i8, WireError> {
        self.0.try_get_i8().map_err(|_| WireError::Malformed)
    }

    fn short(&mut self) -> Result<i16, WireError> {
        self.0.try_get_i16().map_err(|_| WireError::Malformed)
    }

    fn int(&mut self) -> Result<i32, WireError> {
        self.0.try_get_i32().map_err(|_| WireError::Malformed)
    }

    fn long(&mut self) -> Result<i64, WireError> {
        self.0.try_get_i64().map_err(|_| WireError::Malformed)
    }

    fn nullable(&mut self) -> Result<Option<String>, WireError> {
        let Ok(length) = usize::try_from(self.short()?) else { return Ok(None) };
        if length > self.0.len() {
            return Err(WireError::Malformed);
        }
        Ok(Some(String::from_utf8_lossy(&self.0.split_to(length)).into_owned()))
    }

    fn string(&mut self) -> Result<String, WireError> {
        self.nullable()?.ok_or(WireError::Malformed)
    }

    fn array<T>(&mut self, mut item: impl FnMut(&mut Self) -> Result<T, WireError>) -> Result<Vec<T>, WireError> {
        let length = self.int()?;
        // Every item has at least one byte, so a wrong length ends at the end of the answer, not of the memory.
        (0..length).map(|_| item(self)).collect()
    }
}

fn put_string(body: &mut BytesMut, text: &str) {
    let text = &text.as_bytes()[..text.len().min(i16::MAX as usize)];
    body.put_i16(text.len() as i16);
    body.put_slice(text);
}

fn put_array<T>(body: &mut BytesMut, items: &[T], mut put: impl FnMut(&mut BytesMut, &T)) {
    body.put_i32(items.len() as i32);
    for item in items {
        put(body, item);
    }
}

fn put_names(body: &mut BytesMut, names: Names<'_>) {
    match names {
        None => body.put_i32(-1),
        Some(names) => put_array(body, names, |body, name| put_string(body, name)),
    }
}

fn check(what: impl FnOnce() -> String, code: i16) -> Result<(), WireError> {
    if code == 0 { Ok(()) } else { Err(WireError::Refused { what: what(), code }) }
}

/// Kafka's names of errors that occur while it starts or for unusual requests.
fn name(code: i16) -> String {
    match code {
        3 => "UNKNOWN_TOPIC_OR_PARTITION",
        5 => "LEADER_NOT_AVAILABLE",
        7 => "REQUEST_TIMED_OUT",
        14 => "COORDINATOR_LOAD_IN_PROGRESS",
        15 => "COORDINATOR_NOT_AVAILABLE",
        16 => "NOT_COORDINATOR",
        17 => "INVALID_TOPIC_EXCEPTION",
        25 => "UNKNOWN_MEMBER_ID",
        29 => "TOPIC_AUTHORIZATION_FAILED",
        35 => "UNSUPPORTED_VERSION",
        36 => "TOPIC_ALREADY_EXISTS",
        37 => "INVALID_PARTITIONS",
        38 => "INVALID_REPLICATION_FACTOR",
        40 => "INVALID_CONFIG",
        41 => "NOT_CONTROLLER",
        42 => "INVALID_REQUEST",
        44 => "POLICY_VIOLATION",
        60 => "REASSIGNMENT_IN_PROGRESS",
        code => return format!("Kafka error {code}"),
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_cut_or_wild_is_malformed_and_no_panic() {
        let whole = {
            let mut body = BytesMut::new();
            put_array(&mut body, &["a", "bc"], |body, text| put_string(body, text));
            body.freeze()
        };
        let read = |bytes: Bytes| Answer(bytes).array(Answer::string);
        assert_eq!(read(whole.clone()).unwrap(), ["a", "bc"]);
        for length in 0..whole.len() {
            assert!(read(whole.slice(..length)).is_err(), "{length}");
        }
        assert!(read(Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 0, 1])).is_err());
        assert_eq!(read(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff])).unwrap(), Vec::<String>::new());
    }
}
