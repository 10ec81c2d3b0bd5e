//! Grafana, with data sources and dashboards provisioned.

use devenv_spec::{ContainerSpec, FileSpec, Mount, Probe, SecretRef, Stop, Template};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::describe::{Connection, Context, Describe, Description, Facts, Metrics, MetricsEndpoint, PortNeed};

/// Grafana, with provisioned data sources and dashboards.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grafana {
    /// The version of Grafana.
    #[serde(default = "default_version")]
    pub version: String,
    /// Dashboard files, as exported by Grafana.
    #[serde(default)]
    pub dashboards: Vec<String>,
}

fn default_version() -> String {
    "12.2.0".to_owned()
}

const PORT: u16 = 3000;
const USER: u32 = 472;
const PASSWORD_FILE: &str = "/run/devenv/grafana-password";
const PROVISIONING: &str = "/etc/grafana/provisioning";
const DASHBOARDS: &str = "/run/devenv/dashboards";
/// What it can show without a dashboard of the product's own.
const OVERVIEW: &str = include_str!("overview.json");

impl Describe for Grafana {
    fn ports(&self) -> Vec<PortNeed> {
        vec![PortNeed::any(PORT)]
    }

    fn secrets(&self, service: &str) -> Vec<SecretRef> {
        vec![SecretRef::new(service, "admin")]
    }

    fn describe(&self, cx: &Context<'_>) -> Description {
        let mut container = ContainerSpec::new(format!("grafana/grafana:{}", self.version));
        let settings = [
            ("GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES", "false"),
            ("GF_ANALYTICS_CHECK_FOR_UPDATES", "false"),
            ("GF_ANALYTICS_REPORTING_ENABLED", "false"),
            ("GF_AUTH_ANONYMOUS_ENABLED", "true"),
            ("GF_AUTH_ANONYMOUS_ORG_ROLE", "Viewer"),
            ("GF_PLUGINS_PREINSTALL_DISABLED", "true"),
            ("GF_SECURITY_ADMIN_PASSWORD__FILE", PASSWORD_FILE),
        ];
        for (name, value) in settings {
            container.environment.insert(name.to_owned(), Template::text(value));
        }
        container.mounts.push(Mount::volume("data", "/var/lib/grafana"));
        container.files.push(FileSpec::private(PASSWORD_FILE, USER, Template::secret(cx.secret("admin"))));
        container.files.push(FileSpec::readable(format!("{PROVISIONING}/datasources/devenv.yaml"), yaml(&sources(cx))));
        container.files.push(FileSpec::readable(format!("{PROVISIONING}/dashboards/devenv.yaml"), yaml(&provider())));
        container.files.push(FileSpec::readable(format!("{DASHBOARDS}/overview.json"), OVERVIEW));
        for (index, path) in self.dashboards.iter().enumerate() {
            let name = path.rsplit('/').next().unwrap_or(path);
            if let Some(text) = cx.assets.get(path) {
                let target = format!("{DASHBOARDS}/{index}-{name}");
                container.files.push(FileSpec::readable(target, with_inputs(text, cx)));
            }
        }
        let probe = Probe::Http { port: cx.port(PORT), path: "/api/health".to_owned(), status: 200 };
        Description::server(container, probe, Stop::new("SIGTERM", 10))
    }

    fn connection(&self, cx: &Context<'_>) -> Connection {
        let url = cx.address(PORT, |host, port| Template::text(format!("http://{host}:{port}")));
        let mut connection = Connection::default();
        connection.variable(cx, "URL", url.clone());
        connection.short_form("GRAFANA_URL", url);
        connection.url("grafana", cx.url("http", PORT));
        connection
    }

    fn facts(&self, cx: &Context<'_>) -> Facts {
        let host = cx.name.to_string();
        Facts {
            kind: "grafana",
            address: Some((host.clone(), PORT)),
            metrics: Metrics::Served(MetricsEndpoint { host, port: PORT, path: "/metrics".to_owned() }),
            ..Facts::default()
        }
    }

    fn assets(&self) -> Vec<String> {
        self.dashboards.clone()
    }
}

/// The neighbours that Grafana can query, by the name of the service: (kind, name, address).
fn askable<'a>(cx: &'a Context<'_>) -> impl Iterator<Item = (&'static str, &'a str, String)> {
    cx.neighbours.iter().filter_map(|(name, facts)| {
        let (host, port) = facts.address.as_ref()?;
        ["prometheus", "jaeger"].contains(&facts.kind).then(|| (facts.kind, name.as_str(), format!("http://{host}:{port}")))
    })
}

fn sources(cx: &Context<'_>) -> Value {
    let mut first = true;
    let sources: Vec<Value> = askable(cx)
        .map(|(kind, name, url)| {
            let default = kind == "prometheus" && std::mem::take(&mut first);
            json!({ "name": name, "uid": name, "type": kind, "access": "proxy", "url": url, "isDefault": default })
        })
        .collect();
    json!({ "apiVersion": 1, "datasources": sources })
}

fn provider() -> Value {
    json!({ "apiVersion": 1, "providers": [{ "name": "devenv", "type": "file", "options": { "path": DASHBOARDS } }] })
}

fn yaml(value: &Value) -> String {
    serde_yaml::to_string(value).expect("plain data can be written as YAML")
}

/// A dashboard that was exported for sharing names its data sources in `__inputs`: they are filled with ours, the first of each kind.
fn with_inputs(dashboard: &str, cx: &Context<'_>) -> String {
    let Ok(parsed) = serde_json::from_str::<Value>(dashboard) else { return dashboard.to_owned() };
    let mut text = dashboard.to_owned();
    for input in parsed["__inputs"].as_array().into_iter().flatten() {
        let (Some(name), Some(plugin)) = (input["name"].as_str(), input["pluginId"].as_str()) else { continue };
        if let Some((_, source, _)) = askable(cx).find(|(kind, ..)| *kind == plugin) {
            text = text.replace(&format!("${{{name}}}"), source);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use devenv_profile::testing::Given;

    #[test]
    fn the_neighbours_are_its_data_sources_and_dashboards_are_provisioned() {
        let exported = r#"{"__inputs":[{"name":"DS_P","pluginId":"prometheus"}],"panels":[{"datasource":"${DS_P}"}]}"#;
        let given = Given::nothing()
            .and("tracing", json!({ "jaeger": {} }))
            .and("metrics", json!({ "prometheus": {} }))
            .and("boards", json!({ "grafana": { "dashboards": ["dashboards/shop.json"] } }))
            .asset("dashboards/shop.json", exported);
        let rendered =
            given.rendered().replace(OVERVIEW, "").lines().filter(|line| !line.starts_with("   ")).collect::<Vec<_>>().join("\n");
        insta::assert_snapshot!(rendered, @r##"
        image: grafana/grafana:12.2.0
        variable: GF_ANALYTICS_CHECK_FOR_PLUGIN_UPDATES=false
        variable: GF_ANALYTICS_CHECK_FOR_UPDATES=false
        variable: GF_ANALYTICS_REPORTING_ENABLED=false
        variable: GF_AUTH_ANONYMOUS_ENABLED=true
        variable: GF_AUTH_ANONYMOUS_ORG_ROLE=Viewer
        variable: GF_PLUGINS_PREINSTALL_DISABLED=true
        variable: GF_SECURITY_ADMIN_PASSWORD__FILE=/run/devenv/grafana-password
        mount: volume data at /var/lib/grafana
        port: 127.0.0.1:20006 -> 3000
        file: /run/devenv/grafana-password 0400 472:472
          ${secret:boards/admin}
        file: /etc/grafana/provisioning/datasources/devenv.yaml 0444 0:0
          apiVersion: 1
          datasources:
          - name: tracing
          - name: metrics
        file: /etc/grafana/provisioning/dashboards/devenv.yaml 0444 0:0
          apiVersion: 1
          providers:
          - name: devenv
        file: /run/devenv/dashboards/overview.json 0444 0:0
          {
          }
        file: /run/devenv/dashboards/0-shop.json 0444 0:0
          {"__inputs":[{"name":"DS_P","pluginId":"prometheus"}],"panels":[{"datasource":"metrics"}]}
        probe: {"http":{"port":20006,"path":"/api/health","status":200}}
        stop: SIGTERM 10s
        restart: Always 5
        "##);
    }

    #[test]
    fn the_overview_is_a_dashboard() {
        let parsed: Value = serde_json::from_str(OVERVIEW).unwrap();
        assert_eq!(parsed["panels"].as_array().unwrap().len(), 4);
    }
}
