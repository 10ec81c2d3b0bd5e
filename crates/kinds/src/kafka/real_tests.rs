//! A real broker that asks for passwords, started as the kind describes it.

use std::{collections::BTreeMap, fs};

use devenv_api::LedgerState;
use devenv_profile::testing::given;
use devenv_spec::SecretRef;
use serde_json::json;
use tokio::net::TcpStream;

use super::{KafkaKind, login::Login, spec::KafkaProvision, wire::Connection};
use crate::{
    capability::{Leases, ServiceKind, Variables},
    metrics,
    probe::real_tests::{docker, free_port, ready, start_described, vault},
    provision::{ProvisionContext, apply as provision},
    script::{
        Checksums, Choice, ScriptContext,
        testing::{apply, engine},
    },
};

/// As a client of Kafka's own, which logs in by SCRAM.
fn topics_as(user: &str, password: &str, port: u16) -> Result<String, String> {
    const SCRIPT: &str = r#"printf 'security.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\nrequest.timeout.ms=8000\ndefault.api.timeout.ms=9000\nsasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="%s" password="%s";\n' "$WHO" "$WORD" > /tmp/login
exec /opt/kafka/bin/kafka-topics.sh --bootstrap-server "127.0.0.1:$PORT" --command-config /tmp/login --list"#;
    let variables = [format!("WHO={user}"), format!("WORD={password}"), format!("PORT={port}")];
    let mut arguments = vec!["run", "--rm", "--network", "host"];
    for variable in &variables {
        arguments.extend(["-e", variable]);
    }
    arguments.extend(["apache/kafka:4.3.1", "sh", "-c", SCRIPT]);
    let output = docker(&arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr) + &text(&output.stdout)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_with_passwords_lets_nobody_in_without_one_and_everything_of_devenv_works() {
    let (_secrets, vault) = vault();
    let port = free_port();
    let declared = json!({"kafka": {
        "auth": "scram", "topics": { "orders": { "partitions": 2 } }, "consumer_groups": ["billing"], "seed": ["seed"],
    }});
    let given = given("events", declared).with(|service| service.ports.extend([(9092, port)]));
    let service = given.spec().services["events"].clone();
    let running = start_described(&service, &vault);
    ready(&service.probe, &vault).await;
    let context = ProvisionContext { vault: vault.clone(), authority: None, again: false };
    let changes: Vec<_> = provision(&service.provision[0], &context).await.unwrap().into_iter().map(|change| change.what).collect();
    for wanted in
        ["user `app` created", "topic `orders` created, partitions: 2", "consumer group `billing` created at the start of its topics"]
    {
        assert!(changes.iter().any(|change| change == wanted), "{changes:?}");
    }
    assert!(provision(&service.provision[0], &context).await.unwrap().is_empty());

    // Nobody without a password, and nobody with a wrong one.
    let open = async |login: Option<&Login>| {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        Connection::open(stream, login).await?.metadata(None).await.map(|metadata| metadata.topics.len())
    };
    assert!(open(None).await.is_err());
    let password = vault.reveal(&SecretRef::new("events", "app")).unwrap();
    let login = |password: &str| Login { user: "app".to_owned(), password: password.to_owned() };
    assert!(open(Some(&login("wrong"))).await.is_err());
    assert!(open(Some(&login(&password))).await.is_ok());
    assert!(topics_as("app", &password, port).unwrap().contains("orders"));
    assert!(topics_as("app", "wrong", port).unwrap_err().contains("Authentication failed"), "a wrong password is taken");
    assert!(topics_as("app", &password, port).is_ok(), "and the right one still is");

    // Scripts, leases, metrics, the workload's question.
    let project = tempfile::tempdir().unwrap();
    fs::create_dir(project.path().join("seed")).unwrap();
    fs::write(project.path().join("seed/a.jsonl"), "{\"topic\":\"orders\",\"value\":\"one\"}\n").unwrap();
    let checksums = Checksums::default();
    let cx = ScriptContext {
        engine: engine().await,
        container: &running.0,
        vault: &vault,
        project: project.path(),
        authority: None,
        checksums: &checksums,
        progress: &|_| {},
    };
    let entries = apply(service.scripts.as_ref().unwrap(), Choice::All, &cx).await.unwrap();
    assert_eq!(entries.iter().map(|entry| entry.state).collect::<Vec<_>>(), [LedgerState::Applied]);
    let lessor = KafkaKind.lessor(&service, &context).unwrap();
    lessor.take("l1", None, "").await.unwrap().give_back().await;
    lessor.sweep().await.unwrap();
    let page = metrics::of(&service.provision[0], &context).await.unwrap().to_string();
    assert!(page.contains("kafka_up 1") && page.contains("kafka_topic_partitions{topic=\"orders\"} 2"), "{page}");
    let mut variables = BTreeMap::from([("EVENTS_BROKERS".to_owned(), format!("127.0.0.1:{port}"))]);
    assert!(KafkaKind.asker(&Variables(variables.clone()), "events").unwrap().open().await.unwrap().ask().await.is_err());
    variables.extend([("EVENTS_USERNAME".to_owned(), "app".to_owned()), ("EVENTS_PASSWORD".to_owned(), password.clone())]);
    KafkaKind.asker(&Variables(variables), "events").unwrap().open().await.unwrap().ask().await.unwrap();

    // The passwords are in a file of the broker's user alone, and a new start has what it needs.
    let admin = vault.reveal(&SecretRef::new("events", "devenv")).unwrap();
    let seen = [docker(&["inspect", &running.0]).stdout, docker(&["top", &running.0, "-eo", "args"]).stdout].concat();
    let seen = String::from_utf8_lossy(&seen);
    assert!(!seen.contains(&password) && !seen.contains(&admin));
    assert!(docker(&["restart", "-t", "20", &running.0]).status.success());
    ready(&service.probe, &vault).await;
    assert!(provision(&service.provision[0], &context).await.unwrap().is_empty());
    assert!(KafkaProvision::of(&service).is_some_and(|server| server.login.is_some()));
}
