//! Probes against real servers, started with the docker client. The tests print durations.
#![expect(clippy::print_stderr, reason = "measurements, shown with --nocapture")]

use std::{
    collections::HashSet,
    process::{Command, Output},
    sync::{Arc, Mutex},
    time::Instant,
};

use super::*;
use devenv_secrets::Vault;
use devenv_spec::{SecretRef, ServiceSpec, Template};

use crate::{jaeger::spec::JaegerProbe, kafka::spec::KafkaProbe, postgres::spec::PostgresProbe, redis::spec::RedisProbe};

/// A container that is removed with its anonymous volumes when the test is done with it.
pub struct Running(pub String);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = docker(&["rm", "-f", "-v", &self.0]);
    }
}

pub fn docker(arguments: &[&str]) -> Output {
    Command::new("docker").args(arguments).output().expect("the docker client is there")
}

/// Starts `image` with `container` published on `port` of the loopback.
pub fn start(image: &str, port: u16, container: u16, options: &[&str], command: &[&str]) -> Running {
    let published = format!("127.0.0.1:{port}:{container}");
    let name = format!("probe-test-{}-{port}", std::process::id());
    let mut arguments = vec!["run", "-d", "--name", &name, "-p", &published];
    arguments.extend(options);
    arguments.push(image);
    arguments.extend(command);
    let output = docker(&arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Running(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// Starts a service as its kind describes it, files included, on the ports of its description.
pub fn start_described(service: &ServiceSpec, vault: &Vault) -> Running {
    let container = service.container().unwrap();
    let fill = |text: &Template| text.fill(|secret| vault.reveal(secret).unwrap());
    let mut arguments: Vec<String> = ["create", "--label", "devenv-test=kinds"].map(str::to_owned).into();
    for port in &container.ports {
        arguments.extend(["-p".to_owned(), format!("127.0.0.1:{}:{}", port.host, port.container)]);
    }
    for (name, value) in &container.environment {
        arguments.extend(["-e".to_owned(), format!("{name}={}", fill(value))]);
    }
    for mount in &container.mounts {
        arguments.extend(["-v".to_owned(), mount.target.clone()]);
    }
    let (entrypoint, begin) = match container.entrypoint.as_deref() {
        Some([program, words @ ..]) => (Some(program.clone()), words),
        _ => (None, &[] as &[String]),
    };
    arguments.extend(entrypoint.map(|program| format!("--entrypoint={program}")));
    arguments.push(container.image.name().to_owned());
    arguments.extend_from_slice(begin);
    arguments.extend(container.command.clone().unwrap_or_default());
    let output = docker(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let running = Running(String::from_utf8(output.stdout).unwrap().trim().to_owned());
    let tree = tempfile::tempdir().unwrap();
    for file in &container.files {
        let path = tree.path().join(file.path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, fill(&file.content)).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(file.mode)).unwrap();
        std::os::unix::fs::chown(&path, Some(file.uid), Some(file.gid)).unwrap();
    }
    for directory in std::fs::read_dir(tree.path()).unwrap() {
        let path = directory.unwrap().path();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    // As an archive, which keeps the owners: the client's own `-a` asks for the image's user on the host.
    let script = format!("tar -C '{}' -c . | docker cp - '{}:/'", tree.path().display(), running.0);
    let copied = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
    assert!(docker(&["start", &running.0]).status.success());
    running
}

/// A port that was just free, and that no other test here gets.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap();
    let given = given.get_or_insert_default();
    loop {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        if given.insert(port) {
            return port;
        }
    }
}

/// A vault in a directory of its own.
pub fn vault() -> (tempfile::TempDir, Vault) {
    let directory = tempfile::tempdir().unwrap();
    let vault = Vault::new(directory.path().into());
    (directory, vault)
}

pub fn context(vault: &Vault) -> ProbeContext {
    ProbeContext {
        vault: vault.clone(),
        authority: None,
        target: ExecTarget::Process { directory: "/".into(), environment: Vec::new() },
        lines: Arc::new(|| Box::pin(futures_util::stream::empty())),
    }
}

pub async fn ready(probe: &Probe, vault: &Vault) -> ProbeSuccess {
    let messages = std::cell::RefCell::new(Vec::new());
    let started = Instant::now();
    let success = until_ready(probe, &context(vault), Schedule::until(Duration::from_mins(2)), |failure| {
        messages.borrow_mut().push((started.elapsed().as_millis(), failure.what.clone()));
    })
    .await;
    eprintln!("{:?} {:?} after {:?}", messages.borrow(), success, started.elapsed());
    success.unwrap()
}

/// From the server's own log line, by the engine's time stamp, to now.
fn since_logged(container: &Running, word: &str) -> Duration {
    let output = docker(&["logs", "-t", &container.0]);
    let log = [output.stdout, output.stderr].concat();
    let log = String::from_utf8_lossy(&log);
    let line = log.lines().rfind(|line| line.contains(word)).unwrap_or_else(|| panic!("`{word}` in {log}"));
    let at: jiff::Timestamp = line.split(' ').next().unwrap().parse().unwrap();
    SEEN.with(|seen| seen.get().unwrap()).duration_since(at).try_into().unwrap_or(Duration::ZERO)
}

thread_local! {
    static SEEN: std::cell::Cell<Option<jiff::Timestamp>> = const { std::cell::Cell::new(None) };
}

async fn boots(
    image: &str,
    inside: u16,
    options: &[&str],
    command: &[&str],
    word: &str,
    vault: &Vault,
    probe: impl Fn(u16) -> Probe,
) -> Vec<Duration> {
    let mut delays = Vec::new();
    for _ in 0..count() {
        let port = free_port();
        let container = start(image, port, inside, options, command);
        ready(&probe(port), vault).await;
        SEEN.with(|seen| seen.set(Some(jiff::Timestamp::now())));
        delays.push(since_logged(&container, word));
    }
    // The fastest shows what the probe takes; the others show what else the machine does.
    delays.sort_unstable();
    eprintln!("{image}: from its word to the receipt {delays:?}");
    delays
}

fn count() -> usize {
    std::env::var("BOOTS").ok().and_then(|count| count.parse().ok()).unwrap_or(2)
}

#[tokio::test]
async fn postgres_is_seen_soon_after_its_first_boot_and_never_before() {
    let (_directory, vault) = vault();
    let password = SecretRef::new("db", "postgres");
    let environment = format!("POSTGRES_PASSWORD={}", vault.reveal(&password).unwrap());
    let probe = |port| {
        PostgresProbe { port, user: "postgres".to_owned(), password: password.clone(), database: "postgres".to_owned(), tls: false }
            .into_probe()
    };
    let word = "database system is ready to accept connections";
    let delays = boots("postgres:17", 5432, &["-e", &environment], &[], word, &vault, probe).await;
    assert!(delays[0] < Duration::from_millis(500), "{delays:?}");
}

#[tokio::test]
async fn a_postgres_failure_is_reported_in_the_servers_words() {
    let (_directory, vault) = vault();
    let password = SecretRef::new("db", "postgres");
    let environment = format!("POSTGRES_PASSWORD={}", vault.reveal(&password).unwrap());
    let port = free_port();
    let _container = start("postgres:17", port, 5432, &["-e", &environment], &[]);
    let login = |password: SecretRef, database: &str| {
        PostgresProbe { port, user: "postgres".to_owned(), password, database: database.to_owned(), tls: false }.into_probe()
    };
    ready(&login(password.clone(), "postgres"), &vault).await;
    let cx = context(&vault);
    assert_eq!(
        ask(&login(SecretRef::new("db", "other"), "postgres"), &cx).await.unwrap_err(),
        ProbeFailure::said("password authentication failed for user \"postgres\" (SQLSTATE 28P01)")
    );
    assert_eq!(ask(&login(password, "none"), &cx).await.unwrap_err().what, "database \"none\" does not exist (SQLSTATE 3D000)");
}

#[tokio::test]
async fn redis_is_seen_soon_after_it_accepts_connections() {
    let (_directory, vault) = vault();
    let password = SecretRef::new("cache", "default");
    let secret = vault.reveal(&password).unwrap();
    let probe = |port| RedisProbe { port, user: "default".to_owned(), password: password.clone(), tls: false }.into_probe();
    let command = ["redis-server", "--requirepass", &secret];
    let delays = boots("redis:8.0", 6379, &[], &command, "Ready to accept", &vault, probe).await;
    assert!(delays[0] < Duration::from_millis(500), "{delays:?}");

    let port = free_port();
    let _container = start("redis:8.0", port, 6379, &[], &command);
    ready(&probe(port), &vault).await;
    let wrong = RedisProbe { port, user: "default".to_owned(), password: SecretRef::new("cache", "x"), tls: false }.into_probe();
    let failure = ask(&wrong, &context(&vault)).await.unwrap_err();
    assert_eq!(failure, ProbeFailure::said("WRONGPASS invalid username-password pair or user is disabled."));
}

/// A single broker that advertises the address on which clients reach it.
pub fn start_kafka(port: u16) -> Running {
    let advertised = format!("KAFKA_ADVERTISED_LISTENERS=HOST://127.0.0.1:{port},INTERNAL://localhost:29092");
    let options: Vec<&str> = [
        advertised.as_str(),
        "KAFKA_NODE_ID=1",
        "KAFKA_PROCESS_ROLES=broker,controller",
        "KAFKA_LISTENERS=HOST://:9092,INTERNAL://:29092,CONTROLLER://:29093",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP=HOST:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "KAFKA_INTER_BROKER_LISTENER_NAME=INTERNAL",
        "KAFKA_CONTROLLER_LISTENER_NAMES=CONTROLLER",
        "KAFKA_CONTROLLER_QUORUM_VOTERS=1@localhost:29093",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR=1",
        "KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS=4",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS=0",
        "CLUSTER_ID=5L6g3nShT-eMCtK--X86sw",
    ]
    .iter()
    .flat_map(|variable| ["-e", variable])
    .collect();
    start("apache/kafka:4.3.1", port, 9092, &options, &[])
}

#[tokio::test]
async fn kafka_is_seen_when_a_consumer_group_could_work() {
    let (_directory, vault) = vault();
    let mut delays = Vec::new();
    for _ in 0..count() {
        let port = free_port();
        let container = start_kafka(port);
        ready(&KafkaProbe { port, login: None }.into_probe(), &vault).await;
        SEEN.with(|seen| seen.set(Some(jiff::Timestamp::now())));
        delays.push(since_logged(&container, "Kafka Server started"));
    }
    eprintln!("kafka: from its word to the receipt {delays:?}");
}

#[tokio::test]
async fn a_kafka_that_advertises_another_address_is_not_ready() {
    let (_directory, vault) = vault();
    let (advertised, port) = (free_port(), free_port());
    let container = start_kafka(advertised);
    ready(&KafkaProbe { port: advertised, login: None }.into_probe(), &vault).await;
    // The same broker, behind a port that it does not know.
    let address = docker(&["inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", &container.0]);
    let address = String::from_utf8(address.stdout).unwrap().trim().to_owned();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.unwrap();
    let relay = async {
        let (mut here, _) = listener.accept().await.unwrap();
        let mut there = TcpStream::connect((address.as_str(), 9092)).await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
    };
    let cx = context(&vault);
    let probe = KafkaProbe { port, login: None }.into_probe();
    let (failure, ()) = tokio::join!(ask(&probe, &cx), relay);
    assert_eq!(failure.unwrap_err().what, format!("the broker advertises 127.0.0.1:{advertised} instead of 127.0.0.1:{port}"));
}

#[tokio::test]
async fn jaeger_is_seen_when_it_takes_spans() {
    let (_directory, vault) = vault();
    let (health, query, otlp_http) = (free_port(), free_port(), free_port());
    let published = [format!("127.0.0.1:{query}:16686"), format!("127.0.0.1:{otlp_http}:4318")];
    let options = ["-p", &published[0], "-p", &published[1]];
    let _container = start("jaegertracing/jaeger:2.13.0", health, 13133, &options, &[]);
    ready(&JaegerProbe { health, query, otlp_http }.into_probe(), &vault).await;
}
