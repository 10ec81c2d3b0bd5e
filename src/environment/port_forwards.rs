//! Forwards the ports of services to this process's loopback if they are published elsewhere.
//!
//! # Theory of operation
//!
//! Variables, probes and advertised addresses contain `127.0.0.1` and the leased port. The engine publishes
//! the ports there, but this process does not reach them if it runs in a container with the engine's socket, or if the engine is
//! on another machine or in another container. Then the daemon listens on the port itself and forwards every connection: to the
//! container on the environment's network, or to the engine's host. So one address works everywhere.
//!
//! A task for each environment follows its views; a service has port forwards while it has a container.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    net::Ipv4Addr,
    sync::{Arc, Mutex},
};

use devenv_engine::{Engine, Reach};
use devenv_spec::EnvironmentId;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    net::forward,
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

/// The forwards of one environment.
pub(super) struct PortForwards {
    pub(super) engine: Arc<dyn Engine>,
    pub(super) network: String,
    pub(super) reach: Reach,
}

impl Held {
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.0.lock().expect("no code panics while it holds this lock").iter().copied().collect()
    }
}

/// Keeps the port forwards of an environment up to date until its task ends.
pub(crate) async fn keep(handle: Handle, engine: Arc<dyn Engine>, id: EnvironmentId, reach: Reach, held: Held, stop: CancellationToken) {
    let forwards = Arc::new(PortForwards { engine, network: network_name(&id), reach });
    let mut open: BTreeMap<u16, (Target, JoinSet<()>)> = BTreeMap::new();
    let mut views = handle.views();
    loop {
        let wanted = targets(&views.borrow_and_update());
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

/// By the public port.
fn targets(view: &View) -> BTreeMap<u16, Target> {
    let mut targets = BTreeMap::new();
    // The ports of services that may sleep are held in `fronts`.
    let fronted = |name: &str| view.fronted.iter().any(|service| service.name.as_str() == name);
    for service in view.status.services.iter().filter(|service| !fronted(&service.name)) {
        let Some(container) = &service.container else { continue };
        for port in service.ports.iter().filter(|port| port.address == "127.0.0.1") {
            targets.insert(port.host, Target { container: container.clone(), inner: port.container, outer: port.host });
        }
    }
    targets
}

impl PortForwards {
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

    pub(super) async fn connect(&self, target: &Target) -> io::Result<TcpStream> {
        match &self.reach {
            Reach::Elsewhere { host } => TcpStream::connect((host.as_str(), target.outer)).await,
            // Looked up for each connection: a restarted container may have another address.
            Reach::Here | Reach::Beside => {
                let found = self.engine.address(&self.network, &target.container).await.map_err(io::Error::other)?;
                let address = found.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected))?;
                TcpStream::connect((address, target.inner)).await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use devenv_engine::fake::FakeEngine;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn requests_to_the_published_port_arrive_at_the_engines_host() {
        let far = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let outer = far.local_addr().unwrap().port();
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
        let reach = Reach::Elsewhere { host: "127.0.0.1".to_owned() };
        let forwards = Arc::new(PortForwards { engine: Arc::new(FakeEngine::new()), network: String::new(), reach });
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
