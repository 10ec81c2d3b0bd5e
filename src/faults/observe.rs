//! Witnesses: short requests to a service's published port, to see whether and when it answers.
//!
//! A request is the shortest that a server of that protocol answers before any login. If a healthy server answers none
//! of them, the prober only opens a connection to it at its own address.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use devenv_kinds::probe;
use devenv_spec::{Probe, ServiceSpec};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// The result of one request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ProbeOutcome {
    /// An answer (or a connection, if that is all that is requested), after this time.
    Answer(Duration),
    /// The connection was refused, reset or closed.
    Cut(String),
    /// No answer within the wait.
    Silence(Duration),
}

/// How a service is probed.
#[derive(Debug, Clone)]
pub(super) struct Question {
    published: Option<u16>,
    direct: Option<SocketAddr>,
    words: Vec<u8>,
    protocol: Probe,
}

/// Below the longest request that any of these servers accepts.
const LONGEST: usize = 6000;
/// A probe is padded so that its transmission takes this long, within limits.
const UNDER_WAY: Duration = Duration::from_millis(400);

impl Question {
    pub(super) fn of(spec: &ServiceSpec, address: Option<Ipv4Addr>) -> Self {
        let ports = spec.ports();
        let first = probe::port(&spec.probe).or_else(|| ports.values().next().copied());
        let inner = ports.iter().find(|(_, host)| Some(**host) == first).or_else(|| ports.iter().next()).map(|(container, _)| *container);
        let words = probe::greeting(&spec.probe, None).unwrap_or_default();
        let direct = address.zip(inner).map(|(address, port)| SocketAddr::from((address, port)));
        Self { published: first, direct, words, protocol: spec.probe.clone() }
    }

    /// A request whose transmission takes a while at this rate; `None` if this server has no such request.
    pub(super) fn long(&self, rate: u64) -> Option<Self> {
        self.published?;
        let length = (UNDER_WAY.as_secs_f64() * rate as f64) as usize;
        Some(Self { words: probe::greeting(&self.protocol, Some(length.clamp(64, LONGEST)))?, ..self.clone() })
    }

    /// The transmission time of its bytes at this rate per second.
    pub(super) fn takes_at(&self, rate: u64) -> Duration {
        Duration::from_secs_f64(self.words.len() as f64 / rate.max(1) as f64)
    }

    pub(super) fn words(&self) -> &[u8] {
        &self.words
    }

    /// The server's address on its own network.
    pub(super) fn direct(&self) -> Option<SocketAddr> {
        self.direct
    }

    /// The form of request that this server answers when it is healthy; `None` if it answers none.
    pub(super) async fn baseline(mut self) -> Option<(Self, Duration)> {
        let mut best: Option<Duration> = None;
        for _ in 0..3 {
            if let ProbeOutcome::Answer(time) = self.ask(Duration::from_secs(1)).await {
                best = Some(best.map_or(time, |best| best.min(time)));
            }
        }
        if let Some(best) = best {
            return Some((self, best));
        }
        self.published = None;
        match self.ask(Duration::from_secs(1)).await {
            ProbeOutcome::Answer(time) => Some((self, time)),
            ProbeOutcome::Cut(_) | ProbeOutcome::Silence(_) => None,
        }
    }

    pub(super) async fn ask(&self, patience: Duration) -> ProbeOutcome {
        let began = Instant::now();
        let asked = async {
            let Some(port) = self.published else {
                let direct = self.direct.ok_or_else(|| std::io::Error::other("it has no port"))?;
                return TcpStream::connect(direct).await.map(|_| true);
            };
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
            stream.set_nodelay(true)?;
            stream.write_all(&self.words).await?;
            let mut answer = [0; 64];
            Ok(stream.read(&mut answer).await? > 0)
        };
        match timeout(patience, asked).await {
            Ok(Ok(true)) => ProbeOutcome::Answer(began.elapsed()),
            Ok(Ok(false)) => ProbeOutcome::Cut("the connection was closed".to_owned()),
            Ok(Err(error)) => ProbeOutcome::Cut(match error.kind() {
                std::io::ErrorKind::ConnectionRefused => "the connection was refused".to_owned(),
                std::io::ErrorKind::ConnectionReset => "the connection was reset".to_owned(),
                _ => error.to_string(),
            }),
            Err(_) => ProbeOutcome::Silence(patience),
        }
    }
}

impl std::fmt::Display for ProbeOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answer(time) => write!(f, "an answer after {}", milliseconds(*time)),
            Self::Cut(how) => f.write_str(how),
            Self::Silence(time) => write!(f, "no answer within {}", milliseconds(*time)),
        }
    }
}

pub(super) fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}
