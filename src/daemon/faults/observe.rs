//! Witnesses: short questions to a service's published port, to see whether and when it answers.
//!
//! A question is the shortest that a server of that protocol answers before any login. A server that answers none of
//! them when it is well is asked to take a connection at its own address instead.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::spec::{Probe, ServiceSpec};

/// What was heard.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Heard {
    /// An answer, or a connection where that is all that is asked for, after this time.
    Answer(Duration),
    /// The connection was refused, reset or closed.
    Cut(String),
    /// Nothing, for as long as was waited.
    Silence(Duration),
}

/// How a service is asked.
#[derive(Debug, Clone)]
pub(super) struct Question {
    published: Option<u16>,
    direct: Option<SocketAddr>,
    words: Vec<u8>,
}

impl Question {
    pub(super) fn of(spec: &ServiceSpec, address: Option<Ipv4Addr>) -> Self {
        let ports = spec.ports();
        let first = match &spec.probe {
            Probe::Postgres { port, .. }
            | Probe::Pgbouncer { port, .. }
            | Probe::Redis { port, .. }
            | Probe::Kafka { port }
            | Probe::Http { port, .. }
            | Probe::Tcp { port } => Some(*port),
            Probe::Jaeger { query, .. } => Some(*query),
            Probe::None | Probe::Log { .. } | Probe::Exec { .. } => ports.values().next().copied(),
        };
        let inner = ports.iter().find(|(_, host)| Some(**host) == first).or_else(|| ports.iter().next()).map(|(container, _)| *container);
        let words = match &spec.probe {
            // The length, and the number that asks for TLS: answered by one letter.
            Probe::Postgres { .. } | Probe::Pgbouncer { .. } => vec![0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f],
            Probe::Redis { .. } => b"PING\r\n".to_vec(),
            // ApiVersions 0, correlation 1, no client id.
            Probe::Kafka { .. } => vec![0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff],
            _ => b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        };
        let direct = address.zip(inner).map(|(address, port)| SocketAddr::from((address, port)));
        Self { published: first, direct, words }
    }

    /// Asks in the way in which this server answers when it is well; `None` if it does in none.
    pub(super) async fn baseline(mut self) -> Option<(Self, Duration)> {
        let mut best: Option<Duration> = None;
        for _ in 0..3 {
            if let Heard::Answer(time) = self.ask(Duration::from_secs(1)).await {
                best = Some(best.map_or(time, |best| best.min(time)));
            }
        }
        if let Some(best) = best {
            return Some((self, best));
        }
        self.published = None;
        match self.ask(Duration::from_secs(1)).await {
            Heard::Answer(time) => Some((self, time)),
            Heard::Cut(_) | Heard::Silence(_) => None,
        }
    }

    pub(super) async fn ask(&self, patience: Duration) -> Heard {
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
            Ok(Ok(true)) => Heard::Answer(began.elapsed()),
            Ok(Ok(false)) => Heard::Cut("the connection was closed".to_owned()),
            Ok(Err(error)) => Heard::Cut(match error.kind() {
                std::io::ErrorKind::ConnectionRefused => "the connection was refused".to_owned(),
                std::io::ErrorKind::ConnectionReset => "the connection was reset".to_owned(),
                _ => error.to_string(),
            }),
            Err(_) => Heard::Silence(patience),
        }
    }
}

impl std::fmt::Display for Heard {
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
