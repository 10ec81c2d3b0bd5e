//! Compiles a validated profile to the environment's spec: the only place that sees all services of a profile at once.
//!
//! Two steps, because leasing happens in between and is not pure: [`needs`] lists the ports and secrets, the daemon finds
//! them, and [`compile`] then gets the host ports. Kinds are called in three rounds, each with the result of the
//! previous one: facts, connections, descriptions.

mod images;

use std::{collections::BTreeMap, net::SocketAddrV4, path::PathBuf};

use devenv_kinds::{
    Kind,
    describe::{Connection, Context, Description, Facts, FirstStart, METRICS_PORT, PortNeed},
};
use devenv_spec::{
    Condition, EnvironmentId, EnvironmentSpec, Image, Mount, MountSource, NetworkSpec, Period, PublishedPort, Reaction, Resources,
    ScriptSet, SecretRef, ServiceName, ServiceSpec, Sleep, Stop, Variable, WatchRule, Workload, sensitive,
};
use indexmap::IndexMap;
use ipnet::Ipv4Net;

use crate::{
    OnChange, Profile, SecretSource, ServiceProfile, Watch, access,
    variables::{Collision, Connections, Identity},
};

/// The default size of a disk of its own.
const DEVICE_SIZE: devenv_spec::Size = devenv_spec::Size::mebibytes(1024);

/// What must exist before a profile can be compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    pub ports: Vec<PortRequest>,
    pub secrets: Vec<SecretRef>,
    /// Secrets whose values the profile gives.
    pub given: Vec<(SecretRef, String)>,
    /// Services that encrypt, and need a certificate.
    pub certificates: Vec<ServiceName>,
}

/// A host port that a service needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortRequest {
    pub service: ServiceName,
    /// The container port, under which the lease is kept.
    pub container: u16,
    /// The only acceptable port, if the profile names it.
    pub fixed: Option<u16>,
}

/// The leases for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Leases {
    pub environment: EnvironmentId,
    pub instance: String,
    pub subnet: Ipv4Net,
    /// Host ports by container port, of every service.
    pub ports: BTreeMap<ServiceName, BTreeMap<u16, u16>>,
    /// The local certificate authority's certificate, on the host.
    pub authority: PathBuf,
}

/// The host ports and secrets that a profile's services need.
pub fn needs(profile: &Profile) -> Needs {
    let ports = profile.services.iter().flat_map(|(name, service)| {
        port_needs(service).into_iter().map(|need| PortRequest { service: name.clone(), container: need.container, fixed: need.fixed })
    });
    let secrets = profile.services.iter().flat_map(|(name, service)| service.kind.fields().secrets(name.as_str()));
    let certificates = profile.services.iter().filter(|(_, service)| service.kind.fields().encrypts()).map(|(name, _)| name.clone());
    let declared = profile.secrets.iter().filter(|(_, source)| matches!(source, SecretSource::Generate(_)));
    let secrets = secrets.chain(declared.map(|(name, _)| sensitive::declared(name)));
    let given_to = |(name, service): (&ServiceName, &ServiceProfile)| {
        service.kind.fields().given_secrets(name.as_str(), &service.declared(), &profile.assets)
    };
    let given = profile.services.iter().flat_map(given_to);
    Needs { ports: ports.collect(), secrets: secrets.collect(), given: given.collect(), certificates: certificates.collect() }
}

/// The whole environment as plain data.
pub fn compile(profile: &Profile, leases: &Leases) -> EnvironmentSpec {
    let compiler = Compiler::new(profile, leases);
    let facts = compiler.facts();
    let connections = compiler.connections(&facts);
    let named = Connections::new(profile, &connections);
    let identity = Identity { environment: &leases.environment, instance: &leases.instance };
    let services = profile.services.iter().map(|(name, service)| {
        let given = named.of_service(name, service, &identity);
        let description = compiler.ask(name, service, &facts, &given, |kind, cx| kind.fields().describe(cx));
        let connection = connections.get(name).cloned().unwrap_or_default();
        (name.clone(), compiler.service(name, service, description, connection))
    });
    let mut services: IndexMap<ServiceName, ServiceSpec> = services.collect();
    share_volumes(&mut services);
    images::resolve(&mut services);
    let restricted = access::restrict(profile, &mut services);
    let planned = profile.network.subnet.is_some();
    let size = |name: &str| planned.then(|| services.values().filter(|service| is_on(service, name)).count() as u32);
    let networks = profile.networks.iter().map(|(name, network)| (name.clone(), self::network(network, size(name))));
    let networks = networks.chain(restricted).collect();
    EnvironmentSpec {
        id: leases.environment.clone(),
        project: profile.project.clone(),
        instance: leases.instance.clone(),
        profile: profile.name.clone(),
        subnet: leases.subnet,
        planned,
        metrics_address: compiler.metrics_address,
        services,
        networks,
        variables: named.of_environment(&identity),
        overridden: named.overridden(),
    }
}

/// How each service makes what devenv provisions where devenv is not there.
pub(crate) fn first_starts(profile: &Profile, leases: &Leases) -> IndexMap<ServiceName, FirstStart> {
    let compiler = Compiler::new(profile, leases);
    let facts = compiler.facts();
    let ask = |(name, service): (&ServiceName, &ServiceProfile)| {
        (name.clone(), compiler.ask(name, service, &facts, &IndexMap::new(), |kind, cx| kind.fields().first_start(cx)))
    };
    profile.services.iter().map(ask).collect()
}

/// As [`compile`], without leases: for questions that depend on no port, subnet or path of devenv.
pub(crate) fn draft(profile: &Profile) -> EnvironmentSpec {
    compile(profile, &Leases::none(profile))
}

/// The variables by which clients reach the services, with their services.
pub(crate) fn connections(profile: &Profile) -> IndexMap<String, ServiceName> {
    Connections::new(profile, &drafted(profile)).into_owned()
}

/// Names that would be the variable of two services.
pub(crate) fn collisions(profile: &Profile) -> Vec<Collision> {
    Connections::new(profile, &drafted(profile)).collisions()
}

fn drafted(profile: &Profile) -> IndexMap<ServiceName, Connection> {
    let leases = Leases::none(profile);
    let compiler = Compiler::new(profile, &leases);
    compiler.connections(&compiler.facts())
}

impl Leases {
    pub(crate) fn none(profile: &Profile) -> Self {
        Self {
            environment: EnvironmentId::of("", &profile.project, "default"),
            instance: "default".to_owned(),
            subnet: Ipv4Net::default(),
            ports: BTreeMap::new(),
            authority: PathBuf::new(),
        }
    }
}

/// Named volumes of containers are shared by their name: they belong to the first service that mounts one.
fn share_volumes(services: &mut IndexMap<ServiceName, ServiceSpec>) {
    let mut owners: BTreeMap<String, ServiceName> = BTreeMap::new();
    for (name, service) in services {
        let product = devenv_kinds::find(&service.kind).is_some_and(|kind| kind.rules().is_own_program());
        let Workload::Container(container) = &mut service.workload else { continue };
        // What is filled from an image is this service's alone.
        for mount in container.mounts.iter_mut().filter(|mount| product && mount.image.is_none()) {
            let MountSource::Volume(volume) = &mount.source else { continue };
            let owner = owners.entry(volume.clone()).or_insert_with(|| name.clone());
            if owner != name {
                mount.source = MountSource::Shared { service: owner.clone(), volume: volume.clone() };
            }
        }
    }
}

/// `containers`: how many are on it, if it is to be a part of the environment's subnet.
fn network(network: &crate::Network, containers: Option<u32>) -> NetworkSpec {
    NetworkSpec {
        internal: network.internal,
        // An invalid subnet was reported.
        subnet: network.subnet.as_ref().and_then(|subnet| subnet.parse().ok()),
        external: network.external.clone(),
        containers: containers.filter(|_| network.subnet.is_none() && network.external.is_none()),
    }
}

fn is_on(service: &ServiceSpec, network: &str) -> bool {
    service.container().is_some_and(|container| container.options.networks.contains_key(network))
}

struct Compiler<'a> {
    profile: &'a Profile,
    leases: &'a Leases,
    metrics_address: Option<SocketAddrV4>,
}

impl<'a> Compiler<'a> {
    fn new(profile: &'a Profile, leases: &'a Leases) -> Self {
        Self { profile, leases, metrics_address: metrics_address(profile, leases) }
    }

    fn facts(&self) -> IndexMap<ServiceName, Facts> {
        let (nobody, nothing) = (IndexMap::new(), IndexMap::new());
        self.each(|name, service| self.ask(name, service, &nobody, &nothing, |kind, cx| kind.fields().facts(cx)))
    }

    fn connections(&self, facts: &IndexMap<ServiceName, Facts>) -> IndexMap<ServiceName, Connection> {
        let nothing = IndexMap::new();
        self.each(|name, service| self.ask(name, service, facts, &nothing, |kind, cx| kind.fields().connection(cx)))
    }

    fn each<T>(&self, ask: impl Fn(&ServiceName, &ServiceProfile) -> T) -> IndexMap<ServiceName, T> {
        self.profile.services.iter().map(|(name, service)| (name.clone(), ask(name, service))).collect()
    }

    fn ask<T>(
        &self,
        name: &ServiceName,
        service: &ServiceProfile,
        neighbours: &IndexMap<ServiceName, Facts>,
        variables: &IndexMap<String, Variable>,
        question: impl Fn(&Kind, &Context<'_>) -> T,
    ) -> T {
        static NO_PORTS: BTreeMap<u16, u16> = BTreeMap::new();
        let cx = Context {
            environment: &self.leases.environment,
            project: &self.profile.project,
            name,
            declared: service.declared(),
            ports: self.leases.ports.get(name).unwrap_or(&NO_PORTS),
            neighbours,
            variables,
            assets: &self.profile.assets,
            authority: &self.leases.authority,
            metrics_address: self.metrics_address,
        };
        question(&service.kind, &cx)
    }

    /// A kind's description, with the profile's common fields applied.
    fn service(&self, name: &ServiceName, service: &ServiceProfile, description: Description, connection: Connection) -> ServiceSpec {
        let mut workload = description.workload;
        if let Workload::Container(container) = &mut workload {
            if let Some(image) = &service.image {
                container.image = Image::Named(image.clone());
            }
            // A kind may give its ports more settings than the lease does.
            if container.ports.is_empty() {
                container.ports = self.published(name);
            }
            if let Some(storage) = service.storage.as_ref().filter(|storage| storage.faultable) {
                let own = |mount: &&mut Mount| matches!(mount.source, MountSource::Volume(_)) && mount.image.is_none();
                let volumes = container.mounts.iter_mut().filter(own);
                volumes.for_each(|mount| mount.device = Some(storage.size.unwrap_or(DEVICE_SIZE)));
            }
        }
        let sleep = service
            .sleep
            .or(self.profile.sleep)
            .map(|sleep| Sleep { after: sleep.after.map(Period::duration), mode: sleep.mode.unwrap_or_default() });
        let sleep = sleep.filter(|_| matches!(workload, Workload::Container(_)));
        if let Workload::Container(container) = &mut workload {
            container.fronted = sleep.is_some() && container.ports.iter().any(PublishedPort::is_local);
        }
        let resources = Resources { memory: service.resources.memory, cpus: service.resources.cpus };
        match &mut workload {
            Workload::Container(container) => container.resources = resources,
            Workload::Process(process) => process.resources = resources,
        }

        let mut depends_on = service.depends_on.clone();
        for dependency in service.kind.fields().dependencies() {
            if let Ok(dependency) = dependency.parse() {
                depends_on.entry(dependency).or_insert(Condition::Ready);
            }
        }

        let scripts = description.scripts.filter(|scripts| !scripts.sources.is_empty());
        let stop = service.stop.as_ref();
        let restart = service.restart.as_ref();
        let mut policy = description.restart;
        policy.policy = restart.and_then(|restart| restart.policy).unwrap_or(policy.policy);
        policy.attempts = restart.and_then(|restart| restart.attempts).unwrap_or(policy.attempts);
        ServiceSpec {
            name: name.clone(),
            kind: service.kind.name().to_owned(),
            depends_on,
            on_dependency_restart: service.on_dependency_restart.unwrap_or(description.on_dependency_restart),
            optional: service.optional,
            probe: description.probe,
            scripts: scripts.map(|scripts| ScriptSet { service: name.clone(), target: scripts.target, sources: scripts.sources }),
            provision: description.provision,
            proof: description.proof,
            ready_timeout: service.ready_timeout.map_or(description.ready_timeout, Period::duration),
            stop: Stop {
                signal: stop.and_then(|stop| stop.signal.clone()).unwrap_or(description.stop.signal),
                grace: stop.and_then(|stop| stop.grace).map_or(description.stop.grace, Period::duration),
            },
            restart: policy,
            watch: service.watch.iter().map(|watch| self.watch(watch, &workload)).collect(),
            workload,
            urls: connection.urls,
            sleep,
        }
    }

    fn watch(&self, watch: &Watch, workload: &Workload) -> WatchRule {
        let project = &self.profile.project;
        let path = |path: &String| project.join(path).components().collect();
        let words = |words: &Option<Vec<String>>| words.clone().unwrap_or_default();
        let signal = |other: &str| watch.signal.clone().unwrap_or_else(|| other.to_owned());
        WatchRule {
            paths: watch.paths.iter().map(path).collect(),
            ignore: watch.ignore.clone(),
            include: watch.include.clone(),
            build: watch.build.clone(),
            directory: match workload {
                Workload::Process(process) => process.directory.clone(),
                Workload::Container(_) => project.clone(),
            },
            reaction: match watch.on_change {
                OnChange::Restart => Reaction::Restart,
                OnChange::Signal => Reaction::Signal(signal("SIGHUP")),
                OnChange::Swap => Reaction::Swap,
                OnChange::Sync => {
                    Reaction::Sync { to: watch.to.clone().unwrap_or_default(), signal: watch.signal.clone(), exec: watch.exec.clone() }
                }
                OnChange::Rebuild => Reaction::Rebuild,
                OnChange::Run => Reaction::Run(words(&watch.run)),
            },
        }
    }

    fn published(&self, name: &ServiceName) -> Vec<PublishedPort> {
        let leased = self.leases.ports.get(name).into_iter().flatten().filter(|(container, _)| **container != METRICS_PORT);
        leased.map(|(container, host)| PublishedPort::local(*container, *host)).collect()
    }
}

/// On the network's gateway, at the port that was leased for the first service that needs metrics.
fn metrics_address(profile: &Profile, leases: &Leases) -> Option<SocketAddrV4> {
    let mut leased = profile.services.keys().filter_map(|name| leases.ports.get(name)?.get(&METRICS_PORT));
    Some(SocketAddrV4::new(leases.subnet.hosts().next()?, *leased.next()?))
}

/// The ports of the kind, with the profile's fixed ones, and then those that only the profile names.
fn port_needs(service: &ServiceProfile) -> Vec<PortNeed> {
    let mut asked = service.ports.clone();
    let mut needs = service.kind.fields().ports();
    for need in &mut needs {
        need.fixed = asked.remove(&need.known_as).or_else(|| asked.remove(&need.container)).or(need.fixed);
    }
    if service.kind.fields().publishes_ports() {
        needs.extend(asked.into_iter().map(|(container, host)| PortNeed { fixed: Some(host), ..PortNeed::any(container) }));
    }
    needs
}

#[cfg(test)]
mod tests;
