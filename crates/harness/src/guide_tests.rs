//! The Rust and TOML samples of `docs/guide/testing.md`: the same lines, compiled against this crate. They are not run here; `tests/real.rs` runs
//! their like.

use std::fmt::Debug;

use crate::{HarnessError, TestEnvironment};

/// As much of another crate as the samples use.
mod sqlx {
    pub(super) struct PgPool;

    impl PgPool {
        pub(super) async fn connect(url: &str) -> Result<Self, crate::HarnessError> {
            assert!(!url.is_empty());
            Ok(Self)
        }
    }

    /// The real one closes its connections.
    impl Drop for PgPool {
        fn drop(&mut self) {}
    }
}
use sqlx::PgPool;

async fn a_private_database() -> Result<(), HarnessError> {
    let environment = TestEnvironment::shared("ci").await?;
    let orders = environment.postgres("orders").fresh().await?;
    let pool = sqlx::PgPool::connect(orders.url()).await?;
    drop(pool);
    Ok(())
}

async fn an_order_is_kept() {
    let orders = TestEnvironment::shared("ci").await.unwrap().postgres("orders").fresh().await.unwrap();
    let pool = PgPool::connect(orders.url()).await.unwrap();
    drop(pool);
}

/// The blocks of the page in a language.
fn blocks(language: &str) -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/testing.md");
    let text = std::fs::read_to_string(path).unwrap();
    let begin = format!("```{language}\n");
    text.split(&begin).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn the_samples_of_the_guide_are_those_that_are_compiled_here() {
    fn is_a_future<T: Debug>(_: impl Future<Output = T>) {}
    is_a_future(a_private_database());
    is_a_future(an_order_is_kept());
    let compiled = include_str!("guide_tests.rs");
    let blocks = blocks("rust");
    // The one before this crate is used is of Testcontainers.
    let ours: Vec<&String> = blocks.iter().filter(|block| block.contains("TestEnvironment")).collect();
    assert_eq!((blocks.len(), ours.len()), (3, 2));
    for line in ours.iter().flat_map(|block| block.lines()) {
        let code = line.split("//").next().unwrap().trim();
        assert!(code == "#[tokio::test]" || compiled.contains(code), "not compiled: {code}");
    }
}

#[test]
fn the_dependency_that_the_guide_names_is_this_version() {
    let manifest = blocks("toml").concat();
    let version = env!("CARGO_PKG_VERSION").rsplit_once('.').unwrap().0;
    assert!(manifest.contains(&format!("{} = \"{version}\"", env!("CARGO_PKG_NAME"))), "{manifest}");
}
