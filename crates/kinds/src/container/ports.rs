//! The ports of a container: which it has, the variables and addresses of each, and where the host publishes them. Pure.

use devenv_spec::{Protocol, PublishedPort, Template};
use indexmap::IndexSet;

use super::fields::Container;
use crate::describe::{Connection, Context, METRICS_PORT};

impl Container {
    /// Its main port: the first one exposed, else the first one with a host port of its own.
    pub(super) fn first_port(&self, cx: &Context<'_>) -> Option<u16> {
        let published = || self.publish.iter().find(|port| port.protocol == Protocol::Tcp).map(|port| port.port);
        self.expose.first().or_else(|| cx.declared.ports.keys().next()).copied().or_else(published)
    }

    /// Its ports for TCP with a place on the host, each once.
    fn tcp_ports(&self, cx: &Context<'_>) -> Vec<u16> {
        let published = self.publish.iter().filter(|port| port.protocol == Protocol::Tcp).map(|port| port.port);
        let all = self.expose.iter().chain(cx.declared.ports.keys()).copied().chain(published);
        all.filter(|port| self.leases(cx, *port)).collect::<IndexSet<u16>>().into_iter().collect()
    }

    /// Of several ports each has a variable and an address of its own; `known` is the one that a server's own variables are about.
    pub(super) fn each_port(&self, cx: &Context<'_>, known: Option<u16>, connection: &mut Connection) {
        let ports = self.tcp_ports(cx);
        if ports.len() < 2 {
            return;
        }
        for port in ports.iter().filter(|port| Some(**port) != known) {
            let url = cx.address(*port, |host, port| Template::text(format!("http://{host}:{port}")));
            connection.variable(cx, &format!("URL_{port}"), url);
            connection.variable(cx, &format!("PORT_{port}"), cx.address(*port, |_, port| Template::text(port.to_string())));
            if Some(*port) != self.first_port(cx) {
                connection.url(&format!("http-{port}"), cx.url("http", *port));
            }
        }
    }

    /// Whether a port of the container has one on the host's loopback.
    pub(super) fn leases(&self, cx: &Context<'_>, port: u16) -> bool {
        let elsewhere = self.publish.iter().any(|publish| publish.port == port && publish.protocol == Protocol::Udp);
        !elsewhere && (cx.ports.contains_key(&port) || self.expose.contains(&port) || cx.declared.ports.contains_key(&port))
    }

    /// Every port with its address on the host.
    pub(super) fn published(&self, cx: &Context<'_>) -> Vec<PublishedPort> {
        let leased = cx.ports.iter().filter(|(container, _)| **container != METRICS_PORT);
        let mut first: Vec<u16> = Vec::new();
        let mut ports = Vec::new();
        for (container, host) in leased {
            let long = self
                .publish
                .iter()
                .find(|port| port.port == *container)
                .filter(|_| !self.expose.contains(container) && !cx.declared.ports.contains_key(container));
            ports.push(PublishedPort {
                container: *container,
                host: *host,
                address: long.map_or("127.0.0.1", |port| port.address.as_str()).to_owned(),
                protocol: long.map(|port| port.protocol).unwrap_or_default(),
            });
            if long.is_some() {
                first.push(*container);
            }
        }
        for port in &self.publish {
            if let Some(position) = first.iter().position(|container| *container == port.port) {
                first.remove(position);
                continue;
            }
            ports.push(PublishedPort {
                container: port.port,
                host: port.host.unwrap_or_else(|| cx.port(port.port)),
                address: port.address.clone(),
                protocol: port.protocol,
            });
        }
        ports
    }
}
