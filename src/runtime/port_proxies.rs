//! Ports that the daemon holds for services whose versions are swapped, of one environment.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{Ipv4Addr, TcpListener},
    sync::Mutex,
    time::Duration,
};

use devenv_spec::ServiceName;
use devenv_watch::{PortProxy, RetiredBackend};

/// The ports on which one version listens, by the public port.
pub(crate) type Ports = BTreeMap<u16, u16>;

#[derive(Debug, Default)]
pub(crate) struct PortProxies {
    services: Mutex<HashMap<ServiceName, ServiceProxies>>,
}

#[derive(Debug, Default)]
struct ServiceProxies {
    proxies: BTreeMap<u16, PortProxy>,
    /// The start that gets connections.
    serving: Option<u32>,
    /// Connections of starts that get no new ones.
    retired: HashMap<u32, Vec<RetiredBackend>>,
}

impl PortProxies {
    /// Listens on the ports, if it does not yet. Connections wait until a version serves.
    pub(crate) async fn hold(&self, service: &ServiceName, ports: &[u16]) -> io::Result<()> {
        for port in ports {
            let services = self
                .services
                .lock()
                .expect("no code panics while it holds this lock")
                .get(service)
                .is_some_and(|services| services.proxies.contains_key(port));
            if !services {
                let proxy = PortProxy::bind(*port).await?;
                self.services
                    .lock()
                    .expect("no code panics while it holds this lock")
                    .entry(service.clone())
                    .or_default()
                    .proxies
                    .insert(*port, proxy);
            }
        }
        Ok(())
    }

    /// New connections go to this start from now on.
    pub(crate) fn serve(&self, service: &ServiceName, run: u32, ports: &Ports) {
        let mut all = self.services.lock().expect("no code panics while it holds this lock");
        let Some(services) = all.get_mut(service) else { return };
        if services.serving == Some(run) {
            return;
        }
        let retired: Vec<RetiredBackend> =
            ports.iter().filter_map(|(public, own)| Some(services.proxies.get(public)?.switch(*own))).collect();
        if let Some(former) = services.serving.replace(run) {
            services.retired.insert(former, retired);
        }
    }

    /// New connections wait from now on. Returns when those of this start have ended, or were closed after the grace.
    pub(crate) async fn drain(&self, service: &ServiceName, run: u32, grace: Duration) {
        let retired = {
            let mut all = self.services.lock().expect("no code panics while it holds this lock");
            let Some(services) = all.get_mut(service) else { return };
            if services.serving == Some(run) {
                services.serving = None;
                services.proxies.values().map(PortProxy::hold).collect()
            } else {
                services.retired.remove(&run).unwrap_or_default()
            }
        };
        for connections in retired {
            connections.drain(grace).await;
        }
    }

    /// Releases the ports.
    pub(crate) fn release(&self, service: &ServiceName) {
        self.services.lock().expect("no code panics while it holds this lock").remove(service);
    }

    /// Of a service's ports only these are held from now on.
    pub(crate) fn keep_only(&self, service: &ServiceName, ports: &[u16]) {
        if let Some(services) = self.services.lock().expect("no code panics while it holds this lock").get_mut(service) {
            services.proxies.retain(|port, _| ports.contains(port));
        }
    }

    /// Listens on none of them any more.
    pub(crate) fn end(&self) {
        self.services.lock().expect("no code panics while it holds this lock").clear();
    }

    /// All ports that are held.
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.services
            .lock()
            .expect("no code panics while it holds this lock")
            .values()
            .flat_map(|services| services.proxies.keys().copied())
            .collect()
    }
}

/// A port of its own for each, which the kernel chooses.
pub(crate) fn choose(ports: &[u16]) -> io::Result<Ports> {
    // All are bound until the last is chosen, so that they differ.
    let listeners: Vec<(u16, TcpListener)> =
        ports.iter().map(|port| Ok((*port, TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?))).collect::<io::Result<_>>()?;
    listeners.iter().map(|(port, listener)| Ok((*port, listener.local_addr()?.port()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_that_the_service_has_no_more_is_given_up() {
        let (proxies, service): (_, ServiceName) = (PortProxies::default(), "api".parse().unwrap());
        let ports: Vec<u16> = choose(&[1, 2]).unwrap().into_values().collect();
        proxies.hold(&service, &ports).await.unwrap();
        proxies.keep_only(&service, &ports[1..]);
        assert_eq!(proxies.ports(), ports[1..]);
        proxies.keep_only(&service, &[]);
        assert!(proxies.ports().is_empty());
    }
}
