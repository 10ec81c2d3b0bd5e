//! The same tests with a container each (Testcontainers), on one shared database, and with devenv; what each suite takes.
//!
//!     cargo run --release -- [TESTS] [AT ONCE] [container|shared|devenv]...
//!
//! `devenv` is found by `DEVENV_BIN`, else in `PATH`. A suite's time has everything in it, from the first container on.

use std::{sync::Arc, time::Instant};

use devenv_bench_suite::{SCHEMA, connect, the_test};
use devenv_harness::TestEnvironment;
use testcontainers::{
    ContainerAsync, GenericImage, ImageExt,
    core::{IntoContainerPort, WaitFor},
    runners::AsyncRunner,
};
use tokio::{sync::Semaphore, task::JoinSet};

async fn server() -> (ContainerAsync<GenericImage>, String) {
    // As the PostgreSQL module of Testcontainers waits: the image says it twice, once for its initialisation.
    let ready = "database system is ready to accept connections";
    let image = GenericImage::new("postgres", "17")
        .with_exposed_port(5432.tcp())
        .with_wait_for(WaitFor::message_on_stderr(ready))
        .with_env_var("POSTGRES_PASSWORD", "postgres");
    let container = image.start().await.expect("a container");
    let port = container.get_host_port_ipv4(5432).await.expect("a port");
    let url = format!("postgres://postgres:postgres@127.0.0.1:{port}/postgres");
    while connect(&url).await.is_err() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    (container, url)
}

async fn in_a_container() {
    let (_container, url) = server().await;
    let client = connect(&url).await.expect("a connection");
    client.batch_execute(SCHEMA).await.expect("the schema");
    the_test(&client).await;
}

async fn on_the_shared(url: &str) {
    let client = connect(url).await.expect("a connection");
    client.batch_execute("DROP TABLE IF EXISTS item").await.expect("an empty database");
    client.batch_execute(SCHEMA).await.expect("the schema");
    the_test(&client).await;
}

async fn on_a_lease(environment: &TestEnvironment) -> f64 {
    let began = Instant::now();
    let database = environment.postgres("app").fresh().await.expect("a private database");
    let took = began.elapsed();
    the_test(&connect(database.url()).await.expect("a connection")).await;
    took.as_secs_f64() * 1000.0
}

/// Runs the test so many times, at most so many at once; what each one gave.
async fn all<T: Send + 'static, F: Future<Output = T> + Send + 'static>(tests: usize, at_once: usize, test: impl Fn() -> F) -> Vec<T> {
    let places = Arc::new(Semaphore::new(at_once));
    let mut running = JoinSet::new();
    for _ in 0..tests {
        let place = places.clone().acquire_owned().await.expect("never closed");
        let test = test();
        running.spawn(async move {
            let given = test.await;
            drop(place);
            given
        });
    }
    running.join_all().await
}

fn quantile(figures: &mut [f64], share: f64) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[((figures.len() as f64 * share) as usize).min(figures.len() - 1)]
}

#[tokio::main]
async fn main() {
    let mut words = std::env::args().skip(1).peekable();
    let mut number = |usual| words.next_if(|word| word.parse::<usize>().is_ok()).map_or(usual, |word| word.parse().expect("a number"));
    let (tests, at_once) = (number(100), number(4));
    let suites: Vec<String> = words.collect();
    let wanted = |name: &str| suites.is_empty() || suites.iter().any(|suite| suite == name);
    if wanted("devenv") {
        let began = Instant::now();
        let project = concat!(env!("CARGO_MANIFEST_DIR"), "/project");
        let environment = TestEnvironment::of("ci").project(project).shared().await.expect("an environment");
        let up = began.elapsed();
        let shared = environment.clone();
        let mut leases = all(tests, at_once, move || {
            let environment = shared.clone();
            async move { on_a_lease(&environment).await }
        })
        .await;
        let (p50, p95) = (quantile(&mut leases, 0.5), quantile(&mut leases, 0.95));
        println!("devenv: {tests} tests in {:.1} s, {:.1} s of it up; a lease p50 {p50:.0} ms, p95 {p95:.0} ms", began.elapsed().as_secs_f64(), up.as_secs_f64());
        environment.close().await.expect("a closed environment");
    }
    if wanted("shared") {
        let began = Instant::now();
        let (_container, url) = server().await;
        // One at a time: they would see one another's rows.
        all(tests, 1, move || {
            let url = url.clone();
            async move { on_the_shared(&url).await }
        })
        .await;
        println!("one shared database: {tests} tests in {:.1} s, one at a time", began.elapsed().as_secs_f64());
    }
    if wanted("container") {
        let began = Instant::now();
        all(tests, at_once, in_a_container).await;
        println!("a container each: {tests} tests in {:.1} s", began.elapsed().as_secs_f64());
    }
}
