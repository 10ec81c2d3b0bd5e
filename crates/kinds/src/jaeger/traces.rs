//! Jaeger: traces from its query API, the one that its own page uses (`/api/traces`), and spans for its OTLP port.

use std::{
    collections::{BTreeMap, HashMap},
    sync::LazyLock,
    time::Duration,
};

use async_trait::async_trait;
use devenv_api::{Span, Trace, Traces};
use devenv_spec::{Probe, ServiceSpec};
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::{Client, StatusCode, Url};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{JaegerKind, spec::JaegerProbe};
use crate::{
    browse::LONGEST_VALUE,
    capability::{BrowseError, TraceQuery, TraceSource},
    limited,
};

/// The most that is read of one answer, in bytes.
const LARGEST: usize = 8 << 20;
const PATIENCE: Duration = Duration::from_secs(6);
/// The service under which Jaeger records itself. Shown only by its name.
const OWN: &str = "jaeger";
/// The service of devenv's own traces. Searched only by its name: an agent or a page that asks for the newest traces means the project's.
const DEVENV: &str = "devenv";
/// Traced services that are asked when the request names none.
const MOST_SERVICES: usize = 20;
/// Services that are asked at the same time.
const AT_ONCE: usize = 4;

static CLIENT: LazyLock<Client> =
    LazyLock::new(|| Client::builder().no_proxy().timeout(PATIENCE).pool_max_idle_per_host(0).build().expect("these options are valid"));

#[async_trait]
impl TraceSource for JaegerKind {
    async fn traces(&self, service: &ServiceSpec, query: &TraceQuery) -> Result<Traces, BrowseError> {
        let JaegerProbe { query: port, .. } = addresses(service)?;
        if let Some(id) = &query.id {
            return one(port, id).await;
        }
        let mut services: Vec<String> = ask(port, "services", &[]).await?.unwrap_or_default();
        // It traces the questions that it is asked.
        services.retain(|service| service != OWN);
        services.sort();
        let asked: Vec<String> = match &query.service {
            Some(service) => vec![service.clone()],
            None => services.iter().filter(|service| *service != DEVENV).take(MOST_SERVICES).cloned().collect(),
        };
        let answers = stream::iter(asked).map(|service| search(port, service, query)).buffered(AT_ONCE);
        let found: Vec<Vec<Found>> = answers.try_collect().await?;
        // A trace of several services is found with each.
        let traces: HashMap<String, Trace> = found.into_iter().flatten().filter_map(trace).map(|trace| (trace.id.clone(), trace)).collect();
        let mut traces: Vec<Trace> = traces.into_values().collect();
        traces.sort_by(|a, b| (b.start_us, &b.id).cmp(&(a.start_us, &a.id)));
        traces.truncate(query.limit as usize);
        Ok(Traces { services, traces })
    }

    async fn collect(&self, service: &ServiceSpec, request: &Value) -> Result<(), BrowseError> {
        let JaegerProbe { otlp_http: port, .. } = addresses(service)?;
        let sent = CLIENT.post(format!("http://127.0.0.1:{port}/v1/traces")).json(request).send().await;
        sent.and_then(reqwest::Response::error_for_status).map(drop).map_err(silent)
    }
}

fn addresses(service: &ServiceSpec) -> Result<JaegerProbe, BrowseError> {
    let Probe::OfKind(probe) = &service.probe else {
        return Err(BrowseError::Refused(format!("devenv has no address of `{}`", service.name)));
    };
    probe.decode().map_err(|error| BrowseError::Refused(error.to_string()))
}

fn silent(error: reqwest::Error) -> BrowseError {
    BrowseError::Refused(format!("Jaeger does not answer: {}", error.without_url()))
}

async fn one(port: u16, id: &str) -> Result<Traces, BrowseError> {
    let unknown = || BrowseError::NotFound(format!("there is no trace `{id}`"));
    if id.is_empty() || id.len() > 32 || !id.chars().all(|c| c.is_ascii_hexdigit()) {
        return Err(unknown());
    }
    let found: Vec<Found> = ask(port, &format!("traces/{id}"), &[]).await?.ok_or_else(unknown)?;
    let traces: Vec<Trace> = found.into_iter().filter_map(trace).collect();
    if traces.is_empty() { Err(unknown()) } else { Ok(Traces { services: Vec::new(), traces }) }
}

async fn search(port: u16, service: String, query: &TraceQuery) -> Result<Vec<Found>, BrowseError> {
    let mut words = vec![("service", service), ("limit", query.limit.to_string()), ("lookback", "2d".to_owned())];
    words.extend(query.operation.clone().map(|operation| ("operation", operation)));
    words.extend(query.min_duration.map(|least| ("minDuration", format!("{}us", least.as_micros()))));
    if !query.tags.is_empty() {
        words.push(("tags", serde_json::to_string(&query.tags).expect("text is plain data")));
    }
    Ok(ask(port, "traces", &words).await?.unwrap_or_default())
}

/// `None` if there is no such thing.
async fn ask<T: DeserializeOwned>(port: u16, path: &str, words: &[(&str, String)]) -> Result<Option<T>, BrowseError> {
    let url = Url::parse_with_params(&format!("http://127.0.0.1:{port}/api/{path}"), words);
    let answer = CLIENT.get(url.map_err(|error| BrowseError::Refused(error.to_string()))?).send().await.map_err(silent)?;
    let status = answer.status();
    if status == StatusCode::NOT_FOUND {
        return Ok(None);
    }
    let body = limited::body(answer, LARGEST).await.map_err(silent)?;
    if body.len() == LARGEST {
        return Err(BrowseError::Refused(format!("Jaeger's answer has more than {} MiB: ask for fewer traces", LARGEST >> 20)));
    }
    let answer: Answer = serde_json::from_slice(&body).map_err(|error| {
        BrowseError::Refused(if status.is_success() {
            format!("Jaeger's answer is not understood: {error}")
        } else {
            format!("Jaeger answers {status}")
        })
    })?;
    if let Some(error) = answer.errors.into_iter().flatten().next() {
        return Err(BrowseError::Refused(format!("Jaeger: {}", error.msg)));
    }
    T::deserialize(answer.data.unwrap_or(Value::Array(Vec::new())))
        .map(Some)
        .map_err(|error| BrowseError::Refused(format!("Jaeger's answer is not understood: {error}")))
}

#[derive(Debug, Deserialize)]
struct Answer {
    data: Option<Value>,
    errors: Option<Vec<Refusal>>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    #[serde(default)]
    msg: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Found {
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(default)]
    spans: Vec<FoundSpan>,
    #[serde(default)]
    processes: HashMap<String, Process>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundSpan {
    #[serde(rename = "spanID")]
    span_id: String,
    operation_name: String,
    #[serde(default)]
    references: Vec<Reference>,
    start_time: u64,
    duration: u64,
    #[serde(default)]
    tags: Vec<Tag>,
    #[serde(rename = "processID", default)]
    process_id: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    #[serde(rename = "spanID")]
    span_id: String,
}

#[derive(Debug, Deserialize)]
struct Tag {
    key: String,
    #[serde(default)]
    value: Value,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    service_name: String,
}

/// `None` if it has no spans.
fn trace(found: Found) -> Option<Trace> {
    let Found { trace_id, spans, processes } = found;
    let mut spans: Vec<Span> = spans.into_iter().map(|span| shown(span, &processes)).collect();
    spans.sort_by(|a, b| (a.start_us, &a.id).cmp(&(b.start_us, &b.id)));
    let start_us = spans.first()?.start_us;
    let end = spans.iter().map(|span| span.start_us.saturating_add(span.duration_us)).max()?;
    Some(Trace { id: trace_id, start_us, duration_us: end.saturating_sub(start_us), spans })
}

fn shown(span: FoundSpan, processes: &HashMap<String, Process>) -> Span {
    let text = |value: Value| {
        let mut text = match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        if text.len() > LONGEST_VALUE {
            text = text.chars().take(LONGEST_VALUE).chain(['…']).collect();
        }
        text
    };
    let tags: BTreeMap<String, String> = span.tags.into_iter().map(|tag| (tag.key, text(tag.value))).collect();
    let is = |tag: &str, value: &str| tags.get(tag).is_some_and(|is| is.eq_ignore_ascii_case(value));
    Span {
        error: is("error", "true") || is("otel.status_code", "ERROR"),
        id: span.span_id,
        parent: span.references.into_iter().next().map(|reference| reference.span_id),
        service: processes.get(&span.process_id).map(|process| process.service_name.clone()).unwrap_or_default(),
        operation: span.operation_name,
        start_us: span.start_time,
        duration_us: span.duration,
        tags,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_trace_spans_all_of_its_spans_and_names_their_services_and_errors() {
        let found: Found = serde_json::from_value(json!({
            "traceID": "abc", "processes": { "p1": { "serviceName": "checkout", "tags": [] } },
            "spans": [
                { "traceID": "abc", "spanID": "2", "operationName": "charge", "startTime": 110, "duration": 90, "processID": "p1",
                  "references": [{ "refType": "CHILD_OF", "traceID": "abc", "spanID": "1" }],
                  "tags": [{ "key": "error", "type": "bool", "value": true }, { "key": "amount", "type": "int64", "value": 3 }] },
                { "traceID": "abc", "spanID": "1", "operationName": "POST /pay", "startTime": 100, "duration": 50, "processID": "p1", "tags": [] },
            ],
        }))
        .unwrap();
        let trace = trace(found).unwrap();
        assert_eq!((trace.start_us, trace.duration_us), (100, 100));
        let names: Vec<_> = trace.spans.iter().map(|span| (span.operation.as_str(), span.service.as_str(), span.error)).collect();
        assert_eq!(names, [("POST /pay", "checkout", false), ("charge", "checkout", true)]);
        assert_eq!((trace.spans[1].parent.as_deref(), trace.spans[1].tags["amount"].as_str()), (Some("1"), "3"));
    }
}
