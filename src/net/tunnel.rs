//! A way for containers to a server that only this host reaches: bytes handed on, for as long as it is held.

use std::{io, net::IpAddr};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::forward;

/// Closed, with all its connections, when it is dropped.
pub(crate) struct Tunnel {
    port: u16,
    serving: JoinHandle<()>,
}

impl Tunnel {
    /// Listens on this address of the host, such as a network's gateway, for connections from `peers`: others could reach the server
    /// through it as well. Fails if nothing answers at the other end.
    pub(crate) async fn open(on: IpAddr, peers: Vec<IpAddr>, host: &str, port: u16) -> io::Result<Self> {
        drop(TcpStream::connect((host, port)).await?);
        let listener = TcpListener::bind((on, 0)).await?;
        let own = listener.local_addr()?.port();
        let target = (host.to_owned(), port);
        // An engine that does not say where its containers are lets in all.
        let accepts = move |peer| peers.is_empty() || peers.contains(&peer);
        let serving = tokio::spawn(forward(listener, accepts, move || TcpStream::connect(target.clone())));
        Ok(Self { port: own, serving })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
