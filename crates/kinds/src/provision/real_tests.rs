//! Provisioning of real servers, started with the docker client.
#![expect(clippy::print_stderr, reason = "measurements, shown with --nocapture")]

use std::time::Instant;

use super::*;
use devenv_spec::{Probe, SecretRef};

use crate::{
    kafka::spec::{KafkaProbe, KafkaProvision, TopicSpec},
    postgres::spec::{ExtensionSpec, PostgresDatabase, PostgresProbe, PostgresProvision, PostgresRole},
    redis::spec::{RedisProbe, RedisProvision},
    s3::spec::S3Provision,
};

use crate::probe::real_tests::{Running, docker, free_port, ready, start, start_kafka, vault};

async fn made(provision: &OfKind, vault: &Vault) -> Vec<String> {
    let cx = ProvisionContext { vault: vault.clone(), authority: None, again: false };
    let started = Instant::now();
    let changes = apply(provision, &cx).await.unwrap_or_else(|error| panic!("{error:?}"));
    eprintln!("applied in {:?}: {changes:#?}", started.elapsed());
    changes.into_iter().map(|change| change.what).collect()
}

fn out(container: &Running, command: &[&str]) -> String {
    let output = docker(&[&["exec", &container.0], command].concat());
    [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat()
}

fn database(name: &str, owner: &str, extensions: &[&str]) -> PostgresDatabase {
    PostgresDatabase {
        name: name.to_owned(),
        owner: owner.to_owned(),
        extensions: extensions.iter().map(|name| ExtensionSpec { name: (*name).to_owned() }).collect(),
        settings: [("statement_timeout", "30s"), ("search_path", "\"$user\", public")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
    }
}

#[tokio::test]
async fn postgres_gets_roles_that_reach_their_own_database_only_and_then_nothing_is_left_to_do() {
    let (_directory, vault) = vault();
    let superuser = SecretRef::new("db", "postgres");
    let environment = format!("POSTGRES_PASSWORD={}", vault.reveal(&superuser).unwrap());
    let port = free_port();
    let container = start("pgvector/pgvector:pg17", port, 5432, &["-e", &environment], &["postgres", "-c", "log_statement=all"]);
    let login = |user: &str, secret: &SecretRef, database: &str| {
        PostgresProbe { port, user: user.to_owned(), password: secret.clone(), database: database.to_owned(), tls: false }.into_probe()
    };
    ready(&login("postgres", &superuser, "postgres"), &vault).await;
    let secret = |name: &str| SecretRef::new("db", name);
    let role = |name: &str| PostgresRole { name: name.to_owned(), password: secret(name) };
    let mut wanted = PostgresProvision {
        port,
        tls: false,
        superuser: "postgres".to_owned(),
        password: superuser.clone(),
        roles: vec![role("orders"), role("Odd \"role\"")],
        databases: vec![database("orders", "orders", &["vector", "uuid-ossp"]), database("other's", "Odd \"role\"", &[])],
    };
    let first = made(&wanted.clone().into_provision(), &vault).await;
    assert!(first.contains(&"role `orders` created".to_owned()), "{first:?}");
    assert!(first.contains(&"extension `vector` created in `orders`".to_owned()), "{first:?}");
    for _ in 0..3 {
        assert_eq!(made(&wanted.clone().into_provision(), &vault).await, Vec::<String>::new());
    }
    let cx = crate::probe::real_tests::context(&vault);
    let can = async |user: &str, database: &str| crate::probe::ask(&login(user, &secret(user), database), &cx).await;
    assert!(can("orders", "orders").await.is_ok());
    assert!(can("Odd \"role\"", "other's").await.is_ok());
    for (user, database) in [("orders", "other's"), ("orders", "postgres"), ("orders", "template1"), ("Odd \"role\"", "orders")] {
        assert!(can(user, database).await.unwrap_err().what.contains("permission denied"), "{user} in {database}");
    }
    // Manual changes are reverted, and each is reported; scripts decide on other rights of a role.
    let psql = |script: &str| out(&container, &["psql", "-qU", "postgres", "-d", "orders", "-c", script]);
    psql("ALTER ROLE orders NOLOGIN CREATEDB PASSWORD 'mine'");
    psql("GRANT CONNECT ON DATABASE orders TO PUBLIC");
    psql("DROP EXTENSION vector");
    psql("ALTER DATABASE orders SET statement_timeout = '1s'");
    assert_eq!(
        made(&wanted.clone().into_provision(), &vault).await,
        [
            "role `orders` may log in",
            "password of the role `orders` set to the stored one",
            "database `orders` closed to all roles but its owner",
            "`statement_timeout` of the database `orders` set to `30s`",
            "extension `vector` created in `orders`",
        ]
    );
    assert!(can("orders", "orders").await.is_ok());
    assert_eq!(
        out(&container, &["psql", "-AtqU", "postgres", "-c", "SELECT rolcreatedb FROM pg_roles WHERE rolname = 'orders'"]).trim(),
        "t"
    );
    let log = String::from_utf8(docker(&["logs", &container.0]).stderr).unwrap();
    assert!(!log.contains("SCRAM-SHA-256$") && !log.contains(&vault.reveal(&secret("orders")).unwrap()), "{log}");

    wanted.databases[0].extensions.push(ExtensionSpec { name: "pgvector".to_owned() });
    let cx = ProvisionContext { vault: vault.clone(), authority: None, again: false };
    let error = apply(&wanted.clone().into_provision(), &cx).await.unwrap_err();
    assert_eq!(error.to_string(), "the extension `pgvector` is not in this server's image");
    assert_eq!(error.hint().unwrap(), "available: vector");
    wanted.password = secret("lost");
    let error = apply(&wanted.into_provision(), &cx).await.unwrap_err();
    assert!(matches!(error, ProvisionError::WrongPassword { .. }), "{error}");
}

#[tokio::test]
async fn eight_databases_are_made_at_once_and_by_sessions_that_meet() {
    let (_directory, vault) = vault();
    let superuser = SecretRef::new("db", "postgres");
    let environment = format!("POSTGRES_PASSWORD={}", vault.reveal(&superuser).unwrap());
    let port = free_port();
    let container = start("postgres:17", port, 5432, &["-e", &environment], &[]);
    let user = "postgres".to_owned();
    let probe = PostgresProbe { port, database: user.clone(), user, password: superuser.clone(), tls: false }.into_probe();
    ready(&probe, &vault).await;
    let names: Vec<String> = (1..=8).map(|number| format!("service{number}")).collect();
    let wanted = PostgresProvision {
        port,
        tls: false,
        superuser: "postgres".to_owned(),
        password: superuser,
        roles: names.iter().map(|name| PostgresRole { name: name.clone(), password: SecretRef::new("db", name) }).collect(),
        databases: names.iter().map(|name| database(name, name, &["uuid-ossp", "pg_trgm"])).collect(),
    }
    .into_provision();
    assert_eq!(made(&wanted, &vault).await.len(), 8 * 7 + 2);
    for _ in 0..3 {
        assert_eq!(made(&wanted, &vault).await, Vec::<String>::new());
    }
    // As after a daemon that was killed here: its sessions still change the catalogue when the next daemon begins.
    let open: String = names.iter().map(|name| format!("GRANT CONNECT ON DATABASE {name} TO PUBLIC;")).collect();
    for _ in 0..10 {
        let opened = out(&container, &["psql", "-U", "postgres", "-qc", &open]);
        assert_eq!(opened, "");
        let sessions = [(); 6].map(|()| made(&wanted, &vault));
        let changes: usize = futures_util::future::join_all(sessions).await.into_iter().map(|changes| changes.len()).sum();
        assert!(changes > 0);
        assert_eq!(made(&wanted, &vault).await, Vec::<String>::new());
    }
}

#[tokio::test]
async fn redis_gets_its_users_once() {
    let (_directory, vault) = vault();
    let password = SecretRef::new("cache", "default");
    let secret = vault.reveal(&password).unwrap();
    let port = free_port();
    let container = start("redis:8.0", port, 6379, &[], &["redis-server", "--requirepass", &secret]);
    let probe = |user: &str, password: SecretRef| RedisProbe { port, user: user.to_owned(), password, tls: false }.into_probe();
    ready(&probe("default", password.clone()), &vault).await;
    let app = SecretRef::new("cache", "app");
    let mut wanted = RedisProvision {
        port,
        tls: false,
        password,
        users: vec![("app".to_owned(), "~app:* +@all -@dangerous (~other:* +get)".to_owned(), app.clone())],
    };
    assert_eq!(made(&wanted.clone().into_provision(), &vault).await, ["ACL user `app` created"]);
    for _ in 0..3 {
        assert_eq!(made(&wanted.clone().into_provision(), &vault).await, Vec::<String>::new());
    }
    // It may not use INFO, and is still ready.
    assert_eq!(ready(&probe("app", app), &vault).await.evidence, "PONG as app");
    out(&container, &["redis-cli", "-a", &secret, "ACL", "SETUSER", "app", "+@dangerous"]);
    out(&container, &["redis-cli", "-a", &secret, "ACL", "SETUSER", "stranger", "on"]);
    assert_eq!(
        made(&wanted.clone().into_provision(), &vault).await,
        ["ACL user `app` changed", "ACL user `stranger` is not in the profile and was kept"]
    );
    wanted.users[0].1 = "~app:* +@nonsense".to_owned();
    let cx = ProvisionContext { vault: vault.clone(), authority: None, again: false };
    let error = apply(&wanted.into_provision(), &cx).await.unwrap_err();
    assert!(error.to_string().contains("Unknown command or category name"), "{error}");
}

#[tokio::test]
async fn kafka_gets_its_topics_and_groups_once() {
    let (_directory, vault) = vault();
    let port = free_port();
    let container = start_kafka(port);
    ready(&KafkaProbe { port, login: None }.into_probe(), &vault).await;
    let topic = |name: &str, partitions, retention: &str| TopicSpec {
        name: name.to_owned(),
        partitions,
        settings: [("retention.ms".to_owned(), retention.to_owned()), ("min.cleanable.dirty.ratio".to_owned(), "0.50".to_owned())].into(),
    };
    let mut wanted = KafkaProvision {
        port,
        topics: vec![topic("user-events", 2, "3600000"), topic("declaration-events", 4, "3600000")],
        consumer_groups: vec!["user-consumer".to_owned(), "case-consumer".to_owned()],
        login: None,
        users: Vec::new(),
    };
    assert_eq!(
        made(&wanted.clone().into_provision(), &vault).await,
        [
            "topic `user-events` created, partitions: 2",
            "topic `declaration-events` created, partitions: 4",
            "consumer group `user-consumer` created at the start of its topics",
            "consumer group `case-consumer` created at the start of its topics",
        ]
    );
    for _ in 0..3 {
        assert_eq!(made(&wanted.clone().into_provision(), &vault).await, Vec::<String>::new());
    }
    wanted.topics = vec![topic("user-events", 3, "7200000"), topic("declaration-events", 1, "3600000")];
    assert_eq!(
        made(&wanted.into_provision(), &vault).await,
        [
            "topic `user-events`: partitions increased from 2 to 3",
            "topic `declaration-events` has 4 partitions, but the profile says 1: Kafka cannot reduce the number",
            "`retention.ms` of the topic `user-events` set to `7200000`",
        ]
    );
    let tools = out(&container, &["/opt/kafka/bin/kafka-consumer-groups.sh", "--bootstrap-server", "localhost:29092", "--list"]);
    assert!(tools.contains("user-consumer") && tools.contains("case-consumer"), "{tools}");
    let wrong = KafkaProvision { port, topics: vec![topic("bad", 1, "soon")], consumer_groups: Vec::new(), login: None, users: Vec::new() };
    let cx = ProvisionContext { vault: vault.clone(), authority: None, again: false };
    let error = apply(&wrong.into_provision(), &cx).await.unwrap_err();
    assert!(error.to_string().contains("retention.ms"), "{error}");
}

#[tokio::test]
async fn an_s3_store_gets_its_buckets_once() {
    let (_directory, vault) = vault();
    let (access_key, secret_key) = (SecretRef::new("files", "access"), SecretRef::new("files", "secret"));
    let environment = [
        format!("ROOT_ACCESS_KEY={}", vault.reveal(&access_key).unwrap()),
        format!("ROOT_SECRET_KEY={}", vault.reveal(&secret_key).unwrap()),
    ];
    let port = free_port();
    let options = ["-e", &environment[0], "-e", &environment[1], "--tmpfs", "/data"];
    let _container = start("versity/versitygw:v1.8.0", port, 7070, &options, &["posix", "/data"]);
    ready(&Probe::Tcp { port }, &vault).await;
    let mut wanted = S3Provision { port, access_key, secret_key, buckets: vec!["documents".to_owned(), "exports-1".to_owned()] };
    assert_eq!(made(&wanted.clone().into_provision(), &vault).await, ["bucket `documents` created", "bucket `exports-1` created"]);
    for _ in 0..3 {
        assert_eq!(made(&wanted.clone().into_provision(), &vault).await, Vec::<String>::new());
    }
    let cx = ProvisionContext { vault: vault.clone(), authority: None, again: false };
    wanted.buckets = vec!["Bad_Name".to_owned()];
    assert!(matches!(apply(&wanted.clone().into_provision(), &cx).await, Err(ProvisionError::Refused { .. })));
    wanted.buckets = vec!["reports".to_owned()];
    wanted.secret_key = SecretRef::new("files", "lost");
    assert!(matches!(apply(&wanted.into_provision(), &cx).await, Err(ProvisionError::WrongPassword { .. })));
}
