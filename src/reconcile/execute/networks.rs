//! The networks that a container is on, besides the environment's own, and the name by which it reaches the host.

use std::time::Duration;

use devenv_engine::{CreatedAttachment, EngineError, Labels, NetworkCreate, ObservedNetwork};
use devenv_spec::{ContainerOptions, ContainerSpec, EnvironmentId, NetworkSpec, Sharing};

use super::{
    Effects, OperationError, Subject, labels,
    make::{container_name, names},
    network_name,
};
use crate::{net, store::Record};

/// The environment's own network, as profiles name it.
const DEFAULT: &str = "default";
/// For so long the container of another service may take to be made.
const NAMESPACE: Duration = Duration::from_mins(1);

impl Effects {
    /// The networks that a container is on, made if they are not there; one with a way out comes first.
    pub(super) async fn attachments(
        &self,
        subject: &Subject,
        container: &ContainerSpec,
        own: &str,
    ) -> Result<Vec<CreatedAttachment>, OperationError> {
        let record = &subject.record;
        let known = record.spec.as_ref().map(|spec| &spec.networks);
        let mut found = Vec::new();
        for (name, attachment) in &container.options.networks {
            let spec = known.and_then(|known| known.get(name)).cloned();
            let network = match spec.as_ref().map(|spec| &spec.external) {
                None if name == DEFAULT => own.to_owned(),
                Some(Some(external)) => external.clone(),
                _ => self.named_network(record, name, spec.as_ref()).await?,
            };
            let aliases = names(&subject.spec, &attachment.aliases);
            let internal = spec.is_some_and(|spec| spec.internal);
            found.push((internal, CreatedAttachment { network, aliases, address: attachment.address }));
        }
        found.sort_by_key(|(internal, _)| *internal);
        Ok(found.into_iter().map(|(_, attachment)| attachment).collect())
    }

    /// A network that the profile names; its name on the engine.
    async fn named_network(&self, record: &Record, name: &str, spec: Option<&NetworkSpec>) -> Result<String, OperationError> {
        // Two services that are made at once would make it twice: an engine gives two networks the same name.
        static MAKING: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
        let _making = MAKING.lock().await;
        let full = format!("{}-{name}", network_name(&record.id));
        let role = format!("network:{name}");
        let is_it = |network: &ObservedNetwork| network.labels.environment == record.id && network.labels.role.as_ref() == Some(&role);
        if self.engine.networks(&self.owner).await?.iter().any(is_it) {
            return Ok(full);
        }
        let mut taken = self.engine.subnets().await?;
        taken.extend(net::host_routes());
        let mut wanted = spec.and_then(|spec| spec.subnet);
        let planned = record.spec.as_ref().is_some_and(|spec| spec.planned);
        let containers = spec.and_then(|spec| spec.containers);
        let labels = Labels { role: Some(role.clone()), ..labels(&self.owner, record, None) };
        loop {
            let part = || record.subnet.zip(containers).and_then(|(own, containers)| net::part_of(own, containers, &taken));
            let subnet = match wanted.take().or_else(part) {
                Some(subnet) => subnet,
                None if planned && containers.is_some() => return Err(no_room(name, record)),
                None => net::choose_subnet(&EnvironmentId::recorded(&full), &taken)?,
            };
            let internal = spec.is_some_and(|spec| spec.internal);
            let network = NetworkCreate { name: full.clone(), labels: labels.clone(), subnet, internal };
            match self.engine.create_network(&network).await {
                Ok(_) => return Ok(full),
                Err(EngineError::SubnetTaken(_)) => taken.push(ipnet::IpNet::V4(subnet)),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The engine refuses a namespace of a container that is not there yet.
    pub(super) async fn wait_for_namespace(&self, record: &Record, sharing: &Sharing) -> Result<(), OperationError> {
        let Sharing::Service(service) = sharing else { return Ok(()) };
        let name = container_name(record, service);
        let deadline = tokio::time::Instant::now() + NAMESPACE;
        while self.engine.inspect(&name).await?.is_none() {
            if tokio::time::Instant::now() >= deadline {
                return Err(OperationError::Other(format!(
                    "it shares a namespace with `{service}`, which has no container after {NAMESPACE:?}"
                )));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

fn no_room(name: &str, record: &Record) -> OperationError {
    let subnet = record.subnet.map(|subnet| subnet.to_string()).unwrap_or_default();
    OperationError::Other(format!(
        "the subnet {subnet} has no room for the network `{name}`: write a larger one as `network.subnet` in the profile, and run \
         `devenv down` before `devenv up`"
    ))
}

/// Where the gateway of the environment's network is an address of this host, containers know the host by it: there the daemon
/// brings what listens on the loopback alone. Elsewhere the engine says what is meant by the name.
pub(super) fn with_host(container: &ContainerSpec, record: &Record) -> Box<ContainerOptions> {
    let mut options = container.options.clone();
    // Networks that are parts of the environment's subnet reach its gateway too.
    let parts =
        |name: &String| record.spec.as_ref().and_then(|spec| spec.networks.get(name)).is_some_and(|network| network.containers.is_some());
    let own = options.networks.is_empty() || options.networks.contains_key(DEFAULT) || options.networks.keys().any(parts);
    if options.without_host || options.network_mode.is_some() || !own {
        return options;
    }
    let gateway = record.subnet.and_then(|subnet| subnet.hosts().next());
    if let Some(gateway) = gateway.filter(|gateway| std::net::TcpListener::bind((*gateway, 0)).is_ok()) {
        options.without_host = true;
        options.extra_hosts.push(format!("{HOST}:{gateway}"));
    }
    options
}

/// By this name a container reaches the host.
const HOST: &str = "host.docker.internal";
