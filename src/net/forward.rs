//! Forwards connections byte for byte.

use std::{io, net::IpAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    task::JoinSet,
    time::sleep,
};

/// The pause after a connection could not be accepted.
const RETRY: Duration = Duration::from_millis(10);

/// Connects to a target of [`forward`].
pub(crate) async fn dial(to: impl ToSocketAddrs) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(to).await?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

/// Accepts connections of peers that `accepts` allows and forwards each to the target of `connect`; closes it if that fails.
/// Never returns; all
/// connections are closed when it is dropped.
pub(crate) async fn forward<A, C, F, S>(listener: TcpListener, accepts: A, connect: C)
where
    A: Fn(IpAddr) -> bool,
    C: Fn() -> F,
    F: Future<Output = io::Result<S>> + Send + 'static,
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
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

async fn carry<S: AsyncRead + AsyncWrite + Send + Unpin>(mut near: TcpStream, far: impl Future<Output = io::Result<S>>) {
    match far.await {
        Ok(mut far) => {
            let _ = near.set_nodelay(true);
            // Either end may break off; both sides see it.
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        }
        Err(error) => tracing::debug!(%error, "The target of a forwarded connection does not answer."),
    }
}
