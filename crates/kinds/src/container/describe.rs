//! Describes a container from its fields. Pure.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use devenv_spec::{
    BuildOptions, BuildSecret, ContainerSpec, FileSpec, Image, ImageBuild, ImageFiles, Mount, MountOptions, MountSource, Probe, Repository,
    SecretRef, ServiceName, Template, Workload, sensitive,
};
use indexmap::IndexMap;

use super::fields::{Build, BuildSecretField, Container, ContainerFile, SecretFile, VolumeMount};
use crate::{
    capability::{ServerFacts, Servers},
    describe::{
        AUTHORITY_IN_CONTAINER, AUTHORITY_VARIABLE, Connection, Context, Declared, Describe, Description, Facts, PortNeed, product,
    },
};

/// The default mode of a file.
const READABLE: u32 = 0o444;
/// What refers to another service, or to an image.
const OF_SERVICE: &str = "service:";
const OF_IMAGE: &str = "docker-image://";
/// The first start of a server creates its data.
const SERVER_TIMEOUT: Duration = Duration::from_mins(3);

impl Describe for Container {
    fn ports(&self) -> Vec<PortNeed> {
        let mut needs: Vec<PortNeed> = self.expose.iter().copied().map(PortNeed::any).collect();
        for port in &self.publish {
            // A container port has one lease; further publications are fixed, and left to the engine.
            if needs.iter().all(|need| need.container != port.port) {
                needs.push(PortNeed { fixed: port.host, ..PortNeed::any(port.port) });
            }
        }
        needs
    }

    fn secrets(&self, service: &str) -> Vec<SecretRef> {
        let generated = self.server().map(Servers::generated_secrets).unwrap_or_default();
        generated.iter().map(|name| SecretRef::new(service, name)).collect()
    }

    fn given_secrets(&self, service: &str, declared: &Declared<'_>, assets: &BTreeMap<String, String>) -> Vec<(SecretRef, String)> {
        let mut given = Vec::new();
        if let Some(server) = self.server() {
            let environment = self.server_environment(declared.environment, assets);
            let secrets = server.secrets(&self.server_facts(&environment));
            given.extend(secrets.into_iter().map(|(name, value)| (SecretRef::new(service, name), value)));
        }
        for (number, file) in self.secret_files.values().enumerate() {
            if let Some(content) = &file.content {
                given.push((SecretRef::new(service, &file_secret(number)), content.clone()));
            }
        }
        given
    }

    fn assets(&self) -> Vec<String> {
        let configs = self.config_files.values().filter_map(|file| file.file.clone());
        let secrets = self.secret_files.values().filter_map(|file| file.file.clone());
        configs.chain(secrets).chain(self.server_files.values().cloned()).collect()
    }

    fn references(&self) -> Vec<String> {
        let shared = [&self.network_mode, &self.pid, &self.ipc].into_iter().flatten();
        let contexts = self.build.iter().flat_map(|build| build.additional_contexts.values());
        let images = self.volumes.iter().map(|volume| &volume.source);
        let named = shared.chain(contexts).chain(images);
        named.filter_map(|text| text.strip_prefix(OF_SERVICE)).map(str::to_owned).collect()
    }

    /// None: `depends_on` says which state they must have.
    fn dependencies(&self) -> Vec<String> {
        Vec::new()
    }

    fn describe(&self, cx: &Context<'_>) -> Description {
        let mut container = ContainerSpec::new(self.image.clone().unwrap_or_default());
        if let Some(build) = &self.build {
            container.image = Image::Built(build.describe(cx));
        }
        container.entrypoint.clone_from(&self.entrypoint);
        container.command.clone_from(&self.command);
        container.user.clone_from(&self.user);
        // Programs that were not written to be process 1 neither reap children nor end on SIGTERM.
        container.init = self.init;
        container.environment = product::variables(cx, |variable| &variable.container);
        for (name, value) in cx.declared.environment {
            container.environment.insert(name.clone(), Template::given(name, value));
        }
        if cx.variables.contains_key(AUTHORITY_VARIABLE) {
            container.mounts.push(Mount {
                source: MountSource::Host(cx.authority.to_path_buf()),
                target: AUTHORITY_IN_CONTAINER.to_owned(),
                read_only: true,
                device: None,
                options: MountOptions::default(),
                image: None,
            });
        }
        container.mounts.extend(self.volumes.iter().map(|volume| volume.mount(cx)));
        let configs = self.config_files.iter().map(|(path, file)| file.describe(path, cx));
        let secrets = self.secret_files.iter().enumerate().map(|(number, (path, file))| file.describe(path, number, cx));
        container.files = configs.chain(secrets).collect();
        container.ports = self.published(cx);
        container.aliases.clone_from(&self.aliases);
        container.shared_memory = self.shm_size;
        container.options = Box::new(self.options());

        let asked = || {
            cx.declared.probe.map(|probe| product::probe(probe, |port| cx.port(port.or_else(|| self.first_port(cx)).unwrap_or_default())))
        };
        let probe = self.server_probe(cx).or_else(asked).unwrap_or(Probe::None);
        let mut description = Description::product(Workload::Container(container), probe);
        // The image knows what ends its program cleanly.
        description.stop.signal.clear();
        if let Some(server) = self.server() {
            description.ready_timeout = SERVER_TIMEOUT;
            if let Some(signal) = server.stop_signal() {
                signal.clone_into(&mut description.stop.signal);
            }
        }
        description
    }

    fn connection(&self, cx: &Context<'_>) -> Connection {
        let mut connection = Connection::default();
        if let Some(server) = self.server() {
            let environment = self.server_environment(cx.declared.environment, cx.assets);
            let facts = self.server_facts(&environment);
            let port = server.port(&facts);
            if self.leases(cx, port) {
                server.connection(&facts, port, cx, &mut connection);
            }
            self.each_port(cx, Some(port), &mut connection);
            return connection;
        }
        if let Some(port) = self.first_port(cx) {
            let url = cx.address(port, |host, port| Template::text(format!("http://{host}:{port}")));
            connection.variable(cx, "URL", url);
            connection.host_and_port(cx, port);
            connection.url("http", cx.url("http", port));
            self.each_port(cx, None, &mut connection);
        }
        connection
    }

    fn facts(&self, cx: &Context<'_>) -> Facts {
        let address = self.first_port(cx).map(|port| (cx.name.to_string(), port));
        Facts { kind: "container", address, ..Facts::default() }
    }
}

impl Container {
    /// The kind of server in the image, if devenv knows it.
    fn server(&self) -> Option<&'static dyn Servers> {
        crate::find(self.server.as_deref()?)?.servers()
    }

    /// The server's variables, also those whose values it reads from files: `POSTGRES_PASSWORD_FILE` names one with `POSTGRES_PASSWORD`.
    fn server_environment(&self, given: &IndexMap<String, String>, assets: &BTreeMap<String, String>) -> IndexMap<String, String> {
        let mut environment = given.clone();
        let text = |file: &Option<String>| file.as_ref().and_then(|file| assets.get(file)).map(String::as_str);
        let written = given.iter().filter_map(|(name, path)| {
            let file = self.secret_files.get(path)?;
            Some((name.strip_suffix("_FILE")?, file.content.as_deref().or_else(|| text(&file.file))?))
        });
        let mounted = self.server_files.iter().filter_map(|(name, file)| Some((name.as_str(), assets.get(file)?.as_str())));
        for (name, value) in written.chain(mounted) {
            // The images read them with a shell, which takes line ends away.
            environment.entry(name.to_owned()).or_insert_with(|| value.trim_end_matches('\n').to_owned());
        }
        environment
    }

    fn server_facts<'a>(&'a self, environment: &'a IndexMap<String, String>) -> ServerFacts<'a> {
        let words = self.entrypoint.iter().chain(&self.command).flatten().map(String::as_str).collect();
        ServerFacts { environment, words }
    }

    /// In the server's own protocol, from the host if its port is published, else by its own client in the container.
    fn server_probe(&self, cx: &Context<'_>) -> Option<Probe> {
        let server = self.server()?;
        let environment = self.server_environment(cx.declared.environment, cx.assets);
        let facts = self.server_facts(&environment);
        let port = server.port(&facts);
        let question = || server.question(&facts, cx.port(port), &|name| cx.secret(name));
        let asked = self.leases(cx, port).then(question).flatten();
        asked.or_else(|| server.command(&facts).map(|command| Probe::Exec { command }))
    }
}

impl ContainerFile {
    fn describe(&self, path: &str, cx: &Context<'_>) -> FileSpec {
        let text = self.file.as_ref().and_then(|file| cx.assets.get(file)).or(self.content.as_ref());
        let content = Template::text(text.cloned().unwrap_or_default());
        FileSpec { path: path.to_owned(), mode: file_mode(self.mode.as_ref()), uid: self.uid, gid: self.gid, content }
    }
}

impl SecretFile {
    /// `number` is the file's among those with secrets.
    fn describe(&self, path: &str, number: usize, cx: &Context<'_>) -> FileSpec {
        let content = match (&self.secret, &self.content) {
            (Some(name), _) => Template::secret(sensitive::declared(name)),
            (None, Some(_)) => Template::secret(cx.secret(&file_secret(number))),
            (None, None) => match self.file.as_ref().and_then(|file| cx.assets.get(file)) {
                Some(text) => Template::default().then_sensitive(text),
                None => Template::default(),
            },
        };
        FileSpec { path: path.to_owned(), mode: file_mode(self.mode.as_ref()), uid: self.uid, gid: self.gid, content }
    }
}

fn file_mode(mode: Option<&String>) -> u32 {
    mode.and_then(|mode| u32::from_str_radix(mode, 8).ok()).unwrap_or(READABLE)
}

fn file_secret(number: usize) -> String {
    format!("file-{}", number + 1)
}

impl Build {
    fn describe(&self, cx: &Context<'_>) -> ImageBuild {
        let local =
            |context: &String| if context.starts_with(['.', '/']) { cx.path(context).display().to_string() } else { context.clone() };
        let root = match Repository::parse(&self.context) {
            Some(_) => PathBuf::from(&self.context),
            None => cx.path(&self.context),
        };
        let secret = |(id, secret): (&String, &BuildSecretField)| {
            let from = match (&secret.file, &secret.from_env) {
                (Some(file), _) => BuildSecret::File(cx.path(file)),
                (None, variable) => BuildSecret::Variable(variable.clone().unwrap_or_else(|| id.clone())),
            };
            (id.clone(), from)
        };
        ImageBuild {
            dockerfile: self.dockerfile.clone(),
            target: self.target.clone(),
            arguments: self.args.clone(),
            options: Box::new(BuildOptions {
                dockerfile_inline: self.inline.clone(),
                labels: self.labels.clone(),
                network: self.network.clone(),
                no_cache: self.no_cache,
                pull: self.pull,
                platform: self.platforms.first().cloned(),
                extra_hosts: self.extra_hosts.clone(),
                shared_memory: self.shm_size,
                contexts: self.additional_contexts.iter().map(|(name, context)| (name.clone(), local(context))).collect(),
                ssh: self.ssh.clone(),
                secrets: self.secrets.iter().map(secret).collect(),
                cache_from: self.cache_from.clone(),
                first: Vec::new(),
            }),
            ..ImageBuild::new(root, format!("devenv-{}-{}:latest", cx.environment, cx.name))
        }
    }
}

impl VolumeMount {
    fn mount(&self, cx: &Context<'_>) -> Mount {
        if let Some(image) = self.image() {
            let words = self.target.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
            let files = ImageFiles { image: image.to_owned(), subpath: self.subpath.clone(), build: None };
            let volume = Mount::volume(format!("image{}", words.collect::<String>()), &self.target);
            return Mount { read_only: self.read_only, image: Some(Box::new(files)), ..volume };
        }
        let source = match &self.of {
            _ if self.source.starts_with(['.', '/']) => MountSource::Host(cx.path(&self.source)),
            _ if self.external => MountSource::External(self.source.clone()),
            Some(of) if of.as_str() != cx.name.as_str() => match of.parse::<ServiceName>() {
                Ok(service) => MountSource::Shared { service, volume: self.source.clone() },
                // An invalid name was reported.
                Err(_) => MountSource::Volume(self.source.clone()),
            },
            _ => MountSource::Volume(self.source.clone()),
        };
        Mount {
            source,
            target: self.target.clone(),
            read_only: self.read_only,
            device: None,
            options: MountOptions {
                create: self.create,
                propagation: self.propagation.clone(),
                selinux: self.selinux.clone(),
                no_copy: self.no_copy,
                subpath: self.subpath.clone(),
            },
            image: None,
        }
    }

    /// The image whose files it mounts, or `service:NAME` of the service whose image that is.
    fn image(&self) -> Option<&str> {
        self.source.strip_prefix(OF_IMAGE).or_else(|| Some(self.source.as_str()).filter(|source| source.starts_with(OF_SERVICE)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use devenv_profile::testing::{Given, given};
    use serde_json::json;

    #[test]
    fn each_of_several_ports_has_a_variable_and_an_address() {
        let given = given("web", json!({ "container": { "image": "x", "expose": [8080, 9000] } }));
        let spec = given.spec();
        assert_eq!(spec.variables["WEB_PORT"].container.to_string(), "8080");
        assert_eq!(spec.variables["WEB_PORT_9000"].container.to_string(), "9000");
        assert_eq!(spec.variables["WEB_PORT_9000"].host.to_string(), "20001");
        assert_eq!(spec.variables["WEB_URL_9000"].container.to_string(), "http://web:9000");
        assert_eq!(spec.services["web"].urls["http"], "http://127.0.0.1:20000");
        assert_eq!(spec.services["web"].urls["http-9000"], "http://127.0.0.1:20001");
    }

    #[test]
    fn it_gets_the_variables_of_what_it_depends_on_in_their_container_form() {
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
                service.depends_on.extend(["cache", "tracing"].map(|name| (name.parse().unwrap(), devenv_spec::Condition::Ready)));
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
        variable: WEB_URL_8080=http://web:8080
        variable: WEB_PORT_8080=8080
        variable: WEB_URL_9000=http://web:9000
        variable: WEB_PORT_9000=9000
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
        stop: the image's signal 10s
        restart: OnFailure 5
        "##);
    }

    #[test]
    fn a_servers_password_is_read_where_the_server_reads_it() {
        let container = |more: serde_json::Value| {
            let mut fields = json!({ "image": "postgres:17", "server": "postgres", "expose": [5432] });
            fields.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            given("db", json!({ "container": fields })).asset("./pw.txt", "hunter2\n").with(|service| {
                service.environment.insert("POSTGRES_PASSWORD_FILE".into(), "/run/secrets/pw".into());
            })
        };
        let own = json!({ "secret_files": { "/run/secrets/pw": { "content": "hunter2" } } });
        for more in [json!({ "server_files": { "POSTGRES_PASSWORD": "./pw.txt" } }), own] {
            let secrets = container(more.clone()).given_secrets();
            assert!(secrets.contains(&(SecretRef::new("db", "password"), "hunter2".to_owned())), "{more}: {secrets:?}");
        }
        let unknown = container(json!({})).given_secrets();
        assert!(!unknown.iter().any(|(_, value)| value == "hunter2"), "{unknown:?}");
    }

    #[test]
    fn an_image_is_built_from_the_project_under_the_environments_name() {
        let given =
            given("web", json!({ "container": { "build": { "context": "./services/web", "target": "dev", "args": { "A": "1" } } } }));
        insta::assert_snapshot!(given.rendered(), @r##"
        build: ImageBuild { context: "/home/ada/shop/services/web", dockerfile: "Dockerfile", target: Some("dev"), arguments: {"A": "1"}, tag: "devenv-shop-default-1a2b3c4d-web:latest" }
        variable: DEVENV_ENVIRONMENT=shop-default-1a2b3c4d
        variable: DEVENV_PROJECT=/home/ada/shop
        variable: DEVENV_INSTANCE=default
        probe: "none"
        stop: the image's signal 10s
        restart: OnFailure 5
        "##);
        assert!(given.spec().services["web"].container().unwrap().init);
    }

    #[test]
    fn it_can_verify_its_neighbours_certificates() {
        let spec = given("db", json!({ "postgres": { "tls": true } }))
            .and("web", json!({ "container": { "image": "x" } }))
            .with(|service| {
                service.depends_on.insert("db".parse().unwrap(), devenv_spec::Condition::Ready);
            })
            .and("lone", json!({ "container": { "image": "x" } }))
            .spec();
        assert_eq!(spec.services["lone"].container().unwrap().mounts, []);
        let web = spec.services["web"].container().unwrap();
        assert_eq!(web.environment["DEVENV_CA_FILE"].to_string(), web.mounts[0].target);
        assert_eq!(web.mounts[0].source, MountSource::Host("/state/authority.crt".into()));
    }
}
