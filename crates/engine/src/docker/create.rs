//! Translates a requested container into the engine's request.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use bollard::{
    models::{
        ContainerCreateBody, DeviceMapping, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount, MountBindOptions,
        MountBindOptionsPropagationEnum, MountTmpfsOptions, MountType, MountVolumeOptions, NetworkingConfig, PortBinding, PortMap,
        ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
    },
    query_parameters::CreateContainerOptionsBuilder,
};
use futures_util::future;
use tokio::time::{Instant, sleep};

use super::{client::Client, containers, networks, reach::Place, upload};
use devenv_spec::{DeviceRequest, MountOptions, PublishedPort, Ulimit};

use crate::{ContainerCreate, CreatedMount, EngineError, Reach, UploadFile};

/// The engine keeps this much of a container's output in each of two files, for a daemon that was not running for a while.
const LOG_SIZE: &str = "64m";
const LOG_FILES: &str = "2";

/// How long a name may be in use by a container that is still being created, or not quite removed, and cannot be seen.
const UNSEEN: Duration = Duration::from_secs(10);
/// The largest file that is copied instead of mounted, in bytes.
const LARGEST_FILE: u64 = 4 << 20;
const FIRST_LOOK: Duration = Duration::from_millis(10);

/// A container of ours that has the name already may be the result of an earlier request, whose sender died: it is used
/// if it is exactly what is requested and has never run; otherwise it is replaced.
pub(super) async fn create(client: &Client, container: &ContainerCreate) -> Result<String, EngineError> {
    if container.mount_options.values().any(|options| options.subpath.is_some()) && !client.mounts_parts_of_volumes() {
        return Err(EngineError::Refused {
            action: format!("create the container `{}`", container.name),
            status: 400,
            message: "it mounts a part of a volume (`subpath`), which needs Docker 26 or newer".to_owned(),
        });
    }
    let publishing = Publishing { dual_stack: client.dual_stack().await, reach: client.place().await.reach() };
    let (copied, mounted) = match client.place().await {
        Place::Far => container.mounts.iter().partition(|mount| is_file(mount)),
        Place::Here | Place::Beside(_) | Place::Elsewhere { .. } => (Vec::new(), container.mounts.iter().collect::<Vec<_>>()),
    };
    let files = read(&copied).await?;
    let mounts = future::try_join_all(mounted.into_iter().map(|mount| seen_from_host(client, mount))).await?;
    let action = format!("create the container `{}`", container.name);
    let (deadline, mut pause) = (Instant::now() + UNSEEN, FIRST_LOOK);
    loop {
        let mut options = CreateContainerOptionsBuilder::default().name(&container.name);
        if let Some(platform) = &container.options.platform {
            options = options.platform(platform);
        }
        let options = options.build();
        let created = client.docker.create_container(Some(options), body(container, &mounts, &publishing)).await;
        let refusal = match created.map_err(client.explain(&action)) {
            Ok(created) => return finished(client, container, created.id, &files).await,
            Err(refusal @ EngineError::Refused { status: 409, .. }) if Instant::now() < deadline => refusal,
            Err(error) => return Err(error),
        };
        match containers::document(client, &container.name).await? {
            Some(there) if there.is_as_asked(container) => return finished(client, container, there.id, &files).await,
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

/// The container on all of its networks: engines before API 1.44 accept only one at creation. With the files that are not mounted.
async fn finished(client: &Client, container: &ContainerCreate, id: String, files: &[UploadFile]) -> Result<String, EngineError> {
    for attachment in &container.attachments {
        networks::connect(client, &id, attachment).await?;
    }
    upload::upload(client, &id, files).await?;
    Ok(id)
}

/// A single file that the container only reads, such as a certificate: on another machine it gets a copy.
fn is_file(mount: &CreatedMount) -> bool {
    matches!(mount, CreatedMount::Host { path, read_only: true, .. } if path.is_file())
}

async fn read(mounts: &[&CreatedMount]) -> Result<Vec<UploadFile>, EngineError> {
    let mut files = Vec::new();
    for mount in mounts {
        let CreatedMount::Host { path, target, .. } = mount else { continue };
        let from = path.clone();
        let content = tokio::task::spawn_blocking(move || devenv_files::read_bounded(&from, LARGEST_FILE)).await;
        let content = match content {
            Ok(read) => read.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let action = || format!("copy {} to the engine's machine", path.display());
        let content = content.map_err(|message| EngineError::Refused { action: action(), status: 400, message })?;
        files.push(UploadFile { path: target.clone(), mode: 0o444, uid: 0, gid: 0, content: content.into() });
    }
    Ok(files)
}

/// A path of this process is the host's, or has another name there.
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
    let options = &container.options;
    let memory = container.resources.memory.map(|memory| memory.bytes() as i64);
    let endpoints = HashMap::from([(container.network.clone(), networks::endpoint(&container.aliases, container.address))]);
    // A container that joins another's namespace gets its names from there.
    let named = (!container.shares_network() || container.network == "none") && options.uts.as_deref() != Some("host");
    let mut labels: HashMap<String, String> = options.labels.clone().into_iter().collect();
    labels.extend(container.labels.to_map());
    ContainerCreateBody {
        hostname: named.then(|| container.hostname.clone()),
        domainname: options.domainname.clone().filter(|_| named),
        user: container.user.clone(),
        env: Some(container.environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
        cmd: container.command.clone(),
        entrypoint: container.entrypoint.clone(),
        working_dir: options.working_directory.clone(),
        tty: Some(options.tty),
        open_stdin: Some(options.stdin_open),
        image: Some(container.image.clone()),
        labels: Some(labels),
        stop_signal: Some(container.stop_signal.clone()).filter(|signal| !signal.is_empty()),
        exposed_ports: Some(container.ports.iter().map(|port| format!("{}/{}", port.container, port.protocol.as_str())).collect()),
        networking_config: (!container.shares_network()).then_some(NetworkingConfig { endpoints_config: Some(endpoints) }),
        host_config: Some(HostConfig {
            network_mode: Some(container.network.clone()),
            port_bindings: Some(if container.shares_network() {
                PortMap::new()
            } else {
                bindings(&container.ports, publishing, is_free_at_six)
            }),
            // The supervisor restarts containers: the engine would do it unnoticed and ignore the order.
            restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
            mounts: Some(with_options(mounted, &container.mount_options)),
            binds: Some(binds(mounted, &container.mount_options)),
            memory,
            // The same value: no swap, so that the limit is exact.
            memory_swap: options.limits.swap.or(memory),
            nano_cpus: container.resources.cpus.map(|cpus| (cpus * 1e9) as i64),
            shm_size: container.shared_memory.map(|size| size.bytes() as i64),
            init: Some(container.init),
            extra_hosts: Some(extra_hosts(container)),
            log_config: Some(HostConfigLogConfig {
                typ: Some("json-file".to_owned()),
                config: Some(HashMap::from([("max-size".to_owned(), LOG_SIZE.to_owned()), ("max-file".to_owned(), LOG_FILES.to_owned())])),
            }),
            ..settings(container)
        }),
        ..ContainerCreateBody::default()
    }
}

/// An engine refuses to publish a port on an address where it is in use.
fn is_free_at_six(port: u16) -> bool {
    let bound = std::net::TcpListener::bind((std::net::Ipv6Addr::LOCALHOST, port));
    !matches!(bound, Err(error) if error.kind() == std::io::ErrorKind::AddrInUse)
}

/// The options in the engine's terms; those that are not set are left to it.
fn settings(container: &ContainerCreate) -> HostConfig {
    let options = &container.options;
    let list = |texts: &Vec<String>| (!texts.is_empty()).then(|| texts.clone());
    let map = |texts: &indexmap::IndexMap<String, String>| (!texts.is_empty()).then(|| texts.clone().into_iter().collect());
    let ulimit =
        |(name, limit): (&String, &Ulimit)| ResourcesUlimits { name: Some(name.clone()), soft: Some(limit.soft), hard: Some(limit.hard) };
    let limits = &options.limits;
    HostConfig {
        dns: list(&options.dns),
        dns_search: list(&options.dns_search),
        dns_options: list(&options.dns_options),
        tmpfs: map(&options.memory),
        ulimits: (!options.ulimits.is_empty()).then(|| options.ulimits.iter().map(ulimit).collect()),
        sysctls: map(&options.sysctls),
        storage_opt: map(&options.storage),
        cap_add: list(&options.cap_add),
        cap_drop: list(&options.cap_drop),
        security_opt: list(&options.security_opt),
        group_add: list(&options.group_add),
        devices: (!options.devices.is_empty()).then(|| options.devices.iter().map(|text| device(text)).collect()),
        device_cgroup_rules: list(&options.device_cgroup_rules),
        privileged: options.privileged.then_some(true),
        readonly_rootfs: options.read_only.then_some(true),
        pid_mode: container.pid_mode.clone(),
        ipc_mode: container.ipc_mode.clone(),
        uts_mode: options.uts.clone(),
        userns_mode: options.user_namespace.clone(),
        cgroupns_mode: options.cgroup.as_deref().and_then(|mode| mode.parse::<HostConfigCgroupnsModeEnum>().ok()),
        cgroup_parent: options.cgroup_parent.clone(),
        runtime: options.runtime.clone(),
        cpuset_cpus: options.cpuset.clone(),
        cpu_shares: limits.cpu_shares,
        cpu_period: limits.cpu_period,
        cpu_quota: limits.cpu_quota,
        pids_limit: limits.pids,
        oom_score_adj: limits.oom_score_adj,
        oom_kill_disable: limits.oom_kill_disable.then_some(true),
        memory_swappiness: limits.swappiness,
        memory_reservation: limits.memory_reservation.map(|size| size.bytes() as i64),
        device_requests: (!options.device_requests.is_empty()).then(|| options.device_requests.iter().map(device_request).collect()),
        ..HostConfig::default()
    }
}

/// All devices with the capability `gpu`, unless the request says otherwise.
fn device_request(request: &DeviceRequest) -> bollard::models::DeviceRequest {
    let capabilities = if request.capabilities.is_empty() { vec!["gpu".to_owned()] } else { request.capabilities.clone() };
    bollard::models::DeviceRequest {
        driver: request.driver.clone(),
        count: request.count.or_else(|| request.ids.is_empty().then_some(-1)),
        device_ids: (!request.ids.is_empty()).then(|| request.ids.clone()),
        capabilities: Some(vec![capabilities]),
        options: (!request.options.is_empty()).then(|| request.options.clone().into_iter().collect()),
    }
}

/// `SOURCE[:TARGET[:PERMISSIONS]]`.
fn device(text: &str) -> DeviceMapping {
    let mut parts = text.splitn(3, ':');
    let source = parts.next().unwrap_or_default().to_owned();
    let target = parts.next().map_or_else(|| source.clone(), str::to_owned);
    DeviceMapping {
        path_on_host: Some(source),
        path_in_container: Some(target),
        cgroup_permissions: Some(parts.next().unwrap_or("rwm").to_owned()),
    }
}

fn extra_hosts(container: &ContainerCreate) -> Vec<String> {
    // The engine refuses names if the namespace is another container's.
    if container.network.starts_with("container:") {
        return Vec::new();
    }
    let host = (!container.options.without_host).then(|| "host.docker.internal:host-gateway".to_owned());
    host.into_iter().chain(container.options.extra_hosts.iter().cloned()).collect()
}

/// `is_free_at_six` reports whether a port is free at `::1`: another program may listen only there, and does not conflict.
fn bindings(ports: &[PublishedPort], publishing: &Publishing, is_free_at_six: impl Fn(u16) -> bool) -> PortMap {
    let mut map = PortMap::new();
    for port in ports {
        let list = map.entry(format!("{}/{}", port.container, port.protocol.as_str())).or_default().get_or_insert_with(Vec::new);
        let mut publish = |address: &str| {
            list.push(PortBinding { host_ip: Some(address.to_owned()), host_port: Some(port.host.to_string()) });
        };
        match &publishing.reach {
            // The host's loopback is not this container's: the daemon listens on the container's own.
            Reach::Beside | Reach::Relayed if is_local(&port.address) => continue,
            Reach::Elsewhere { .. } if is_local(&port.address) => publish("0.0.0.0"),
            Reach::Here | Reach::Beside | Reach::Elsewhere { .. } | Reach::Relayed => publish(&port.address),
        }
        if publishing.dual_stack && publishing.reach == Reach::Here && port.address == "127.0.0.1" && is_free_at_six(port.host) {
            publish("::1");
        }
    }
    map
}

fn is_local(address: &str) -> bool {
    ["127.0.0.1", crate::BEHIND].contains(&address)
}

/// Mounts of paths that only the engine's older form can express: it creates the path, and labels it.
fn is_bind(options: &MountOptions) -> bool {
    options.create || options.selinux.is_some()
}

fn binds(mounts: &[CreatedMount], options: &BTreeMap<String, MountOptions>) -> Vec<String> {
    let bind = |mount: &CreatedMount| match mount {
        CreatedMount::Host { path, target, read_only } => {
            let options = options.get(target).filter(|options| is_bind(options))?;
            let modes = [Some(if *read_only { "ro" } else { "rw" }), options.selinux.as_deref(), options.propagation.as_deref()];
            Some(format!("{}:{target}:{}", path.display(), modes.into_iter().flatten().collect::<Vec<_>>().join(",")))
        }
        CreatedMount::Volume { .. } | CreatedMount::Memory { .. } => None,
    };
    mounts.iter().filter_map(bind).collect()
}

/// All other mounts.
fn with_options(mounted: &[CreatedMount], options: &BTreeMap<String, MountOptions>) -> Vec<Mount> {
    let mut list = Vec::new();
    for (mount, mut made) in mounted.iter().zip(mounts(mounted)) {
        let found = made.target.as_ref().and_then(|target| options.get(target));
        if let Some(options) = found {
            if is_bind(options) && matches!(mount, CreatedMount::Host { .. }) {
                continue;
            }
            if let Some(volume) = made.volume_options.as_mut() {
                volume.no_copy = Some(options.no_copy);
                volume.subpath.clone_from(&options.subpath);
            }
            if let (Some(bind), Some(propagation)) = (made.bind_options.as_mut(), &options.propagation) {
                bind.propagation = propagation.parse::<MountBindOptionsPropagationEnum>().ok();
            }
        }
        list.push(made);
    }
    list
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
                // The image's files at that path, and their owner, are copied into an empty volume.
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
    use devenv_spec::Protocol;

    #[test]
    fn a_loopback_port_is_published_on_both_loopbacks_where_that_works() {
        let port = |address: &str| PublishedPort { container: 5432, host: 15432, address: address.to_owned(), protocol: Protocol::Tcp };
        let publish = |address: &str, dual_stack, reach| -> Vec<String> {
            let map = bindings(&[port(address)], &Publishing { dual_stack, reach }, |port| port == 15432);
            map["5432/tcp"].iter().flatten().map(|binding| binding.host_ip.clone().unwrap()).collect()
        };
        let addresses = |address, dual_stack| publish(address, dual_stack, Reach::Here);
        let elsewhere = || Reach::Elsewhere { host: "docker".to_owned() };
        assert_eq!(publish("127.0.0.1", true, elsewhere()), ["0.0.0.0"]);
        assert_eq!(publish("127.0.0.1", true, Reach::Beside), Vec::<String>::new());
        assert_eq!(publish("127.0.0.1", false, Reach::Relayed), Vec::<String>::new());
        assert_eq!(publish("0.0.0.0", false, Reach::Relayed), ["0.0.0.0"]);
        assert_eq!(publish("0.0.0.0", true, Reach::Beside), ["0.0.0.0"]);
        assert_eq!(publish(crate::BEHIND, true, elsewhere()), ["0.0.0.0"]);
        assert_eq!(publish(crate::BEHIND, true, Reach::Beside), Vec::<String>::new());
        assert_eq!(addresses(crate::BEHIND, true), [crate::BEHIND]);
        assert_eq!(addresses("127.0.0.1", true), ["127.0.0.1", "::1"]);
        assert_eq!(addresses("127.0.0.1", false), ["127.0.0.1"]);
        assert_eq!(addresses("0.0.0.0", true), ["0.0.0.0"]);
        let taken = bindings(&[port("127.0.0.1")], &Publishing { dual_stack: true, reach: Reach::Here }, |_| false);
        assert_eq!(taken["5432/tcp"].iter().flatten().count(), 1, "another program has it at ::1");
    }
}
