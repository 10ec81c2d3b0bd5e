//! A private database for each test, from one environment that all test processes share.

use devenv_harness::{PrivateDatabase, TestEnvironment};
use tokio_postgres::{Client, NoTls};

/// The claim and a client: the database is there for as long as the claim lives.
async fn orders() -> (PrivateDatabase, Client) {
    let project = concat!(env!("CARGO_MANIFEST_DIR"), "/../project");
    let environment = TestEnvironment::of("ci").project(project).shared().await.expect("an environment");
    let database = environment.postgres("orders").fresh().await.expect("a private database");
    let (client, connection) = tokio_postgres::connect(database.url(), NoTls).await.expect("a connection");
    tokio::spawn(connection);
    (database, client)
}

async fn left_without(item: i32) -> i64 {
    let (_database, client) = orders().await;
    client.execute("DELETE FROM item WHERE id = $1", &[&item]).await.unwrap();
    client.query_one("SELECT count(*) FROM item", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn one_test_starts_from_the_seeded_rows() {
    assert_eq!(left_without(1).await, 2);
}

#[tokio::test]
async fn so_does_another() {
    assert_eq!(left_without(2).await, 2);
}
