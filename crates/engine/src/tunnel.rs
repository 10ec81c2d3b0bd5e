//! Connections into an environment's network, through the engine's own interface: all of them over one stream.
//!
//! # Theory of operation
//!
//! The ports of an engine on another machine are not reached from here, but its interface is. A small program (`relay` of
//! `crates/fault-agent`) runs there in a helper container within the network, and the stream that is attached to it carries
//! every connection in frames: a kind, the number of the connection, a length, the content. Each direction of a connection has a window of
//! bytes that are under way, so that a slow reader delays nobody else and nothing is held without bound. Both ends send a sign of life: if
//! none comes, the link is lost, and all connections are closed. The relay ends with its stream, and the engine removes it then,
//! so nothing is left when this process is killed.
//!
//! `src/environment/port_forwards.rs` owns the tunnels and the local listeners.

use std::{
    collections::HashMap,
    io,
    net::SocketAddrV4,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf},
    sync::{Semaphore, mpsc, oneshot},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Engine, EngineError, ExecSession, ExecStream, HelperRun};

const HEADER: usize = 9;
/// The content of a frame, in bytes.
const LONGEST: usize = 32 << 10;
/// Bytes under way in one direction of a connection. The relay has the same number.
const WINDOW: usize = 256 << 10;
/// Frames that wait to be sent.
const WAITING: usize = 64;
/// For the relay to start and to answer.
const BEGIN: Duration = Duration::from_secs(30);
/// For a service to accept a connection.
const CONNECT: Duration = Duration::from_secs(15);
const SIGN_EVERY: Duration = Duration::from_secs(5);
const SILENT: Duration = Duration::from_secs(20);
/// The most of the relay's messages that is kept, in bytes.
const KEPT: usize = 1024;

/// The kinds of frames; the relay has the same numbers.
mod kind {
    pub(super) const OPEN: u8 = 1;
    pub(super) const OPENED: u8 = 2;
    pub(super) const FAILED: u8 = 3;
    pub(super) const DATA: u8 = 4;
    /// No more data in this direction.
    pub(super) const END: u8 = 5;
    /// Both directions are over.
    pub(super) const RESET: u8 = 6;
    /// The receiver has passed on this many bytes.
    pub(super) const TAKEN: u8 = 7;
    pub(super) const SIGN: u8 = 8;
}

/// An open stream to a relay. All connections are closed when it is dropped.
pub struct Tunnel {
    shared: Arc<Shared>,
    connections: TaskTracker,
}

struct Shared {
    frames: mpsc::Sender<Bytes>,
    open: Mutex<HashMap<u32, Connection>>,
    next: AtomicU32,
    lost: CancellationToken,
    /// Why it is lost.
    reason: Mutex<String>,
}

/// What the reader of the stream knows of a connection.
struct Connection {
    answer: Option<oneshot::Sender<io::Result<()>>>,
    /// `None` is the end of the data. Bounded by the window.
    data: mpsc::UnboundedSender<Option<Bytes>>,
    /// Bytes that may be sent.
    credit: Arc<Semaphore>,
    /// Bytes that may arrive before some are passed on.
    room: usize,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.credit.close();
    }
}

impl Tunnel {
    /// Starts a relay: `helper` names its image, its command and its network.
    pub async fn open(engine: &dyn Engine, helper: &HelperRun) -> Result<Self, EngineError> {
        let begin = async {
            let tunnel = Self::over(engine.helper_session(helper).await?);
            // The first sign shows that the relay runs.
            match tunnel.answers().await {
                Ok(()) => Ok(tunnel),
                Err(error) => Err(EngineError::Protocol { action: "start a relay".to_owned(), message: error.to_string() }),
            }
        };
        timeout(BEGIN, begin).await.map_err(|_| EngineError::TimedOut { action: "start a relay".to_owned(), limit: BEGIN })?
    }

    fn over(session: ExecSession) -> Self {
        let (frames, sent) = mpsc::channel(WAITING);
        let shared = Arc::new(Shared {
            frames,
            open: Mutex::default(),
            next: AtomicU32::new(1),
            lost: CancellationToken::new(),
            reason: Mutex::new("the relay ended".to_owned()),
        });
        let connections = TaskTracker::new();
        let ExecSession { input, output, .. } = session;
        let (reader, writer) = (shared.clone(), shared.clone());
        connections.spawn(async move {
            let ended = tokio::select! {
                () = reader.lost.cancelled() => return,
                reason = read(&reader, output) => reason,
            };
            reader.lose(ended);
        });
        connections.spawn(async move {
            let ended = tokio::select! {
                () = writer.lost.cancelled() => return,
                reason = write(input, sent) => reason,
            };
            writer.lose(ended);
        });
        Self { shared, connections }
    }

    /// Waits for a connection to nowhere to be refused.
    async fn answers(&self) -> io::Result<()> {
        match self.connect(SocketAddrV4::new([0, 0, 0, 0].into(), 0)).await {
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    /// Whether connections can be made.
    pub fn is_open(&self) -> bool {
        !self.shared.lost.is_cancelled()
    }

    /// Returns the reason when the link is lost.
    pub async fn lost(&self) -> String {
        self.shared.lost.cancelled().await;
        self.shared.why()
    }

    /// Connects to an address as a member of the network does.
    pub async fn connect(&self, to: SocketAddrV4) -> io::Result<DuplexStream> {
        let shared = &self.shared;
        let id = shared.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        let (data, arriving) = mpsc::unbounded_channel();
        let credit = Arc::new(Semaphore::new(WINDOW));
        let connection = Connection { answer: Some(answer), data, credit: credit.clone(), room: WINDOW };
        shared.connections().insert(id, connection);
        // Removes it whatever happens, also if the caller gives up.
        let entry = Entry { shared: shared.clone(), id, over: false };
        let connect = async {
            shared.send(frame(kind::OPEN, id, to.to_string().as_bytes())).await?;
            answered.await.unwrap_or_else(|_| Err(shared.gone()))
        };
        match timeout(CONNECT, connect).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                entry.end();
                return Err(error);
            }
            Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the service did not accept a connection")),
        }
        let (near, far) = tokio::io::duplex(LONGEST);
        self.connections.spawn(carry(entry, near, arriving, credit));
        Ok(far)
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.shared.lose("it is not needed any more".to_owned());
    }
}

impl Shared {
    fn connections(&self) -> std::sync::MutexGuard<'_, HashMap<u32, Connection>> {
        self.open.lock().expect("no code panics while it holds this lock")
    }

    fn lose(&self, reason: String) {
        if !self.lost.is_cancelled() {
            *self.reason.lock().expect("no code panics while it holds this lock") = reason;
            self.lost.cancel();
        }
        // Whoever waits for an answer or for data gets none.
        self.connections().clear();
    }

    fn why(&self) -> String {
        self.reason.lock().expect("no code panics while it holds this lock").clone()
    }

    fn gone(&self) -> io::Error {
        io::Error::new(io::ErrorKind::NotConnected, self.why())
    }

    async fn send(&self, frame: Bytes) -> io::Result<()> {
        tokio::select! {
            biased;
            () = self.lost.cancelled() => Err(self.gone()),
            sent = self.frames.send(frame) => sent.map_err(|_| self.gone()),
        }
    }
}

/// A connection's place in the table.
struct Entry {
    shared: Arc<Shared>,
    id: u32,
    /// The relay knows that it is over.
    over: bool,
}

impl Entry {
    fn end(mut self) {
        self.over = true;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let known = self.shared.connections().remove(&self.id).is_some();
        if known && !self.over {
            // If the queue is full, the relay hears of it by the data that it sends.
            let _ = self.shared.frames.try_send(frame(kind::RESET, self.id, &[]));
        }
    }
}

fn frame(kind: u8, id: u32, content: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEADER + content.len());
    frame.put_u8(kind);
    frame.put_u32(id);
    frame.put_u32(content.len() as u32);
    frame.put_slice(content);
    frame.freeze()
}

/// Sends frames and signs of life. Returns why it ended.
async fn write(mut input: std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>, mut frames: mpsc::Receiver<Bytes>) -> String {
    let mut signs = tokio::time::interval(SIGN_EVERY);
    loop {
        // Both are cancel-safe.
        let next = tokio::select! {
            next = frames.recv() => next,
            _ = signs.tick() => Some(frame(kind::SIGN, 0, &[])),
        };
        let Some(next) = next else { return "it is not needed any more".to_owned() };
        let sent = async {
            input.write_all(&next).await?;
            input.flush().await
        };
        match timeout(SILENT, sent).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return format!("the stream to the relay was interrupted: {error}"),
            Err(_) => return format!("the relay accepted nothing for {} s", SILENT.as_secs()),
        }
    }
}

/// Passes frames on. Returns why it ended.
async fn read(shared: &Shared, mut output: futures_util::stream::BoxStream<'static, Result<(ExecStream, Bytes), EngineError>>) -> String {
    let (mut buffer, mut said) = (BytesMut::new(), Vec::new());
    let mut heard = Instant::now();
    loop {
        let next = tokio::time::timeout_at(heard + SILENT, output.next()).await;
        match next {
            Err(_) => return format!("the relay was silent for {} s", SILENT.as_secs()),
            Ok(None) if said.is_empty() => return "the relay ended".to_owned(),
            Ok(None) => return format!("the relay ended: {}", String::from_utf8_lossy(&said).trim()),
            Ok(Some(Err(error))) => return error.to_string(),
            Ok(Some(Ok((ExecStream::Stderr, text)))) => said.extend_from_slice(&text[..text.len().min(KEPT.saturating_sub(said.len()))]),
            Ok(Some(Ok((ExecStream::Stdout, content)))) => {
                heard = Instant::now();
                buffer.extend_from_slice(&content);
            }
        }
        while buffer.len() >= HEADER {
            let length = u32::from_be_bytes([buffer[5], buffer[6], buffer[7], buffer[8]]) as usize;
            if length > LONGEST {
                return format!("the relay sent {}", String::from_utf8_lossy(&buffer[..buffer.len().min(200)]).trim());
            }
            if buffer.len() < HEADER + length {
                break;
            }
            let (kind, id) = (buffer[0], u32::from_be_bytes([buffer[1], buffer[2], buffer[3], buffer[4]]));
            buffer.advance(HEADER);
            if let Err(reason) = arrived(shared, kind, id, buffer.split_to(length).freeze()) {
                return reason;
            }
        }
    }
}

/// A frame of a connection that is over here is dropped.
fn arrived(shared: &Shared, kind: u8, id: u32, content: Bytes) -> Result<(), String> {
    let mut connections = shared.connections();
    let Some(connection) = connections.get_mut(&id) else { return Ok(()) };
    match kind {
        kind::OPENED => drop(connection.answer.take().map(|answer| answer.send(Ok(())))),
        kind::FAILED => {
            let answer = connection.answer.take();
            connections.remove(&id);
            drop(answer.map(|answer| answer.send(Err(refused(&content)))));
        }
        kind::DATA => {
            connection.room = connection.room.checked_sub(content.len()).ok_or("the relay sent more than was asked for")?;
            let _ = connection.data.send(Some(content));
        }
        kind::END => drop(connection.data.send(None)),
        kind::RESET => drop(connections.remove(&id)),
        kind::TAKEN => {
            let taken = content.as_ref().try_into().map(u32::from_be_bytes).map_err(|_| "the relay sent a wrong frame")?;
            connection.credit.add_permits((taken as usize).min(WINDOW));
        }
        _ => {}
    }
    Ok(())
}

/// The relay names the sort of error, a space and the message.
fn refused(content: &[u8]) -> io::Error {
    let text = String::from_utf8_lossy(content);
    let (sort, message) = text.split_once(' ').unwrap_or(("", &text));
    let sort = match sort {
        "refused" => io::ErrorKind::ConnectionRefused,
        "unreachable" => io::ErrorKind::NetworkUnreachable,
        "timeout" => io::ErrorKind::TimedOut,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(sort, message.to_owned())
}

/// One connection, until both directions are over.
async fn carry(entry: Entry, near: DuplexStream, arriving: mpsc::UnboundedReceiver<Option<Bytes>>, credit: Arc<Semaphore>) {
    let (shared, id) = (entry.shared.clone(), entry.id);
    let (read, write) = tokio::io::split(near);
    let lost = shared.lost.clone();
    let both = async {
        let up = up(&shared, id, read, &credit);
        let down = down(&shared, id, write, arriving);
        tokio::pin!(up, down);
        // Both directions have to end by themselves; if one breaks, the other is over too.
        tokio::select! {
            ended = &mut up => if ended.is_ok() { down.await } else { ended },
            ended = &mut down => if ended.is_ok() { up.await } else { ended },
        }
    };
    tokio::select! {
        () = lost.cancelled() => {}
        ended = both => if ended.is_ok() { entry.end() },
    }
}

async fn up(shared: &Shared, id: u32, mut read: ReadHalf<DuplexStream>, credit: &Semaphore) -> io::Result<()> {
    let mut buffer = vec![0; LONGEST];
    loop {
        let count = read.read(&mut buffer).await?;
        if count == 0 {
            return shared.send(frame(kind::END, id, &[])).await;
        }
        credit.acquire_many(count as u32).await.map_err(io::Error::other)?.forget();
        shared.send(frame(kind::DATA, id, &buffer[..count])).await?;
    }
}

async fn down(
    shared: &Shared,
    id: u32,
    mut write: WriteHalf<DuplexStream>,
    mut arriving: mpsc::UnboundedReceiver<Option<Bytes>>,
) -> io::Result<()> {
    loop {
        // The channel ends without an end of the data if the connection was reset.
        let Some(content) = arriving.recv().await else { return Err(io::ErrorKind::ConnectionReset.into()) };
        let Some(content) = content else { return write.shutdown().await };
        write.write_all(&content).await?;
        if let Some(connection) = shared.connections().get_mut(&id) {
            connection.room += content.len();
        }
        shared.send(frame(kind::TAKEN, id, &(content.len() as u32).to_be_bytes())).await?;
    }
}

#[cfg(test)]
mod tests;
