//! What the daemon asks a service to learn whether it can do real work.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::SecretRef;

/// A protocol-level question, asked from the host at `127.0.0.1:port` unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// Nothing to ask: running is ready.
    None,
    /// Log in over TCP as `user` and run `SELECT 1`, twice, with the same `pg_postmaster_start_time()`.
    Postgres { port: u16, user: String, password: SecretRef, database: String, tls: bool },
    /// The same through a pooler, whose start time is not the server's.
    Pgbouncer { port: u16, user: String, password: SecretRef, database: String },
    /// AUTH, PING, and `loading:0`.
    Redis { port: u16, user: String, password: SecretRef, tls: bool },
    /// Metadata with a controller, the advertised address connectable, a coordinator found.
    Kafka { port: u16 },
    /// Health, query API, and an OTLP post.
    Jaeger { health: u16, query: u16, otlp_http: u16 },
    /// `GET path` answers with `status`.
    Http { port: u16, path: String, status: u16 },
    /// A connection is accepted and kept.
    Tcp { port: u16 },
    /// A line of the log of this start matches.
    Log { pattern: String },
    /// A command in the service ends with 0.
    Exec { command: Vec<String> },
}

impl Probe {
    /// The same question to a program that listens elsewhere than on the ports that it is known by.
    pub fn behind(&self, ports: &BTreeMap<u16, u16>) -> Self {
        let mut probe = self.clone();
        if let Self::Http { port, .. } | Self::Tcp { port } = &mut probe {
            *port = ports.get(port).copied().unwrap_or(*port);
        }
        probe
    }
}
