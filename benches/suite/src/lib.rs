//! One test, as all suites have it: it starts from the seeded rows and changes them.

use tokio_postgres::{Client, NoTls};

pub const SCHEMA: &str = include_str!("../project/init/01-items.sql");

pub async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // Ends with the client.
    tokio::spawn(connection);
    Ok(client)
}

pub async fn the_test(client: &Client) {
    let deleted = client.execute("DELETE FROM item WHERE id <= 100", &[]).await.expect("a statement");
    let left: i64 = client.query_one("SELECT count(*) FROM item", &[]).await.expect("a count").get(0);
    assert_eq!((deleted, left), (100, 19_900));
}
