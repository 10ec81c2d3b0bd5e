//! Host processes as containers reach them: by `host.docker.internal`, whatever address they listen on.
//!
//! # Theory of operation
//!
//! In a container that name leads to the gateway of the environment's network, which is an address of this host
//! (`reconcile::execute`). A program that listens on all addresses is reached there. One that listens on the loopback alone, as
//! development servers do, is not: then the daemon listens at the gateway on the same port and forwards connections of the
//! environment's network. It stops before the service starts again, so the program may listen on all addresses next time.
//!
//! A task for each environment follows its views. Only where the engine is this host's.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use devenv_api::{ServiceState, Status};
use ipnet::Ipv4Net;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use crate::{
    net::{self, Listening, forward},
    reconcile::Handle,
};

/// How soon a port on which nothing listens yet is looked at again: the kernel tells nobody.
const AGAIN: Duration = Duration::from_secs(1);

/// Keeps the forwarded ports of an environment until its task ends.
pub(crate) async fn keep(handle: Handle, stop: CancellationToken) {
    let mut open: BTreeMap<u16, JoinSet<()>> = BTreeMap::new();
    let mut views = handle.views();
    loop {
        let wanted = ports(&views.borrow_and_update().status);
        open.retain(|port, _| wanted.contains(port));
        let mut silent = false;
        for port in wanted {
            if open.contains_key(&port) {
                continue;
            }
            match net::listening_on(port) {
                Listening::Nowhere => silent = true,
                Listening::Everywhere => {}
                Listening::Loopback => {
                    let subnet = handle.record().await.ok().and_then(|record| record.subnet);
                    let Some(subnet) = subnet else { continue };
                    match bring(subnet, port).await {
                        Ok(serving) => drop(open.insert(port, serving)),
                        // Without a container there is no network, and nobody to reach it.
                        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {}
                        Err(error) => tracing::warn!(%error, port, "Cannot bring a port of a process to the environment's network."),
                    }
                }
            }
        }
        // All are cancel-safe.
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(AGAIN), if silent => {}
            changed = views.changed() => if changed.is_err() { return },
        }
    }
}

/// Of processes that are ready, and so have begun to listen or soon will.
fn ports(status: &Status) -> BTreeSet<u16> {
    let ready = status.services.iter().filter(|service| service.pid.is_some() && service.state == ServiceState::Ready);
    ready.flat_map(|service| service.ports.iter().map(|port| port.host)).collect()
}

/// Listens at the gateway; the listener and its connections end with what is returned.
async fn bring(subnet: Ipv4Net, port: u16) -> io::Result<JoinSet<()>> {
    let gateway = subnet.hosts().next().ok_or_else(|| io::Error::from(io::ErrorKind::AddrNotAvailable))?;
    let listener = TcpListener::bind((gateway, port)).await?;
    let mut serving = JoinSet::new();
    serving.spawn(forward(listener, move |peer| is_inside(subnet, peer), move || connect(port)));
    Ok(serving)
}

/// Clients that are routed to the gateway from outside of the network are refused.
fn is_inside(subnet: Ipv4Net, peer: IpAddr) -> bool {
    matches!(peer, IpAddr::V4(peer) if subnet.contains(&peer))
}

async fn connect(port: u16) -> io::Result<TcpStream> {
    let four = net::dial(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await;
    match four {
        Ok(stream) => Ok(stream),
        Err(_) => net::dial(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clients_of_the_environments_network_are_let_in() {
        let subnet: Ipv4Net = "10.213.7.0/26".parse().unwrap();
        assert!(is_inside(subnet, "10.213.7.2".parse().unwrap()));
        assert!(!is_inside(subnet, "10.213.8.2".parse().unwrap()));
        assert!(!is_inside(subnet, "192.168.0.9".parse().unwrap()));
        assert!(!is_inside(subnet, "::1".parse().unwrap()));
    }

    #[tokio::test]
    async fn a_program_at_either_loopback_address_is_reached() {
        let four = TcpListener::bind("127.0.0.1:0").await.unwrap();
        connect(four.local_addr().unwrap().port()).await.unwrap();
        let Ok(six) = TcpListener::bind("[::1]:0").await else { return };
        connect(six.local_addr().unwrap().port()).await.unwrap();
    }
}
