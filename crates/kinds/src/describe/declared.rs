//! The common fields of a service in a profile, as far as kinds use them.

use std::collections::BTreeMap;

use devenv_spec::Size;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The common fields that affect how a kind describes its service.
#[derive(Debug, Clone, Copy)]
pub struct Declared<'a> {
    /// Variables of this service, after those of its connections.
    pub environment: &'a IndexMap<String, String>,
    pub probe: Option<&'a Probe>,
    /// Fixed host ports by container port.
    pub ports: &'a BTreeMap<u16, u16>,
    /// The most memory that it may use.
    pub memory: Option<Size>,
    /// Its data has its own file system, which faults work on.
    pub faultable: bool,
    /// A change of its files swaps in a new process behind the old one's port.
    pub swapped: bool,
}

/// Readiness check of a process or container: exactly one of `http`, `tcp`, `log` and `exec`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Probe {
    /// Ready when an HTTP request returns the expected status.
    Http(HttpProbe),
    /// Ready when a TCP connection is accepted.
    Tcp(TcpProbe),
    /// Ready when a log line matches this regular expression.
    Log(String),
    /// Ready when this command in the service exits with 0.
    Exec(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpProbe {
    /// The request path.
    #[serde(default = "root_path")]
    pub path: String,
    /// The expected status code.
    #[serde(default = "ok_status")]
    pub status: u16,
    /// The port in the container. Default: the service's first port.
    #[serde(default)]
    pub port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpProbe {
    /// The port in the container. Default: the service's first port.
    #[serde(default)]
    pub port: Option<u16>,
}

fn root_path() -> String {
    "/".to_owned()
}

fn ok_status() -> u16 {
    200
}
