//! A proxy for redirected connections that delays, throttles, cuts or drops their data.
//!
//! Each direction of a connection has a reader, which records when each chunk arrived, and a writer, which sends it when it is due.
//! Connections to the service come from its own outer address: from loopback, a server may accept everybody.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use crate::{random, sys, witness};

const STACK: usize = 64 * 1024;
const PIECE: usize = 32 * 1024;
/// Chunks in flight in one direction. Beyond that the sender waits, as on a long line.
const UNDER_WAY: usize = 1024;

#[derive(Clone, Copy, Default, PartialEq)]
pub struct Way {
    /// Microseconds.
    delay: u64,
    jitter: u64,
    /// Bytes per second; 0 is no limit.
    rate: u64,
    /// Closed after this many bytes; 0 is no limit.
    limit: u64,
    hole: bool,
}

impl Way {
    /// Chunks in flight: on a slow line, what it carries in its delay and one second more. The rest stays with the sender.
    fn under_way(self) -> usize {
        if self.rate == 0 {
            return UNDER_WAY;
        }
        let carried = self.rate as f64 * (1.0 + (self.delay + self.jitter) as f64 / 1e6);
        ((carried / PIECE as f64) as usize).clamp(2, UNDER_WAY)
    }
}

#[derive(Clone, Default)]
pub struct Options {
    pub ports: Vec<u16>,
    up: Way,
    down: Way,
    /// Microseconds.
    close_delay: u64,
    /// Out of 10 000 connections.
    chance: u64,
    seed: u64,
}

impl Options {
    /// `None` if no proxy is requested.
    pub fn parse(arguments: &[String]) -> Result<Option<Self>, String> {
        let Some(text) = arguments.iter().find_map(|argument| argument.strip_prefix("--proxy=")) else { return Ok(None) };
        let mut options = Self { chance: 10_000, ..Self::default() };
        for word in text.split(',') {
            let (name, value) = word.split_once('=').ok_or_else(|| format!("`{word}` is not an option of the proxy"))?;
            let number: u64 = value.parse().map_err(|_| format!("`{word}` is not a number"))?;
            match name {
                "port" => options.ports.push(number as u16),
                "delay-up" => options.up.delay = number,
                "delay-down" => options.down.delay = number,
                "jitter-up" => options.up.jitter = number,
                "jitter-down" => options.down.jitter = number,
                "rate-up" => options.up.rate = number,
                "rate-down" => options.down.rate = number,
                "limit-up" => options.up.limit = number,
                "limit-down" => options.down.limit = number,
                "hole-up" => options.up.hole = number != 0,
                "hole-down" => options.down.hole = number != 0,
                "close-delay" => options.close_delay = number,
                "chance" => options.chance = number,
                "seed" => options.seed = number,
                _ => return Err(format!("unknown option `{name}` of the proxy")),
            }
        }
        Ok(Some(options))
    }
}

/// Serves as long as this process lives. Returns the port.
pub fn serve(options: &Options) -> Result<u16, String> {
    let failed = |error: std::io::Error| format!("cannot start the proxy: {error}");
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    let options = options.clone();
    let connections = AtomicU64::new(0);
    thread::Builder::new()
        .spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { continue };
                let number = connections.fetch_add(1, Ordering::Relaxed);
                let options = options.clone();
                // A connection for which there is no thread is closed, which its client notices.
                let _ = thread::Builder::new().stack_size(STACK).spawn(move || carry(stream, number, &options));
            }
        })
        .map_err(failed)?;
    Ok(port)
}

fn carry(client: TcpStream, number: u64, options: &Options) {
    let Ok(target) = sys::original_destination(&client) else { return };
    let server = match sys::connect_from(*target.ip(), target) {
        Ok(server) => server,
        Err(_) => {
            sys::reset_on_close(&client);
            return;
        }
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    for (stream, way) in [(&client, &options.up), (&server, &options.down)] {
        if way.rate > 0 {
            // Data in the kernel's buffers would arrive at once, however slow the line.
            sys::small_receive_buffer(stream);
        }
    }
    let hit = random::decides(options.seed, number, options.chance);
    if hit {
        witness::tell();
    }
    let plain = Options::default();
    let options = if hit { options } else { &plain };
    let (Ok(client_in), Ok(server_in)) = (client.try_clone(), server.try_clone()) else { return };
    let up = spawn(client_in, server, options.up, options.close_delay, random::mix(options.seed, number * 2));
    let down = spawn(server_in, client, options.down, options.close_delay, random::mix(options.seed, number * 2 + 1));
    for thread in [up, down].into_iter().flatten() {
        let _ = thread.join();
    }
}

enum Piece {
    Bytes(Vec<u8>),
    End,
    Reset,
}

fn spawn(mut from: TcpStream, to: TcpStream, way: Way, close_delay: u64, seed: u64) -> Option<thread::JoinHandle<()>> {
    if way == Way::default() && close_delay == 0 {
        return thread::Builder::new().stack_size(STACK + PIECE).spawn(move || pass(from, to)).ok();
    }
    let (sender, receiver) = mpsc::sync_channel::<(Instant, Piece)>(way.under_way());
    let reader = thread::Builder::new().stack_size(STACK + PIECE);
    let ended = Arc::new(AtomicU64::new(0));
    let over = ended.clone();
    reader
        .spawn(move || {
            let mut buffer = vec![0; PIECE];
            loop {
                let piece = match from.read(&mut buffer) {
                    Ok(0) => Piece::End,
                    Ok(count) => Piece::Bytes(buffer[..count].to_vec()),
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(_) => Piece::Reset,
                };
                let last = !matches!(piece, Piece::Bytes(_));
                if way.hole && !last {
                    continue;
                }
                if sender.send((Instant::now(), piece)).is_err() || last || over.load(Ordering::Relaxed) != 0 {
                    return;
                }
            }
        })
        .ok()?;
    thread::Builder::new()
        .stack_size(STACK)
        .spawn(move || {
            write(to, &receiver, way, close_delay, seed);
            ended.store(1, Ordering::Relaxed);
        })
        .ok()
}

/// No delay or limit in this direction: chunks are forwarded immediately.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; PIECE];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => {
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            Ok(count) => {
                if to.write_all(&buffer[..count]).is_err() {
                    // The sender must learn that its receiver is gone.
                    let _ = from.shutdown(Shutdown::Both);
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => {
                sys::reset_on_close(&to);
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}

fn write(mut to: TcpStream, pieces: &mpsc::Receiver<(Instant, Piece)>, way: Way, close_delay: u64, seed: u64) {
    let mut sent: u64 = 0;
    let mut count: u64 = 0;
    let mut earliest = Instant::now();
    let mut line_free = earliest;
    while let Ok((came, piece)) = pieces.recv() {
        let mut delay = way.delay;
        if way.jitter > 0 {
            delay = (delay + random::mix(seed, count) % (2 * way.jitter + 1)).saturating_sub(way.jitter);
        }
        count += 1;
        // In order: no chunk overtakes another.
        earliest = earliest.max(came + Duration::from_micros(delay));
        match piece {
            Piece::Bytes(bytes) => {
                sleep_until(earliest);
                let left = if way.limit > 0 { way.limit.saturating_sub(sent).min(bytes.len() as u64) as usize } else { bytes.len() };
                if !send(&mut to, &bytes[..left], way.rate, &mut line_free) {
                    break;
                }
                sent += left as u64;
                if way.limit > 0 && sent >= way.limit {
                    let _ = to.shutdown(Shutdown::Both);
                    break;
                }
            }
            Piece::End => {
                sleep_until(earliest + Duration::from_micros(close_delay));
                let _ = to.shutdown(Shutdown::Write);
                return;
            }
            Piece::Reset => {
                sleep_until(earliest + Duration::from_micros(close_delay));
                sys::reset_on_close(&to);
                let _ = to.shutdown(Shutdown::Both);
                return;
            }
        }
    }
    // The receiver is gone: the other side must learn that.
    let _ = to.shutdown(Shutdown::Both);
}

/// In slices of a twentieth of a second, so that a slow line is a steady one. Data arrives when all of it has been sent.
fn send(to: &mut TcpStream, bytes: &[u8], rate: u64, line_free: &mut Instant) -> bool {
    if rate == 0 {
        return to.write_all(bytes).is_ok();
    }
    for slice in bytes.chunks((rate / 20).clamp(1, PIECE as u64) as usize) {
        *line_free = (*line_free).max(Instant::now()) + Duration::from_secs_f64(slice.len() as f64 / rate as f64);
        sleep_until(*line_free);
        if to.write_all(slice).is_err() {
            return false;
        }
    }
    true
}

fn sleep_until(moment: Instant) {
    let left = moment.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        thread::sleep(left);
    }
}
