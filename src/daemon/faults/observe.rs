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
    protocol: Probe,
}

/// Below what any of these servers takes as one question.
const LONGEST: usize = 6000;
/// A question is made so long that it is under way for this long, where that is not too long a question.
const UNDER_WAY: Duration = Duration::from_millis(400);

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
        Self { published: first, direct, words, protocol: spec.probe.clone() }
    }

    /// A question that takes a while at so many bytes a second; `None` if this server knows none.
    pub(super) fn long(&self, rate: u64) -> Option<Self> {
        self.published?;
        let length = (UNDER_WAY.as_secs_f64() * rate as f64) as usize;
        Some(Self { words: long_words(&self.protocol, length.clamp(64, LONGEST))?, ..self.clone() })
    }

    /// How long its words are under way at so many bytes a second.
    pub(super) fn takes_at(&self, rate: u64) -> Duration {
        Duration::from_secs_f64(self.words.len() as f64 / rate.max(1) as f64)
    }

    pub(super) fn words(&self) -> &[u8] {
        &self.words
    }

    /// The server's own address, for whoever is on its network.
    pub(super) fn direct(&self) -> Option<SocketAddr> {
        self.direct
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

/// A question that a server of this protocol answers before any login, with so much padding.
fn long_words(protocol: &Probe, padding: usize) -> Option<Vec<u8>> {
    let padded = |before: &[u8], after: &[u8]| [before, &vec![b'x'; padding], after].concat();
    Some(match protocol {
        // A start-up packet: version 3.0, and a long name.
        Probe::Postgres { .. } => {
            let said = padded(b"\0\x03\0\0user\0devenv\0application_name\0", &[0, 0]);
            [&(said.len() as u32 + 4).to_be_bytes()[..], &said].concat()
        }
        Probe::Redis { .. } => padded(b"PING ", b"\r\n"),
        // ApiVersions with a long client id.
        Probe::Kafka { .. } => {
            let said = padded(&[&[0, 18, 0, 0, 0, 0, 0, 1][..], &(padding as u16).to_be_bytes()].concat(), &[]);
            [&(said.len() as u32).to_be_bytes()[..], &said].concat()
        }
        Probe::Http { .. } | Probe::Jaeger { .. } => padded(b"GET / HTTP/1.0\r\nx-padding: ", b"\r\n\r\n"),
        Probe::Pgbouncer { .. } | Probe::Tcp { .. } | Probe::None | Probe::Log { .. } | Probe::Exec { .. } => return None,
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_question_says_its_own_length_where_the_protocol_wants_it() {
        let length = |words: &[u8]| u32::from_be_bytes(words[..4].try_into().unwrap()) as usize;
        let kafka = long_words(&Probe::Kafka { port: 1 }, 300).unwrap();
        assert_eq!((length(&kafka), &kafka[12..14]), (kafka.len() - 4, &300u16.to_be_bytes()[..]));
        let http = long_words(&Probe::Http { port: 1, path: "/".to_owned(), status: 200 }, 64).unwrap();
        assert!(http.ends_with(b"xx\r\n\r\n") && http.len() > 64);
        assert_eq!(long_words(&Probe::Tcp { port: 1 }, 64), None);
    }
}
