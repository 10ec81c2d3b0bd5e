//! A public port that the daemon holds at all times for a container which may sleep: it forwards connections, lets them wait while
//! the container sleeps or starts, and notes when a client needs it awake.
//!
//! # Theory of operation
//!
//! The container is published elsewhere, so nobody ever gives up the public port: there is no moment at which a client is refused.
//! All ports of a service share one [`Clients`], with a gate. A connection goes through an open gate; at a closed one it waits.
//! Connections of this process (probes, scrapes, leases) pass without waiting, count for nothing, and wake nothing; a sleeping service
//! has none for them. The owner is `environment::fronts`.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::either::Either;

use super::peer::{Opener, opener};

/// Connections to a port that may be open at a time; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 10_000;
/// How long a connection waits for its service before it is closed.
const PATIENCE: Duration = Duration::from_mins(2);
/// The pause after a connection could not be accepted, or not be forwarded to a service that is ready.
const RETRY: Duration = Duration::from_millis(10);
/// How often a connection to a service that is ready is tried.
const ATTEMPTS: usize = 20;
/// How long something is waited for that a client has sent before it closed its connection. It has arrived already.
const ARRIVED: Duration = Duration::from_millis(250);
const BUFFER: usize = 32 * 1024;

/// What happens to a client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    /// It is forwarded.
    Serve,
    /// It waits until the service is ready, which is on its way.
    Wait,
    /// It waits, and the service is to wake.
    Asleep,
}

/// Makes a connection to the service.
pub(crate) type Connect = Arc<dyn Fn() -> BoxFuture<'static, io::Result<Server>> + Send + Sync>;

/// A connection to a service: direct, or through the engine of another machine.
pub(crate) type Server = Either<TcpStream, DuplexStream>;

/// The clients of one service, on all its ports.
pub(crate) struct Clients {
    /// With whether it is held closed, whatever it says.
    gate: watch::Sender<(Gate, bool)>,
    open: AtomicUsize,
    waiting: AtomicUsize,
    /// Connections whose client waits for an answer.
    asking: AtomicUsize,
    /// A client has sent something through a connection while the gate was closed.
    called: AtomicBool,
    since: Instant,
    /// When bytes were last carried, in milliseconds.
    last: AtomicU64,
    /// Rung when a client needs the service awake.
    bell: Arc<Notify>,
}

impl Clients {
    pub(crate) fn new(bell: Arc<Notify>) -> Self {
        Self {
            gate: watch::Sender::new((Gate::Wait, false)),
            open: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            asking: AtomicUsize::new(0),
            called: AtomicBool::new(false),
            since: Instant::now(),
            last: AtomicU64::new(0),
            bell,
        }
    }

    pub(crate) fn set(&self, gate: Gate) {
        let before = self.gate.borrow().0;
        if before == gate {
            return;
        }
        if gate == Gate::Serve {
            self.called.store(false, Ordering::SeqCst);
            // Idle time begins when it is ready.
            self.note();
        }
        self.gate.send_modify(|state| state.0 = gate);
        if self.calls() {
            self.bell.notify_one();
        }
    }

    /// Keeps the gate closed, or no longer.
    pub(crate) fn hold(&self, held: bool) {
        self.gate.send_modify(|state| {
            state.1 = held;
            if *state == (Gate::Serve, false) {
                // Who called meanwhile is served.
                self.called.store(false, Ordering::SeqCst);
            }
        });
    }

    /// Whether a client waits for a service that sleeps.
    pub(crate) fn calls(&self) -> bool {
        self.gate.borrow().0 == Gate::Asleep && (self.waiting.load(Ordering::SeqCst) > 0 || self.called.load(Ordering::SeqCst))
    }

    /// Since when no client has used the service; `None` while one does. One whose connections survive is not used while they are
    /// silent, unless an answer is outstanding.
    pub(crate) fn unused_for(&self, connections_survive: bool) -> Option<Duration> {
        let users = if connections_survive { &self.asking } else { &self.open };
        let last = Duration::from_millis(self.last.load(Ordering::SeqCst));
        (users.load(Ordering::SeqCst) == 0).then(|| self.since.elapsed().saturating_sub(last))
    }

    fn note(&self) {
        self.last.store(u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    fn call(&self) {
        self.called.store(true, Ordering::SeqCst);
        self.bell.notify_one();
    }

    fn is_closed(&self) -> bool {
        *self.gate.borrow() != (Gate::Serve, false)
    }

    /// Waits until the service can be connected to. `false` if it is given up, or if the client leaves without having sent anything.
    async fn enter(&self, client: &TcpStream) -> bool {
        let mut gate = self.gate.subscribe();
        if *gate.borrow_and_update() == (Gate::Serve, false) {
            return true;
        }
        let _waiting = Counted::new(&self.waiting);
        self.bell.notify_one();
        let opens = async { gate.wait_for(|state| *state == (Gate::Serve, false)).await.is_ok() };
        tokio::select! {
            opened = timeout(PATIENCE, opens) => opened.unwrap_or(false),
            () = left(client) => false,
        }
    }
}

/// One more, until it is dropped.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The port. Dropping it closes all connections.
pub(crate) struct Front {
    _accepting: JoinSet<()>,
}

impl Front {
    /// Binds the port on 127.0.0.1, and on ::1 if it exists and nobody listens there.
    pub(crate) async fn bind(port: u16, clients: Arc<Clients>, connect: Connect) -> io::Result<Self> {
        let mut listeners = vec![TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?];
        // Machines without IPv6 have no ::1.
        listeners.extend(TcpListener::bind(SocketAddr::from((Ipv6Addr::LOCALHOST, port))).await.ok());
        let free = Arc::new(Semaphore::new(CONNECTIONS));
        let mut accepting = JoinSet::new();
        for listener in listeners {
            accepting.spawn(accept(listener, clients.clone(), connect.clone(), free.clone()));
        }
        Ok(Self { _accepting: accepting })
    }
}

async fn accept(listener: TcpListener, clients: Arc<Clients>, connect: Connect, free: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
        // Cancel-safe: an accepted connection is returned, one that is not stays in the queue.
        let accepted = tokio::select! {
            accepted = listener.accept() => Some(accepted),
            Some(_) = connections.join_next() => None,
        };
        match accepted {
            Some(Ok((client, peer))) => {
                let (clients, connect) = (clients.clone(), connect.clone());
                connections.spawn(async move {
                    serve(client, peer, &clients, &connect).await;
                    drop(permit);
                });
            }
            // Most likely there are no file descriptors left; some will be free soon.
            Some(Err(_)) => sleep(RETRY).await,
            None => {}
        }
    }
}

async fn serve(mut client: TcpStream, peer: SocketAddr, clients: &Clients, connect: &Connect) {
    let Ok(own) = client.local_addr() else { return };
    // Counted before anybody can look: one that puts the service to sleep closes the gate first, and counts then.
    let open = Counted::new(&clients.open);
    let opener = tokio::task::spawn_blocking(move || opener(peer, own)).await.unwrap_or(Opener::Other);
    let _ = client.set_nodelay(true);
    if opener == Opener::Closed && sent_nothing(&client).await {
        // A probe that only connects, of this process or another.
        return;
    }
    if opener == Opener::ThisProcess {
        drop(open);
        if clients.gate.borrow().0 != Gate::Asleep
            && let Ok(mut server) = connect().await
        {
            // Either end may break off; both sides see it.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
        return;
    }
    clients.note();
    for _ in 0..ATTEMPTS {
        // A client that waited too long sees its connection closed.
        if !clients.enter(&client).await {
            return;
        }
        if let Ok(server) = connect().await {
            if clients.is_closed() {
                // It fell asleep at this moment, and may owe the first word.
                clients.call();
            }
            converse(client, server, clients).await;
            clients.note();
            return;
        }
        // It ended, or falls asleep, at this moment.
        sleep(RETRY).await;
    }
}

/// Until the client closes its connection, if it has sent nothing.
async fn left(client: &TcpStream) {
    if client.peek(&mut [0]).await.is_ok_and(|sent| sent > 0) {
        std::future::pending::<()>().await;
    }
}

/// Of a connection that the client has closed. Where nobody can say whether it has, nothing arrives either.
async fn sent_nothing(client: &TcpStream) -> bool {
    matches!(timeout(ARRIVED, client.peek(&mut [0])).await, Ok(Ok(0) | Err(_)))
}

async fn converse(client: TcpStream, server: Server, clients: &Clients) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let asks = Asks { clients, now: AtomicBool::new(false) };
    tokio::join!(carry(&mut from_client, &mut to_server, || asks.asked()), carry(&mut from_server, &mut to_client, || asks.answered()));
}

/// Whether the client of one connection waits for an answer.
struct Asks<'a> {
    clients: &'a Clients,
    now: AtomicBool,
}

impl Asks<'_> {
    fn asked(&self) {
        if !self.now.swap(true, Ordering::SeqCst) {
            self.clients.asking.fetch_add(1, Ordering::SeqCst);
        }
        self.clients.note();
        if self.clients.is_closed() {
            self.clients.call();
        }
    }

    fn answered(&self) {
        self.clients.note();
        if self.now.swap(false, Ordering::SeqCst) {
            self.clients.asking.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Asks<'_> {
    fn drop(&mut self) {
        if self.now.load(Ordering::SeqCst) {
            self.clients.asking.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

/// Forwards bytes until `from` ends.
async fn carry(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin), note: impl Fn()) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(count) = from.read(&mut buffer).await {
        if count == 0 {
            break;
        }
        note();
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    // The other side may have closed already.
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests;
