//! The connection to one engine: how it is found, its version and features, and the two HTTP clients.

use std::{sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::sync::OnceCell;

use super::{
    DockerEngine,
    endpoint::{Endpoint, EndpointChoice, Selection, read_file, resolve},
    error::{from_bollard, gone},
    reach::{self, Place},
    remote::Bridge,
    version::{ApiVersion, NEWEST, SUBPATH, negotiate, pin},
    wire::{Call, Wire},
};
use crate::{Engine, EngineError, EngineInfo};

/// For bollard: the time limit until an answer begins. Starting a container on a loaded machine takes seconds, not minutes.
const ANSWER: u64 = 120;
/// The time limit of the first request.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

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
    /// To an engine on another machine.
    _bridge: Option<Arc<Bridge>>,
}

/// Docker 23 brought the Dockerfile frontend 1.4, the first with here-documents.
const WITH_HEREDOCS: u32 = 23;

/// What builds images in an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Builder {
    BuildKit {
        /// Whether its own frontend supports here-documents.
        heredocs: bool,
        /// In the form `linux/amd64`.
        platform: String,
    },
    /// Podman's builder, which supports BuildKit's instructions and needs no session.
    Buildah,
    /// Docker's old builder: the only one for Windows containers.
    Classic,
}

/// The answer to `/version`.
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

/// Finds the selected engine and negotiates the version with it.
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
            // The first engine that answers decides, even if its answer is unusable.
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
        let bridge = match endpoint {
            Endpoint::Remote(remote) => Some(Arc::new(Bridge::open(remote.clone()).await?)),
            Endpoint::Unix(_) | Endpoint::Tcp(_) => None,
        };
        let socket = bridge.as_ref().map(|bridge| bridge.socket());
        let plain = Wire::new(endpoint, socket.as_deref())?;
        let version = read_version(&plain).await?;
        let api = negotiate(&endpoint.to_string(), &version.api_version, version.minimum.as_deref())?;
        // bollard ignores the version given here; `pin` sets it.
        let cosmetic = bollard::API_DEFAULT_VERSION;
        let docker = match (endpoint, &socket) {
            (Endpoint::Unix(path), _) | (Endpoint::Remote(_), Some(path)) => {
                bollard::Docker::connect_with_unix(&path.to_string_lossy(), ANSWER, cosmetic)
            }
            (Endpoint::Tcp(address), _) => bollard::Docker::connect_with_http(address, ANSWER, cosmetic),
            (Endpoint::Remote(_), None) => unreachable!("it has a bridge, which has a socket"),
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
            _bridge: bridge,
        })
    }

    /// Whether the engine's disk and processes may be this machine's, so that its paths and process numbers mean something here.
    pub(super) fn shares_machine(&self) -> bool {
        match self.endpoint() {
            Endpoint::Unix(_) => true,
            Endpoint::Tcp(address) => reach::is_loopback(address),
            Endpoint::Remote(_) => false,
        }
    }

    /// An older engine would mount the whole volume without a word.
    pub(super) fn mounts_parts_of_volumes(&self) -> bool {
        self.api >= SUBPATH
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        self.wire.endpoint()
    }

    /// For `map_err` on bollard's answers.
    pub(super) fn explain(&self, action: &str) -> impl FnOnce(bollard::errors::Error) -> EngineError {
        move |error| from_bollard(self.endpoint(), action, error)
    }

    /// Sends a request, so that it fails when the engine is gone.
    pub(super) async fn info(&self) -> Result<EngineInfo, EngineError> {
        let version = read_version(&self.plain).await?;
        let podman = version.components.iter().flatten().any(|component| component.name.contains("Podman"));
        Ok(EngineInfo {
            kind: if podman { "podman" } else { "docker" }.to_owned(),
            version: version.version,
            api: self.api.to_string(),
            endpoint: self.endpoint().to_string(),
        })
    }

    /// The builder of this engine.
    pub(super) async fn builder(&self) -> Result<Builder, EngineError> {
        let version = read_version(&self.plain).await?;
        if version.components.iter().flatten().any(|component| component.name.contains("Podman")) {
            return Ok(Builder::Buildah);
        }
        if version.os == "windows" {
            return Ok(Builder::Classic);
        }
        // An engine whose version is no number was built from recent sources.
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

    /// Where this process runs. On the host, if the engine cannot be asked.
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

async fn read_version(plain: &Wire) -> Result<VersionDocument, EngineError> {
    let answer = plain.read(Call::get("report its version", "/version"));
    match tokio::time::timeout(VERSION_LIMIT, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(gone(plain.endpoint(), format!("no answer within {} s", VERSION_LIMIT.as_secs()))),
    }
}

#[cfg(test)]
mod tests;
