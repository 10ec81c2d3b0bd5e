//! Kinds beyond the default profile's start and answer.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    clients::{get, sql, try_sql},
    corner::Corner,
};

#[test]
fn pgbouncer_pools_connections_as_the_applications_role() {
    let corner = Corner::with(
        r"
  pool:
    pgbouncer: { service: db, pool_size: 2 }
  db:
    postgres: { databases: { app: { owner: app } } }
",
    );
    corner.up("test");
    let pool = corner.variable("POOL_URL");
    sql(&pool, "create table pooled (x int); insert into pooled values (1)");
    assert_eq!(sql(&corner.variable("DATABASE_URL"), "select current_user || x from pooled"), ["app1"]);
    assert!(try_sql(&pool.replace("app:", "app:x"), "select 1").is_err(), "a wrong password was taken");
}

#[test]
fn roles_reach_their_own_database_alone_and_have_their_extensions() {
    let corner = Corner::with(
        r"
  db:
    postgres:
      extensions: [vector, pg_trgm, pg_stat_statements]
      databases: { orders: { owner: orders }, billing: { owner: billing } }
",
    );
    corner.up("test");
    let orders = corner.variable("DB_ORDERS_URL");
    let have = sql(&orders, "select extname from pg_extension order by 1");
    assert!(["pg_stat_statements", "pg_trgm", "vector"].iter().all(|name| have.iter().any(|have| have == name)), "{have:?}");
    assert_eq!(sql(&orders, "select rolsuper::text from pg_roles where rolname = current_user"), ["false"]);
    let other = orders.rsplit_once('/').map(|(server, _)| format!("{server}/billing")).unwrap();
    assert!(try_sql(&other, "select 1").unwrap_err().contains("permission denied"));
}

#[test]
fn s3_keeps_an_object_in_a_declared_bucket() {
    let corner = Corner::with("  files:\n    s3: { buckets: [documents] }\n");
    corner.up("test");
    let object = format!("{}/documents/letter.txt", corner.variable("AWS_ENDPOINT_URL_S3"));
    let keys = format!("{}:{}", corner.variable("AWS_ACCESS_KEY_ID"), corner.variable("AWS_SECRET_ACCESS_KEY"));
    let region = format!("aws:amz:{}:s3", corner.variable("AWS_REGION"));
    let signed = |more: &[&str]| {
        let mut curl = Command::new("curl");
        curl.args([
            "-sS",
            "--fail-with-body",
            "--noproxy",
            "*",
            "--aws-sigv4",
            &region,
            "-H",
            "x-amz-content-sha256: UNSIGNED-PAYLOAD",
            "-K",
            "-",
            &object,
        ])
        .args(more);
        let mut child = curl.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        writeln!(child.stdin.take().unwrap(), "user = \"{keys}\"").unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        String::from_utf8(output.stdout).unwrap()
    };
    signed(&["-X", "PUT", "-H", "content-type: text/plain", "--data-binary", "dear reader"]);
    assert_eq!(signed(&[]), "dear reader");
    assert_eq!(get(&object).0, 403, "an unsigned request was served");
}

#[test]
fn prometheus_scrapes_the_environment_and_itself_and_loads_rules() {
    let corner = Corner::with(
        r"
  metrics:
    prometheus: { rules: [rules.yaml] }
  tracing:
    jaeger: {}
",
    );
    let rules = "groups:\n  - name: tests\n    rules:\n      - { alert: Down, expr: up == 0, for: 1m }\n";
    std::fs::write(corner.project().join("rules.yaml"), rules).unwrap();
    corner.up("test");
    let prometheus = corner.variable("PROMETHEUS_URL");
    let targets = corner.until("targets that are up", 40, || {
        let answer: Value = serde_json::from_str(&get(&format!("{prometheus}/api/v1/targets")).1).unwrap();
        let targets = answer["data"]["activeTargets"].as_array().unwrap().clone();
        (!targets.is_empty() && targets.iter().all(|target| target["health"] == "up")).then_some(targets)
    });
    assert!(targets.iter().any(|target| target["labels"]["job"].as_str().is_some_and(|job| job.contains("tracing"))), "{targets:?}");
    assert!(get(&format!("{prometheus}/api/v1/rules")).1.contains("Down"));
}

#[test]
fn redis_has_its_declared_settings() {
    let corner =
        Corner::with("  cache:\n    redis: { maxmemory: 64MiB, policy: allkeys-lru, persistence: { aof: everysec, rdb: \"60 1\" } }\n");
    corner.up("test");
    let url = corner.variable("REDIS_URL");
    for (name, expected) in [("maxmemory", "67108864"), ("maxmemory-policy", "allkeys-lru"), ("appendfsync", "everysec"), ("save", "60 1")]
    {
        let answer = crate::clients::redis(&url, &["CONFIG", "GET", name]);
        assert!(answer.contains(expected), "{name}: {answer}");
    }
}

#[test]
fn jaeger_shows_what_devenv_itself_has_done() {
    let corner = Corner::with(
        r"
  tracing:
    jaeger: {}
  web:
    process: { command: [sh, -c, echo begun; exec sleep 1000] }
    probe: { log: begun }
",
    );
    corner.up("test");
    // The names of the spans of each trace of devenv, the first first.
    let traces = || -> Vec<Vec<String>> {
        let answer = get(&format!("{}/api/traces?service=devenv&limit=20&lookback=1h", corner.variable("TRACING_URL"))).1;
        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
        let spans = |trace: &Value| {
            let mut spans = trace["spans"].as_array().cloned().unwrap_or_default();
            spans.sort_by_key(|span| (span["startTime"].as_u64(), !span["references"].as_array().is_none_or(Vec::is_empty)));
            spans.iter().map(|span| span["operationName"].as_str().unwrap_or_default().to_owned()).collect()
        };
        answer["data"].as_array().map(|traces| traces.iter().map(spans).collect()).unwrap_or_default()
    };
    let up = corner.until("the trace of `up`", 60, || traces().into_iter().find(|names| names[0] == "up"));
    assert!(["tracing", "web"].iter().all(|name| up.iter().any(|span| span == name)), "{up:?}");
    corner.ok(&["restart", "web"]);
    corner.until("the trace of `restart`", 60, || {
        traces().into_iter().find(|names| names[0] == "restart" && names.contains(&"web".to_owned()))
    });
    let pid = corner.service("web")["pid"].as_u64().unwrap();
    assert!(Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap().success());
    let restart =
        corner.until("the trace of what the crash led to", 60, || traces().into_iter().find(|names| names[0] == "restart of web"));
    assert!(restart.contains(&"started".to_owned()) && restart.contains(&"ready".to_owned()), "{restart:?}");
}
