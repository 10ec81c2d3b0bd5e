//! What the daemon asks a service to learn whether it can do real work.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::OfKind;

/// A protocol-level question, asked from the host at `127.0.0.1:port` unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// Nothing to ask: running is ready.
    None,
    /// `GET path` answers with `status`.
    Http { port: u16, path: String, status: u16 },
    /// A connection is accepted and kept.
    Tcp { port: u16 },
    /// A line of the log of this start matches.
    Log { pattern: String },
    /// Ready when this command in the service exits with 0.
    Exec { command: Vec<String> },
    /// A question in the protocol of one kind of server, which that kind alone understands.
    #[serde(untagged)]
    OfKind(OfKind),
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn records_of_the_former_version_are_read_and_written_as_they_were() {
        for (encoded, probe) in [
            (json!("none"), Probe::None),
            (json!({ "tcp": { "port": 80 } }), Probe::Tcp { port: 80 }),
            (json!({ "kafka": { "port": 9094 } }), Probe::OfKind(OfKind { kind: "kafka".into(), value: json!({ "port": 9094 }) })),
        ] {
            assert_eq!(serde_json::from_value::<Probe>(encoded.clone()).unwrap(), probe);
            assert_eq!(serde_json::to_value(&probe).unwrap(), encoded);
        }
    }
}
