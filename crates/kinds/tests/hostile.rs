//! Servers that answer without end: what devenv reads of an answer, and what that costs in memory. A process of its own, so that the
//! memory is that of these questions alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use devenv_kinds::{
    capability::{ExecTarget, ProbeContext, ProvisionContext},
    metrics, probe, provision,
};
use devenv_secrets::Vault;
use devenv_spec::{OfKind, Probe};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What the kernel holds between the two ends, and what a client reads at once.
const ON_THE_WAY: u64 = 12 << 20;
const MOST: u64 = 8 << 20;

/// What a hostile server says before it talks without end, and what it repeats then.
#[derive(Clone)]
struct Script {
    /// Without waiting for a question.
    greeting: Vec<u8>,
    /// Each to one question.
    answers: Vec<Vec<u8>>,
    endless: Vec<u8>,
}

/// A server that follows the script on each connection, and the most that it could send on one.
struct Hostile {
    port: u16,
    most: Arc<AtomicU64>,
}

impl Hostile {
    async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (port, most) = (listener.local_addr().unwrap().port(), Arc::new(AtomicU64::new(0)));
        let seen = most.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (script, seen) = (script.clone(), seen.clone());
                tokio::spawn(async move {
                    let sent = talk(stream, &script).await;
                    seen.fetch_max(sent, Ordering::SeqCst);
                });
            }
        });
        Self { port, most }
    }
}

/// Until the client hangs up; how much it took.
async fn talk(mut stream: TcpStream, script: &Script) -> u64 {
    let mut question = vec![0; 64 << 10];
    let mut sent = 0;
    if stream.write_all(&script.greeting).await.is_err() {
        return 0;
    }
    for answer in &script.answers {
        match stream.read(&mut question).await {
            Ok(count) if count > 0 && stream.write_all(answer).await.is_ok() => {}
            _ => return sent,
        }
    }
    while let Ok(count) = stream.write(&script.endless).await {
        sent += count as u64;
    }
    sent
}

fn packet(number: u8, content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32).to_le_bytes()[..3], &[number], content].concat()
}

fn http(body: &[u8]) -> Script {
    let head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";
    Script { greeting: Vec::new(), answers: vec![], endless: Vec::new() }.then(head, body)
}

impl Script {
    /// Its first answer is the head, followed by the body without end.
    fn then(mut self, head: &[u8], body: &[u8]) -> Self {
        self.endless = body.repeat(1 + (64 << 10) / body.len());
        self.answers = vec![head.to_vec()];
        self
    }
}

/// Rows without end, and every login is let in.
fn postgres() -> Script {
    let ready = [&b"R\0\0\0\x08\0\0\0\0"[..], b"Z\0\0\0\x05I"].concat();
    let columns = [&b"T\0\0\0\x1a\0\x01a\0"[..], &[0; 6], &[0, 0, 0, 25], &[0xff, 0xff], &[0xff; 4], &[0, 0]].concat();
    let text = vec![b'x'; 60_000];
    let row = [&b"D"[..], &(60_010u32).to_be_bytes(), &[0, 1], &(60_000u32).to_be_bytes(), &text].concat();
    Script { greeting: Vec::new(), answers: vec![ready], endless: row }.after(columns)
}

impl Script {
    /// Said before what has no end, in answer to the same question.
    fn after(mut self, head: Vec<u8>) -> Self {
        self.answers.push(head);
        self
    }
}

fn mariadb() -> Script {
    let greeting = [
        &[10][..],
        b"11.8.0-MariaDB\0",
        &[1, 0, 0, 0],
        b"12345678\0",
        &[0xff, 0xf7, 0x21, 2, 0, 0xff, 0x81, 21],
        &[0; 10],
        b"123456789012\0",
        b"mysql_native_password\0",
    ];
    let ok = |number| packet(number, &[0, 0, 0, 2, 0, 0, 0]);
    let name = |text: &[u8]| [&[text.len() as u8][..], text].concat();
    let column =
        [name(b"def"), name(b""), name(b""), name(b""), name(b"a"), name(b"a"), vec![12, 33, 0, 255, 255, 0, 0, 253, 0, 0, 0, 0, 0]];
    let head = [packet(1, &[1]), packet(2, &column.concat()), packet(3, &[0xfe, 0, 0, 2, 0])].concat();
    // The numbers of packets go round, so what is repeated is 256 of them.
    let row = |number: u8| packet(number, &[&[0xfc, 0, 4][..], &[b'x'; 1024]].concat());
    let rows: Vec<u8> = (0..=255u8).flat_map(|number| row(number.wrapping_add(4))).collect();
    Script { greeting: packet(0, &greeting.concat()), answers: vec![ok(2), ok(1), head], endless: rows }
}

fn of_kind(kind: &str, value: Value) -> OfKind {
    OfKind { kind: kind.to_owned(), value }
}

/// Of this process, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seven_servers_that_answer_without_end_cost_less_than_100_mb_and_are_cut_off() {
    let secrets = tempfile::tempdir().unwrap();
    let vault = Vault::new(secrets.path().join("secrets"));
    let probe_context = ProbeContext {
        vault: vault.clone(),
        authority: None,
        target: ExecTarget::Process { directory: "/".into(), environment: Vec::new() },
        lines: Arc::new(|| Box::pin(futures_util::stream::empty())),
    };
    let context = ProvisionContext { vault, authority: None, again: false };
    let before = peak();

    let page = vec![b'x'; 64 << 10];
    let headers = [b"x-padding: ".as_slice(), &[b'x'; 1000], b"\r\n"].concat();
    let endless = |greeting: &[u8], answer: &[u8], more: &[u8]| Script {
        greeting: greeting.to_vec(),
        answers: vec![answer.to_vec()],
        endless: more.to_vec(),
    };
    let postgres = Hostile::start(postgres()).await;
    let redis = Hostile::start(endless(b"", b"*1000000000\r\n", &[b"$65536\r\n".as_slice(), &page, b"\r\n"].concat())).await;
    let kafka = Hostile::start(endless(b"", &(8u32 << 20).to_be_bytes(), &page)).await;
    let mariadb = Hostile::start(mariadb()).await;
    let pages = Hostile::start(http(&page)).await;
    let heads = Hostile::start(endless(b"", b"HTTP/1.1 200 OK\r\n", &headers)).await;
    let json = Hostile::start(http(b"[[\"x\",")).await;

    let ask = async |probe: Probe| {
        let _ = probe::ask(&probe, &probe_context).await;
    };
    let question = |kind: &str, value: Value| Probe::OfKind(of_kind(kind, value));
    let ask_all = async || {
        let login = |port: u16| json!({ "port": port, "user": "app", "password": "x/app", "database": "app", "tls": false });
        let databases = json!([]);
        let provision = async |kind: &str, value: Value| {
            let wanted = of_kind(kind, value);
            let _ = tokio::time::timeout(Duration::from_secs(5), provision::apply(&wanted, &context)).await;
            let _ = metrics::of(&wanted, &context).await;
        };
        let server =
            |port: u16| json!({ "port": port, "tls": false, "password": "x/root", "roles": [], "users": [], "databases": databases });
        let rabbit = json!({ "target": { "management": json.port, "administrator": "x/admin", "vhost": "/" }, "vhosts": [] });
        let store = json!({ "port": pages.port, "access_key": "x/a", "secret_key": "x/s", "buckets": ["b"] });
        let broker = json!({ "port": kafka.port, "topics": [{ "name": "t", "partitions": 1, "settings": {} }], "consumer_groups": ["g"] });
        tokio::join!(
            ask(question("postgres", login(postgres.port))),
            ask(question("redis", json!({ "port": redis.port, "password": "x/default", "tls": false }))),
            ask(question("kafka", json!({ "port": kafka.port }))),
            ask(question("mariadb", login(mariadb.port))),
            ask(question("rabbitmq", json!({ "port": json.port, "user": "app", "password": "x/app", "vhost": "/" }))),
            ask(Probe::Http { port: pages.port, path: "/".to_owned(), status: 200 }),
            ask(Probe::Http { port: heads.port, path: "/".to_owned(), status: 200 }),
            provision("postgres", server(postgres.port)),
            provision("redis", server(redis.port)),
            provision("kafka", broker),
            provision("mariadb", server(mariadb.port)),
            provision("rabbitmq", rabbit),
            provision("s3", store),
        );
    };
    for _ in 0..3 {
        ask_all().await;
    }
    // Those whose client has hung up notice at their next write.
    tokio::time::sleep(Duration::from_millis(500)).await;
    for (name, server) in [
        ("postgres", &postgres),
        ("redis", &redis),
        ("kafka", &kafka),
        ("mariadb", &mariadb),
        ("pages", &pages),
        ("heads", &heads),
        ("json", &json),
    ] {
        let most = server.most.load(Ordering::SeqCst);
        assert!(most > 0, "{name} was not asked, or never left");
        assert!(most < MOST + ON_THE_WAY, "{name} could send {most} bytes to one question");
    }
    let cost = peak() - before;
    assert!(cost < 100_000_000, "{cost} bytes");
    #[expect(clippy::print_stderr, reason = "a measurement, shown with --nocapture")]
    {
        eprintln!("seven servers that answer without end cost {cost} bytes");
    }
}
