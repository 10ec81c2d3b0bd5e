//! Prometheus, scraping the environment's services.

use devenv_spec::{ContainerSpec, FileSpec, Mount, Period, Probe, SecretRef, Stop, Template};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::describe::{Connection, Context, Describe, Description, Facts, METRICS_PORT, Metrics, MetricsEndpoint, PortNeed};

/// Prometheus, which scrapes the services of the environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Prometheus {
    /// The version of Prometheus.
    #[serde(default = "default_version")]
    pub version: String,
    /// Files with alerting and recording rules.
    #[serde(default)]
    pub rules: Vec<String>,
    /// Additional scrape jobs, for services without built-in metrics.
    #[serde(default)]
    pub scrape: IndexMap<String, Scrape>,
}

/// One scrape job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scrape {
    /// The service to scrape.
    pub service: String,
    /// The request path.
    #[serde(default = "default_path")]
    pub path: String,
    /// The time between scrapes.
    #[serde(default)]
    pub interval: Option<Period>,
}

fn default_version() -> String {
    "2.53.3".to_owned()
}

fn default_path() -> String {
    "/metrics".to_owned()
}

const PORT: u16 = 9090;
/// The job of the environment's own metrics; no service can have this name.
const ENVIRONMENT: &str = "devenv/environment";
const CONFIGURATION: &str = "/etc/prometheus/prometheus.yml";

impl Describe for Prometheus {
    fn ports(&self) -> Vec<PortNeed> {
        vec![PortNeed::any(PORT), PortNeed::any(METRICS_PORT)]
    }

    fn secrets(&self, _service: &str) -> Vec<SecretRef> {
        Vec::new()
    }

    fn describe(&self, cx: &Context<'_>) -> Description {
        let mut container = ContainerSpec::new(format!("prom/prometheus:v{}", self.version));
        let arguments = [format!("--config.file={CONFIGURATION}"), "--storage.tsdb.path=/prometheus".to_owned()];
        container.command = Some(arguments.into());
        container.mounts.push(Mount::volume("data", "/prometheus"));
        let rules: Vec<FileSpec> = self.rule_files(cx).collect();
        container.files.push(FileSpec::readable(CONFIGURATION, self.configuration(cx, &rules)));
        container.files.extend(rules);
        let probe = Probe::Http { port: cx.port(PORT), path: "/-/ready".to_owned(), status: 200 };
        Description::server(container, probe, Stop::new("SIGTERM", 10))
    }

    fn connection(&self, cx: &Context<'_>) -> Connection {
        let url = cx.address(PORT, |host, port| Template::text(format!("http://{host}:{port}")));
        let mut connection = Connection::default();
        connection.variable(cx, "URL", url.clone());
        connection.short_form("PROMETHEUS_URL", url);
        connection.url("prometheus", cx.url("http", PORT));
        connection
    }

    fn facts(&self, cx: &Context<'_>) -> Facts {
        let host = cx.name.to_string();
        Facts {
            kind: "prometheus",
            address: Some((host.clone(), PORT)),
            metrics: Metrics::Served(MetricsEndpoint { host, port: PORT, path: "/metrics".to_owned() }),
            ..Facts::default()
        }
    }

    fn assets(&self) -> Vec<String> {
        self.rules.clone()
    }

    fn references(&self) -> Vec<String> {
        self.scrape.values().map(|scrape| scrape.service.clone()).collect()
    }

    /// It scrapes existing services, and reports `up == 0` for missing ones: that is its purpose, so it waits for none.
    fn dependencies(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Prometheus {
    /// Numbered, because two directories may contain files of one name.
    fn rule_files<'a>(&'a self, cx: &'a Context<'_>) -> impl Iterator<Item = FileSpec> + 'a {
        self.rules.iter().enumerate().filter_map(|(index, path)| {
            let name = path.rsplit('/').next().unwrap_or(path);
            let text = cx.assets.get(path)?;
            Some(FileSpec::readable(format!("/etc/prometheus/rules/{index}-{name}"), text.as_str()))
        })
    }

    fn configuration(&self, cx: &Context<'_>, rules: &[FileSpec]) -> String {
        let mut jobs: IndexMap<&str, Value> = IndexMap::new();
        for (name, facts) in cx.neighbours {
            let name = name.as_str();
            match (&facts.metrics, cx.metrics_address) {
                (Metrics::Served(MetricsEndpoint { host, port, path }), _) => {
                    jobs.insert(name, job(name, name, &format!("{host}:{port}"), path));
                }
                (Metrics::Asked, Some(daemon)) => {
                    jobs.insert(name, job(name, name, &daemon.to_string(), &format!("/metrics/{name}")));
                }
                (Metrics::Asked, None) | (Metrics::None, _) => {}
            }
        }
        if let Some(daemon) = cx.metrics_address {
            jobs.insert(ENVIRONMENT, environment(&daemon.to_string()));
        }
        for (name, scrape) in &self.scrape {
            let address = cx.neighbours.get(scrape.service.as_str()).and_then(|facts| facts.address.as_ref());
            if let Some((host, port)) = address {
                let mut job = job(name, &scrape.service, &format!("{host}:{port}"), &scrape.path);
                if let Some(interval) = scrape.interval {
                    job["scrape_interval"] = json!(interval.to_string());
                }
                jobs.insert(name, job);
            }
        }
        let mut configuration = json!({ "global": { "scrape_interval": "5s", "evaluation_interval": "5s" } });
        if !rules.is_empty() {
            configuration["rule_files"] = rules.iter().map(|file| file.path.as_str()).collect();
        }
        configuration["scrape_configs"] = jobs.into_values().collect();
        serde_yaml::to_string(&configuration).expect("plain data can be written as YAML")
    }
}

/// For all containers at once, so each metric names its service itself.
fn environment(target: &str) -> Value {
    json!({
        "job_name": ENVIRONMENT,
        "metrics_path": "/metrics",
        "honor_labels": true,
        "static_configs": [{ "targets": [target] }],
    })
}

fn job(name: &str, service: &str, target: &str, path: &str) -> Value {
    json!({
        "job_name": name,
        "metrics_path": path,
        "static_configs": [{ "targets": [target], "labels": { "service": service } }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use devenv_profile::testing::Given;

    #[test]
    fn services_with_metrics_are_scraped_without_configuration_and_jobs_and_rules_are_added() {
        let given = Given::nothing()
            .and("tracing", json!({ "jaeger": {} }))
            .and("db", json!({ "postgres": {} }))
            .and("api", json!({ "process": { "command": ["api"], "port": 8080 } }))
            .and(
                "metrics",
                json!({ "prometheus": {
                    "rules": ["alerts/db.yaml", "more/db.yaml"],
                    "scrape": { "api-metrics": { "service": "api", "path": "/stats", "interval": "1s" } },
                }}),
            )
            .asset("alerts/db.yaml", "groups: []\n")
            .asset("more/db.yaml", "groups: []\n");
        insta::assert_snapshot!(given.rendered(), @r##"
        image: prom/prometheus:v2.53.3
        command: ["--config.file=/etc/prometheus/prometheus.yml","--storage.tsdb.path=/prometheus"]
        mount: volume data at /prometheus
        port: 127.0.0.1:20006 -> 9090
        file: /etc/prometheus/prometheus.yml 0444 0:0
          global:
            scrape_interval: 5s
            evaluation_interval: 5s
          rule_files:
          - /etc/prometheus/rules/0-db.yaml
          - /etc/prometheus/rules/1-db.yaml
          scrape_configs:
          - job_name: tracing
            metrics_path: /metrics
            static_configs:
            - targets:
              - tracing:8888
              labels:
                service: tracing
          - job_name: db
            metrics_path: /metrics/db
            static_configs:
            - targets:
              - 10.213.7.1:20007
              labels:
                service: db
          - job_name: metrics
            metrics_path: /metrics
            static_configs:
            - targets:
              - metrics:9090
              labels:
                service: metrics
          - job_name: devenv/environment
            metrics_path: /metrics
            honor_labels: true
            static_configs:
            - targets:
              - 10.213.7.1:20007
          - job_name: api-metrics
            metrics_path: /stats
            static_configs:
            - targets:
              - host.docker.internal:8080
              labels:
                service: api
            scrape_interval: 1s
        file: /etc/prometheus/rules/0-db.yaml 0444 0:0
          groups: []
        file: /etc/prometheus/rules/1-db.yaml 0444 0:0
          groups: []
        probe: {"http":{"port":20006,"path":"/-/ready","status":200}}
        stop: SIGTERM 10s
        restart: Always 5
        "##);
        assert!(given.spec().services["metrics"].depends_on.is_empty());
    }
    #[test]
    fn nobody_can_stop_reload_or_empty_it_over_http() {
        let spec = devenv_profile::testing::given("metrics", json!({ "prometheus": {} })).spec();
        let command = spec.services["metrics"].container().unwrap().command.clone().unwrap();
        for flag in ["--web.enable-lifecycle", "--web.enable-admin-api", "--web.enable-remote-write-receiver"] {
            assert!(!command.iter().any(|argument| argument.contains(flag)), "{command:?}");
        }
    }
}
