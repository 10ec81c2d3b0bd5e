//! Forwards connections byte for byte.

use std::{io, net::IpAddr, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::sleep,
};

/// The pause after a connection could not be accepted.
const RETRY: Duration = Duration::from_millis(10);

/// Accepts connections of peers that `accepts` allows and forwards each to the target of `connect`; closes it if that fails.
/// Never returns; all
/// connections are closed when it is dropped.
pub(crate) async fn forward<A, C, F>(listener: TcpListener, accepts: A, connect: C)
where
    A: Fn(IpAddr) -> bool,
    C: Fn() -> F,
    F: Future<Output = io::Result<TcpStream>> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        // Cancel-safe: a connection is either taken or stays in the kernel's queue.
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((near, peer)) if accepts(peer.ip()) => drop(connections.spawn(carry(near, connect()))),
                Ok((_, peer)) => tracing::warn!(%peer, "Refused a connection to a forwarded port."),
                // Most likely there are no file descriptors left; some will be free soon.
                Err(_) => sleep(RETRY).await,
            },
        }
    }
}

async fn carry(mut near: TcpStream, far: impl Future<Output = io::Result<TcpStream>>) {
    match far.await {
        Ok(mut far) => {
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            // Either end may break off; both sides see it.
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        }
        Err(error) => tracing::debug!(%error, "The target of a forwarded connection does not answer."),
    }
}
