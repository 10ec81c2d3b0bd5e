//! A program on the host.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use devenv_spec::{Probe, ProcessSpec, Resources, SecretRef, Template, Variable, Workload};

use crate::describe::{Connection, Context, Describe, Description, Facts, HOST_FROM_CONTAINER, PortNeed, product};

/// A program that runs on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Process {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The working directory, relative to the project.
    #[serde(default)]
    pub directory: Option<String>,
    /// The port it listens on, passed as `PORT`. 0 picks a free port, which stays the same across restarts.
    #[serde(default)]
    pub port: Option<u16>,
    /// The port of its debugger, passed as `DEBUG_PORT`. 0 picks a free port, which stays the same across reloads.
    #[serde(default)]
    pub debug_port: Option<u16>,
}

/// The container port numbers under which the leased ports of a process are kept, which has none of its own.
const LEASED: u16 = 0;
const LEASED_FOR_DEBUGGER: u16 = 1;

impl Describe for Process {
    fn ports(&self) -> Vec<PortNeed> {
        let debug_port = self.debug_key().map(need);
        self.port.map(need).into_iter().chain(debug_port).collect()
    }

    /// It has no container.
    fn publishes_ports(&self) -> bool {
        false
    }

    fn secrets(&self, _service: &str) -> Vec<SecretRef> {
        Vec::new()
    }

    fn describe(&self, cx: &Context<'_>) -> Description {
        let port = self.port.map(|port| cx.port(port));
        let debug_port = self.debug_key().map(|key| cx.port(key));
        let mut environment = product::variables(cx, |variable| &variable.host);
        for (name, port) in [("PORT", port), ("DEBUG_PORT", debug_port)] {
            if let Some(port) = port {
                environment.insert(name.to_owned(), Template::text(port.to_string()));
            }
        }
        for (name, value) in cx.declared.environment {
            environment.insert(name.clone(), Template::given(name, value));
        }
        let process = ProcessSpec {
            command: self.command.clone(),
            directory: cx.path(self.directory.as_deref().unwrap_or(".")),
            environment,
            ports: port.into_iter().chain(debug_port).collect(),
            fronted: cx.declared.swapped,
            resources: Resources::default(),
        };
        // For a probe, a port is one of the host, unless the probe names none.
        let probe = cx.declared.probe.map_or(Probe::None, |probe| {
            product::probe(probe, |asked| asked.filter(|asked| Some(*asked) != self.port).or(port).unwrap_or_default())
        });
        Description::product(Workload::Process(process), probe)
    }

    fn connection(&self, cx: &Context<'_>) -> Connection {
        let mut connection = Connection::default();
        if let Some(port) = self.port.map(|port| cx.port(port)) {
            let both = |words: fn(&str, u16) -> String| Variable {
                host: Template::text(words("127.0.0.1", port)),
                container: Template::text(words(HOST_FROM_CONTAINER, port)),
            };
            connection.variable(cx, "URL", both(|host, port| format!("http://{host}:{port}")));
            connection.variable(cx, "HOST", both(|host, _| host.to_owned()));
            connection.variable(cx, "PORT", both(|_, port| port.to_string()));
            connection.url("http", format!("http://127.0.0.1:{port}"));
        }
        connection
    }

    fn facts(&self, cx: &Context<'_>) -> Facts {
        let address = self.port.map(|port| (HOST_FROM_CONTAINER.to_owned(), cx.port(port)));
        Facts { kind: "process", address, ..Facts::default() }
    }
}

impl Process {
    fn debug_key(&self) -> Option<u16> {
        self.debug_port.map(|port| if port == LEASED { LEASED_FOR_DEBUGGER } else { port })
    }
}

fn need(port: u16) -> PortNeed {
    let leased = port == LEASED || port == LEASED_FOR_DEBUGGER;
    PortNeed { fixed: (!leased).then_some(port), ..PortNeed::any(port) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use devenv_profile::{
        needs,
        testing::{Given, given},
    };
    use serde_json::{Value, json};

    #[test]
    fn it_gets_the_variables_of_what_it_depends_on_in_their_host_form_and_its_own_port() {
        let mut given = Given::nothing()
            .and("cache", json!({ "redis": {} }))
            .and("tracing", json!({ "jaeger": {} }))
            .and("api", json!({ "process": { "command": ["cargo", "run"], "directory": "./services/api", "port": 0, "debug_port": 5678 } }))
            .with(|service| {
                service.depends_on.extend(["cache", "tracing"].map(|name| (name.parse().unwrap(), devenv_spec::Condition::Ready)));
                service.environment.insert("LOG".into(), "debug".into());
                service.probe = serde_json::from_value(json!({ "tcp": {} })).unwrap();
            });
        given.profile.variables.insert("PORT".into(), "1".into());
        insta::assert_snapshot!(given.rendered(), @r##"
        command: ["cargo","run"]
        directory: /home/ada/shop/services/api
        variable: CACHE_URL=redis://default:${secret:cache/default}@127.0.0.1:20000/0
        variable: CACHE_HOST=127.0.0.1
        variable: CACHE_PORT=20000
        variable: CACHE_PASSWORD=${secret:cache/default}
        variable: TRACING_URL=http://127.0.0.1:20001
        variable: TRACING_OTLP_HTTP=http://127.0.0.1:20003
        variable: TRACING_OTLP_GRPC=http://127.0.0.1:20002
        variable: API_URL=http://127.0.0.1:20005
        variable: API_HOST=127.0.0.1
        variable: API_PORT=20005
        variable: REDIS_URL=redis://default:${secret:cache/default}@127.0.0.1:20000/0
        variable: OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:20003
        variable: OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf
        variable: OTEL_TRACES_SAMPLER=parentbased_traceidratio
        variable: OTEL_TRACES_SAMPLER_ARG=1
        variable: DEVENV_ENVIRONMENT=shop-default-1a2b3c4d
        variable: DEVENV_PROJECT=/home/ada/shop
        variable: DEVENV_INSTANCE=default
        variable: PORT=20005
        variable: OTEL_SERVICE_NAME=api
        variable: DEBUG_PORT=5678
        variable: LOG=debug
        ports: [20005,5678]
        probe: {"tcp":{"port":20005}}
        stop: SIGTERM 10s
        restart: OnFailure 5
        "##);
    }

    #[test]
    fn a_fixed_port_is_requested_and_two_leased_ones_are_distinguished() {
        let ports = |fields: Value| {
            let given = given("api", json!({ "process": fields }));
            needs(&given.profile).ports.into_iter().map(|need| (need.container, need.fixed)).collect::<Vec<_>>()
        };
        assert_eq!(ports(json!({ "command": ["x"] })), []);
        assert_eq!(ports(json!({ "command": ["x"], "port": 8080, "debug_port": 5678 })), [(8080, Some(8080)), (5678, Some(5678))]);
        assert_eq!(ports(json!({ "command": ["x"], "port": 0, "debug_port": 0 })), [(0, None), (1, None)]);
    }

    #[test]
    fn a_probe_asks_the_port_that_it_really_has() {
        for (probe, port) in
            [(json!({ "http": {} }), 20000), (json!({ "http": { "port": 0 } }), 20000), (json!({ "http": { "port": 9999 } }), 9999)]
        {
            let given = given("api", json!({ "process": { "command": ["x"], "port": 0 } }))
                .with(|service| service.probe = serde_json::from_value(probe).unwrap());
            assert_eq!(given.spec().services["api"].probe, Probe::Http { port, path: "/".into(), status: 200 });
        }
    }
}
