//! A tunnel for containers to a server that only this host reaches: forwards bytes as long as it is held.

use std::{io, net::IpAddr};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::{dial, forward};

/// Closed, with all its connections, when it is dropped.
pub(crate) struct Tunnel {
    port: u16,
    serving: JoinHandle<()>,
}

impl Tunnel {
    /// Listens on this address of the host, such as a network's gateway, for connections from `peer` alone: others could reach the
    /// server through it as well. Fails if nothing answers at the other end.
    pub(crate) async fn open(on: IpAddr, peer: IpAddr, host: &str, port: u16) -> io::Result<Self> {
        drop(TcpStream::connect((host, port)).await?);
        let listener = TcpListener::bind((on, 0)).await?;
        let own = listener.local_addr()?.port();
        let target = (host.to_owned(), port);
        let accepts = move |from| from == peer;
        let serving = tokio::spawn(forward(listener, accepts, move || dial(target.clone())));
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

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpSocket,
    };

    use super::*;

    async fn answer(from: &str, port: u16) -> Vec<u8> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        let mut stream = socket.connect(format!("127.0.0.1:{port}").parse().unwrap()).await.unwrap();
        let mut answer = Vec::new();
        // A connection that is refused is closed or reset.
        let _ = stream.read_to_end(&mut answer).await;
        answer
    }

    #[tokio::test]
    async fn one_peer_comes_through_and_nobody_else() {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = server.accept().await {
                let _ = stream.write_all(b"theirs").await;
            }
        });
        let tunnel = Tunnel::open([127, 0, 0, 1].into(), [127, 0, 0, 2].into(), "127.0.0.1", port).await.unwrap();
        assert_eq!(answer("127.0.0.2", tunnel.port()).await, b"theirs");
        for other in ["127.0.0.1", "127.0.0.3"] {
            assert_eq!(answer(other, tunnel.port()).await, b"", "{other}");
        }
        serving.abort();
    }
}
