//! Carries connections of another machine into this container's network, all of them over standard input and output.
//!
//! The other end is `crates/engine/src/tunnel.rs`, which describes the frames. Each connection has two threads. The one that reads
//! frames never waits for a socket: what arrives for a connection is queued, at most the window. The process ends with its input, and
//! if no sign of life comes.

use std::{
    collections::HashMap,
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    process::exit,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

const STACK: usize = 64 * 1024;
const HEADER: usize = 9;
const LONGEST: usize = 32 << 10;
const WINDOW: usize = 256 << 10;
const CONNECT: Duration = Duration::from_secs(10);
const SIGN_EVERY: Duration = Duration::from_secs(5);
/// Signs of ours that may pass without one of the other end.
const SILENT: u64 = 12;

const OPEN: u8 = 1;
const OPENED: u8 = 2;
const FAILED: u8 = 3;
const DATA: u8 = 4;
const END: u8 = 5;
const RESET: u8 = 6;
const TAKEN: u8 = 7;
const SIGN: u8 = 8;

type Connections = Arc<Mutex<HashMap<u32, Connection>>>;

struct Connection {
    /// `None` is the end of the data.
    queue: mpsc::Sender<Option<Vec<u8>>>,
    credit: Arc<Credit>,
    /// Once it is connected.
    stream: Option<TcpStream>,
}

/// Bytes that may be sent; `None` when the connection is over.
struct Credit(Mutex<Option<usize>>, Condvar);

impl Credit {
    fn add(&self, bytes: usize) {
        if let Some(credit) = locked(&self.0).as_mut() {
            *credit = (*credit + bytes).min(WINDOW);
        }
        self.1.notify_all();
    }

    fn end(&self) {
        *locked(&self.0) = None;
        self.1.notify_all();
    }

    /// At most `most` bytes, as soon as there are some.
    fn take(&self, most: usize) -> Option<usize> {
        let mut credit = locked(&self.0);
        loop {
            match credit.as_mut() {
                None => return None,
                Some(0) => credit = self.1.wait(credit).unwrap_or_else(PoisonError::into_inner),
                Some(left) => {
                    let taken = most.min(*left);
                    *left -= taken;
                    return Some(taken);
                }
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves until the input ends.
pub fn serve() -> Result<(), String> {
    let connections = Connections::default();
    let heard = Arc::new(AtomicU64::new(0));
    let last = heard.clone();
    thread::spawn(move || {
        let mut silent = 0;
        let mut before = 0;
        loop {
            send(SIGN, 0, &[]);
            thread::sleep(SIGN_EVERY);
            let now = last.load(Ordering::Relaxed);
            silent = if now == before { silent + 1 } else { 0 };
            before = now;
            if silent > SILENT {
                exit(1);
            }
        }
    });
    let mut input = io::stdin().lock();
    loop {
        let mut header = [0; HEADER];
        match input.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(format!("cannot read frames: {error}")),
        }
        heard.fetch_add(1, Ordering::Relaxed);
        let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (id, length) = (number(1), number(5) as usize);
        if length > LONGEST {
            return Err("a frame is too long".to_owned());
        }
        let mut content = vec![0; length];
        input.read_exact(&mut content).map_err(|error| format!("cannot read frames: {error}"))?;
        arrived(&connections, header[0], id, content);
    }
}

/// A whole frame at once, so that those of other threads are not mixed with it. Without a reader there is nothing left to do.
fn send(kind: u8, id: u32, content: &[u8]) {
    let mut frame = Vec::with_capacity(HEADER + content.len());
    frame.push(kind);
    frame.extend_from_slice(&id.to_be_bytes());
    frame.extend_from_slice(&(content.len() as u32).to_be_bytes());
    frame.extend_from_slice(content);
    let mut output = io::stdout().lock();
    if output.write_all(&frame).and_then(|()| output.flush()).is_err() {
        exit(1);
    }
}

fn arrived(connections: &Connections, kind: u8, id: u32, content: Vec<u8>) {
    if kind == OPEN {
        open(connections, id, &content);
        return;
    }
    let mut table = locked(connections);
    let Some(connection) = table.get(&id) else { return };
    match kind {
        DATA => drop(connection.queue.send(Some(content))),
        END => drop(connection.queue.send(None)),
        TAKEN => {
            if let Ok(bytes) = content.try_into() {
                connection.credit.add(u32::from_be_bytes(bytes) as usize);
            }
        }
        RESET => drop(table.remove(&id).map(close)),
        _ => {}
    }
}

fn close(connection: Connection) {
    connection.credit.end();
    if let Some(stream) = connection.stream {
        let _ = stream.shutdown(Shutdown::Both);
    }
}

fn open(connections: &Connections, id: u32, address: &[u8]) {
    let (queue, queued) = mpsc::channel();
    let credit = Arc::new(Credit(Mutex::new(Some(WINDOW)), Condvar::new()));
    locked(connections).insert(id, Connection { queue, credit: credit.clone(), stream: None });
    let (table, address) = (connections.clone(), String::from_utf8_lossy(address).into_owned());
    let started = thread::Builder::new().stack_size(STACK).spawn(move || {
        let stream = match connect(&address) {
            Ok(stream) => stream,
            Err((sort, reason)) => {
                locked(&table).remove(&id);
                send(FAILED, id, format!("{sort} {reason}").as_bytes());
                return;
            }
        };
        carry(&table, id, &stream, &credit, &queued);
    });
    if let Err(error) = started {
        locked(connections).remove(&id);
        send(FAILED, id, format!("other cannot start a thread: {error}").as_bytes());
    }
}

fn connect(address: &str) -> Result<TcpStream, (&'static str, String)> {
    let target: SocketAddr = address.parse().map_err(|_| ("other", format!("`{address}` is not an address")))?;
    if target.port() == 0 {
        return Err(("refused", "nobody listens there".to_owned()));
    }
    TcpStream::connect_timeout(&target, CONNECT).map_err(|error| {
        let sort = match error.kind() {
            ErrorKind::ConnectionRefused => "refused",
            ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => "unreachable",
            ErrorKind::TimedOut | ErrorKind::WouldBlock => "timeout",
            _ => "other",
        };
        (sort, error.to_string())
    })
}

/// Writes what arrives to the service, while another thread reads from it.
fn carry(connections: &Connections, id: u32, stream: &TcpStream, credit: &Arc<Credit>, queued: &mpsc::Receiver<Option<Vec<u8>>>) {
    let _ = stream.set_nodelay(true);
    let clones = (stream.try_clone(), stream.try_clone());
    let (Ok(kept), Ok(reading)) = clones else {
        locked(connections).remove(&id);
        send(FAILED, id, b"other no file descriptors are left");
        return;
    };
    match locked(connections).get_mut(&id) {
        Some(connection) => connection.stream = Some(kept),
        // It was reset meanwhile.
        None => return,
    }
    send(OPENED, id, &[]);
    let (table, sending) = (connections.clone(), credit.clone());
    let reader = thread::Builder::new().stack_size(STACK).spawn(move || read(&table, id, reading, &sending));
    let mut broken = reader.is_err();
    while !broken {
        match queued.recv() {
            Ok(Some(content)) => {
                let mut stream = stream;
                if stream.write_all(&content).is_err() {
                    broken = true;
                } else {
                    send(TAKEN, id, &(content.len() as u32).to_be_bytes());
                }
            }
            Ok(None) => {
                let _ = stream.shutdown(Shutdown::Write);
                break;
            }
            // The connection is over.
            Err(_) => break,
        }
    }
    if broken && let Some(connection) = locked(connections).remove(&id) {
        close(connection);
        send(RESET, id, &[]);
    }
    if let Ok(reader) = reader {
        let _ = reader.join();
    }
    locked(connections).remove(&id);
}

fn read(connections: &Connections, id: u32, mut stream: TcpStream, credit: &Credit) {
    let mut buffer = vec![0; LONGEST];
    loop {
        let Some(most) = credit.take(LONGEST) else { return };
        match stream.read(&mut buffer[..most]) {
            Ok(0) => {
                send(END, id, &[]);
                return;
            }
            Ok(count) => {
                credit.add(most - count);
                send(DATA, id, &buffer[..count]);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => credit.add(most),
            Err(_) => {
                if let Some(connection) = locked(connections).remove(&id) {
                    close(connection);
                    send(RESET, id, &[]);
                }
                return;
            }
        }
    }
}
