//! Asks a service every 20 ms, in its own protocol, whether it answers.
//!
//! While it answers, over one connection. When it does not, a new attempt starts every 20 ms whether or not the earlier
//! ones have ended, so that neither a lost packet nor a time limit makes the return seem later than it is.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    address::Address,
    recovery::Answers,
    workload::{postgres, redis},
};
use devenv_kinds::kafka::wire;

pub(crate) const PERIOD: Duration = Duration::from_millis(20);
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(1);
/// Attempts in flight at once: as many as start within the time-out of one.
const AT_ONCE: usize = 50;

/// What one prober saw. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    shared: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    answers: Answers,
    /// When the latest question that was answered had been asked.
    asked_us: Option<u64>,
}

enum Line {
    Postgres(postgres::Session),
    Redis(::redis::aio::MultiplexedConnection),
    /// Nothing stays open: each question is a connection.
    None,
}

impl Seen {
    pub(crate) fn answers(&self) -> Answers {
        self.state(|state| state.answers.clone())
    }

    /// It answers, and the question that shows it was asked after this time.
    pub(crate) fn answers_since(&self, at_us: u64) -> bool {
        self.state(|state| state.answers.answers() && state.asked_us.is_some_and(|asked| asked >= at_us))
    }

    fn state<T>(&self, read: impl FnOnce(&mut State) -> T) -> T {
        read(&mut self.shared.lock().expect("no code panics while it holds this lock"))
    }

    fn answered(&self, asked_us: u64, now_us: u64) {
        self.state(|state| {
            state.answers.change(now_us, true);
            state.asked_us = state.asked_us.max(Some(asked_us));
        });
    }

    /// Silence counts from the question that was not answered.
    fn silent(&self, asked_us: u64) {
        self.state(|state| {
            let last = state.answers.changes.last().map_or(0, |(at, _)| *at);
            state.answers.change(asked_us.max(last), false);
        });
    }
}

/// Until cancelled.
pub(crate) async fn probe(address: Address, seen: Seen, began: Instant, stop: CancellationToken) {
    tokio::select! {
        // Nothing is left behind by a question that is not waited for any more.
        () = stop.cancelled() => {}
        () = forever(&address, &seen, began) => {}
    }
}

async fn forever(address: &Address, seen: &Seen, began: Instant) {
    let now = || began.elapsed().as_micros() as u64;
    loop {
        let (mut line, asked) = until_answered(address, began).await;
        seen.answered(asked, now());
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let asked = now();
            if timeout(PATIENCE, ask(address, &mut line)).await != Ok(Ok(())) {
                seen.silent(asked);
                break;
            }
            seen.answered(asked, now());
        }
    }
}

/// Attempts, one each period, until one is answered: its connection, and when it was asked.
async fn until_answered(address: &Address, began: Instant) -> (Line, u64) {
    let mut attempts = JoinSet::new();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            // Both are cancel-safe.
            _ = ticks.tick() => {
                if attempts.len() < AT_ONCE {
                    let (address, asked) = (address.clone(), began.elapsed().as_micros() as u64);
                    attempts.spawn(async move {
                        let attempt = async {
                            let mut line = open(&address).await?;
                            ask(&address, &mut line).await?;
                            Ok::<Line, ()>(line)
                        };
                        timeout(PATIENCE, attempt).await.ok()?.ok().map(|line| (line, asked))
                    });
                }
            }
            Some(ended) = attempts.join_next() => {
                if let Ok(Some(answered)) = ended {
                    return answered;
                }
            }
        }
    }
}

async fn open(address: &Address) -> Result<Line, ()> {
    Ok(match address {
        Address::Postgres { config, tls } => Line::Postgres(postgres::Session::open(config, tls.as_ref()).await.map_err(drop)?),
        Address::Redis { url, authority } => Line::Redis(redis::open(url, authority.as_deref()).await.map_err(drop)?),
        Address::Kafka { .. } | Address::Http { .. } | Address::Tcp { .. } => Line::None,
    })
}

async fn ask(address: &Address, line: &mut Line) -> Result<(), ()> {
    match (address, line) {
        (_, Line::Postgres(session)) => session.client.simple_query("SELECT 1").await.map(drop).map_err(drop),
        (_, Line::Redis(connection)) => {
            let answer = ::redis::cmd("PING").query_async::<String>(connection).await.map_err(drop)?;
            if answer == "PONG" { Ok(()) } else { Err(()) }
        }
        (Address::Kafka { brokers }, Line::None) => {
            let stream = TcpStream::connect(brokers.split(',').next().unwrap_or_default()).await.map_err(drop)?;
            stream.set_nodelay(true).map_err(drop)?;
            wire::Connection::new(stream).metadata(None).await.map(drop).map_err(drop)
        }
        (Address::Http { url }, Line::None) => {
            // Any answer is one: what the status means is the supervisor's affair.
            let rest = url.trim_start_matches("http://");
            let (at, path) = rest.split_once('/').unwrap_or((rest, ""));
            let mut stream = TcpStream::connect(at).await.map_err(drop)?;
            stream.write_all(format!("GET /{path} HTTP/1.1\r\nhost: {at}\r\nconnection: close\r\n\r\n").as_bytes()).await.map_err(drop)?;
            let mut head = [0; 5];
            stream.read_exact(&mut head).await.map_err(drop)?;
            if head == *b"HTTP/" { Ok(()) } else { Err(()) }
        }
        (Address::Tcp { at }, Line::None) => accepted(at).await,
        (Address::Postgres { .. } | Address::Redis { .. }, Line::None) => Err(()),
    }
}

/// A connection that stays for a moment: a forwarder accepts before the service listens, and hangs up at once.
async fn accepted(at: &str) -> Result<(), ()> {
    let mut stream = TcpStream::connect(at).await.map_err(drop)?;
    match timeout(Duration::from_millis(5), stream.read(&mut [0; 1])).await {
        Ok(Ok(0) | Err(_)) => Err(()),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}
