//! Real servers, started as their kinds describe them: what is shown, and that nothing can be written.

use std::collections::BTreeMap;

use devenv_profile::testing::given;
use devenv_secrets::Vault;
use serde_json::{Value, json};

use super::*;
use crate::{
    probe::real_tests::{Running, docker, free_port, ready, start_described, vault},
    provision,
};

struct Server {
    service: ServiceSpec,
    cx: ProvisionContext,
    container: Running,
    _secrets: tempfile::TempDir,
}

impl Server {
    async fn start(declared: Value, ports: &[u16]) -> Self {
        let (secrets, vault): (_, Vault) = vault();
        let given = given("it", declared).with(|service| service.ports.extend(ports.iter().map(|port| (*port, free_port()))));
        let service = given.spec().services["it"].clone();
        let container = start_described(&service, &vault);
        ready(&service.probe, &vault).await;
        let cx = ProvisionContext { vault, authority: None, again: false };
        for wanted in &service.provision {
            provision::apply(wanted, &cx).await.unwrap();
        }
        Self { service, cx, container, _secrets: secrets }
    }

    async fn query(&self, text: &str) -> Result<Rows, String> {
        let asked = ReadQuery { database: None, text: text.to_owned(), limit: 3, time: STATEMENT };
        query(&self.service, &asked, &self.cx).await.map_err(|error| error.to_string())
    }

    async fn rows(&self, group: &str, item: &str, page: impl FnOnce(&mut RowsPage)) -> Rows {
        let mut asked = RowsPage { group: group.to_owned(), item: item.to_owned(), offset: 0, limit: 3, filter: None, sort: None };
        page(&mut asked);
        rows(&self.service, &asked, &self.cx).await.unwrap()
    }

    async fn outline(&self, filter: Option<&str>) -> Vec<(String, Vec<String>)> {
        let outline = outline(&self.service, filter, &self.cx).await.unwrap();
        let names = |group: DataGroup| (group.name, group.items.into_iter().map(|item| item.name).collect());
        outline.groups.into_iter().map(names).collect()
    }

    fn exec(&self, command: &[&str]) -> String {
        let output = docker(&[&["exec", &self.container.0], command].concat());
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

fn first(rows: &Rows) -> Vec<&str> {
    rows.rows.iter().map(|row| row[0].as_deref().unwrap_or("null")).collect()
}

#[tokio::test]
async fn postgres_shows_tables_and_rows_and_lets_no_statement_write() {
    let server = Server::start(json!({"postgres": { "databases": { "app": {}, "other": {} } }}), &[5432]).await;
    let psql = |text: &str| server.exec(&["psql", "-XAtqU", "postgres", "-d", "app", "-v", "ON_ERROR_STOP=1", "-c", text]);
    psql(
        "create table item (id int primary key, name text); insert into item select g, 'item ' || g from generate_series(1, 500) g; \
         create view cheap as select * from item; create schema \"odd.one\"; create table \"odd.one\".\"T able\" (a text); \
         create sequence numbers; create function write_it() returns int language sql security definer as $$ insert into item values (-1, 'x') returning id $$; \
         create table hidden (a int); insert into hidden values (7); alter table hidden enable row level security",
    );
    let groups = server.outline(None).await;
    assert_eq!(groups[0].0, "app");
    assert_eq!(groups[0].1, ["odd.one.T able", "public.cheap", "public.hidden", "public.item"]);
    assert_eq!(groups[1], ("other".to_owned(), Vec::new()));
    assert_eq!(server.outline(Some("ITEM")).await[0].1, ["public.item"]);
    let page = server.rows("app", "public.item", |page| page.offset = 16).await;
    assert_eq!((first(&page), page.more), (vec!["17", "18", "19"], true));
    assert_eq!((page.columns[1].name.as_str(), page.columns[1].kind.as_deref()), ("name", Some("text")));
    let sort = Some(Sort { column: "name".to_owned(), descending: true });
    assert_eq!(first(&server.rows("app", "public.item", |page| page.sort = sort).await), ["99", "98", "97"]);
    let found = server.rows("app", "public.cheap", |page| page.filter = Some("Item 499".to_owned())).await;
    assert_eq!((first(&found), found.more), (vec!["499"], false));
    assert_eq!(first(&server.rows("app", "public.hidden", |_| ()).await), ["7"]);
    assert!(server.rows("app", "odd.one.T able", |_| ()).await.rows.is_empty());

    let answer = server.query("select 41 + 1 as answer, null, 'ä' union all select 1, 'x', 'y'").await.unwrap();
    assert_eq!(answer.rows[0], [Some("42".to_owned()), None, Some("ä".to_owned())]);
    assert_eq!(answer.columns[0].name, "answer");
    let many = server.query("select generate_series(1, 1000000000)").await.unwrap();
    assert_eq!((first(&many), many.more), (vec!["1", "2", "3"], true));
    assert!(server.query("explain select * from item").await.unwrap().rows[0][0].as_deref().unwrap().contains("Scan"));
    assert!(server.query("show server_version").await.is_ok());
    for text in [
        "delete from item",
        "create table x (i int)",
        "create temp table x (i int)",
        "select 1; drop schema public cascade",
        "commit; drop table item",
        "copy (select 1) to program 'id'",
        "copy item to '/tmp/item'",
        "copy item from program 'id'",
        "select lo_import('/etc/passwd')",
        "select lo_create(0)",
        "select pg_read_file('/etc/passwd')",
        "select pg_ls_dir('/')",
        "set transaction read write",
        "set session authorization postgres",
        "set role app",
        "select write_it()",
        "select nextval('numbers')",
        "select setval('numbers', 99)",
        "do $$ begin set transaction read write; insert into item values (0, 'x'); end $$",
        "do $$ begin commit; insert into item values (0, 'x'); end $$",
        "do $$ begin execute 'set session authorization postgres'; insert into item values (0, 'x'); end $$",
        "with gone as (delete from item returning 1) select * from gone",
        "explain analyze delete from item",
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'postgres'",
        "select pg_reload_conf()",
        "create extension dblink",
        "alter role devenv_reader superuser",
        "vacuum item",
        "copy (select 1) to stdout",
        "select $1::int",
    ] {
        assert!(server.query(text).await.is_err(), "{text} was run");
    }
    let error = server.query("delete from item").await.unwrap_err();
    assert!(error.contains("permission denied") || error.contains("read-only"), "{error}");
    let slow = server.query("select pg_sleep(60)").await.unwrap_err();
    assert!(slow.contains("statement timeout"), "{slow}");
    // What leaves the transaction leaves nothing behind.
    for text in ["commit", "rollback", "set session characteristics as transaction read write", "set statement_timeout = 0"] {
        let _ = server.query(text).await;
    }
    assert_eq!(psql("select count(*), min(id), (select is_called from numbers) from item"), "500|1|f");
    let changes = provision::apply(&server.service.provision[0], &server.cx).await.unwrap();
    assert!(changes.is_empty(), "the reader is no drift: {changes:?}");
    let large = server.query("select repeat('x', 9000000)").await.unwrap_err();
    assert!(large.contains("more than"), "{large}");
    let cut = server.query("select repeat('x', 100000)").await.unwrap();
    assert!(cut.message.unwrap().contains("cut"));
}

#[tokio::test]
async fn mariadb_shows_tables_and_rows_and_lets_no_statement_write() {
    let server = Server::start(json!({"mariadb": { "databases": { "app": {}, "other_one": {} } }}), &[3306]).await;
    let password = server.cx.vault.reveal(&devenv_spec::SecretRef::new("it", "root")).unwrap();
    let client = |text: &str| server.exec(&["mariadb", "-uroot", &format!("-p{password}"), "-N", "app", "-e", text]);
    client(
        "create table item (id int primary key, name varchar(20), at date); insert into item select seq, concat('item ', seq), '2026-01-02' \
         from seq_1_to_500; create view cheap as select * from item; create function double_of(n int) returns int deterministic return n * 2",
    );
    let groups = server.outline(None).await;
    assert_eq!(groups, [("app".to_owned(), vec!["cheap".to_owned(), "item".to_owned()]), ("other_one".to_owned(), Vec::new())]);
    let page = server.rows("app", "item", |page| page.offset = 16).await;
    assert_eq!((first(&page), page.more), (vec!["17", "18", "19"], true));
    let found = server.rows("app", "item", |page| page.filter = Some("item 499".to_owned())).await;
    assert_eq!((first(&found), found.more), (vec!["499"], false));
    let answer = server.query("select 41 + 1, null, at from item where id = 1").await.unwrap();
    assert_eq!(answer.rows[0], [Some("42".to_owned()), None, Some("2026-01-02".to_owned())]);
    let many = server.query("select * from item a, item b, item c").await.unwrap();
    assert!(many.more && many.rows.len() == 3);
    for text in [
        "delete from item",
        "create table x (i int)",
        "create temporary table x (i int)",
        "select 1; drop table item",
        "commit; drop table item",
        "begin not atomic commit; delete from item; end",
        "select * from item into outfile '/tmp/item'",
        "select double_of(2)",
        "set global max_connections = 1",
        "select * from mysql.global_priv",
        "drop database other_one",
        "start transaction read write; delete from item",
    ] {
        assert!(server.query(text).await.is_err(), "{text} was run");
    }
    let slow = server.query("select count(*) from item a, item b, item c, item d").await.unwrap_err();
    assert!(slow.contains("max_statement_time"), "{slow}");
    assert_eq!(client("select count(*) from item"), "500");
    let changes = provision::apply(&server.service.provision[0], &server.cx).await.unwrap();
    assert!(changes.is_empty(), "the reader is no drift: {changes:?}");
}

#[tokio::test]
async fn redis_shows_keys_of_every_type() {
    let server = Server::start(json!({"redis": { "version": "8.0" }}), &[6379]).await;
    let password = server.cx.vault.reveal(&devenv_spec::SecretRef::new("it", "default")).unwrap();
    let say = |words: &[&str]| server.exec(&[&["redis-cli", "--no-auth-warning", "-a", &password], words].concat());
    say(&["set", "session:7", "hello", "EX", "600"]);
    say(&["rpush", "list", "a", "b", "c", "d", "e"]);
    say(&["hset", "hash", "f", "1", "g", "2"]);
    say(&["sadd", "set", "x", "y"]);
    say(&["zadd", "zset", "1.5", "m", "2", "n"]);
    say(&["xadd", "stream", "1-1", "k", "v"]);
    say(&["-n", "3", "set", "elsewhere", "1"]);
    let seen = outline(&server.service, None, &server.cx).await.unwrap();
    let names: Vec<&str> = seen.groups.iter().map(|group| group.name.as_str()).collect();
    assert_eq!(names, ["db0", "db3"]);
    let session = seen.groups[0].items.iter().find(|item| item.name == "session:7").unwrap();
    assert!(session.detail.as_deref().unwrap().starts_with("string, ttl ") && session.bytes.unwrap() > 0, "{session:?}");
    assert_eq!(server.outline(Some("sess")).await[0].1, ["session:7"]);
    let of = async |key: &str| {
        server.rows("db0", key, |_| ()).await.rows.into_iter().map(|row| row.into_iter().flatten().collect()).collect::<Vec<Vec<String>>>()
    };
    assert_eq!(of("session:7").await, [["hello"]]);
    assert_eq!(of("list").await, [["0", "a"], ["1", "b"], ["2", "c"]]);
    assert_eq!(of("hash").await, [["f", "1"], ["g", "2"]]);
    assert_eq!(of("set").await, [["x"], ["y"]]);
    assert_eq!(of("zset").await, [["m", "1.5"], ["n", "2"]]);
    assert_eq!(of("stream").await, [["1-1", "k=v"]]);
    let second = server.rows("db0", "list", |page| page.offset = 3).await;
    assert_eq!((first(&second), second.more), (vec!["3", "4"], false));
    let found = server.rows("db0", "list", |page| page.filter = Some("d".to_owned())).await;
    assert_eq!(first(&found), ["3"]);
    let question = RowsPage { group: "db0".to_owned(), item: "none".to_owned(), offset: 0, limit: 1, filter: None, sort: None };
    assert!(matches!(rows(&server.service, &question, &server.cx).await, Err(BrowseError::NotFound(_))));
    assert!(matches!(server.query("get x").await, Err(message) if message.contains("does not take a query")));
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_shows_the_newest_records_and_the_lag_of_groups_and_takes_a_record() {
    let declared = json!({"kafka": { "topics": { "orders": { "partitions": 2 }, "empty": {} }, "consumer_groups": ["billing"] }});
    let server = Server::start(declared, &[9092]).await;
    for number in 1..=5 {
        let headers = BTreeMap::from([("source".to_owned(), "test".to_owned())]);
        let record =
            NewRecord { topic: "orders".to_owned(), key: Some(format!("k{number}")), value: format!("{{\"order\":{number}}}"), headers };
        let produced = produce(&server.service, &record, &server.cx).await.unwrap();
        assert!((0..2).contains(&produced.partition));
    }
    assert_eq!(
        server.outline(None).await,
        [("topics".to_owned(), vec!["empty".to_owned(), "orders".to_owned()]), ("consumer-groups".to_owned(), vec!["billing".to_owned()])]
    );
    let newest = server.rows("topics", "orders", |_| ()).await;
    let values: Vec<&str> = newest.rows.iter().map(|row| row[4].as_deref().unwrap()).collect();
    assert_eq!((values, newest.more), (vec!["{\"order\":5}", "{\"order\":4}", "{\"order\":3}"], true));
    assert_eq!(newest.rows[0][5].as_deref(), Some("source=test"));
    let rest = server.rows("topics", "orders", |page| page.offset = 3).await;
    assert_eq!((rest.rows.len(), rest.more), (2, false));
    let found = server.rows("topics", "orders", |page| page.filter = Some("k2".to_owned())).await;
    assert_eq!(found.rows.len(), 1);
    assert!(server.rows("topics", "empty", |_| ()).await.rows.is_empty());
    let group = server.rows("consumer-groups", "billing", |_| ()).await;
    let lag: i64 = group
        .rows
        .iter()
        .filter(|row| row[0].as_deref() == Some("orders"))
        .map(|row| row[4].as_deref().unwrap().parse::<i64>().unwrap())
        .sum();
    assert_eq!(lag, 5);
    let nowhere = NewRecord { topic: "nowhere".to_owned(), key: None, value: String::new(), headers: BTreeMap::new() };
    assert!(matches!(produce(&server.service, &nowhere, &server.cx).await, Err(BrowseError::NotFound(_))));
}

#[tokio::test]
async fn s3_shows_the_objects_of_its_buckets() {
    let server = Server::start(json!({"s3": { "buckets": ["documents"] }}), &[7070]).await;
    server.exec(&["sh", "-c", "mkdir -p /data/documents/in && echo hello > '/data/documents/in/a b&c+d%20.txt'"]);
    assert_eq!(server.outline(None).await, [("documents".to_owned(), vec!["in/a b&c+d%20.txt".to_owned()])]);
    assert_eq!(server.outline(Some("zzz")).await, [("documents".to_owned(), Vec::new())]);
    let object = server.rows("documents", "in/a b&c+d%20.txt", |page| page.limit = 10).await;
    let content = object.rows.iter().find(|row| row[0].as_deref() == Some("content")).unwrap();
    assert_eq!(content[1].as_deref(), Some("hello\n"));
    let missing = RowsPage { group: "documents".to_owned(), item: "none".to_owned(), offset: 0, limit: 1, filter: None, sort: None };
    assert!(matches!(rows(&server.service, &missing, &server.cx).await, Err(BrowseError::NotFound(_))));
}

#[tokio::test]
async fn jaeger_shows_the_traces_that_it_was_sent() {
    let server = Server::start(json!({"jaeger": {}}), &[16686, 4317, 4318, 13133]).await;
    let port = server.service.ports()[&4318];
    let now = jiff::Timestamp::now().as_nanosecond();
    let span = |id: &str, parent: &str, name: &str, begin: i128, end: i128| {
        json!({ "traceId": "5b8efff798038103d269b633813fc60c", "spanId": id, "parentSpanId": parent, "name": name, "kind": 2,
                "startTimeUnixNano": (now + begin).to_string(), "endTimeUnixNano": (now + end).to_string() })
    };
    let spans = [
        span("eee19b7ec3c1b174", "", "POST /pay", 0, 90_000_000),
        span("eee19b7ec3c1b175", "eee19b7ec3c1b174", "charge card", 10_000_000, 70_000_000),
    ];
    let name = json!([{ "key": "service.name", "value": { "stringValue": "checkout" } }]);
    let body = json!({ "resourceSpans": [{ "resource": { "attributes": name }, "scopeSpans": [{ "spans": spans }] }] });
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    client.post(format!("http://127.0.0.1:{port}/v1/traces")).json(&body).send().await.unwrap().error_for_status().unwrap();
    let ask = async |query: TraceQuery| traces([&server.service], &query).await.unwrap();
    let deadline = std::time::Instant::now() + Duration::from_mins(1);
    let found = loop {
        let found = ask(TraceQuery { limit: 5, ..TraceQuery::default() }).await.unwrap();
        if found.traces.iter().any(|trace| trace.spans.len() == 2) {
            break found;
        }
        assert!(std::time::Instant::now() < deadline, "{found:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    assert!(found.services.contains(&"checkout".to_owned()));
    let trace = &found.traces[0];
    let names: Vec<_> = trace.spans.iter().map(|span| (span.operation.as_str(), span.service.as_str())).collect();
    assert_eq!((names, trace.duration_us), (vec![("POST /pay", "checkout"), ("charge card", "checkout")], 90_000));
    assert_eq!(trace.spans[1].parent.as_deref(), Some(trace.spans[0].id.as_str()));
    let one = ask(TraceQuery { id: Some(trace.id.clone()), limit: 1, ..TraceQuery::default() }).await.unwrap();
    assert_eq!(one.traces[0].spans.len(), 2);
    let long =
        TraceQuery { service: Some("checkout".to_owned()), min_duration: Some(Duration::from_secs(1)), limit: 5, ..TraceQuery::default() };
    assert!(ask(long).await.unwrap().traces.is_empty());
    let own = json!([{ "key": "service.name", "value": { "stringValue": "devenv" } }]);
    let begun = [json!({ "traceId": "6b8efff798038103d269b633813fc60c", "spanId": "aee19b7ec3c1b174", "name": "up", "kind": 1,
        "startTimeUnixNano": now.to_string(), "endTimeUnixNano": (now + 5_000_000).to_string() })];
    let body = json!({ "resourceSpans": [{ "resource": { "attributes": own }, "scopeSpans": [{ "spans": begun }] }] });
    collect([&server.service], &body).await.unwrap().unwrap();
    let named = TraceQuery { service: Some("devenv".to_owned()), limit: 5, ..TraceQuery::default() };
    while ask(named.clone()).await.unwrap().traces.is_empty() {
        assert!(std::time::Instant::now() < deadline, "the span never arrived");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let all = ask(TraceQuery { limit: 5, ..TraceQuery::default() }).await.unwrap();
    assert!(all.services.contains(&"devenv".to_owned()) && all.traces.len() == 1, "{all:?}");
    for id in ["../services", "0123456789abcdef0123456789abcdef"] {
        let missing = ask(TraceQuery { id: Some(id.to_owned()), limit: 1, ..TraceQuery::default() }).await;
        assert!(matches!(missing, Err(BrowseError::NotFound(_))), "{id}: {missing:?}");
    }
}
