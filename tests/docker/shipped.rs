//! Built-in files work: every built-in profile, and the default one for real work.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::{
    clients::{fetch, get, post, produce, redis, sql},
    corner::{Corner, docker},
};

#[test]
fn every_shipped_profile_loads_plans_and_comes_up() {
    let corner = Corner::new();
    let profiles = corner.json(&["profiles", "--all"]);
    let names: Vec<String> = profiles["profiles"]
        .as_array()
        .or(profiles.as_array())
        .unwrap()
        .iter()
        .map(|profile| profile["name"].as_str().unwrap().to_owned())
        .collect();
    assert!(["data", "default", "observability"].iter().all(|name| names.iter().any(|found| found == name)), "{names:?}");
    for name in &names {
        let steps = corner.json(&["plan", name])["steps"].clone();
        assert!(steps.as_array().unwrap().iter().all(|step| step["action"] == "create"), "{name}: {steps}");
        corner.up(name);
        corner.tells_no_secret();
        corner.ok(&["down", "--volumes"]);
    }
}

#[test]
fn the_default_profile_serves_real_clients_on_the_host_and_on_the_network() {
    let corner = Corner::new();
    let status = corner.up("default");
    assert!(status["elapsed_ms"].as_u64().unwrap() > 0);
    assert_eq!(sql(&corner.variable("DATABASE_URL"), "select 40 + 2"), ["42"]);
    assert_eq!(redis(&corner.variable("REDIS_URL"), &["PING"]), "PONG");

    let brokers = corner.variable("KAFKA_BROKERS");
    produce(&brokers, "greetings", "from the host");
    assert_eq!(fetch(&brokers, "greetings"), "from the host");
    let inside = corner.variables(&["--for", "container"])["KAFKA_BROKERS"].as_str().unwrap().to_owned();
    let network = format!("devenv-{}", status["environment"].as_str().unwrap());
    let consumer = ["run", "--rm", "--network", &network, "--entrypoint", "/opt/kafka/bin/kafka-console-consumer.sh", "apache/kafka:4.3.1"];
    let arguments =
        ["--bootstrap-server", &inside, "--topic", "greetings", "--from-beginning", "--max-messages", "1", "--timeout-ms", "30000"];
    let fetched = docker(&[&consumer[..], &arguments].concat());
    assert!(fetched.stdout.contains("from the host"), "{fetched:?}");

    let trace = "5b8efff798038103d269b633813fc60c";
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let span = json!({
        "traceId": trace, "spanId": "eee19b7ec3c1b174", "name": "a span", "kind": 1,
        "startTimeUnixNano": (now - 1_000_000).to_string(), "endTimeUnixNano": now.to_string(),
    });
    let resource = json!({ "attributes": [{ "key": "service.name", "value": { "stringValue": "docker-tests" } }] });
    let body = json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": [{ "spans": [span] }] }] });
    assert_eq!(post(&format!("{}/v1/traces", corner.variable("OTEL_EXPORTER_OTLP_ENDPOINT")), &body), 200);
    let query = format!("{}/api/traces/{trace}", corner.variable("TRACING_URL"));
    corner.until("the span is found", 15, || get(&query).1.contains("docker-tests").then_some(()));
}
