//! A private part of each service for each test, from one environment that all test processes share.

use std::time::Duration;

use devenv_harness::TestEnvironment;
use rdkafka::{
    ClientConfig, Message,
    consumer::{Consumer, StreamConsumer},
    producer::{FutureProducer, FutureRecord},
};
use redis::AsyncCommands;
use tokio_postgres::NoTls;

const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../project");

async fn environment() -> TestEnvironment {
    TestEnvironment::of("ci").project(PROJECT).shared().await.expect("an environment")
}

/// An environment of its own, so that tests without events need not wait for Kafka.
async fn with_events() -> TestEnvironment {
    TestEnvironment::of("events").project(PROJECT).instance("events").shared().await.expect("an environment")
}

#[tokio::test]
async fn tokio_postgres_starts_from_the_seeded_rows() {
    // The claim: the database is there for as long as it lives.
    let orders = environment().await.postgres("orders").fresh().await.expect("a private database");
    let (client, connection) = tokio_postgres::connect(orders.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    client.execute("DELETE FROM item WHERE id = 1", &[]).await.unwrap();
    let left: i64 = client.query_one("SELECT count(*) FROM item", &[]).await.unwrap().get(0);
    assert_eq!(left, 2);
}

#[tokio::test]
async fn so_does_sqlx() {
    let orders = environment().await.postgres("orders").fresh().await.expect("a private database");
    let pool = sqlx::PgPool::connect(orders.url()).await.unwrap();
    sqlx::query("DELETE FROM item WHERE id = $1").bind(2).execute(&pool).await.unwrap();
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM item").fetch_one(&pool).await.unwrap();
    assert_eq!(left, 2);
}

#[tokio::test]
async fn redis_is_empty() {
    let cache = environment().await.redis().fresh().await.expect("a private Redis");
    let mut connection = redis::Client::open(cache.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    assert_eq!(connection.get::<_, Option<String>>("key").await.unwrap(), None);
    connection.set::<_, _, ()>("key", "value").await.unwrap();
}

#[tokio::test]
async fn kafka_has_topics_of_its_own() {
    let events = with_events().await.kafka().fresh().await.expect("a private prefix");
    let topic = events.topic("orders");
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", events.brokers());
    let producer: FutureProducer = config.create().unwrap();
    producer.send(FutureRecord::<(), _>::to(&topic).payload("ordered"), Duration::from_secs(30)).await.unwrap();
    config.set("group.id", events.group("reader")).set("auto.offset.reset", "earliest");
    let consumer: StreamConsumer = config.create().unwrap();
    consumer.subscribe(&[&topic]).unwrap();
    let message = tokio::time::timeout(Duration::from_secs(60), consumer.recv()).await.expect("in time").unwrap();
    assert_eq!(message.payload(), Some(&b"ordered"[..]));
}
