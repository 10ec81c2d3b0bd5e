//! Spans that go to Jaeger as OTLP, and log lines that carry the same id.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

pub struct Span {
    name: &'static str,
    pub trace_id: String,
    id: String,
    parent: Option<String>,
    began: u128,
}

impl Span {
    /// Part of the trace that the caller's `traceparent` names, or the first of a new one.
    pub fn begin(name: &'static str, traceparent: Option<&str>) -> Self {
        let words: Vec<&str> = traceparent.unwrap_or_default().split('-').collect();
        let (trace_id, parent) = match words[..] {
            [_, trace, parent, _] => (trace.to_owned(), Some(parent.to_owned())),
            _ => (format!("{}{}", random(), random()), None),
        };
        Self { name, trace_id, id: random(), parent, began: now() }
    }

    /// For those that go on with it.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-01", self.trace_id, self.id)
    }

    pub async fn end(self) {
        let Ok(endpoint) = std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT") else { return };
        let mut span = json!({
            "traceId": self.trace_id, "spanId": self.id, "name": self.name, "kind": 2,
            "startTimeUnixNano": self.began.to_string(), "endTimeUnixNano": now().to_string(),
        });
        if let Some(parent) = &self.parent {
            span["parentSpanId"] = json!(parent);
        }
        let resource = json!({ "attributes": [{ "key": "service.name", "value": { "stringValue": "api" } }] });
        let body = json!({ "resourceSpans": [{ "resource": resource, "scopeSpans": [{ "spans": [span] }] }] });
        if let Err(error) = crate::http::post(&endpoint, "/v1/traces", &body.to_string()).await {
            log("warn", "a span was lost", None, json!({ "error": error.to_string() }));
        }
    }
}

/// A line of JSON, which `devenv logs` shows as words.
pub fn log(level: &str, message: &str, span: Option<&Span>, fields: Value) {
    let mut line = json!({ "level": level, "msg": message });
    if let Some(span) = span {
        line["trace_id"] = json!(span.trace_id);
    }
    for (name, value) in fields.as_object().into_iter().flatten() {
        line[name] = value.clone();
    }
    println!("{line}");
}

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos())
}

/// 16 hexadecimal digits. The standard library's hasher is seeded at random, which is enough for an id.
fn random() -> String {
    format!("{:016x}", RandomState::new().hash_one(now()))
}
