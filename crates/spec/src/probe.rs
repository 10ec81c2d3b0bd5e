//! How the daemon checks whether a service can do real work.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::OfKind;

/// A request in the service's protocol, sent from the host to `127.0.0.1:port` unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Probe {
    /// No probe: a running service is ready.
    None,
    /// `GET path` answers with `status`.
    Http { port: u16, path: String, status: u16 },
    /// A connection is accepted and kept.
    Tcp { port: u16 },
    /// A line of the log of this start matches.
    Log { pattern: String },
    /// Ready when this command in the service exits with 0.
    Exec { command: Vec<String> },
    /// A request in the protocol of one kind of server, which only that kind understands.
    #[serde(untagged)]
    OfKind(OfKind),
}

impl Probe {
    /// The same probe for a program that listens on other ports than the usual ones.
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
