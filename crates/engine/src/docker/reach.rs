//! Where this process runs relative to the engine: whether the host's loopback, on which ports are published, is its own.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
};

use bollard::models::NetworkConnectRequest;
use serde::Deserialize;

use super::{
    client::Client,
    endpoint::Endpoint,
    wire::{Call, segment},
};
use crate::{EngineError, Reach};

/// This process's container, as the engine knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) id: String,
    /// The mounts from the host: the path here, and the path on the host.
    mounts: Vec<(PathBuf, PathBuf)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Here,
    /// In a container of the same engine, which it reaches through a mounted socket.
    Beside(Own),
    Elsewhere {
        host: String,
    },
    /// The engine is on another machine, and only its own interface is reached.
    Far,
}

impl Place {
    pub(super) fn reach(&self) -> Reach {
        match self {
            Self::Here => Reach::Here,
            Self::Beside(_) => Reach::Beside,
            Self::Elsewhere { host } => Reach::Elsewhere { host: host.clone() },
            Self::Far => Reach::Relayed,
        }
    }

    /// A path of this process as the engine knows it.
    pub(super) fn host_path(&self, path: &Path) -> Result<PathBuf, EngineError> {
        let refuse = |message: &str| {
            Err(EngineError::Refused { action: format!("mount {}", path.display()), status: 400, message: message.to_owned() })
        };
        let own = match self {
            Self::Here | Self::Elsewhere { .. } => return Ok(path.to_owned()),
            Self::Far => return refuse("the engine is on another machine, which does not have this path"),
            Self::Beside(own) => own,
        };
        // The innermost mount is the visible one.
        let mounts = own.mounts.iter().filter_map(|(here, there)| Some((here, there, path.strip_prefix(here).ok()?)));
        let found = mounts.max_by_key(|(here, ..)| here.components().count());
        match found {
            Some((_, there, rest)) => Ok(there.join(rest)),
            None => refuse("devenv runs in a container, and the path exists only in that container: mount its directory from the host"),
        }
    }
}

pub(super) async fn find(client: &Client) -> Result<Place, EngineError> {
    match client.endpoint() {
        Endpoint::Remote(_) => Ok(Place::Far),
        Endpoint::Tcp(address) => Ok(elsewhere(address).map_or(Place::Here, |host| Place::Elsewhere { host })),
        Endpoint::Unix(_) => {
            let Some(id) = fs::read_to_string("/proc/self/mountinfo").ok().and_then(|table| own_id(&table)) else { return Ok(Place::Here) };
            own(client, &id).await
        }
    }
}

/// Whether an address is this machine's.
pub(super) fn is_loopback(address: &str) -> bool {
    elsewhere(address).is_none()
}

/// The host of an address, unless it is this one.
fn elsewhere(address: &str) -> Option<String> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    (!loopback).then(|| host.to_owned())
}

/// An engine mounts files of its own, such as `/etc/hostname`, from a directory named after the container.
fn own_id(mounts: &str) -> Option<String> {
    let is_id = |part: &&str| part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let line = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/etc/hostname"))?;
    line.split(' ').nth(3)?.split('/').find(is_id).map(str::to_owned)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OwnDocument {
    id: String,
    #[serde(default)]
    mounts: Vec<MountDocument>,
    host_config: HostDocument,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct MountDocument {
    #[serde(default)]
    source: PathBuf,
    destination: PathBuf,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HostDocument {
    #[serde(default)]
    network_mode: String,
}

/// A container that this engine does not know is another engine's, and the socket is that of an engine inside it.
async fn own(client: &Client, id: &str) -> Result<Place, EngineError> {
    let call = Call::get("inspect devenv's own container", format!("/containers/{}/json", segment(id)));
    Ok(match client.wire.find::<OwnDocument>(call).await? {
        None => Place::Here,
        Some(document) if document.host_config.network_mode == "host" => Place::Here,
        Some(document) => {
            let mounts = document.mounts.into_iter().map(|mount| (mount.destination, mount.source)).collect();
            Place::Beside(Own { id: document.id, mounts })
        }
    })
}

/// The address of a container on a network. Connects this process's own container to the network for that.
pub(super) async fn address(client: &Client, network: &str, container: &str) -> Result<Option<Ipv4Addr>, EngineError> {
    if let Place::Beside(own) = client.place().await {
        let request = NetworkConnectRequest { container: own.id.clone(), endpoint_config: None };
        match client.docker.connect_network(network, request).await.map_err(client.explain("connect to the environment's network")) {
            // It is connected already.
            Ok(()) | Err(EngineError::Refused { status: 403, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let attachments = super::sidecar::attachments(client, container).await?;
    Ok(attachments.into_iter().find(|attachment| attachment.network == network).map(|attachment| attachment.address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_by_loopback_is_here_and_any_other_address_is_elsewhere() {
        for here in ["localhost:2375", "127.0.0.1:2375", "[::1]:2375"] {
            assert_eq!(elsewhere(here), None, "{here}");
        }
        assert_eq!(elsewhere("docker:2375").as_deref(), Some("docker"));
        assert_eq!(elsewhere("10.0.0.7:2375").as_deref(), Some("10.0.0.7"));
    }

    #[test]
    fn a_container_knows_its_id_by_the_files_that_are_mounted_into_it() {
        let id = "ab".repeat(32);
        let inside = format!(
            "1 0 0:1 / / rw - overlay overlay rw\n2 1 8:1 /var/lib/docker/containers/{id}/hostname /etc/hostname rw - ext4 /dev/vda rw\n"
        );
        assert_eq!(own_id(&inside), Some(id));
        assert_eq!(own_id("1 0 8:1 / / rw - ext4 /dev/vda rw\n"), None);
    }

    #[test]
    fn a_path_is_passed_to_the_engine_as_the_host_has_it() {
        let mounts = vec![("/work".into(), "/home/ci/build".into()), ("/work/cache".into(), "/var/cache/ci".into())];
        let place = Place::Beside(Own { id: String::new(), mounts });
        assert_eq!(place.host_path(Path::new("/work/a/b")).unwrap(), Path::new("/home/ci/build/a/b"));
        assert_eq!(place.host_path(Path::new("/work/cache/x")).unwrap(), Path::new("/var/cache/ci/x"));
        assert!(place.host_path(Path::new("/etc/passwd")).unwrap_err().to_string().contains("only in that container"));
        assert!(Place::Far.host_path(Path::new("/work")).unwrap_err().to_string().contains("another machine"));
        assert_eq!(Place::Here.host_path(Path::new("/etc/passwd")).unwrap(), Path::new("/etc/passwd"));
    }
}
