//! The connection to one engine: how it is found, what it is, and both doors to it.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::sync::OnceCell;

use super::{
    DockerEngine,
    endpoint::{Endpoint, EndpointChoice, Selection, read_file, resolve},
    error::{from_bollard, gone},
    reach::{self, Place},
    version::{ApiVersion, NEWEST, negotiate, pin},
    wire::{Call, Wire},
};
use crate::{Engine, EngineError, EngineInfo};

/// For bollard: until the beginning of an answer. Starting a container on a loaded machine takes seconds, not minutes.
const ANSWER: u64 = 120;
/// Whether anybody answers at all.
const GREETING: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub(super) struct Client {
    /// For requests that change something.
    pub(super) docker: bollard::Docker,
    /// For everything that is read or streamed.
    pub(super) wire: Wire,
    plain: Wire,
    api: ApiVersion,
    dual_stack: Arc<OnceCell<bool>>,
    place: Arc<OnceCell<Place>>,
}

/// Docker 23 brought the Dockerfile frontend 1.4, the first with here-documents.
const WITH_HEREDOCS: u32 = 23;

/// What builds images in an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Builder {
    BuildKit {
        /// Whether its own frontend knows here-documents.
        heredocs: bool,
        /// As `linux/amd64`.
        platform: String,
    },
    /// Podman's, which knows BuildKit's instructions and needs no session.
    Buildah,
    /// Docker's old one: all there is for Windows containers.
    Classic,
}

/// What `/version` says.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VersionDocument {
    #[serde(default)]
    version: String,
    api_version: String,
    #[serde(rename = "MinAPIVersion")]
    minimum: Option<String>,
    #[serde(default)]
    components: Option<Vec<Component>>,
    #[serde(default)]
    os: String,
    #[serde(default)]
    arch: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Component {
    #[serde(default)]
    name: String,
}

/// Finds the engine that is meant and agrees on a version with it.
pub async fn connect(selection: &Selection) -> Result<Arc<dyn Engine>, EngineError> {
    let client = match resolve(selection, &read_file)? {
        EndpointChoice::Named { endpoint, by } => Client::connect(&endpoint).await.map_err(|error| match error {
            EngineError::Unreachable { endpoint, reason } => {
                EngineError::Unreachable { endpoint, reason: format!("{reason} (selected by {by}, so no other was tried)") }
            }
            other => other,
        })?,
        EndpointChoice::WellKnown(endpoints) => first_that_answers(&endpoints).await?,
    };
    Ok(Arc::new(DockerEngine { client }))
}

async fn first_that_answers(endpoints: &[Endpoint]) -> Result<Client, EngineError> {
    let mut tried = Vec::new();
    for endpoint in endpoints {
        match Client::connect(endpoint).await {
            Err(EngineError::Unreachable { endpoint, reason }) => tried.push(format!("{endpoint}: {reason}")),
            // One that answers decides, even if what it says is of no use.
            answer => return answer,
        }
    }
    Err(EngineError::Unreachable {
        endpoint: "any well-known socket, and neither --context, DOCKER_HOST, DOCKER_CONTEXT nor a current context selects one".to_owned(),
        reason: format!("tried {}", tried.join("; ")),
    })
}

impl Client {
    async fn connect(endpoint: &Endpoint) -> Result<Self, EngineError> {
        let plain = Wire::new(endpoint)?;
        let version = greet(&plain).await?;
        let api = negotiate(&endpoint.to_string(), &version.api_version, version.minimum.as_deref())?;
        // bollard ignores the version given here; `pin` sets it.
        let cosmetic = bollard::API_DEFAULT_VERSION;
        let docker = match endpoint {
            Endpoint::Unix(path) => bollard::Docker::connect_with_unix(&path.to_string_lossy(), ANSWER, cosmetic),
            Endpoint::Tcp(address) => bollard::Docker::connect_with_http(address, ANSWER, cosmetic),
        }
        .map_err(|error| from_bollard(endpoint, "connect", error))?;
        debug_assert!(api <= NEWEST);
        Ok(Self {
            docker: pin(docker, api),
            wire: plain.versioned(&api.prefix()),
            plain,
            api,
            dual_stack: Arc::default(),
            place: Arc::default(),
        })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        self.wire.endpoint()
    }

    /// For `map_err` on bollard's answers.
    pub(super) fn explain(&self, action: &str) -> impl FnOnce(bollard::errors::Error) -> EngineError {
        move |error| from_bollard(self.endpoint(), action, error)
    }

    /// Asks, so that it fails when the engine is gone.
    pub(super) async fn info(&self) -> Result<EngineInfo, EngineError> {
        let version = greet(&self.plain).await?;
        let podman = version.components.iter().flatten().any(|component| component.name.contains("Podman"));
        Ok(EngineInfo {
            kind: if podman { "podman" } else { "docker" }.to_owned(),
            version: version.version,
            api: self.api.to_string(),
            endpoint: self.endpoint().to_string(),
        })
    }

    /// What builds images there.
    pub(super) async fn builder(&self) -> Result<Builder, EngineError> {
        let version = greet(&self.plain).await?;
        if version.components.iter().flatten().any(|component| component.name.contains("Podman")) {
            return Ok(Builder::Buildah);
        }
        if version.os == "windows" {
            return Ok(Builder::Classic);
        }
        // Versions that are no numbers are of engines built from the present sources.
        let major = version.version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        let heredocs = major.is_none_or(|major| major >= WITH_HEREDOCS);
        Ok(Builder::BuildKit { heredocs, platform: format!("{}/{}", version.os, version.arch) })
    }

    pub(super) async fn clock(&self) -> Result<String, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Facts {
            system_time: String,
        }
        Ok(self.wire.read::<Facts>(Call::get("report its time", "/info")).await?.system_time)
    }

    /// Whether a port is also available on `::1`, so that `localhost` never reaches another program. True only
    /// where this was seen to work: an engine of this very host, as root, on Linux, with an IPv6 loopback.
    pub(super) async fn dual_stack(&self) -> bool {
        *self.dual_stack.get_or_init(|| async { self.find_dual_stack().await.unwrap_or(false) }).await
    }

    /// Where this process runs; on the host, if the engine cannot be asked.
    pub(super) async fn place(&self) -> &Place {
        self.place.get_or_init(|| async { reach::find(self).await.unwrap_or(Place::Here) }).await
    }

    async fn find_dual_stack(&self) -> Result<bool, EngineError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Facts {
            operating_system: Option<String>,
            security_options: Option<Vec<String>>,
        }
        let local = cfg!(target_os = "linux") && matches!(self.endpoint(), Endpoint::Unix(_));
        if !local || std::net::TcpListener::bind("[::1]:0").is_err() {
            return Ok(false);
        }
        let info = self.info().await?;
        let facts: Facts = self.wire.read(Call::get("report its version", "/info")).await?;
        let rootless = facts.security_options.iter().flatten().any(|option| option.contains("rootless"));
        let machine = facts.operating_system.is_some_and(|system| system.contains("Docker Desktop"));
        Ok(info.kind == "docker" && !rootless && !machine)
    }
}

async fn greet(plain: &Wire) -> Result<VersionDocument, EngineError> {
    let answer = plain.read(Call::get("report its version", "/version"));
    match tokio::time::timeout(GREETING, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(gone(plain.endpoint(), format!("no answer within {} s", GREETING.as_secs()))),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixListener,
    };

    use super::*;

    /// An engine that gives one answer to everything.
    fn engine(socket: std::path::PathBuf, status: &'static str, body: &'static str) -> tokio::task::JoinHandle<()> {
        let listener = UnixListener::bind(socket).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await;
                let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        })
    }

    async fn outcome(host: &str) -> String {
        let selection = Selection { docker_host: Some(host.to_owned()), ..Selection::default() };
        match connect(&selection).await {
            Ok(engine) => format!("{:?}", engine.info().await.unwrap()),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn a_named_engine_that_does_not_answer_is_told_with_its_place() {
        let outcome = outcome("unix:///nonexistent/docker.sock").await;
        assert!(outcome.contains("unix:///nonexistent/docker.sock: No such file or directory"), "{outcome}");
        assert!(outcome.contains("selected by DOCKER_HOST, so no other was tried"), "{outcome}");
    }

    #[tokio::test]
    async fn every_socket_that_was_tried_is_told() {
        let home = tempfile::tempdir().unwrap();
        let error = first_that_answers(&[Endpoint::Unix(home.path().join("a.sock")), Endpoint::Unix(home.path().join("b.sock"))])
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("a.sock: No such file") && error.contains("b.sock: No such file"), "{error}");
    }

    #[tokio::test]
    async fn an_engine_of_another_age_is_refused_and_others_are_taken() {
        let home = tempfile::tempdir().unwrap();
        for (name, status, body, words) in [
            (
                "new",
                "200 OK",
                r#"{"Version":"29.0","ApiVersion":"1.52","MinAPIVersion":"1.44","Components":[{"Name":"Engine"}],"New":{}}"#,
                r#"kind: "docker", version: "29.0", api: "1.52""#,
            ),
            (
                "podman",
                "200 OK",
                r#"{"Version":"5.2","ApiVersion":"1.41","MinAPIVersion":"1.24","Components":[{"Name":"Podman Engine"}]}"#,
                r#"kind: "podman""#,
            ),
            (
                "old",
                "200 OK",
                r#"{"Version":"18.9","ApiVersion":"1.39","MinAPIVersion":"1.12"}"#,
                "supports API 1.39, but devenv needs 1.41 or newer",
            ),
            ("bad", "400 Bad Request", r#"{"message":"client version 1.41 is too old"}"#, "client version 1.41 is too old"),
            ("odd", "200 OK", "<html>", "cannot decode the engine's answer"),
        ] {
            let socket = home.path().join(name);
            let server = engine(socket.clone(), status, body);
            let outcome = outcome(&format!("unix://{}", socket.display())).await;
            assert!(outcome.contains(words), "{outcome}");
            server.abort();
        }
    }

    #[tokio::test]
    async fn events_end_with_an_error_when_the_engine_goes_away() {
        use futures_util::StreamExt;
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("s");
        let listener = UnixListener::bind(&socket).unwrap();
        let version = r#"{"ApiVersion":"1.41","MinAPIVersion":null}"#;
        let event = r#"{"Type":"container","Action":"start","Actor":{"ID":"c","Attributes":{"dev.devenv.owner":"o"}}}"#;
        let answers = [
            ("GET /version ", format!("Content-Length: {}\r\n\r\n{version}", version.len())),
            ("GET /v1.41/events?since=", format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{event}\n\r\n", event.len() + 1)),
        ];
        let server = tokio::spawn(async move {
            for (asked, answer) in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 4096];
                let count = stream.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..count]);
                assert!(request.starts_with(asked), "{request}");
                stream.write_all(format!("HTTP/1.1 200 OK\r\nConnection: close\r\n{answer}").as_bytes()).await.unwrap();
            }
        });
        let selection = Selection { docker_host: Some(format!("unix://{}", socket.display())), ..Selection::default() };
        let engine = connect(&selection).await.unwrap();
        let mut events = engine.events(&crate::OwnerId("o".into()));
        assert_eq!(events.next().await.unwrap().unwrap().container, "c");
        let error = events.next().await.unwrap().unwrap_err();
        assert!(matches!(error, EngineError::Unreachable { .. }), "{error}");
        assert!(events.next().await.is_none());
        server.await.unwrap();
    }

    /// An engine that says its version, and answers everything else with what `rest` does.
    fn engine_that<F>(
        socket: std::path::PathBuf,
        rest: impl Fn(tokio::net::UnixStream) -> F + Send + 'static,
    ) -> tokio::task::JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = UnixListener::bind(socket).unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 4096];
                let count = stream.read(&mut request).await.unwrap_or_default();
                if request[..count].starts_with(b"GET /version ") {
                    let version = r#"{"ApiVersion":"1.41","MinAPIVersion":null}"#;
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{version}", version.len());
                    let _ = stream.write_all(answer.as_bytes()).await;
                } else {
                    tokio::spawn(rest(stream));
                }
            }
        })
    }

    async fn connected(socket: &std::path::Path) -> Arc<dyn Engine> {
        let selection = Selection { docker_host: Some(format!("unix://{}", socket.display())), ..Selection::default() };
        connect(&selection).await.unwrap()
    }

    async fn ends_in_time<T>(what: &str, call: impl Future<Output = Result<T, EngineError>>) {
        let answer = tokio::time::timeout(Duration::from_hours(2), call).await;
        match answer.unwrap_or_else(|_| panic!("{what} waits for ever")) {
            Ok(_) => panic!("{what} succeeded"),
            Err(error @ (EngineError::Unreachable { .. } | EngineError::TimedOut { .. })) => {
                let outcome = error.to_string();
                assert!(outcome.contains(" within ") || outcome.contains("in time"), "{what}: {outcome}");
            }
            Err(error) => panic!("{what}: {error}"),
        }
    }

    #[tokio::test]
    async fn no_call_to_an_engine_that_falls_silent_waits_for_ever() {
        use futures_util::{StreamExt, TryStreamExt, stream};

        use crate::{ExecRequest, OwnerId, SessionRequest, UploadFile};

        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("s");
        let server = engine_that(socket.clone(), |stream| async move {
            std::future::pending::<()>().await;
            drop(stream);
        });
        let engine = connected(&socket).await;
        // Hours pass in no time from here on.
        tokio::time::pause();
        let command = vec!["true".to_owned()];
        let exec = ExecRequest { command: command.clone(), ..ExecRequest::default() };
        let session = SessionRequest { command, ..SessionRequest::default() };
        let file = UploadFile { path: "/f".to_owned(), mode: 0o400, uid: 0, gid: 0, content: "x".into() };
        let owner = OwnerId("o".to_owned());
        ends_in_time("containers", engine.containers(&owner)).await;
        ends_in_time("volumes", engine.volumes(&owner)).await;
        ends_in_time("image", engine.image("x:1")).await;
        ends_in_time("user", engine.user("c")).await;
        ends_in_time("upload", engine.upload("c", &[file])).await;
        ends_in_time("start", engine.start("c")).await;
        ends_in_time("stop", engine.stop("c", "SIGTERM", Duration::from_secs(1))).await;
        ends_in_time("kill", engine.kill("c", "SIGKILL")).await;
        ends_in_time("pause", engine.pause("c")).await;
        ends_in_time("unpause", engine.unpause("c")).await;
        ends_in_time("remove_container", engine.remove_container("c")).await;
        ends_in_time("remove_network", engine.remove_network("n")).await;
        ends_in_time("remove_volume", engine.remove_volume("v")).await;
        ends_in_time("inspect", engine.inspect("c")).await;
        ends_in_time("exec", engine.exec("c", exec)).await;
        ends_in_time("exec_session", engine.exec_session("c", session)).await;
        ends_in_time("limits", engine.limits("c")).await;
        ends_in_time("usage", engine.usage("c")).await;
        ends_in_time("events", engine.events(&owner).try_next()).await;
        ends_in_time("logs", engine.logs("c", None, false).try_next()).await;
        ends_in_time("pull", engine.pull("x:1").try_next()).await;
        ends_in_time("save_images", engine.save_images(&["x:1".to_owned()]).try_next()).await;
        ends_in_time("load_images", engine.load_images(stream::empty().boxed())).await;
        server.abort();
    }

    #[tokio::test]
    async fn an_answer_without_an_end_is_given_up_before_it_fills_the_memory() {
        let home = tempfile::tempdir().unwrap();
        let socket = home.path().join("s");
        let server = engine_that(socket.clone(), |mut stream| async move {
            let piece = vec![b' '; 1 << 20];
            let mut written = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await;
            while written.is_ok() {
                written = stream.write_all(&piece).await;
            }
        });
        let engine = connected(&socket).await;
        let error = engine.inspect("c").await.unwrap_err();
        assert_eq!(error.to_string(), "could not inspect a container: it is larger than 64 MiB");
        server.abort();
    }
}
