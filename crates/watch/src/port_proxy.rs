//! Holds a service's port while its versions are swapped behind it, so that no connection is refused.
//!
//! A new connection goes to the current backend, and waits while there is none. It stays with that backend. An old backend
//! is drained before it is stopped; connections that are idle between requests are closed then.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{Semaphore, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// Connections that may be open at a time; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 10_000;
/// How long a connection waits for a backend before it is closed.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between attempts to connect to a backend that does not listen.
const RETRY: Duration = Duration::from_millis(10);
/// A connection that is silent for this long after an answer is between two requests.
const IDLE: Duration = Duration::from_millis(200);
const BUFFER: usize = 16 * 1024;

/// The public port. Dropping it closes all connections.
#[derive(Debug)]
pub struct PortProxy {
    #[cfg(test)]
    port: u16,
    backend: watch::Sender<Option<Backend>>,
    /// Owned here, so that they end with the proxy.
    accepting: JoinSet<()>,
}

/// One version of the service, and its connections.
#[derive(Debug, Clone)]
struct Backend {
    port: u16,
    connections: TaskTracker,
    draining: CancellationToken,
    cut: CancellationToken,
}

/// A version that gets no new connections.
#[derive(Debug)]
pub struct RetiredBackend(Option<Backend>);

impl PortProxy {
    /// Binds the port on 127.0.0.1, and on ::1 if it exists. New connections wait until the first [`PortProxy::switch`].
    pub async fn bind(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        let port = listener.local_addr()?.port();
        let mut listeners = vec![listener];
        // Machines without IPv6 have no ::1.
        listeners.extend(TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await.ok());
        let backend = watch::Sender::new(None);
        let free = Arc::new(Semaphore::new(CONNECTIONS));
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(accept(listener, backend.subscribe(), Arc::clone(&free)));
        }
        Ok(Self {
            #[cfg(test)]
            port,
            backend,
            accepting,
        })
    }

    #[cfg(test)]
    fn port(&self) -> u16 {
        self.port
    }

    /// Sends new connections to `port` from now on. Drain the old version before it is stopped.
    pub fn switch(&self, port: u16) -> RetiredBackend {
        let (connections, draining, cut) = (TaskTracker::new(), CancellationToken::new(), CancellationToken::new());
        RetiredBackend(self.backend.send_replace(Some(Backend { port, connections, draining, cut })))
    }

    /// Makes new connections wait from now on.
    pub fn hold(&self) -> RetiredBackend {
        RetiredBackend(self.backend.send_replace(None))
    }

    /// Where new connections go.
    #[cfg(test)]
    fn backend(&self) -> Option<u16> {
        self.backend.borrow().as_ref().map(|backend| backend.port)
    }
}

impl Drop for PortProxy {
    fn drop(&mut self) {
        self.accepting.abort_all();
        if let Some(backend) = self.backend.send_replace(None) {
            backend.cut.cancel();
        }
    }
}

impl RetiredBackend {
    /// Waits until no connection to the old version is left, `grace` at most, and then closes the rest. Returns how many it closed.
    pub async fn drain(self, grace: Duration) -> usize {
        let Some(backend) = self.0 else { return 0 };
        backend.draining.cancel();
        backend.connections.close();
        if timeout(grace, backend.connections.wait()).await.is_ok() {
            return 0;
        }
        let left = backend.connections.len();
        backend.cut.cancel();
        left
    }
}

async fn accept(listener: TcpListener, backend: watch::Receiver<Option<Backend>>, free: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
        // Cancel-safe: an accepted connection is returned, one that is not stays in the queue.
        let accepted = tokio::select! {
            accepted = listener.accept() => Some(accepted),
            Some(_) = connections.join_next() => None,
        };
        match accepted {
            Some(Ok((client, _))) => {
                let backend = backend.clone();
                connections.spawn(async move {
                    serve(client, backend).await;
                    drop(permit);
                });
            }
            // Most likely there are no file descriptors left; some will be free soon.
            Some(Err(_)) => sleep(RETRY).await,
            None => {}
        }
    }
}

async fn serve(client: TcpStream, mut backends: watch::Receiver<Option<Backend>>) {
    // A client that waited this long sees its connection closed.
    let Ok(Some((backend, server, _counted))) = timeout(PATIENCE, connect(&mut backends)).await else { return };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    tokio::select! {
        () = converse(client, server, backend.draining.clone()) => {}
        () = backend.cut.cancelled() => {}
    }
}

/// A connection to the current backend and its guard in the count. `None` if the proxy has been dropped.
async fn connect(backends: &mut watch::Receiver<Option<Backend>>) -> Option<(Backend, TcpStream, TaskTrackerToken)> {
    loop {
        let (backend, counted) = {
            // Counted before a switch can happen, so that no drain misses it.
            let backend = backends.wait_for(Option::is_some).await.ok()?;
            let backend = backend.as_ref()?;
            (backend.clone(), backend.connections.token())
        };
        if let Ok(server) = TcpStream::connect((Ipv4Addr::LOCALHOST, backend.port)).await {
            return Some((backend, server, counted));
        }
        drop(counted);
        // The backend ended or does not listen yet: another one may follow.
        let _ = timeout(RETRY, backends.changed()).await;
    }
}

/// When bytes were last transferred, and whether the server sent them: then the client is next.
#[derive(Debug)]
struct Activity {
    since: Instant,
    last: AtomicU64,
    answered: AtomicBool,
}

impl Activity {
    fn note(&self, answered: bool) {
        self.last.store(u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
        self.answered.store(answered, Ordering::Relaxed);
    }

    /// Waits until nothing has been transferred for a while after an answer.
    async fn idle(&self) {
        loop {
            let last = self.since + Duration::from_millis(self.last.load(Ordering::Relaxed));
            if self.answered.load(Ordering::Relaxed) && last.elapsed() >= IDLE {
                return;
            }
            let next = (last + IDLE).max(Instant::now() + RETRY);
            let _ = timeout_at(next, std::future::pending::<()>()).await;
        }
    }
}

async fn converse(client: TcpStream, server: TcpStream, draining: CancellationToken) {
    let activity = Activity { since: Instant::now(), last: AtomicU64::new(0), answered: AtomicBool::new(false) };
    let (mut from_client, mut to_client): (OwnedReadHalf, OwnedWriteHalf) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let drained = async {
        draining.cancelled().await;
        activity.idle().await;
    };
    let request = async {
        tokio::select! {
            () = carry(&mut from_client, &mut to_server, &activity, false) => {}
            // Only this direction is ended: a slow server still sends the rest of its answer, and then closes.
            () = drained => {
                let _ = to_server.shutdown().await;
            }
        }
    };
    let answer = carry(&mut from_server, &mut to_client, &activity, true);
    tokio::join!(request, answer);
}

/// Forwards bytes until `from` ends.
async fn carry(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin), activity: &Activity, answer: bool) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(count) = from.read(&mut buffer).await {
        activity.note(answer);
        if count == 0 || to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    // The other side may have closed already.
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers each line with its own name.
    async fn server(name: &'static str) -> (u16, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut socket, _)) = listener.accept().await {
                connections.spawn(async move {
                    let mut byte = [0];
                    while socket.read_exact(&mut byte).await.is_ok() {
                        if byte == *b"\n" && socket.write_all(name.as_bytes()).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        (port, tasks)
    }

    async fn ask(socket: &mut TcpStream) -> io::Result<String> {
        socket.write_all(b"\n").await?;
        let mut answer = [0; 2];
        timeout(Duration::from_secs(10), socket.read_exact(&mut answer)).await??;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    #[tokio::test]
    async fn connections_wait_for_the_first_backend_and_for_one_that_is_late() {
        let proxy = PortProxy::bind(0).await.unwrap();
        let mut early = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        let waiting = tokio::spawn(async move { ask(&mut early).await });
        // Nothing listens there until later.
        let reserved = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let nobody = reserved.local_addr().unwrap().port();
        drop(reserved);
        proxy.switch(nobody);
        sleep(Duration::from_millis(50)).await;
        let (port, _server) = server("v1").await;
        proxy.switch(port);
        assert_eq!(waiting.await.unwrap().unwrap(), "v1");
        assert_eq!(proxy.backend(), Some(port));
    }

    #[tokio::test]
    async fn a_switch_moves_new_connections_and_leaves_busy_ones_until_the_grace_ends() {
        let proxy = PortProxy::bind(0).await.unwrap();
        let ((old, _old), (new, _new)) = (server("v1").await, server("v2").await);
        proxy.switch(old);
        let mut busy = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        let mut idle = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        assert_eq!((ask(&mut busy).await.unwrap(), ask(&mut idle).await.unwrap()), ("v1".to_owned(), "v1".to_owned()));
        let retired = proxy.switch(new);
        let mut fresh = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap();
        assert_eq!(ask(&mut fresh).await.unwrap(), "v2");
        assert_eq!(ask(&mut busy).await.unwrap(), "v1", "before the drain an old connection goes on");
        // A request whose answer is outstanding.
        busy.write_all(b"half a line").await.unwrap();
        sleep(Duration::from_millis(20)).await;
        assert_eq!(retired.drain(Duration::from_millis(400)).await, 1, "the idle one was closed, the busy one cut");
        let mut byte = [0];
        assert_eq!(idle.read(&mut byte).await.unwrap(), 0);
        assert!(matches!(busy.read(&mut byte).await, Ok(0) | Err(_)));
        assert_eq!(ask(&mut fresh).await.unwrap(), "v2");
    }

    #[tokio::test]
    async fn nobody_is_refused_while_versions_change_under_load() {
        let proxy = PortProxy::bind(0).await.unwrap();
        let (port, mut current) = server("v0").await;
        proxy.switch(port);
        let public = proxy.port();
        let load = tokio::spawn(async move {
            let mut answered = 0;
            for _ in 0..400 {
                let mut socket = TcpStream::connect(("127.0.0.1", public)).await.unwrap();
                ask(&mut socket).await.unwrap();
                answered += 1;
            }
            answered
        });
        for name in ["v1", "v2", "v3", "v4", "v5"] {
            let (port, next) = server(name).await;
            proxy.switch(port).drain(Duration::from_secs(5)).await;
            current.abort_all();
            current = next;
        }
        assert_eq!(load.await.unwrap(), 400);
    }
}
