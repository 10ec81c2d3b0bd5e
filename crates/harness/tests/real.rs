//! Against real services: needs an engine, and `devenv` by `DEVENV_BIN` or in `PATH`.

use std::{path::PathBuf, time::Duration};

use devenv_harness::{Builder, TestEnvironment, blocking};
use tokio_postgres::{Client, NoTls};

fn fixture() -> Builder {
    TestEnvironment::of("ci").project(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixture"))
}

async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
    // Ends with the client.
    tokio::spawn(connection);
    Ok(client)
}

async fn count(client: &Client) -> i64 {
    client.query_one("SELECT count(*) FROM item", &[]).await.unwrap().get(0)
}

#[tokio::test]
async fn each_test_has_the_seeded_rows_and_none_of_anothers_changes() {
    let orders = fixture().shared().await.unwrap().postgres("orders");
    let (one, other) = tokio::join!(orders.fresh(), orders.fresh());
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_ne!(one.name(), other.name());
    let (first, second) = (connect(one.url()).await.unwrap(), connect(other.url()).await.unwrap());
    first.execute("DELETE FROM item WHERE id = 1", &[]).await.unwrap();
    assert_eq!((count(&first).await, count(&second).await), (2, 3));
}

#[tokio::test]
async fn a_private_database_is_gone_once_it_is_given_back() {
    let database = fixture().shared().await.unwrap().postgres("orders").fresh().await.unwrap();
    let url = database.url().to_owned();
    let client = connect(&url).await.unwrap();
    database.release().await.unwrap();
    let gone = async {
        while client.simple_query("SELECT 1").await.is_ok() || connect(&url).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), gone).await.expect("the database is still there");
}

#[tokio::test]
async fn a_private_redis_reaches_no_other_database() {
    let environment = fixture().shared().await.unwrap();
    let private = environment.redis().fresh().await.unwrap();
    let mut connection = redis::Client::open(private.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    redis::cmd("SET").arg("key").arg("value").query_async::<()>(&mut connection).await.unwrap();
    let refused = redis::cmd("SELECT").arg(0).query_async::<()>(&mut connection).await.unwrap_err();
    assert_eq!(refused.code(), Some("NOPERM"));
    let other = environment.redis().fresh().await.unwrap();
    let mut theirs = redis::Client::open(other.url()).unwrap().get_multiplexed_async_connection().await.unwrap();
    assert_eq!(redis::cmd("GET").arg("key").query_async::<Option<String>>(&mut theirs).await.unwrap(), None);
}

#[test]
fn tests_without_a_runtime_have_the_same() {
    let environment = blocking::TestEnvironment::new(fixture()).unwrap();
    let database = environment.postgres("orders").unwrap();
    assert!(database.url().ends_with(database.name()));
    assert_eq!(database.variables()["DB_ORDERS_URL"], database.url());
}

#[tokio::test]
async fn a_database_that_is_not_in_the_profile_is_reported_by_name() {
    let error = fixture().shared().await.unwrap().postgres("nothing").fresh().await.unwrap_err();
    assert!(error.to_string().contains("`nothing`") && error.to_string().contains("`orders`"), "{error}");
}
#[tokio::test]
async fn a_closed_environment_is_composed_again_on_request() {
    let own = || fixture().instance("closed");
    let environment = own().shared().await.unwrap();
    let (project, instance) = environment.place();
    let (project, instance) = (project.to_owned(), instance.to_owned());
    environment.close().await.unwrap();
    let status = || {
        let binary = std::env::var("DEVENV_BIN").unwrap_or_else(|_| "devenv".to_owned());
        let output = std::process::Command::new(binary).args(["status", "--json", "--project", &project, "--instance", &instance]).output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    assert!(status().contains(r#""phase":"absent""#), "{}", status());
    let again = own().shared().await.unwrap();
    assert!(status().contains(r#""phase":"ready""#), "{}", status());
    again.close().await.unwrap();
}
