//! Clients like those of users, with the output of `devenv env` and no retry: a ready service must serve the first attempt.

use std::time::Duration;

use rdkafka::{
    ClientConfig, Message,
    consumer::{BaseConsumer, Consumer},
    producer::{BaseProducer, BaseRecord, Producer},
};
use serde_json::Value;

fn block<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Runs the statements. Returns the first column of the last rows.
#[track_caller]
pub(crate) fn sql(url: &str, statements: &str) -> Vec<String> {
    try_sql(url, statements).unwrap_or_else(|error| panic!("{statements}: {error}"))
}

pub(crate) fn try_sql(url: &str, statements: &str) -> Result<Vec<String>, String> {
    block(async {
        let describe = |error: tokio_postgres::Error| error.as_db_error().map_or_else(|| format!("{error:?}"), ToString::to_string);
        let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.map_err(describe)?;
        tokio::spawn(connection);
        let messages = client.simple_query(statements).await.map_err(describe)?;
        let rows = messages.iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        Ok(rows.collect())
    })
}

/// A command's answer as text.
#[track_caller]
pub(crate) fn redis(url: &str, command: &[&str]) -> String {
    redis_with(&redis::AsyncConnectionConfig::new(), url, command)
}

/// As [`redis`], without the client's own limits, which are a second for a connection and half of that for an answer.
#[track_caller]
pub(crate) fn patient_redis(url: &str, command: &[&str]) -> String {
    let limit = Some(Duration::from_mins(2));
    redis_with(&redis::AsyncConnectionConfig::new().set_connection_timeout(limit).set_response_timeout(limit), url, command)
}

#[track_caller]
fn redis_with(limits: &redis::AsyncConnectionConfig, url: &str, command: &[&str]) -> String {
    block(async {
        let mut connection = redis::Client::open(url).unwrap().get_multiplexed_async_connection_with_config(limits).await.unwrap();
        let mut asked = redis::cmd(command[0]);
        command[1..].iter().for_each(|word| {
            asked.arg(*word);
        });
        match asked.query_async(&mut connection).await.unwrap() {
            redis::Value::SimpleString(text) => text,
            redis::Value::Okay => "OK".to_owned(),
            redis::Value::BulkString(bytes) => String::from_utf8(bytes).unwrap(),
            redis::Value::Int(number) => number.to_string(),
            other => format!("{other:?}"),
        }
    })
}

#[track_caller]
pub(crate) fn produce(brokers: &str, topic: &str, text: &str) {
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", brokers).set("message.timeout.ms", "60000").create().unwrap();
    producer.send(BaseRecord::<(), str>::to(topic).payload(text)).unwrap();
    producer.flush(Duration::from_mins(1)).unwrap();
}

/// The first record of the topic.
#[track_caller]
pub(crate) fn fetch(brokers: &str, topic: &str) -> String {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers).set("group.id", "docker-tests").set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = config.create().unwrap();
    consumer.subscribe(&[topic]).unwrap();
    let deadline = std::time::Instant::now() + Duration::from_mins(1);
    while std::time::Instant::now() < deadline {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) {
            return String::from_utf8(message.payload().unwrap().to_vec()).unwrap();
        }
    }
    panic!("nothing was fetched from {topic}");
}

/// Status and text.
pub(crate) fn get(url: &str) -> (u16, String) {
    block(async {
        let reply = reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap();
        (reply.status().as_u16(), reply.text().await.unwrap())
    })
}

pub(crate) fn post(url: &str, document: &Value) -> u16 {
    block(async { reqwest::Client::builder().no_proxy().build().unwrap().post(url).json(document).send().await.unwrap().status().as_u16() })
}
