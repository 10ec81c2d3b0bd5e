//! The past of metrics and the alert rules, from Prometheus' query API.

use std::{collections::BTreeMap, fmt::Write, sync::LazyLock, time::Duration};

use async_trait::async_trait;
use devenv_api::{Alert, AlertRule, MetricSeries};
use devenv_spec::{Probe, ServiceSpec};
use reqwest::{Client, Url};
use serde::{Deserialize, de::DeserializeOwned};

use super::PrometheusKind;
use crate::{
    capability::{BrowseError, MetricHistory, MetricsQuery},
    limited,
};

/// The most that is read of one answer, in bytes.
const LARGEST: usize = 8 << 20;
const PATIENCE: Duration = Duration::from_secs(6);
/// Points of one series.
const POINTS: u64 = 240;
/// The shortest time between two points, in seconds: services are scraped that often.
const SHORTEST_STEP: u64 = 5;
/// Series of one answer.
const MOST_SERIES: usize = 400;
/// Alerts of one rule.
const MOST_ALERTS: usize = 50;
/// Labels that say who scraped and what, not what was measured.
const OF_THE_SCRAPE: [&str; 3] = ["__name__", "instance", "job"];

static CLIENT: LazyLock<Client> =
    LazyLock::new(|| Client::builder().no_proxy().timeout(PATIENCE).pool_max_idle_per_host(0).build().expect("these options are valid"));

#[async_trait]
impl MetricHistory for PrometheusKind {
    async fn series(&self, service: &ServiceSpec, query: &MetricsQuery) -> Result<Vec<MetricSeries>, BrowseError> {
        if query.names.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(name) = query.names.iter().find(|name| !is_name(name)) {
            return Err(BrowseError::Refused(format!("`{name}` is no name of a metric")));
        }
        let seconds = query.over.as_secs().max(SHORTEST_STEP);
        let step = (seconds / POINTS).max(SHORTEST_STEP);
        // Ends at a multiple of the step, so that two answers have the same times.
        let end = query.until_s / step * step;
        let words = [
            ("query", format!("{{__name__=~\"{}\"}}", query.names.join("|"))),
            ("start", end.saturating_sub(seconds).to_string()),
            ("end", end.to_string()),
            ("step", step.to_string()),
        ];
        let found: Matrix = ask(port(service)?, "query_range", &words).await?;
        Ok(found.result.into_iter().take(MOST_SERIES).map(series).collect())
    }

    async fn alert_rules(&self, service: &ServiceSpec) -> Result<Vec<AlertRule>, BrowseError> {
        let found: Groups = ask(port(service)?, "rules", &[("type", "alert".to_owned())]).await?;
        let rules = found.groups.into_iter().flat_map(|group| group.rules.into_iter().map(move |rule| (group.name.clone(), rule)));
        Ok(rules.map(|(group, rule)| alert_rule(group, rule)).collect())
    }
}

fn is_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    !name.is_empty() && name.chars().all(good) && !name.starts_with(|c: char| c.is_ascii_digit())
}

fn port(service: &ServiceSpec) -> Result<u16, BrowseError> {
    match &service.probe {
        Probe::Http { port, .. } => Ok(*port),
        _ => Err(BrowseError::Refused(format!("devenv has no address of `{}`", service.name))),
    }
}

async fn ask<T: DeserializeOwned>(port: u16, path: &str, words: &[(&str, String)]) -> Result<T, BrowseError> {
    let silent = |error: reqwest::Error| BrowseError::Refused(format!("Prometheus does not answer: {}", error.without_url()));
    let strange = |error: &dyn std::fmt::Display| BrowseError::Refused(format!("Prometheus' answer is not understood: {error}"));
    let url = Url::parse_with_params(&format!("http://127.0.0.1:{port}/api/v1/{path}"), words).map_err(|error| strange(&error))?;
    let answer = CLIENT.get(url).send().await.map_err(silent)?;
    let body = limited::body(answer, LARGEST).await.map_err(silent)?;
    if body.len() == LARGEST {
        return Err(BrowseError::Refused(format!("Prometheus' answer has more than {} MiB: ask for fewer metrics", LARGEST >> 20)));
    }
    let answer: Answer<T> = serde_json::from_slice(&body).map_err(|error| strange(&error))?;
    match (answer.data, answer.error) {
        (Some(data), _) => Ok(data),
        (None, Some(error)) => Err(BrowseError::Refused(format!("Prometheus: {error}"))),
        (None, None) => Err(strange(&"it is empty")),
    }
}

#[derive(Deserialize)]
struct Answer<T> {
    data: Option<T>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Matrix {
    result: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    metric: BTreeMap<String, String>,
    values: Vec<(f64, String)>,
}

#[derive(Deserialize)]
struct Groups {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    name: String,
    rules: Vec<FoundRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundRule {
    name: String,
    #[serde(default)]
    query: String,
    #[serde(default)]
    duration: f64,
    #[serde(default)]
    state: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    alerts: Vec<FoundAlert>,
    #[serde(default)]
    last_error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FoundAlert {
    #[serde(default)]
    state: String,
    #[serde(default)]
    active_at: Option<String>,
    #[serde(default)]
    value: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

fn series(found: Found) -> MetricSeries {
    let mut labels = found.metric;
    let name = labels.remove("__name__").unwrap_or_default();
    for label in OF_THE_SCRAPE {
        labels.remove(label);
    }
    let service = labels.remove("service").unwrap_or_default();
    let points =
        found.values.into_iter().filter_map(|(at, value)| Some((at, value.parse::<f64>().ok().filter(|value| value.is_finite())?)));
    let (times, values) = points.unzip();
    MetricSeries { service, name, labels, times, values }
}

fn alert_rule(group: String, rule: FoundRule) -> AlertRule {
    let alert = |alert: FoundAlert| Alert {
        state: alert.state,
        since: alert.active_at,
        value: alert.value,
        labels: alert.labels.into_iter().filter(|(name, _)| name != "alertname").collect(),
        summary: summary(&alert.annotations),
    };
    AlertRule {
        group,
        name: rule.name,
        expression: rule.query,
        for_s: rule.duration,
        state: rule.state,
        labels: rule.labels,
        summary: summary(&rule.annotations),
        alerts: rule.alerts.into_iter().take(MOST_ALERTS).map(alert).collect(),
        error: rule.last_error.filter(|error| !error.is_empty()),
    }
}

/// The text for people, as most rules name it.
fn summary(annotations: &BTreeMap<String, String>) -> Option<String> {
    if let Some(text) = ["summary", "description", "message"].iter().find_map(|name| annotations.get(*name)) {
        return Some(text.clone());
    }
    let mut all = String::new();
    for (name, value) in annotations {
        // Writing to a string cannot fail.
        let _ = write!(all, "{}{name}: {value}", if all.is_empty() { "" } else { "; " });
    }
    (!all.is_empty()).then_some(all)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_series_names_its_service_and_has_only_numbers() {
        let metric = json!({ "__name__": "pg_connections", "job": "db", "instance": "10.0.0.1:1", "service": "db", "state": "idle" });
        let found = serde_json::from_value(json!({ "metric": metric, "values": [[1.0, "7"], [6.5, "NaN"], [11.0, "8.5"]] })).unwrap();
        let series = series(found);
        assert_eq!((series.service.as_str(), series.name.as_str()), ("db", "pg_connections"));
        assert_eq!(series.labels.into_iter().collect::<Vec<_>>(), [("state".to_owned(), "idle".to_owned())]);
        assert_eq!((series.times, series.values), (vec![1.0, 11.0], vec![7.0, 8.5]));
    }

    #[test]
    fn a_rule_says_what_fires() {
        let rule = json!({
            "name": "Down", "query": "up == 0", "duration": 10, "state": "firing", "type": "alerting", "labels": { "severity": "page" },
            "annotations": { "summary": "{{ $labels.service }} is down" }, "health": "ok", "lastError": "",
            "alerts": [{ "state": "firing", "activeAt": "2026-01-01T00:00:00Z", "value": "0e+00",
                "labels": { "alertname": "Down", "service": "db" }, "annotations": { "summary": "db is down" } }],
        });
        let rule = alert_rule("g".to_owned(), serde_json::from_value(rule).unwrap());
        assert_eq!((rule.state.as_str(), rule.alerts[0].summary.as_deref(), rule.error), ("firing", Some("db is down"), None));
        assert_eq!(rule.alerts[0].labels.keys().collect::<Vec<_>>(), ["service"]);
    }

    #[test]
    fn only_names_become_part_of_a_question() {
        assert!(is_name("devenv_service_cpu_ratio") && is_name("job:rate5m"));
        for name in ["", "a\"} or vector(1)", "a|b", ".*", "7a"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
