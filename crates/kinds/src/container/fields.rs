//! Any image, or one built from a Dockerfile.

use devenv_spec::{ContainerSpec, Image, ImageBuild, Mount, MountSource, Probe, SecretRef, Template, Workload};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::describe::{AUTHORITY_IN_CONTAINER, Connection, Context, Describe, Description, Facts, PortNeed, product};

/// A container from any image, or from a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// The image to run. Not allowed together with `build`.
    #[serde(default)]
    pub image: Option<String>,
    /// How to build the image. Not allowed together with `image`.
    #[serde(default)]
    pub build: Option<Build>,
    /// The arguments to run instead of the image's command.
    #[serde(default)]
    pub command: Option<Vec<String>>,
    /// The program to run instead of the image's entrypoint.
    #[serde(default)]
    pub entrypoint: Option<Vec<String>>,
    /// The user to run as. Default: the image's user.
    #[serde(default)]
    pub user: Option<String>,
    /// Container ports to publish on the host's loopback interface.
    #[serde(default)]
    pub expose: Vec<u16>,
    /// Directories of the project and named volumes to mount.
    #[serde(default)]
    pub volumes: Vec<VolumeMount>,
}

/// An image built from the project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// The build context, a directory relative to the project.
    pub context: String,
    /// The Dockerfile, relative to the context.
    #[serde(default = "default_dockerfile")]
    pub dockerfile: String,
    /// The build stage to build.
    #[serde(default)]
    pub target: Option<String>,
    /// Build arguments.
    #[serde(default)]
    pub args: IndexMap<String, String>,
}

/// A directory of the project (`./…`, `/…`) or a named volume, in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeMount {
    pub source: String,
    pub target: String,
    #[serde(default)]
    pub read_only: bool,
}

fn default_dockerfile() -> String {
    "Dockerfile".to_owned()
}

impl Describe for Container {
    fn ports(&self) -> Vec<PortNeed> {
        self.expose.iter().copied().map(PortNeed::any).collect()
    }

    fn secrets(&self, _service: &str) -> Vec<SecretRef> {
        Vec::new()
    }

    fn describe(&self, cx: &Context<'_>) -> Description {
        let mut container = ContainerSpec::new(self.image.clone().unwrap_or_default());
        if let Some(build) = &self.build {
            container.image = Image::Built(ImageBuild {
                dockerfile: build.dockerfile.clone(),
                target: build.target.clone(),
                arguments: build.args.clone(),
                ..ImageBuild::new(cx.path(&build.context), format!("devenv-{}-{}:latest", cx.environment, cx.name))
            });
        }
        container.entrypoint.clone_from(&self.entrypoint);
        container.command.clone_from(&self.command);
        container.user.clone_from(&self.user);
        // Programs that were never meant to be process 1 neither reap children nor die of SIGTERM.
        container.init = true;
        container.environment = product::variables(cx, |variable| &variable.container);
        for (name, value) in cx.declared.environment {
            container.environment.insert(name.clone(), Template::given(name, value));
        }
        if cx.neighbours.values().any(|facts| facts.tls) {
            container.mounts.push(Mount {
                source: MountSource::Host(cx.authority.to_path_buf()),
                target: AUTHORITY_IN_CONTAINER.to_owned(),
                read_only: true,
                device: None,
            });
        }
        container.mounts.extend(self.volumes.iter().map(|volume| volume.mount(cx)));

        let probe = cx
            .declared
            .probe
            .map_or(Probe::None, |probe| product::probe(probe, |port| cx.port(port.or_else(|| self.first_port(cx)).unwrap_or_default())));
        Description::product(Workload::Container(container), probe)
    }

    fn connection(&self, cx: &Context<'_>) -> Connection {
        let mut connection = Connection::default();
        if let Some(port) = self.first_port(cx) {
            let url = cx.address(port, |host, port| Template::text(format!("http://{host}:{port}")));
            connection.variable(cx, "URL", url);
            connection.host_and_port(cx, port);
            connection.url("http", cx.url("http", port));
        }
        connection
    }

    fn facts(&self, cx: &Context<'_>) -> Facts {
        let address = self.first_port(cx).map(|port| (cx.name.to_string(), port));
        Facts { kind: "container", address, ..Facts::default() }
    }
}

impl Container {
    /// The port that it is known by: the first one exposed, else the first one with a host port of its own.
    fn first_port(&self, cx: &Context<'_>) -> Option<u16> {
        self.expose.first().or_else(|| cx.declared.ports.keys().next()).copied()
    }
}

impl VolumeMount {
    fn mount(&self, cx: &Context<'_>) -> Mount {
        let host = self.source.starts_with(['.', '/']);
        let source = if host { MountSource::Host(cx.path(&self.source)) } else { MountSource::Volume(self.source.clone()) };
        Mount { source, target: self.target.clone(), read_only: self.read_only, device: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use devenv_profile::testing::{Given, given};
    use serde_json::json;

    #[test]
    fn it_gets_the_variables_of_all_others_in_their_container_form() {
        let given = Given::nothing()
            .and("cache", json!({ "redis": {} }))
            .and("tracing", json!({ "jaeger": {} }))
            .and("web", json!({ "container": {
                "image": "shop/web:1",
                "command": ["serve"],
                "expose": [8080, 9000],
                "volumes": [{ "source": "./static", "target": "/static", "read_only": true }, { "source": "uploads", "target": "/uploads" }],
            }}))
            .with(|service| {
                service.environment.insert("LOG".into(), "debug".into());
                service.probe = serde_json::from_value(json!({ "http": { "path": "/health" } })).unwrap();
            });
        insta::assert_snapshot!(given.rendered(), @r##"
        image: shop/web:1
        command: ["serve"]
        variable: CACHE_URL=redis://default:${secret:cache/default}@cache:6379/0
        variable: CACHE_HOST=cache
        variable: CACHE_PORT=6379
        variable: CACHE_PASSWORD=${secret:cache/default}
        variable: TRACING_URL=http://tracing:16686
        variable: TRACING_OTLP_HTTP=http://tracing:4318
        variable: TRACING_OTLP_GRPC=http://tracing:4317
        variable: WEB_URL=http://web:8080
        variable: WEB_HOST=web
        variable: WEB_PORT=8080
        variable: REDIS_URL=redis://default:${secret:cache/default}@cache:6379/0
        variable: OTEL_EXPORTER_OTLP_ENDPOINT=http://tracing:4318
        variable: OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf
        variable: OTEL_TRACES_SAMPLER=parentbased_traceidratio
        variable: OTEL_TRACES_SAMPLER_ARG=1
        variable: DEVENV_ENVIRONMENT=shop-default-1a2b3c4d
        variable: DEVENV_PROJECT=/home/ada/shop
        variable: DEVENV_INSTANCE=default
        variable: OTEL_SERVICE_NAME=web
        variable: LOG=debug
        mount: /home/ada/shop/static at /static read-only
        mount: volume uploads at /uploads
        port: 127.0.0.1:20005 -> 8080
        port: 127.0.0.1:20006 -> 9000
        probe: {"http":{"port":20005,"path":"/health","status":200}}
        stop: SIGTERM 10s
        restart: OnFailure 5
        "##);
    }

    #[test]
    fn an_image_is_built_from_the_project_under_the_environments_name() {
        let given =
            given("web", json!({ "container": { "build": { "context": "./services/web", "target": "dev", "args": { "A": "1" } } } }));
        insta::assert_snapshot!(given.rendered(), @r##"
        build: ImageBuild { context: "/home/ada/shop/services/web", dockerfile: "Dockerfile", target: Some("dev"), arguments: {"A": "1"}, tag: "devenv-shop-default-1a2b3c4d-web:latest", options: BuildOptions { dockerfile_inline: None, labels: {}, network: None, no_cache: false, pull: false, platform: None, extra_hosts: [], shared_memory: None, contexts: {}, ssh: [], secrets: {}, cache_from: [] }, content: None }
        variable: DEVENV_ENVIRONMENT=shop-default-1a2b3c4d
        variable: DEVENV_PROJECT=/home/ada/shop
        variable: DEVENV_INSTANCE=default
        probe: "none"
        stop: SIGTERM 10s
        restart: OnFailure 5
        "##);
        assert!(given.spec().services["web"].container().unwrap().init);
    }

    #[test]
    fn it_can_verify_its_neighbours_certificates() {
        let spec = given("db", json!({ "postgres": { "tls": true } })).and("web", json!({ "container": { "image": "x" } })).spec();
        let web = spec.services["web"].container().unwrap();
        assert_eq!(web.environment["DEVENV_CA_FILE"].to_string(), web.mounts[0].target);
        assert_eq!(web.mounts[0].source, MountSource::Host("/state/authority.crt".into()));
    }
}
