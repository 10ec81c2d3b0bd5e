//! The five built-in example profiles: their data and services, checked with real clients.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use crate::{
    clients::{redis, sql, try_sql},
    corner::{Corner, Ended, docker},
    encrypted_clients::{block, client_encrypted, connected, redis_encrypted, setting, sql_encrypted, try_sql_encrypted},
    prometheus::{asked, is_firing},
};

/// The greatest but this share of the times.
fn percentile(mut times: Vec<Duration>, share: f64) -> Duration {
    times.sort_unstable();
    times[((times.len() - 1) as f64 * share) as usize]
}

fn curl(arguments: &[&str]) -> Ended {
    let output = Command::new("curl").args(["-sS", "--noproxy", "*", "--max-time", "20"]).args(arguments).output().unwrap();
    Ended {
        code: output.status.code().unwrap(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// What Docker publishes of the service, and where.
fn is_on_loopback_alone(corner: &Corner, service: &str) -> bool {
    let container = corner.service(service)["container"].as_str().unwrap().to_owned();
    let published = docker(&["port", &container]).stdout;
    !published.is_empty()
        && published
            .lines()
            .all(|line| line.rsplit_once("-> ").is_some_and(|(_, host)| host.starts_with("127.0.0.1:") || host.starts_with("[::1]:")))
}

/// The address of the only database of the pool.
fn pool(corner: &Corner) -> String {
    let variables = corner.variables(&[]);
    let mut named = variables.as_object().unwrap().iter();
    let (_, url) = named.find(|(name, _)| name.starts_with("POOL_") && name.ends_with("_URL")).unwrap();
    url.as_str().unwrap().to_owned()
}

#[test]
fn the_legal_platform_searches_vectors_and_refuses_unencrypted_clients() {
    let corner = Corner::new();
    corner.up("legal-platform");
    let extensions = "select extname from pg_extension where extname in ('vector', 'uuid-ossp', 'pg_trgm') order by 1";
    assert_eq!(sql_encrypted(&corner, extensions), ["pg_trgm", "uuid-ossp", "vector"]);
    assert_eq!(sql_encrypted(&corner, "select count(*)::text from pg_type where typtype = 'e'"), ["3"]);
    for table in ["users", "cases", "documents"] {
        assert_ne!(sql_encrypted(&corner, &format!("select count(*)::text from {table}")), ["0"], "{table}");
    }
    assert_eq!(sql_encrypted(&corner, "select distinct vector_dims(embedding)::text from documents where embedding is not null"), ["1536"]);
    let nearest = "with one as (select id, embedding from documents where embedding is not null order by name limit 1)
        select (select id from one)::text = (select id from documents order by embedding <=> (select embedding from one) limit 1)::text";
    assert_eq!(sql_encrypted(&corner, nearest), ["t"]);
    let plan = sql_encrypted(&corner, "set enable_seqscan = off; explain select id from documents order by embedding <=> (select embedding from documents limit 1) limit 1").join("\n");
    assert!(plan.contains("documents_embedding"), "{plan}");

    let bare = format!("{}?sslmode=disable", corner.variable("DATABASE_URL").split('?').next().unwrap());
    let refused = try_sql(&bare, "select 1").unwrap_err();
    assert!(refused.contains("no encryption") || refused.contains("pg_hba.conf"), "{refused}");
    assert_eq!(sql_encrypted(&corner, "show statement_timeout"), ["1min"]);
    let timed = try_sql_encrypted(&corner, "set statement_timeout = '150ms'; select pg_sleep(5)").unwrap_err();
    assert!(timed.contains("statement timeout"), "{timed}");

    sql_encrypted(&corner, "select pg_sleep(0.7)");
    corner.until("the slow query is in the log", 10, || {
        corner.ok(&["logs", "db", "--grep", "duration: "]).contains("pg_sleep(0.7)").then_some(())
    });

    let (url, authority) = (corner.variable("REDIS_URL"), corner.variable("DEVENV_CA_FILE"));
    assert!(url.starts_with("rediss://"), "a URL without encryption");
    assert!(setting(&url, &authority, "maxmemory-policy").contains("allkeys-lru"));
    assert!(setting(&url, &authority, "maxmemory").contains("1073741824"));
    assert!(setting(&url, &authority, "appendfsync").contains("everysec"));
    let ttl = |key: &str| redis_encrypted(&url, &authority, &["TTL", key]).unwrap().parse::<i64>().unwrap();
    assert!((86_000..=86_400).contains(&ttl("session:ada")) && (1..=300).contains(&ttl("cache:case:2026-0001")));
    let plain = ::redis::Client::open(url.replace("rediss://", "redis://")).unwrap();
    assert!(
        plain
            .get_connection_with_timeout(Duration::from_secs(3))
            .and_then(|mut connection| ::redis::cmd("PING").query::<String>(&mut connection))
            .is_err()
    );
}

#[test]
fn the_legal_platform_answers_within_its_limits_and_its_alerts_have_their_metrics() {
    let corner = Corner::new();
    corner.up("legal-platform");
    let database = block(async {
        let client = client_encrypted(&corner).await.unwrap();
        let mut times = Vec::new();
        for _ in 0..200 {
            let began = Instant::now();
            client.simple_query("select id from cases order by id limit 1").await.unwrap();
            times.push(began.elapsed());
        }
        times
    });
    // The fastest ones show what the server takes; the others show what else the machine does.
    assert!(percentile(database.clone(), 0.1) < Duration::from_millis(100), "{:?}", percentile(database, 0.1));
    let cache = block(async {
        let mut connection = connected(&corner.variable("REDIS_URL"), &corner.variable("DEVENV_CA_FILE")).await.unwrap();
        let mut times = Vec::new();
        for _ in 0..500 {
            let began = Instant::now();
            ::redis::cmd("EXISTS").arg("session:ada").query_async::<bool>(&mut connection).await.unwrap();
            times.push(began.elapsed());
        }
        times
    });
    assert!(percentile(cache.clone(), 0.1) < Duration::from_millis(10), "{:?}", percentile(cache, 0.1));

    let prometheus = corner.variable("PROMETHEUS_URL");
    for metric in
        ["devenv_service_cpu_ratio{service=\"db\"}", "devenv_disk_used_ratio", "redis_memory_used_bytes", "redis_memory_max_bytes"]
    {
        corner.until(metric, 60, || asked(&prometheus, metric));
    }
    // 900 MB of 1 GiB: the alert is for more than 85 %.
    redis_encrypted(&corner.variable("REDIS_URL"), &corner.variable("DEVENV_CA_FILE"), &["CONFIG", "SET", "maxmemory", "2mb"]).unwrap();
    let fill = "for i = 1, 40 do redis.call('SET', 'filler:' .. i, string.rep('x', 50000)) end";
    redis_encrypted(&corner.variable("REDIS_URL"), &corner.variable("DEVENV_CA_FILE"), &["EVAL", fill, "0"]).unwrap();
    corner.until("the memory alert fires", 60, || is_firing(&prometheus, "RedisMemoryHigh").then_some(()));
}

#[test]
fn the_legal_platform_serves_twenty_connections_and_no_more() {
    let corner = Corner::new();
    corner.up("legal-platform");
    let limits = "select (current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int - current_setting('reserved_connections')::int)::text";
    assert_eq!(sql_encrypted(&corner, limits), ["20"]);
    assert_eq!(sql_encrypted(&corner, "show authentication_timeout"), ["30s"]);
}

#[test]
fn a_document_is_put_into_the_legal_platforms_store_and_got_back() {
    let corner = Corner::new();
    corner.up("legal-platform");
    let file = corner.project().join("lease.txt");
    std::fs::write(&file, "the lease of the old mill").unwrap();
    let user = format!("{}:{}", corner.variable("AWS_ACCESS_KEY_ID"), corner.variable("AWS_SECRET_ACCESS_KEY"));
    let url = format!("{}/documents/cases/lease.txt", corner.variable("AWS_ENDPOINT_URL_S3"));
    let signed = ["--aws-sigv4", "aws:amz:us-east-1:s3", "--user", &user, "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD", "--fail"];
    let put = curl(&[&signed[..], &["-T", file.to_str().unwrap(), &url]].concat());
    assert_eq!(put.code, 0, "{}", put.stderr);
    assert_eq!(curl(&[&signed[..], &[&url]].concat()).stdout, "the lease of the old mill");
    assert!(curl(&["-o", "/dev/null", "-w", "%{http_code}", &url]).stdout.starts_with("40"), "it is open to everybody");
}

#[test]
fn complianceflow_keeps_services_and_tenants_apart() {
    let corner = Corner::new();
    let began = Instant::now();
    corner.up("complianceflow");
    // A machine that does nothing else takes less than a minute.
    assert!(began.elapsed() < Duration::from_mins(5), "{:?}", began.elapsed());
    let services = ["user", "declaration", "form", "ruleengine", "review", "case", "notification", "analytics"];
    let variables = corner.variables(&[]);
    let url = |service: &str| variables[&format!("DB_{}_URL", service.to_uppercase())].as_str().unwrap().to_owned();
    for (index, service) in services.iter().enumerate() {
        let other = services[(index + 1) % services.len()];
        let (own, path) = (url(service), url(other));
        let elsewhere = format!("{}/{other}", own.rsplit_once('/').unwrap().0);
        assert_eq!(path.rsplit_once('/').unwrap().1, other);
        let refused = try_sql(&elsewhere, "select 1").unwrap_err();
        assert!(refused.contains("permission denied for database"), "{service} in {other}: {refused}");
        assert_eq!(
            sql(&own, "select count(*)::text from pg_extension where extname in ('pg_stat_statements', 'uuid-ossp', 'pg_trgm')"),
            ["3"]
        );
        assert_eq!(
            sql(&own, "select rolsuper::text || rolcreatedb || rolcreaterole || rolbypassrls from pg_roles where rolname = current_user"),
            ["falsefalsefalsefalse"]
        );
    }
    let tenant = |name: &str| format!("select set_config('app.tenant', uuid_generate_v5(uuid_ns_url(), '{name}')::text, false);");
    let cases = "select count(*)::text from cases";
    assert_eq!(sql(&url("case"), cases).last().unwrap(), "0", "without a tenant nothing is seen");
    let seen: Vec<String> = ["north", "south"]
        .map(|name| sql(&url("case"), &format!("{}select string_agg(id::text, ',') from cases", tenant(name))).pop().unwrap())
        .into();
    assert!(!seen[0].is_empty() && seen[0] != seen[1], "{seen:?}");
    let foreign = format!(
        "{}insert into cases (tenant_id, declaration_id, summary) values (uuid_generate_v5(uuid_ns_url(), 'south'), uuid_generate_v4(), 'x')",
        tenant("north")
    );
    assert!(try_sql(&url("case"), &foreign).unwrap_err().contains("row-level security"));

    let through_the_pool = |service: &str| url(service).replace(&corner.variable("DB_PORT"), &corner.variable("POOL_PORT"));
    for service in services {
        assert_eq!(sql(&through_the_pool(service), "select current_database()"), [service]);
    }
    // In transaction mode a connection uses a server connection only during a transaction.
    let idle: Vec<tokio::runtime::Runtime> = (0..30)
        .map(|_| {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            let (client, connection) = runtime.block_on(tokio_postgres::connect(&through_the_pool("case"), tokio_postgres::NoTls)).unwrap();
            runtime.spawn(connection);
            runtime.block_on(client.simple_query("select 1")).unwrap();
            runtime.spawn(async move {
                let _held = client;
                std::future::pending::<()>().await;
            });
            runtime
        })
        .collect();
    let held = sql(&url("case"), "select count(*)::text from pg_stat_activity where datname = 'case' and backend_type = 'client backend'");
    assert!(held[0].parse::<usize>().unwrap() <= 11, "{held:?} for {} clients", idle.len());
    idle.into_iter().for_each(tokio::runtime::Runtime::shutdown_background);
}

#[test]
fn complianceflows_topics_and_groups_are_as_declared() {
    let corner = Corner::new();
    corner.up("complianceflow");
    let broker = |tool: &str, more: &[&str]| {
        let tool = format!("/opt/kafka/bin/{tool}");
        corner.devenv(&[&["exec", "events", "--", &tool, "--bootstrap-server", "events:9092"], more].concat()).expect(0).stdout
    };
    let topics = broker("kafka-topics.sh", &["--describe"]);
    for (topic, partitions) in [
        ("user-events", 2),
        ("declaration-events", 4),
        ("review-events", 2),
        ("case-events", 2),
        ("notification-events", 4),
        ("analytics-events", 2),
    ] {
        let line =
            topics.lines().find(|line| line.starts_with(&format!("Topic: {topic}\t"))).unwrap_or_else(|| panic!("{topic}: {topics}"));
        assert!(line.contains(&format!("PartitionCount: {partitions}\t")), "{line}");
    }
    let groups = broker("kafka-consumer-groups.sh", &["--list"]);
    for service in ["user", "declaration", "form", "ruleengine", "review", "case", "notification", "analytics"] {
        assert!(groups.contains(&format!("{service}-service-consumer")), "{service}: {groups}");
    }
}

#[test]
fn the_platform_wrapper_has_its_limits_and_its_users_their_own_keys() {
    let corner = Corner::new();
    corner.up("platform-wrapper");
    let database = corner.variable("DB_PLATFORM_URL");
    for (name, value) in [
        ("shared_buffers", "256MB"),
        ("effective_cache_size", "768MB"),
        ("random_page_cost", "1.1"),
        ("log_min_duration_statement", "1s"),
        ("statement_timeout", "30s"),
        ("idle_session_timeout", "5min"),
    ] {
        assert_eq!(sql(&database, &format!("show {name}")), [value], "{name}");
    }
    let pool = pool(&corner);
    assert_eq!(sql(&pool, "select count(*)::text from pg_stat_activity where datname = current_database() limit 1").len(), 1);
    let authority = corner.variable("DEVENV_CA_FILE");
    let ask = |variable: &str, command: &[&str]| redis_encrypted(&corner.variable(variable), &authority, command);
    assert_eq!(ask("CACHE_SESSIONS_URL", &["SET", "session:x", "1"]).unwrap(), "OK");
    assert!(ask("CACHE_SESSIONS_URL", &["SET", "rate:x", "1"]).unwrap_err().contains("permission"));
    assert!(ask("CACHE_LIMITS_URL", &["FLUSHALL"]).unwrap_err().contains("permission"));
    let base = corner.variable("REDIS_URL");
    let at = |number: u32| base.rsplit_once('/').map(|(url, _)| format!("{url}/{number}")).unwrap();
    for (number, key) in [(0, "session:demo"), (1, "rate:1"), (2, "analytics:today")] {
        assert_eq!(redis_encrypted(&at(number), &authority, &["EXISTS", key]).unwrap(), "1", "{key} in {number}");
        assert_eq!(redis_encrypted(&at((number + 1) % 3), &authority, &["EXISTS", key]).unwrap(), "0", "{key} elsewhere");
    }
    let set = |name: &str| redis_encrypted(&base, &authority, &["CONFIG", "GET", name]).unwrap();
    assert!(
        set("save").contains("900 1 300 10 60 10000") && set("appendfsync").contains("everysec") && set("tcp-keepalive").contains("300")
    );
}

#[test]
fn the_platform_wrappers_backup_comes_back_with_every_row() {
    let corner = Corner::new();
    corner.up("platform-wrapper");
    let database = corner.variable("DB_PLATFORM_URL");
    let count = || sql(&database, "select count(*)::text from accounts").pop().unwrap();
    let before = count();
    corner.ok(&["backup"]);
    sql(&database, "drop table accounts cascade");
    let restored = corner.json(&["backup", "restore", "latest"]);
    assert_eq!((restored["verified"].as_bool(), count()), (Some(true), before));
    let drill = corner.json(&["backup", "drill"]);
    assert!(
        drill["verified"] == true && drill["rto_ms"].as_u64().unwrap() < 3_600_000 && drill["rpo_ms"].as_u64().unwrap() < 86_400_000,
        "{drill}"
    );
}

#[test]
fn the_invoice_api_serves_125_requests_at_once_through_its_pool() {
    let corner = Corner::new();
    corner.up("invoice-api");
    let database = corner.variable("DB_INVOICES_URL");
    assert_eq!(
        sql(&database, "select string_agg(tablename, ',' order by tablename) from pg_tables where schemaname = 'public'"),
        ["api_keys,job_results,jobs"]
    );
    for index in ["api_keys_active", "jobs_queue", "jobs_of_key", "jobs_status", "job_results_time"] {
        assert_eq!(sql(&database, &format!("select count(*)::text from pg_indexes where indexname = '{index}'")), ["1"], "{index}");
    }
    let pool = pool(&corner);
    let requests: Vec<_> = (0..130)
        .map(|number| {
            let pool = pool.clone();
            thread::spawn(move || {
                try_sql(
                    &pool,
                    &format!(
                        "insert into jobs (api_key_id, payload) select min(id), '{{\"n\": {number}}}' from api_keys; select pg_sleep(0.05)"
                    ),
                )
            })
        })
        .collect();
    let failed: Vec<String> = requests.into_iter().filter_map(|request| request.join().unwrap().err()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(sql(&database, "select count(*)::text from jobs where payload ? 'n'"), ["130"]);
}

#[test]
fn queued_jobs_of_the_lawyers_hub_survive_a_crash_and_the_loss_of_everything() {
    let corner = Corner::new();
    corner.up("lawyers-hub");
    let url = corner.variable("REDIS_URL");
    let seeded = redis(&url, &["LLEN", "jobs:queued"]).parse::<u32>().unwrap();
    for job in 0..50 {
        redis(&url, &["RPUSH", "jobs:queued", &format!("job {job}")]);
    }
    redis(&url, &["BGSAVE"]);
    let files = || corner.ok(&["exec", "queue", "--", "ls", "-R", "/data"]);
    corner.until("both files are on the volume", 10, || (files().contains("dump.rdb") && files().contains("appendonly.aof")).then_some(()));

    let container = corner.service("queue")["container"].as_str().unwrap().to_owned();
    // An acknowledged job is on the disk a second later.
    thread::sleep(Duration::from_secs(2));
    let began = Instant::now();
    docker(&["kill", "-s", "KILL", &container]);
    corner.ok(&["wait", "queue", "--timeout", "2m"]);
    corner.until("the queue answers", 30, || (corner.service("queue")["state"] == "ready").then_some(()));
    assert!(began.elapsed() < Duration::from_mins(2));
    assert_eq!(redis(&url, &["LLEN", "jobs:queued"]), (seeded + 50).to_string());

    corner.ok(&["backup"]);
    corner.ok(&["down", "--volumes"]);
    corner.ok(&["gc", "--all"]);
    corner.up("lawyers-hub");
    assert_eq!(redis(&corner.variable("REDIS_URL"), &["LLEN", "jobs:queued"]), seeded.to_string());
    assert_eq!(corner.json(&["backup", "restore", "latest"])["verified"], true);
    assert_eq!(redis(&corner.variable("REDIS_URL"), &["LLEN", "jobs:queued"]), (seeded + 50).to_string());
    corner.ok(&["restart", "queue"]);
    assert_eq!(redis(&corner.variable("REDIS_URL"), &["LLEN", "jobs:queued"]), (seeded + 50).to_string());
}

#[test]
fn an_alert_of_the_lawyers_hub_fires_when_a_service_serves_no_metrics() {
    let corner = Corner::new();
    corner.up("lawyers-hub");
    let prometheus = corner.variable("PROMETHEUS_URL");
    for job in ["tracing", "db", "queue"] {
        let up = format!("up{{job=\"{job}\"}} == 1");
        corner.until(&up, 60, || asked(&prometheus, &up));
    }
    assert!(asked(&prometheus, "pg_up == 1").is_some() && asked(&prometheus, "redis_up == 1").is_some());
    assert!(asked(&prometheus, "pg_database_size_bytes{datname=\"hub\"} > 0").is_some());
    // A scrape fails while no daemon runs; the next one is found at the same address.
    corner.kill_daemon();
    corner.until("a scrape fails", 30, || asked(&prometheus, "up{job=\"db\"} == 0"));
    corner.ok(&["wait", "db"]);
    assert_eq!(corner.service("db")["state"], "ready");
    corner.until("a scrape finds the next daemon", 30, || asked(&prometheus, "up{job=\"db\"} == 1"));
    for service in ["db", "queue", "tracing", "metrics"] {
        assert!(is_on_loopback_alone(&corner, service), "{service}");
    }
    corner.ok(&["stop", "tracing"]);
    corner.until("the alert fires", 60, || is_firing(&prometheus, "TargetDown").then_some(()));
}
