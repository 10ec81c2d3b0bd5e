//! From a container as asked for to the engine's own words.

use std::{collections::HashMap, time::Duration};

use bollard::{
    models::{
        ContainerCreateBody, EndpointSettings, HostConfig, HostConfigLogConfig, Mount, MountBindOptions, MountTmpfsOptions, MountType,
        MountVolumeOptions, NetworkingConfig, PortBinding, PortMap, RestartPolicy, RestartPolicyNameEnum,
    },
    query_parameters::CreateContainerOptionsBuilder,
};
use futures_util::future;
use tokio::time::{Instant, sleep};

use super::{client::Client, containers};
use devenv_spec::PublishedPort;

use crate::{ContainerCreate, CreatedMount, EngineError, Reach};

/// The engine keeps this much of a container's output in each of two files, for a daemon of ours that was away for a while.
const LOG_SIZE: &str = "64m";
const LOG_FILES: &str = "2";

/// For so long a name may be taken by a container that is still being made, or not quite removed, and cannot be seen.
const UNSEEN: Duration = Duration::from_secs(10);
const FIRST_LOOK: Duration = Duration::from_millis(10);

/// One of ours that has the name already is what an earlier request, whose sender may be dead, has come to: it is the one
/// asked for if it is just that and has never run; else it makes room.
pub(super) async fn create(client: &Client, container: &ContainerCreate) -> Result<String, EngineError> {
    let publishing = Publishing { dual_stack: client.dual_stack().await, reach: client.place().await.reach() };
    let mounts = container.mounts.iter().map(|mount| seen_from_host(client, mount));
    let mounts = future::try_join_all(mounts).await?;
    let action = format!("create the container `{}`", container.name);
    let (deadline, mut pause) = (Instant::now() + UNSEEN, FIRST_LOOK);
    loop {
        let options = CreateContainerOptionsBuilder::default().name(&container.name).build();
        let created = client.docker.create_container(Some(options), body(container, &mounts, &publishing)).await;
        let refusal = match created.map_err(client.explain(&action)) {
            Ok(created) => return Ok(created.id),
            Err(refusal @ EngineError::Refused { status: 409, .. }) if Instant::now() < deadline => refusal,
            Err(error) => return Err(error),
        };
        match containers::document(client, &container.name).await? {
            Some(there) if there.is_as_asked(container) => return Ok(there.id),
            Some(there) if there.labels().is_some_and(|labels| labels.same_subject(&container.labels)) => {
                containers::remove(client, &there.id).await?;
            }
            Some(_) => return Err(refusal),
            None => {
                // The engine does not report when a name becomes free, or who uses it.
                sleep(pause).await;
                pause *= 2;
            }
        }
    }
}

/// A path of ours is the host's, or has another name there.
async fn seen_from_host(client: &Client, mount: &CreatedMount) -> Result<CreatedMount, EngineError> {
    match mount {
        CreatedMount::Host { path, target, read_only } => {
            let path = client.place().await.host_path(path)?;
            Ok(CreatedMount::Host { path, target: target.clone(), read_only: *read_only })
        }
        CreatedMount::Volume { .. } | CreatedMount::Memory { .. } => Ok(mount.clone()),
    }
}

/// How ports are published.
struct Publishing {
    /// `::1` too, where that works.
    dual_stack: bool,
    reach: Reach,
}

fn body(container: &ContainerCreate, mounted: &[CreatedMount], publishing: &Publishing) -> ContainerCreateBody {
    let endpoint = EndpointSettings { aliases: Some(container.aliases.clone()), ..EndpointSettings::default() };
    let memory = container.resources.memory.map(|memory| memory.bytes() as i64);
    ContainerCreateBody {
        hostname: Some(container.hostname.clone()),
        user: container.user.clone(),
        env: Some(container.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        cmd: container.command.clone(),
        entrypoint: container.entrypoint.clone(),
        image: Some(container.image.clone()),
        labels: Some(container.labels.to_map()),
        stop_signal: Some(container.stop_signal.clone()),
        exposed_ports: Some(container.ports.iter().map(|port| format!("{}/tcp", port.container)).collect()),
        networking_config: Some(NetworkingConfig { endpoints_config: Some(HashMap::from([(container.network.clone(), endpoint)])) }),
        host_config: Some(HostConfig {
            network_mode: Some(container.network.clone()),
            port_bindings: Some(bindings(&container.ports, publishing, is_free_at_six)),
            // Restarting is the supervisor's affair: the engine would do it without a word and without an order.
            restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
            mounts: Some(mounts(mounted)),
            memory,
            // The same figure: no swap, so that the limit is the limit.
            memory_swap: memory,
            nano_cpus: container.resources.cpus.map(|cpus| (cpus * 1e9) as i64),
            shm_size: container.shared_memory.map(|size| size.bytes() as i64),
            init: Some(container.init),
            extra_hosts: Some(vec!["host.docker.internal:host-gateway".to_owned()]),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from([("max-size".to_owned(), LOG_SIZE.to_owned()), ("max-file".to_owned(), LOG_FILES.to_owned())])),
            }),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// An engine refuses to publish a port at an address where it is in use.
fn is_free_at_six(port: u16) -> bool {
    let bound = std::net::TcpListener::bind((std::net::Ipv6Addr::LOCALHOST, port));
    !matches!(bound, Err(error) if error.kind() == std::io::ErrorKind::AddrInUse)
}

/// `is_free_at_six` says whether a port is free at `::1`: another program may have it there alone, where it is in nobody's way.
fn bindings(ports: &[PublishedPort], publishing: &Publishing, is_free_at_six: impl Fn(u16) -> bool) -> PortMap {
    let mut map = PortMap::new();
    for port in ports {
        let list = map.entry(format!("{}/tcp", port.container)).or_default().get_or_insert_with(Vec::new);
        let mut publish = |address: &str| {
            list.push(PortBinding { host_ip: Some(address.to_owned()), host_port: Some(port.host.to_string()) });
        };
        match &publishing.reach {
            // The host's loopback is not ours: the daemon listens on ours.
            Reach::Beside if port.address == "127.0.0.1" => continue,
            Reach::Elsewhere { .. } if port.address == "127.0.0.1" => publish("0.0.0.0"),
            Reach::Here | Reach::Beside | Reach::Elsewhere { .. } => publish(&port.address),
        }
        if publishing.dual_stack && publishing.reach == Reach::Here && port.address == "127.0.0.1" && is_free_at_six(port.host) {
            publish("::1");
        }
    }
    map
}

pub(super) fn mounts(mounts: &[CreatedMount]) -> Vec<Mount> {
    mounts
        .iter()
        .map(|mount| match mount {
            CreatedMount::Volume { name, target, read_only } => Mount {
                typ: Some(MountType::VOLUME),
                source: Some(name.clone()),
                target: Some(target.clone()),
                read_only: Some(*read_only),
                // What the image has there, and its owner, goes into an empty volume.
                volume_options: Some(MountVolumeOptions { no_copy: Some(false), ..MountVolumeOptions::default() }),
                ..Mount::default()
            },
            CreatedMount::Host { path, target, read_only } => Mount {
                typ: Some(MountType::BIND),
                source: Some(path.to_string_lossy().into_owned()),
                target: Some(target.clone()),
                read_only: Some(*read_only),
                bind_options: Some(MountBindOptions::default()),
                ..Mount::default()
            },
            CreatedMount::Memory { target } => Mount {
                typ: Some(MountType::TMPFS),
                target: Some(target.clone()),
                tmpfs_options: Some(MountTmpfsOptions::default()),
                ..Mount::default()
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loopback_port_is_published_on_both_loopbacks_where_that_works() {
        let port = |address: &str| PublishedPort { container: 5432, host: 15432, address: address.to_owned() };
        let publish = |address: &str, dual_stack, reach| -> Vec<String> {
            let map = bindings(&[port(address)], &Publishing { dual_stack, reach }, |port| port == 15432);
            map["5432/tcp"].iter().flatten().map(|binding| binding.host_ip.clone().unwrap()).collect()
        };
        let addresses = |address, dual_stack| publish(address, dual_stack, Reach::Here);
        let elsewhere = || Reach::Elsewhere { host: "docker".to_owned() };
        assert_eq!(publish("127.0.0.1", true, elsewhere()), ["0.0.0.0"]);
        assert_eq!(publish("127.0.0.1", true, Reach::Beside), Vec::<String>::new());
        assert_eq!(publish("0.0.0.0", true, Reach::Beside), ["0.0.0.0"]);
        assert_eq!(addresses("127.0.0.1", true), ["127.0.0.1", "::1"]);
        assert_eq!(addresses("127.0.0.1", false), ["127.0.0.1"]);
        assert_eq!(addresses("0.0.0.0", true), ["0.0.0.0"]);
        let taken = bindings(&[port("127.0.0.1")], &Publishing { dual_stack: true, reach: Reach::Here }, |_| false);
        assert_eq!(taken["5432/tcp"].iter().flatten().count(), 1, "another program has it at ::1");
    }
}
