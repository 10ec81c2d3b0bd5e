//! Forwards the ports of services to this process's loopback if they are published elsewhere.
//!
//! # Theory of operation
//!
//! Variables, probes and advertised addresses contain `127.0.0.1` and the leased port. The engine publishes
//! the ports there, but this process does not reach them if it runs in a container with the engine's socket, or if the engine is
//! on another machine or in another container. Then the daemon listens on the port itself and forwards every connection: to the
//! container on the environment's network, or to the engine's host. So one address works everywhere. If of the engine's machine only the
//! engine's own interface is reached, as over TLS or ssh, connections go through a relay in the environment's network (`relay`).
//!
//! A task for each environment follows its views; a service has port forwards while it has a container.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io,
    net::{Ipv4Addr, SocketAddrV4},
    path::PathBuf,
    sync::{Arc, Mutex},
};

use devenv_engine::{Engine, Labels, Reach};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::{either::Either, sync::CancellationToken};

use super::relay::{Relay, Site};
use crate::{
    net::{Server, dial, forward},
    reconcile::{Handle, View, network_name},
};

/// The forwarded ports, which do not count as free ports.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held(Arc<Mutex<HashSet<u16>>>);

/// The target of a forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) container: String,
    /// In the container.
    pub(super) inner: u16,
    /// On the engine's host.
    pub(super) outer: u16,
}

/// How the services of an environment are reached.
#[derive(Clone)]
pub(super) struct Ways {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) reach: Reach,
    /// Of what is created for it.
    pub(super) labels: Labels,
    /// The file with the id of the image of relays.
    pub(super) agent_image: PathBuf,
}

/// The forwards of one environment.
pub(super) struct PortForwards {
    engine: Arc<dyn Engine>,
    network: String,
    pub(super) reach: Reach,
    labels: Labels,
    agent_image: PathBuf,
    /// By network: a service may be in others than the environment's.
    relays: Mutex<HashMap<String, Arc<Relay>>>,
}

impl Held {
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.0.lock().expect("no code panics while it holds this lock").iter().copied().collect()
    }
}

/// Keeps the port forwards of an environment up to date until its task ends.
pub(super) async fn keep(handle: Handle, ways: Ways, held: Held, stop: CancellationToken) {
    let forwards = Arc::new(PortForwards::new(ways));
    let mut open: BTreeMap<u16, (Target, JoinSet<()>)> = BTreeMap::new();
    let mut views = handle.views();
    loop {
        let wanted = targets(&views.borrow_and_update(), &forwards.reach);
        if wanted.is_empty() {
            forwards.close();
        }
        open.retain(|port, (target, _)| wanted.get(port) == Some(target));
        for (port, target) in wanted {
            if open.contains_key(&port) {
                continue;
            }
            match forwards.open(port, target.clone()).await {
                Ok(serving) => {
                    open.insert(port, (target, serving));
                }
                // The next view finds it missing.
                Err(error) => tracing::warn!(%error, port, "Cannot forward a port to this host's loopback."),
            }
        }
        *held.0.lock().expect("no code panics while it holds this lock") = open.keys().copied().collect();
        // Both are cancel-safe.
        tokio::select! {
            () = stop.cancelled() => return,
            changed = views.changed() => if changed.is_err() { return },
        }
    }
}

/// By the public port. A port that is published on other addresses is reached there, unless they are another machine's.
fn targets(view: &View, reach: &Reach) -> BTreeMap<u16, Target> {
    let mut targets = BTreeMap::new();
    // The ports of services that may sleep are held in `fronts`.
    let fronted = |name: &str| view.fronted.iter().any(|service| service.name.as_str() == name);
    for service in view.status.services.iter().filter(|service| !fronted(&service.name)) {
        let Some(container) = &service.container else { continue };
        for port in service.ports.iter().filter(|port| port.address == "127.0.0.1" || *reach == Reach::Relayed) {
            targets.insert(port.host, Target { container: container.clone(), inner: port.container, outer: port.host });
        }
    }
    targets
}

impl PortForwards {
    pub(super) fn new(ways: Ways) -> Self {
        let Ways { engine, reach, labels, agent_image } = ways;
        let network = network_name(&labels.environment);
        Self { engine, network, reach, labels, agent_image, relays: Mutex::default() }
    }

    /// Ends the relays when nothing runs that they lead to: they would keep the networks in use.
    pub(super) fn close(&self) {
        self.relays().clear();
    }

    /// Listens on the port. The listener and its connections end with the returned value.
    async fn open(self: &Arc<Self>, port: u16, target: Target) -> io::Result<JoinSet<()>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
        let forwards = self.clone();
        let mut serving = JoinSet::new();
        serving.spawn(forward(
            listener,
            |_| true,
            move || {
                let (forwards, target) = (forwards.clone(), target.clone());
                async move { forwards.connect(&target).await }
            },
        ));
        Ok(serving)
    }

    pub(super) async fn connect(&self, target: &Target) -> io::Result<Server> {
        match &self.reach {
            Reach::Elsewhere { host } => dial((host.as_str(), target.outer)).await.map(Either::Left),
            Reach::Here | Reach::Beside => dial(self.address(target).await?).await.map(Either::Left),
            Reach::Relayed => {
                let attachments = self.engine.attachments(&target.container).await.map_err(io::Error::other)?;
                let own = attachments.iter().find(|attachment| attachment.network == self.network).or(attachments.first());
                let found = own.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
                let to = SocketAddrV4::new(found.address, target.inner);
                self.relay(&found.network).connect(to).await.map(Either::Right)
            }
        }
    }

    fn relays(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Relay>>> {
        self.relays.lock().expect("no code panics while it holds this lock")
    }

    fn relay(&self, network: &str) -> Arc<Relay> {
        let site = || Site {
            engine: self.engine.clone(),
            labels: self.labels.clone(),
            network: network.to_owned(),
            agent_image: self.agent_image.clone(),
        };
        self.relays().entry(network.to_owned()).or_insert_with(|| Arc::new(Relay::new(site()))).clone()
    }

    /// Looked up for each connection: a restarted container may have another address.
    async fn address(&self, target: &Target) -> io::Result<SocketAddrV4> {
        let found = self.engine.address(&self.network, &target.container).await.map_err(io::Error::other)?;
        let address = found.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
        Ok(SocketAddrV4::new(address, target.inner))
    }
}

#[cfg(test)]
mod tests {
    use devenv_engine::fake::FakeEngine;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    fn labels() -> Labels {
        Labels {
            owner: devenv_engine::OwnerId("owner".to_owned()),
            environment: devenv_spec::EnvironmentId::recorded("e"),
            project: "/p".to_owned(),
            instance: "default".to_owned(),
            service: None,
            spec: None,
            role: None,
        }
    }

    #[tokio::test]
    async fn requests_to_the_published_port_arrive_at_the_engines_host() {
        let far = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let outer = far.local_addr().unwrap().port();
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let reach = Reach::Elsewhere { host: "127.0.0.1".to_owned() };
        let engine: Arc<dyn Engine> = Arc::new(FakeEngine::new());
        let (network, agent_image) = (String::new(), PathBuf::new());
        let forwards = Arc::new(PortForwards { engine, network, reach, labels: labels(), agent_image, relays: Mutex::default() });
        let serving = forwards.open(free, Target { container: String::new(), inner: 0, outer }).await.unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", free)).await.unwrap();
        let (mut server, _) = far.accept().await.unwrap();
        client.write_all(b"to").await.unwrap();
        let mut text = [0; 2];
        server.read_exact(&mut text).await.unwrap();
        assert_eq!(&text, b"to");
        drop(serving);
        assert_eq!(client.read(&mut text).await.unwrap_or_default(), 0);
    }
}
