//! Commands, keys and records against a real Redis and a real Kafka.

use std::{fs, net::TcpListener, path::Path, process::Command};

use devenv_api::{LedgerEntry, LedgerState};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    message::Headers,
};

use super::{
    Checksums, Choice, ScriptContext, ScriptError, accept, drift,
    testing::{Server, apply, docker, engine, ledger},
};
use devenv_secrets::{Vault, tls::Authority};
use devenv_spec::{OfKind, ScriptPlace, ScriptSet, ScriptSource, SecretRef};

use crate::{kafka::spec::KafkaTarget, redis::spec::RedisTarget};

pub(super) struct Project {
    pub(super) directory: tempfile::TempDir,
    pub(super) vault: Vault,
    pub(super) server: Server,
    pub(super) set: ScriptSet,
    authority: Option<Authority>,
    checksums: Checksums,
}

fn set(name: &str, target: OfKind) -> ScriptSet {
    let sources = vec![ScriptSource { place: ScriptPlace::Service, paths: vec!["seed".into()], seed: true }];
    ScriptSet { service: name.parse().unwrap(), target, sources }
}

impl Project {
    pub(super) fn redis(tls: bool) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("seed")).unwrap();
        let vault = Vault::new(directory.path().join(".secrets"));
        let secret = SecretRef::new("cache", "default");
        let password = vault.reveal(&secret).unwrap();
        let (mut arguments, mut authority) = (vec!["redis:8.0", "redis-server", "--requirepass", &password, "--appendonly", "yes"], None);
        let mount = format!("{}:/tls:ro", directory.path().display());
        if tls {
            let made = Authority::open(directory.path()).unwrap();
            let (certificate, key) = made.server(&["cache".into()]).unwrap();
            fs::write(directory.path().join("server.pem"), certificate).unwrap();
            fs::write(directory.path().join("server.key"), key).unwrap();
            Command::new("chmod").args(["-R", "a+rX", directory.path().to_str().unwrap()]).status().unwrap();
            arguments.splice(0..0, ["-v", &mount]);
            arguments.extend([
                "--port",
                "0",
                "--tls-port",
                "6379",
                "--tls-cert-file",
                "/tls/server.pem",
                "--tls-key-file",
                "/tls/server.key",
                "--tls-auth-clients",
                "no",
            ]);
            authority = Some(made);
        }
        let server = Server::start(6379, &arguments);
        server.until(|| docker(&["logs", &server.id]).contains("Ready to accept"));
        let target = RedisTarget { port: server.port, tls, password: secret }.into_target();
        Self { directory, vault, set: set("cache", target), server, authority, checksums: Checksums::default() }
    }

    pub(super) fn kafka() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("seed")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (published, advertised) =
            (format!("127.0.0.1:{port}:9094"), format!("KAFKA_ADVERTISED_LISTENERS=HOST://127.0.0.1:{port},NETWORK://localhost:9092"));
        let mut arguments = vec!["run", "-d", "--label", "devenv-test=data", "-p", &published, "-e", &advertised];
        let settings = [
            "CLUSTER_ID=4L6g3nShT-eMCtK--X86sw",
            "KAFKA_NODE_ID=1",
            "KAFKA_PROCESS_ROLES=broker,controller",
            "KAFKA_CONTROLLER_QUORUM_VOTERS=1@127.0.0.1:9093",
            "KAFKA_CONTROLLER_LISTENER_NAMES=CONTROLLER",
            "KAFKA_INTER_BROKER_LISTENER_NAME=NETWORK",
            "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP=CONTROLLER:PLAINTEXT,HOST:PLAINTEXT,NETWORK:PLAINTEXT",
            "KAFKA_LISTENERS=HOST://0.0.0.0:9094,NETWORK://0.0.0.0:9092,CONTROLLER://127.0.0.1:9093",
            "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR=1",
            "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR=1",
            "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR=1",
            "KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS=4",
            "KAFKA_LOG_DIRS=/var/lib/kafka/data/broker",
            "KAFKA_HEAP_OPTS=-Xmx384m",
        ];
        // The broker commits transactions by calling itself, so it needs a listener that it can reach from inside.
        for setting in &settings {
            arguments.extend(["-e", setting]);
        }
        arguments.push("apache/kafka:4.3.1");
        let server = Server { id: docker(&arguments), port };
        server.until(|| docker(&["logs", &server.id]).contains("Kafka Server started"));
        Self {
            directory,
            vault: Vault::new("/nonexistent".into()),
            set: set("events", KafkaTarget { port, login: None }.into_target()),
            server,
            authority: None,
            checksums: Checksums::default(),
        }
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        fs::write(self.directory.path().join(path), content).unwrap();
        self
    }

    async fn context(&self) -> ScriptContext<'_> {
        ScriptContext {
            engine: engine().await,
            container: &self.server.id,
            vault: &self.vault,
            project: self.directory.path(),
            authority: self.authority.as_ref().map(Authority::certificate),
            checksums: &self.checksums,
            progress: &|_| {},
        }
    }

    pub(super) async fn apply(&self) -> Result<Vec<LedgerEntry>, ScriptError> {
        apply(&self.set, Choice::All, &self.context().await).await
    }

    pub(super) fn cli(&self, arguments: &[&str]) -> String {
        let password = self.vault.reveal(&SecretRef::new("cache", "default")).unwrap();
        let mut all = vec!["exec", &self.server.id, "redis-cli", "--no-auth-warning", "-a", &password];
        if self.authority.is_some() {
            all.extend(["--tls", "--insecure"]);
        }
        all.extend(arguments);
        docker(&all)
    }

    /// Everything committed in a topic: partition, key, value, headers.
    pub(super) fn records(&self, topic: &str) -> Vec<(i32, String, String, usize)> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", format!("127.0.0.1:{}", self.server.port))
            .set("group.id", "test")
            .set("enable.partition.eof", "true")
            .create()
            .unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), std::time::Duration::from_secs(10)).unwrap();
        let mut from = TopicPartitionList::new();
        let partitions = metadata.topics()[0].partitions().len();
        for partition in 0..partitions {
            from.add_partition_offset(topic, partition as i32, Offset::Beginning).unwrap();
        }
        consumer.assign(&from).unwrap();
        let (mut found, mut ended) = (Vec::new(), 0);
        while ended < partitions {
            match consumer.poll(std::time::Duration::from_secs(20)).unwrap() {
                Ok(message) => {
                    let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
                    found.push((
                        message.partition(),
                        text(message.key()),
                        text(message.payload()),
                        message.headers().map_or(0, Headers::count),
                    ));
                }
                Err(KafkaError::PartitionEOF(_)) => ended += 1,
                Err(error) => panic!("{error}"),
            }
        }
        found
    }
}

fn states(entries: &[LedgerEntry]) -> Vec<String> {
    entries.iter().map(|entry| format!("{} {:?} {:?}", entry.path, entry.state, entry.rows)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_takes_commands_and_keys_once_and_over_tls_too() {
    for tls in [false, true] {
        let project = Project::redis(tls);
        let keys: String =
            (0..2500).map(|i| format!("{{\"key\": \"k:{i}\", \"type\": \"string\", \"value\": \"{i}\"}}")).collect::<Vec<_>>().join("\n");
        project
            .write("seed/01-commands.redis", "# remark\nSET greeting \"hello world\"\nINCR counter\nSELECT 1\nRPUSH list a b c\n")
            .write("seed/02-config.redis", "CONFIG SET maxmemory-policy allkeys-lru\nINCR counter\n")
            .write("seed/03-keys.jsonl", keys)
            .write("seed/04-types.jsonl", "{\"key\":\"h\",\"type\":\"hash\",\"value\":{\"a\":1},\"ttl\":3600}\n{\"key\":\"s\",\"type\":\"stream\",\"value\":[{\"a\":\"1\"},{\"a\":\"2\"}]}\n{\"key\":\"z\",\"type\":\"zset\",\"value\":{\"m\":2.5}}\n{\"key\":\"u\",\"type\":\"set\",\"value\":[1,2]}\n{\"key\":\"l\",\"type\":\"list\",\"value\":[\"x\",\"y\"]}\n");
        let entries = project.apply().await.unwrap();
        assert_eq!(
            states(&entries),
            [
                "seed/01-commands.redis Applied Some(4)",
                "seed/02-config.redis Applied Some(2)",
                "seed/03-keys.jsonl Applied Some(2500)",
                "seed/04-types.jsonl Applied Some(5)"
            ]
        );
        assert_eq!(project.apply().await.unwrap(), entries);
        assert_eq!(project.cli(&["get", "greeting"]), "hello world");
        assert_eq!(project.cli(&["get", "counter"]), "2");
        assert_eq!(project.cli(&["-n", "1", "llen", "list"]), "3");
        assert_eq!(project.cli(&["get", "k:2499"]), "2499");
        assert_eq!(project.cli(&["xlen", "s"]), "2");
        assert!(project.cli(&["ttl", "h"]).parse::<u32>().unwrap() > 3500);
        project.write("seed/03-keys.jsonl", "{\"key\": \"k:0\", \"value\": \"new\"}\n");
        assert_eq!(drift(&project.apply().await.unwrap()).len(), 1);
        assert!(accept(&project.set, "seed/03-keys.jsonl", &project.context().await).await.unwrap());
        assert_eq!(drift(&ledger(&project.set, &project.context().await).await.unwrap()), []);
        assert_eq!(project.cli(&["get", "k:0"]), "0");
        // The ledger is removed with the data.
        project.cli(&["flushall"]);
        assert!(ledger(&project.set, &project.context().await).await.unwrap().iter().all(|entry| entry.state == LedgerState::Pending));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_in_a_file_leaves_the_ledger_and_a_file_that_was_cut_off_goes_on() {
    for flush in ["FLUSHALL", "FLUSHDB", "SWAPDB 0 1", "EVAL \"redis.call('FLUSHALL')\" 0", "MULTI\nFLUSHALL\nEXEC"] {
        let project = Project::redis(false);
        project
            .write("seed/01.redis", "SET banner x\nSELECT 1\nSET other y\n")
            .write("seed/02.redis", format!("{flush}\nRPUSH jobs a b c\n"));
        let entries = project.apply().await.unwrap();
        assert!(entries.iter().all(|entry| entry.state == LedgerState::Applied), "{flush}: {entries:?}");
        assert_eq!(project.apply().await.unwrap(), entries, "{flush}");
        assert_eq!(project.cli(&["llen", "jobs"]), "3", "{flush}");
        assert_eq!(project.cli(&["-n", "1", "exists", "devenv:ledger"]), "0", "{flush}");
    }
    let project = Project::redis(false);
    let mut text = "INCR counter\n".repeat(2000);
    text.push_str("SELECT 2\nINCR other\nCONFIG SET maxmemory-samples 6\nINCR other\n");
    project.write("seed/01.redis", &text);
    let began = std::time::Instant::now();
    let entries = project.apply().await.unwrap();
    assert_eq!((entries[0].rows, began.elapsed().as_secs() < 120), (Some(2004), true));
    // The state that a run leaves when it is killed after the second part.
    let row = project.cli(&["hget", "devenv:ledger", "seed/01.redis"]);
    let row = row.replace("\"applied\"", "\"running\"").replacen('{', "{\"done\":1000,\"selected\":\"0\",", 1);
    project.cli(&["hset", "devenv:ledger", "seed/01.redis", &row]);
    project.cli(&["set", "counter", "1000"]);
    project.cli(&["-n", "2", "del", "other"]);
    project.apply().await.unwrap();
    assert_eq!((project.cli(&["get", "counter"]), project.cli(&["-n", "2", "get", "other"])), ("2000".to_owned(), "2".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parts_behind_a_failed_one_do_nothing_though_they_are_sent_already() {
    let project = Project::redis(false);
    for failing in [499, 500, 501, 1499, 2750] {
        let mut text = "SET text x\n".to_owned();
        text.push_str(&"INCR counter\n".repeat(failing - 2));
        text.push_str("LPUSH text a\n");
        text.push_str(&"INCR counter\n".repeat(4000));
        project.write("seed/00.redis", "SET first 1\n").write("seed/01.redis", &text);
        let error = project.apply().await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("seed/01.redis:{failing}: WRONGTYPE")), "{error}");
        assert_eq!(project.cli(&["get", "counter"]), (failing - 2).to_string());
        let entries = ledger(&project.set, &project.context().await).await.unwrap();
        assert_eq!(entries.iter().map(|entry| entry.state).collect::<Vec<_>>(), [LedgerState::Applied, LedgerState::Interrupted]);
        // Not again without a request.
        project.apply().await.unwrap_err();
        assert_eq!(project.cli(&["get", "counter"]), (failing - 2).to_string());
        project.cli(&["flushall"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_redis_line_is_reported_with_its_number() {
    let project = Project::redis(false);
    for (path, text, wanted) in [
        ("seed/a.redis", "SET a 1\nINCR a\nLPUSH a x\nSET b 1\n", "seed/a.redis:3: WRONGTYPE"),
        ("seed/a.redis", "SET a 1\nSET b \"x\n", "seed/a.redis:2: unterminated quote"),
        ("seed/a.redis", "SET a 1\nNOSUCH b\n", "seed/a.redis:2: "),
        ("seed/a.redis", "CONFIG SET nosuch 1\n", "seed/a.redis:1: "),
        ("seed/a.redis", "SET a 1\nMULTI\n", "seed/a.redis:2: this MULTI has no EXEC"),
        ("seed/a.jsonl", "{\"key\":\"a\",\"value\":\"1\"}\n{\"key\":1}\n", "seed/a.jsonl:2: "),
        ("seed/a.jsonl", "{\"key\":\"a\",\"value\":\"1\"}\n{\"key\":\"b\",\"type\":\"lists\",\"value\":[]}\n", "seed/a.jsonl:2: "),
    ] {
        project.write(path, text);
        let error = project.apply().await.unwrap_err();
        assert!(error.to_string().starts_with(wanted), "{text}: {error}");
        let half = if text.starts_with("SET a 1\nINCR") { LedgerState::Interrupted } else { LedgerState::Failed };
        assert_eq!(ledger(&project.set, &project.context().await).await.unwrap()[0].state, half, "{text}");
        fs::remove_file(project.directory.path().join(path)).unwrap();
        project.cli(&["flushall"]);
    }
}

/// One run of the applying process, to be killed: started by the next test from this very binary.
#[tokio::test(flavor = "multi_thread")]
async fn an_applying_process_for_kafka_can_be_started_from_outside() {
    let Ok(settings) = std::env::var("DEVENV_TEST_APPLY_KAFKA") else { return };
    let (project, port) = settings.split_once('|').unwrap();
    let (vault, checksums) = (Vault::new("/nonexistent".into()), Checksums::default());
    let cx = ScriptContext {
        engine: engine().await,
        container: "",
        vault: &vault,
        project: Path::new(project),
        authority: None,
        checksums: &checksums,
        progress: &|_| {},
    };
    apply(&set("events", KafkaTarget { port: port.parse().unwrap(), login: None }.into_target()), Choice::All, &cx).await.unwrap();
}

#[expect(clippy::print_stderr, reason = "measurements, shown with --nocapture")]
#[tokio::test(flavor = "multi_thread")]
async fn kafka_takes_topics_and_records_exactly_once_however_often_it_is_cut_off() {
    const RECORDS: usize = 200_000;
    let project = Project::kafka();
    project
        .write("seed/01-topics.kafka.yaml", "topics:\n  orders: { partitions: 3, settings: { retention.ms: \"-1\" } }\nrecords:\n  - { topic: orders, key: a, value: { n: 1 }, headers: { trace: abc }, partition: 2 }\n")
        .write("seed/02-orders.jsonl", "{\"topic\":\"orders\",\"key\":\"b\",\"value\":\"text\",\"partition\":1}\n{\"topic\":\"orders\",\"value\":[1, 2]}\n");
    let entries = project.apply().await.unwrap();
    assert_eq!(states(&entries), ["seed/01-topics.kafka.yaml Applied Some(1)", "seed/02-orders.jsonl Applied Some(2)"]);
    assert_eq!(project.apply().await.unwrap(), entries);
    let found = project.records("orders");
    assert_eq!(found.len(), 3);
    assert!(found.contains(&(2, "a".into(), "{\"n\":1}".into(), 1)) && found.contains(&(1, "b".into(), "text".into(), 0)), "{found:?}");
    assert!(found.iter().any(|record| record.2 == "[1,2]"));

    project.write("seed/03-bad.jsonl", "{\"topic\":\"orders\",\"value\":1}\n{\"topic\":\"orders\",\"valu\":1}\n");
    let error = project.apply().await.unwrap_err();
    assert!(error.to_string().starts_with("seed/03-bad.jsonl:2: unknown field `valu`"), "{error}");
    project.write("seed/03-bad.jsonl", "{\"topic\":\"orders\",\"value\":1,\"partition\":77}\n");
    let error = project.apply().await.unwrap_err();
    assert!(error.to_string().starts_with("seed/03-bad.jsonl"), "{error}");
    assert_eq!(ledger(&project.set, &project.context().await).await.unwrap()[2].state, LedgerState::Failed);
    assert_eq!(project.records("orders").len(), 3);
    fs::remove_file(project.directory.path().join("seed/03-bad.jsonl")).unwrap();

    for round in 0..6u32 {
        let topic = format!("many-{round}");
        let lines: String = (0..RECORDS)
            .map(|i| format!("{{\"topic\":\"{topic}\",\"key\":\"{i}\",\"value\":{{\"n\":{i}}}}}"))
            .collect::<Vec<_>>()
            .join("\n");
        project
            .write(&format!("seed/{topic}.jsonl"), lines)
            .write(&format!("seed/{topic}-0.kafka.yaml"), format!("topics: {{ {topic}: {{ partitions: 2 }} }}\n"));
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "script::service_tests::an_applying_process_for_kafka_can_be_started_from_outside"])
            .env("DEVENV_TEST_APPLY_KAFKA", format!("{}|{}", project.directory.path().display(), project.server.port))
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(400 + 700 * u64::from(round)));
        let cut = child.try_wait().unwrap().is_none();
        child.kill().unwrap();
        child.wait().unwrap();
        let began = std::time::Instant::now();
        let entries = project.apply().await.unwrap();
        assert!(entries.iter().all(|entry| entry.state == LedgerState::Applied));
        assert_eq!(project.records(&topic).len(), RECORDS, "round {round}");
        eprintln!("round {round}: cut={cut} second run {:?}", began.elapsed());
    }
}
