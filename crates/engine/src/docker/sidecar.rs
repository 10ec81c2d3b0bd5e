//! Sidecar containers in the namespaces of others; limits and networks of running containers.

use std::{collections::BTreeMap, net::Ipv4Addr};

use bollard::{
    models::{ContainerCreateBody, ContainerUpdateBody, DeviceMapping, HostConfig},
    query_parameters::CreateContainerOptionsBuilder,
};
use serde::Deserialize;

use super::{
    client::Client,
    containers, create,
    wire::{Call, segment},
};
use devenv_spec::{Resources, Size};

use crate::{Attachment, EngineError, Sidecar};

pub(super) async fn create(client: &Client, sidecar: &Sidecar) -> Result<String, EngineError> {
    let (entrypoint, command) = sidecar.command.split_at(sidecar.command.len().min(1));
    let joined = |id: &Option<String>| id.as_ref().map(|id| format!("container:{id}"));
    let body = ContainerCreateBody {
        image: Some(sidecar.image.clone()),
        entrypoint: Some(entrypoint.to_vec()),
        cmd: Some(command.to_vec()),
        user: Some("0:0".to_owned()),
        labels: Some(sidecar.labels.to_map()),
        host_config: Some(HostConfig {
            network_mode: Some(joined(&sidecar.network_of).unwrap_or_else(|| "none".to_owned())),
            pid_mode: joined(&sidecar.processes_of),
            cap_drop: Some(vec!["ALL".to_owned()]),
            cap_add: Some(sidecar.capabilities.clone()),
            devices: Some(sidecar.devices.iter().map(|path| device(path)).collect()),
            mounts: Some(create::mounts(&sidecar.mounts)),
            auto_remove: Some(true),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    };
    let options = CreateContainerOptionsBuilder::default().name(&sidecar.name).build();
    let created = client.docker.create_container(Some(options), body).await;
    match created.map_err(client.explain(&format!("create the container `{}`", sidecar.name))) {
        Ok(created) => Ok(created.id),
        Err(error @ EngineError::Refused { status: 409, .. }) => match containers::document(client, &sidecar.name).await? {
            Some(there) if there.labels().as_ref() == Some(&sidecar.labels) => Ok(there.id),
            _ => Err(error),
        },
        Err(error) => Err(error),
    }
}

fn device(path: &str) -> DeviceMapping {
    DeviceMapping {
        path_on_host: Some(path.to_owned()),
        path_in_container: Some(path.to_owned()),
        cgroup_permissions: Some("rw".to_owned()),
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Document {
    network_settings: NetworkSettings,
    host_config: Limits,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct NetworkSettings {
    networks: BTreeMap<String, Endpoint>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Endpoint {
    #[serde(rename = "IPAddress")]
    address: String,
    #[serde(rename = "Gateway")]
    gateway: String,
    #[serde(rename = "IPPrefixLen")]
    prefix: u8,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Limits {
    memory: i64,
    nano_cpus: i64,
}

/// The resources of the engine's machine.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Machine {
    #[serde(rename = "MemTotal")]
    mem_total: i64,
    #[serde(rename = "NCPU")]
    cpus: i64,
}

async fn document(client: &Client, id: &str) -> Result<Document, EngineError> {
    client.wire.read(Call::get("inspect a container", format!("/containers/{}/json", segment(id)))).await
}

pub(super) async fn attachments(client: &Client, id: &str) -> Result<Vec<Attachment>, EngineError> {
    let networks = document(client, id).await?.network_settings.networks;
    let attachment = |(network, endpoint): (String, Endpoint)| {
        let address: Ipv4Addr = endpoint.address.parse().ok()?;
        Some(Attachment { network, address, gateway: endpoint.gateway.parse().ok(), prefix: endpoint.prefix })
    };
    Ok(networks.into_iter().filter_map(attachment).collect())
}

pub(super) async fn limits(client: &Client, id: &str) -> Result<Resources, EngineError> {
    let limits = document(client, id).await?.host_config;
    let memory = u64::try_from(limits.memory).ok().filter(|bytes| *bytes > 0).and_then(|bytes| format!("{bytes}B").parse::<Size>().ok());
    Ok(Resources { memory, cpus: (limits.nano_cpus > 0).then(|| limits.nano_cpus as f64 / 1e9) })
}

/// Memory and swap change together, or the engine refuses a limit above the one for both. It accepts only numbers, so
/// "no limit" is all the memory of the machine.
pub(super) async fn set_limits(client: &Client, id: &str, limits: &Resources) -> Result<(), EngineError> {
    let before = document(client, id).await?.host_config;
    let machine: Machine = client.wire.read(Call::get("report its version", "/info")).await?;
    let memory = limits.memory.map(|memory| memory.bytes() as i64);
    let touched = memory.is_some() || before.memory > 0;
    let body = ContainerUpdateBody {
        // Zero would mean "unchanged", and -1 is refused.
        memory: touched.then(|| memory.unwrap_or(machine.mem_total)),
        memory_swap: touched.then(|| memory.unwrap_or(machine.mem_total)),
        nano_cpus: Some(limits.cpus.map_or(machine.cpus * 1_000_000_000, |cpus| (cpus * 1e9) as i64))
            .filter(|_| limits.cpus.is_some() || before.nano_cpus > 0),
        ..ContainerUpdateBody::default()
    };
    client.docker.update_container(id, body).await.map_err(client.explain("change the container's limits"))
}
