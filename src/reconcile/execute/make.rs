//! Creates what a service runs in: network, image, volumes, container.

use std::collections::BTreeMap;

use devenv_engine::{
    BEHIND, ContainerCreate, CreatedAttachment, CreatedMount, EngineError, Labels, NetworkCreate, ObservedNetwork, UploadFile,
    VolumeCreate, launch,
};
use devenv_spec::{ContainerSpec, MountSource, PublishedPort, ServiceName, ServiceSpec, Sharing, Size, Workload};
use ipnet::Ipv4Net;

use super::{Effects, OperationError, Subject, images::Fill, labels, mounted, network_name, networks};
use crate::{net, reconcile::state::Instance, store::Record};

/// The network to use if an environment has several: the one on the recorded subnet, else the one with the lowest id.
pub(crate) fn choose(mut networks: Vec<ObservedNetwork>, subnet: Option<Ipv4Net>) -> (Option<ObservedNetwork>, Vec<ObservedNetwork>) {
    // Those that the profile names have a role.
    networks.retain(|network| network.labels.role.is_none());
    // It may be a part of that subnet.
    let is_elsewhere = |network: &ObservedNetwork| !subnet.zip(network.subnet).is_some_and(|(own, other)| own.contains(&other));
    networks.sort_by_cached_key(|network| (is_elsewhere(network), network.id.clone()));
    let others = networks.split_off(networks.len().min(1));
    (networks.pop(), others)
}

impl Effects {
    /// Creates the network, on another subnet if the given one is taken and the profile does not demand it. Returns its id and the
    /// environment's subnet.
    pub(crate) async fn create_network(&self, record: &Record) -> Result<(String, Ipv4Net), OperationError> {
        let mut taken = Vec::new();
        let planned = record.spec.as_ref().is_some_and(|spec| spec.planned);
        let shared = |own| record.spec.as_ref().map_or(own, |spec| spec.shared_subnet(own));
        let mut subnet = record.subnet;
        loop {
            let candidate = match subnet.take() {
                Some(subnet) => subnet,
                None => {
                    taken.extend(self.engine.subnets().await?);
                    taken.extend(net::host_routes());
                    net::choose_subnet(&record.id, &taken)?
                }
            };
            let network = NetworkCreate {
                name: network_name(&record.id),
                labels: labels(&self.owner, record, None),
                subnet: shared(candidate),
                internal: false,
            };
            match self.engine.create_network(&network).await {
                Ok(id) => return self.keep_one_network(record, id, candidate).await,
                Err(EngineError::SubnetTaken(subnet)) if planned => return Err(EngineError::SubnetTaken(subnet).into()),
                Err(EngineError::SubnetTaken(_)) => taken.push(ipnet::IpNet::V4(candidate)),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// An engine may still complete a request of a daemon that was killed, and it gives two networks the same name: only one
    /// of them is kept.
    async fn keep_one_network(&self, record: &Record, id: String, subnet: Ipv4Net) -> Result<(String, Ipv4Net), OperationError> {
        let networks = self.engine.networks(&self.owner).await?;
        let ours = networks.into_iter().filter(|network| network.labels.environment == record.id).collect();
        let (kept, others) = choose(ours, Some(subnet));
        for network in others {
            self.engine.remove_network(&network.id).await?;
        }
        let own = |part: Ipv4Net| if subnet.contains(&part) { subnet } else { part };
        Ok(kept.map_or((id, subnet), |network| (network.id, network.subnet.map_or(subnet, own))))
    }

    /// Removes everything that the engine has of the environment except volumes: the network, and objects created late. Returns the names
    /// of foreign containers that were disconnected.
    pub(crate) async fn clear(&self, record: &Record) -> Result<Vec<String>, OperationError> {
        let containers = self.engine.containers(&self.owner).await?;
        let of_service = |labels: &Labels| labels.role.as_deref().is_none_or(|role| role == ONE_OFF);
        let late = |labels: &Labels| labels.environment == record.id && labels.service.is_some() && of_service(labels);
        for container in containers.iter().filter(|container| late(&container.labels)) {
            self.engine.remove_container(&container.id).await?;
        }
        let mut cut = Vec::new();
        for network in self.engine.networks(&self.owner).await?.iter().filter(|network| network.labels.environment == record.id) {
            cut.extend(self.engine.remove_network(&network.id).await?);
        }
        Ok(cut)
    }

    /// Creates the service's volumes and its container. Returns the container's id.
    pub(crate) async fn create(&self, subject: &Subject) -> Result<Instance, OperationError> {
        let Workload::Container(container) = &subject.spec.workload else {
            return Ok(Instance { id: String::new(), hash: subject.spec.hash(), run: self.runtime.last_run(&subject.spec.name) });
        };
        self.fill_volumes(subject, container, Fill::Anew).await?;
        let mut mounts = self.mounts(subject, container).await?;
        if mounted::is_wanted(container) {
            // Who reads them is known once there is a container, and they are written again before it starts.
            mounts.extend(self.mounted_files(&subject.spec.name, &self.files(container, 0)?)?);
        }
        let create = self.container(subject, container, mounts).await?;
        let id = self.engine.create_container(&create).await?;
        Ok(Instance { id, hash: subject.spec.hash(), run: self.runtime.last_run(&subject.spec.name) })
    }

    /// A container beside the service's own, with its image, mounts and networks, that waits for a command. Returns its id, and the
    /// words that the image puts before a command.
    pub(crate) async fn create_one_off(&self, subject: &Subject) -> Result<(String, Vec<String>), OperationError> {
        let Workload::Container(container) = &subject.spec.workload else {
            return Err(OperationError::Other("it is no container".to_owned()));
        };
        let Some((entrypoint, program)) = launch::hold() else {
            let message = "this devenv was built without the program that holds a container: install a static C library and build it again";
            return Err(OperationError::Other(message.to_owned()));
        };
        self.fill_volumes(subject, container, Fill::Missing).await?;
        let mounts = self.mounts(subject, container).await?;
        let mut create = self.container(subject, container, mounts).await?;
        let before = match &container.entrypoint {
            Some(entrypoint) => entrypoint.clone(),
            None => self.engine.image_defaults(container.image.name()).await?.entrypoint,
        };
        create.name = format!("{}-run-{:08x}", create.name, rand::random::<u32>());
        create.labels.role = Some(ONE_OFF.to_owned());
        create.labels.spec = None;
        create.environment = self.vault.resolve_all(container.plain_variables())?;
        // The program that holds it is written into it.
        create.options.read_only = false;
        create.entrypoint = Some(entrypoint);
        create.command = Some(Vec::new());
        create.init = true;
        create.ports.clear();
        create.aliases.clear();
        create.address = None;
        for attachment in &mut create.attachments {
            attachment.aliases.clear();
            attachment.address = None;
        }
        let id = self.engine.create_container(&create).await?;
        let mut files = vec![program];
        for file in &container.files {
            let content = bytes::Bytes::from(self.vault.resolve(&file.content)?);
            files.push(UploadFile { path: file.path.clone(), mode: file.mode, uid: file.uid, gid: file.gid, content });
        }
        let started = match self.engine.upload(&id, &files).await {
            Ok(()) => self.engine.start(&id).await,
            Err(error) => Err(error),
        };
        if let Err(error) = started {
            // Nothing else knows of it yet.
            let _ = self.engine.remove_container(&id).await;
            return Err(error.into());
        }
        Ok((id, before))
    }

    async fn mounts(&self, subject: &Subject, container: &ContainerSpec) -> Result<Vec<CreatedMount>, OperationError> {
        let mut mounts = Vec::new();
        for mount in &container.mounts {
            let (target, read_only) = (mount.target.clone(), mount.read_only);
            mounts.push(match &mount.source {
                MountSource::Volume(name) => {
                    let name = self.volume(subject, &subject.spec.name, name, mount.device).await?;
                    CreatedMount::Volume { name, target, read_only }
                }
                MountSource::Shared { service, volume } => {
                    let name = self.volume(subject, service, volume, None).await?;
                    CreatedMount::Volume { name, target, read_only }
                }
                MountSource::External(name) => CreatedMount::Volume { name: name.clone(), target, read_only },
                MountSource::Host(path) => CreatedMount::Host { path: path.clone(), target, read_only },
                MountSource::Memory => CreatedMount::Memory { target },
            });
        }
        Ok(mounts)
    }

    /// A volume of a service, created if it does not exist. Returns its name.
    async fn volume(&self, subject: &Subject, service: &ServiceName, name: &str, device: Option<Size>) -> Result<String, OperationError> {
        let (volume, labels) = self.volume_labels(subject, service, name)?;
        let options = match device {
            Some(size) => self.runtime.device(&volume, size).await.map_err(OperationError::Other)?,
            None => BTreeMap::new(),
        };
        self.engine.create_volume(&VolumeCreate { name: volume.clone(), labels, options }).await?;
        Ok(volume)
    }

    /// The engine's name for a volume of a service, and the labels that it has.
    pub(super) fn volume_labels(&self, subject: &Subject, service: &ServiceName, name: &str) -> Result<(String, Labels), OperationError> {
        let record = &subject.record;
        let key = format!("{service}/{name}");
        let volume = record.volumes.get(&key).ok_or_else(|| OperationError::Other(format!("the volume {key} has no name yet")))?;
        let of_service = Labels { service: Some(service.clone()), ..labels(&self.owner, record, None) };
        Ok((volume.clone(), Labels { role: Some(name.to_owned()), ..of_service }))
    }

    async fn container(
        &self,
        subject: &Subject,
        container: &ContainerSpec,
        mounts: Vec<CreatedMount>,
    ) -> Result<ContainerCreate, OperationError> {
        let record = &subject.record;
        let options = &container.options;
        let image = container.image.name();
        let launched = launch::is_wanted(container).map_err(|error| OperationError::Other(error.to_string()))?;
        let (environment, entrypoint, command) = if launched {
            let defaults = self.engine.image_defaults(image).await?;
            let (entrypoint, command) = launch::behind(defaults, container.entrypoint.as_ref(), container.command.as_ref());
            (self.vault.resolve_all(container.plain_variables())?, Some(entrypoint), Some(command))
        } else {
            (self.vault.resolve_all(container.environment.iter())?, container.entrypoint.clone(), container.command.clone())
        };
        let CreatedAttachment { network, aliases, address } = CreatedAttachment {
            network: subject.network.clone().unwrap_or_else(|| network_name(&record.id)),
            aliases: names(&subject.spec, &container.aliases),
            address: None,
        };
        let mut attachments = vec![CreatedAttachment { network: network.clone(), aliases, address }];
        if !options.networks.is_empty() {
            attachments = self.attachments(subject, container, &network).await?;
        }
        let mode = |sharing: &Option<Sharing>| sharing.as_ref().map(|sharing| namespace(record, sharing));
        if let Some(mode) = mode(&options.network_mode) {
            attachments = vec![CreatedAttachment { network: mode, aliases: Vec::new(), address: None }];
        }
        for sharing in [&options.network_mode, &options.pid, &options.ipc].into_iter().flatten() {
            self.wait_for_namespace(record, sharing).await?;
        }
        let first = attachments.remove(0);
        let mount_options = container.mounts.iter().filter(|mount| !mount.options.is_default());
        Ok(ContainerCreate {
            name: container_name(record, &subject.spec.name),
            hostname: options.hostname.clone().unwrap_or_else(|| subject.spec.name.as_str().to_owned()),
            labels: labels(&self.owner, record, Some(&subject.spec)),
            image: image.to_owned(),
            entrypoint,
            command,
            user: container.user.clone(),
            environment,
            mounts,
            ports: published(container),
            network: first.network,
            aliases: first.aliases,
            address: first.address,
            attachments,
            resources: container.resources.clone(),
            shared_memory: container.shared_memory,
            init: container.init,
            stop_signal: subject.spec.stop.signal.clone(),
            pid_mode: mode(&options.pid),
            ipc_mode: mode(&options.ipc),
            mount_options: mount_options.map(|mount| (mount.target.clone(), mount.options.clone())).collect(),
            options: networks::with_host(container, record),
        })
    }
}

/// The daemon itself listens on the public ports of a container that may sleep.
fn published(container: &ContainerSpec) -> Vec<PublishedPort> {
    let mut ports = container.ports.clone();
    for port in ports.iter_mut().filter(|port| container.fronted && port.is_local()) {
        BEHIND.clone_into(&mut port.address);
    }
    ports
}

/// The role of a container that runs a single command.
const ONE_OFF: &str = "one-off";
pub(super) fn container_name(record: &Record, service: &ServiceName) -> String {
    format!("devenv-{}-{service}", record.id)
}

/// The service's name, and its aliases.
pub(super) fn names(spec: &ServiceSpec, others: &[String]) -> Vec<String> {
    std::iter::once(spec.name.as_str().to_owned()).chain(others.iter().cloned()).collect()
}

/// In the engine's terms.
fn namespace(record: &Record, sharing: &Sharing) -> String {
    match sharing {
        Sharing::Mode(mode) => mode.clone(),
        Sharing::Service(service) => format!("container:{}", container_name(record, service)),
    }
}
