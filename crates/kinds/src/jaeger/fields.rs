//! Jaeger: traces over OTLP, with its query API and web page.

use devenv_spec::{ContainerSpec, Mount, SecretRef, Stop, Template, Variable};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spec::JaegerProbe;
use crate::describe::{Connection, Context, Describe, Description, Facts, Metrics, MetricsEndpoint, PortNeed};

/// Jaeger: collects traces over OTLP, with query API and web UI.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jaeger {
    /// The version of Jaeger.
    #[serde(default = "default_version")]
    pub version: String,
    /// The fraction of traces to keep, from 0.0 to 1.0.
    #[serde(default = "default_sampling")]
    pub sampling: f64,
}

fn default_version() -> String {
    "2.13.0".to_owned()
}

fn default_sampling() -> f64 {
    1.0
}

const QUERY: u16 = 16686;
const OTLP_GRPC: u16 = 4317;
const OTLP_HTTP: u16 = 4318;
const HEALTH: u16 = 13133;
const METRICS: u16 = 8888;

impl Describe for Jaeger {
    fn ports(&self) -> Vec<PortNeed> {
        [QUERY, OTLP_GRPC, OTLP_HTTP, HEALTH].map(PortNeed::any).into()
    }

    fn secrets(&self, _service: &str) -> Vec<SecretRef> {
        Vec::new()
    }

    fn describe(&self, cx: &Context<'_>) -> Description {
        let mut container = ContainerSpec::new(format!("jaegertracing/jaeger:{}", self.version));
        // Without it, it listens on the container's own loopback.
        container.environment.insert("JAEGER_LISTEN_HOST".into(), Template::text("0.0.0.0"));
        container.mounts.push(Mount::memory("/tmp"));
        let probe = JaegerProbe { health: cx.port(HEALTH), query: cx.port(QUERY), otlp_http: cx.port(OTLP_HTTP) };
        let probe = probe.into_probe();
        // It waits ten seconds for clients with open connections, and has only memory to lose.
        Description::server(container, probe, Stop::new("SIGTERM", 1))
    }

    fn connection(&self, cx: &Context<'_>) -> Connection {
        let http = |port: u16| cx.address(port, |host, port| Template::text(format!("http://{host}:{port}")));
        let said = |text: &str| Variable::same(Template::text(text));
        let mut connection = Connection::default();
        connection.variable(cx, "URL", http(QUERY));
        connection.variable(cx, "OTLP_HTTP", http(OTLP_HTTP));
        connection.variable(cx, "OTLP_GRPC", http(OTLP_GRPC));
        connection.short_form("OTEL_EXPORTER_OTLP_ENDPOINT", http(OTLP_HTTP));
        connection.short_form("OTEL_EXPORTER_OTLP_PROTOCOL", said("http/protobuf"));
        connection.short_form("OTEL_TRACES_SAMPLER", said("parentbased_traceidratio"));
        connection.short_form("OTEL_TRACES_SAMPLER_ARG", said(&self.sampling.to_string()));
        connection.url("traces", cx.url("http", QUERY));
        connection.url("otlp-http", cx.url("http", OTLP_HTTP));
        connection.url("otlp-grpc", cx.url("http", OTLP_GRPC));
        connection
    }

    fn facts(&self, cx: &Context<'_>) -> Facts {
        let host = cx.name.to_string();
        Facts {
            kind: "jaeger",
            address: Some((host.clone(), QUERY)),
            metrics: Metrics::Served(MetricsEndpoint { host, port: METRICS, path: "/metrics".to_owned() }),
            ..Facts::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use devenv_profile::testing::given;
    use serde_json::json;

    #[test]
    fn traces_go_to_the_leased_ports_and_are_sampled_as_the_profile_says() {
        let given = given("tracing", json!({ "jaeger": { "sampling": 0.25 } }));
        insta::assert_snapshot!(given.rendered(), @r##"
        image: jaegertracing/jaeger:2.13.0
        variable: JAEGER_LISTEN_HOST=0.0.0.0
        mount: memory at /tmp
        port: 127.0.0.1:20001 -> 4317
        port: 127.0.0.1:20002 -> 4318
        port: 127.0.0.1:20003 -> 13133
        port: 127.0.0.1:20000 -> 16686
        probe: {"jaeger":{"health":20003,"query":20000,"otlp_http":20002}}
        stop: SIGTERM 1s
        restart: Always 5
        "##);
        insta::assert_snapshot!(given.variables(), @r##"
        TRACING_URL=http://127.0.0.1:20000 | http://tracing:16686
        TRACING_OTLP_HTTP=http://127.0.0.1:20002 | http://tracing:4318
        TRACING_OTLP_GRPC=http://127.0.0.1:20001 | http://tracing:4317
        OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:20002 | http://tracing:4318
        OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf
        OTEL_TRACES_SAMPLER=parentbased_traceidratio
        OTEL_TRACES_SAMPLER_ARG=0.25
        DEVENV_ENVIRONMENT=shop-default-1a2b3c4d
        DEVENV_PROJECT=/home/ada/shop
        DEVENV_INSTANCE=default
        "##);
    }
}
