//! Making what a service runs in: network, image, volumes, container.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use futures_util::StreamExt;
use ipnet::Ipv4Net;
use tokio::sync::mpsc;

use super::{Effects, OperationError, Progress, Subject, labels, network_name};
use crate::{
    engine::{ContainerCreate, CreatedMount, EngineError, Labels, NetworkCreate, ObservedNetwork, VolumeCreate, launch},
    net,
    reconcile::state::Instance,
    spec::{ContainerSpec, Image, MountSource, ServiceSpec, Workload},
    store::Record,
};

/// The network to use if an environment has several: the one on the recorded subnet, else the one with the lowest id.
pub(crate) fn choose(mut networks: Vec<ObservedNetwork>, subnet: Option<Ipv4Net>) -> (Option<ObservedNetwork>, Vec<ObservedNetwork>) {
    networks.sort_by_cached_key(|network| (network.subnet != subnet, network.id.clone()));
    let others = networks.split_off(networks.len().min(1));
    (networks.pop(), others)
}

/// A pull that makes no progress for so long has stopped.
const SILENCE: Duration = Duration::from_mins(10);

fn silent(name: &str) -> OperationError {
    OperationError::Engine(EngineError::TimedOut { action: format!("make progress with pulling the image `{name}`"), limit: SILENCE })
}

impl Effects {
    /// Makes the network, on another subnet if the one at hand is taken. Its id, and its subnet.
    pub(crate) async fn create_network(&self, record: &Record) -> Result<(String, Ipv4Net), OperationError> {
        let mut taken = Vec::new();
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
            let network = NetworkCreate { name: network_name(&record.id), labels: labels(&self.owner, record, None), subnet: candidate };
            match self.engine.create_network(&network).await {
                Ok(id) => return self.keep_one_network(record, id, candidate).await,
                Err(EngineError::SubnetTaken(_)) => taken.push(ipnet::IpNet::V4(candidate)),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// An engine may be at what a daemon that was killed has asked of it, and it gives two networks the same name: of all that
    /// there are now, one stays.
    async fn keep_one_network(&self, record: &Record, id: String, subnet: Ipv4Net) -> Result<(String, Ipv4Net), OperationError> {
        let networks = self.engine.networks(&self.owner).await?;
        let ours = networks.into_iter().filter(|network| network.labels.environment == record.id).collect();
        let (kept, others) = choose(ours, Some(subnet));
        for network in others {
            self.engine.remove_network(&network.id).await?;
        }
        Ok(kept.map_or((id, subnet), |network| (network.id, network.subnet.unwrap_or(subnet))))
    }

    /// Removes everything that the engine has of the environment but its volumes: the network, and what has come late. Names of
    /// foreign containers that were disconnected from it.
    pub(crate) async fn clear(&self, record: &Record) -> Result<Vec<String>, OperationError> {
        let containers = self.engine.containers(&self.owner).await?;
        let late = |labels: &Labels| labels.environment == record.id && labels.service.is_some() && labels.role.is_none();
        for container in containers.iter().filter(|container| late(&container.labels)) {
            self.engine.remove_container(&container.id).await?;
        }
        let mut cut = Vec::new();
        for network in self.engine.networks(&self.owner).await?.iter().filter(|network| network.labels.environment == record.id) {
            cut.extend(self.engine.remove_network(&network.id).await?);
        }
        Ok(cut)
    }

    /// The image is here afterwards; whether it had to be fetched.
    pub(crate) async fn ensure_image(&self, spec: &ServiceSpec, progress: &mpsc::Sender<Progress>) -> Result<bool, OperationError> {
        let Some(container) = spec.container() else { return Ok(false) };
        let tell = |message: String| {
            // Progress is for those who look; it may be missed.
            let _ = progress.try_send(Progress { service: spec.name.clone(), message });
        };
        match &container.image {
            Image::Named(name) => {
                if self.engine.image(name).await?.is_some() {
                    return Ok(false);
                }
                if self.offline.load(Ordering::Relaxed) {
                    return Err(OperationError::Other(not_local(name)));
                }
                tell(format!("pulling {name}"));
                let mut pull = self.engine.pull(name);
                // Dropping it ends the pull.
                while let Some(step) = tokio::time::timeout(SILENCE, pull.next()).await.map_err(|_| silent(name))? {
                    tell(step?.to_string());
                }
                Ok(true)
            }
            Image::Built(build) => {
                tell(format!("building {}", build.tag));
                self.runtime.build_image(spec, progress).await.map_err(|evidence| OperationError::Known(Box::new(evidence)))?;
                Ok(true)
            }
        }
    }

    /// Makes the service's volumes and its container; the container's id.
    pub(crate) async fn create(&self, subject: &Subject) -> Result<Instance, OperationError> {
        let Workload::Container(container) = &subject.spec.workload else {
            return Ok(Instance { id: String::new(), hash: subject.spec.hash(), run: self.runtime.last_run(&subject.spec.name) });
        };
        let record = &subject.record;
        let mut mounts = Vec::new();
        for mount in &container.mounts {
            mounts.push(match &mount.source {
                MountSource::Volume(name) => {
                    let key = format!("{}/{name}", subject.spec.name);
                    let volume =
                        record.volumes.get(&key).ok_or_else(|| OperationError::Other(format!("the volume {key} has no name yet")))?;
                    let labels = Labels { role: Some(name.clone()), spec: None, ..labels(&self.owner, record, Some(&subject.spec)) };
                    let options = match mount.device {
                        Some(size) => self.runtime.device(volume, size).await.map_err(OperationError::Other)?,
                        None => BTreeMap::new(),
                    };
                    self.engine.create_volume(&VolumeCreate { name: volume.clone(), labels, options }).await?;
                    CreatedMount::Volume { name: volume.clone(), target: mount.target.clone(), read_only: mount.read_only }
                }
                MountSource::Host(path) => {
                    CreatedMount::Host { path: path.clone(), target: mount.target.clone(), read_only: mount.read_only }
                }
                MountSource::Memory => CreatedMount::Memory { target: mount.target.clone() },
            });
        }
        let create = self.container(subject, container, mounts).await?;
        let id = self.engine.create_container(&create).await?;
        Ok(Instance { id, hash: subject.spec.hash(), run: self.runtime.last_run(&subject.spec.name) })
    }

    async fn container(
        &self,
        subject: &Subject,
        container: &ContainerSpec,
        mounts: Vec<CreatedMount>,
    ) -> Result<ContainerCreate, OperationError> {
        let record = &subject.record;
        let mut aliases = vec![subject.spec.name.as_str().to_owned()];
        aliases.extend(container.aliases.iter().cloned());
        let image = container.image.name();
        let launched = launch::is_wanted(container).map_err(|error| OperationError::Other(error.to_string()))?;
        let (environment, entrypoint, command) = if launched {
            let defaults = self.engine.image_defaults(image).await?;
            let (entrypoint, command) = launch::behind(defaults, container.entrypoint.as_ref(), container.command.as_ref());
            (self.vault.resolve_all(container.plain_variables())?, Some(entrypoint), Some(command))
        } else {
            (self.vault.resolve_all(container.environment.iter())?, container.entrypoint.clone(), container.command.clone())
        };
        Ok(ContainerCreate {
            name: format!("devenv-{}-{}", record.id, subject.spec.name),
            hostname: subject.spec.name.as_str().to_owned(),
            labels: labels(&self.owner, record, Some(&subject.spec)),
            image: image.to_owned(),
            entrypoint,
            command,
            user: container.user.clone(),
            environment,
            mounts,
            ports: container.ports.clone(),
            network: subject.network.clone().unwrap_or_else(|| network_name(&record.id)),
            aliases,
            resources: container.resources.clone(),
            shared_memory: container.shared_memory,
            init: container.init,
            stop_signal: subject.spec.stop.signal.clone(),
        })
    }
}

/// Known to the diagnosis.
fn not_local(image: &str) -> String {
    format!(
        "image `{image}` does not exist locally, and `--offline` forbids pulling it: run `devenv fetch` to pull it, or `devenv images load \
         FILE` to load it"
    )
}

#[cfg(test)]
mod tests {
    use devenv_kinds::diagnosis::{Evidence, diagnose};

    #[test]
    fn an_image_that_may_not_be_pulled_is_known_to_the_diagnosis() {
        let engine = Some(format!("cannot get its image: {}", super::not_local("redis:8.0")));
        let evidence = Evidence { kind: "redis".to_owned(), service: "cache".to_owned(), engine, ..Evidence::default() };
        assert!(diagnose(&evidence).unwrap().cause.contains("pulling is disabled"));
    }
}
