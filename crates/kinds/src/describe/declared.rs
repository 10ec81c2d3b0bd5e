//! What a profile declares of a service besides its kind's own fields, as far as kinds use it.

use std::collections::BTreeMap;

use devenv_spec::Size;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The common fields of a service that have a say in how its kind describes it.
#[derive(Debug, Clone, Copy)]
pub struct Declared<'a> {
    /// Variables of this service, after those of its connections.
    pub environment: &'a IndexMap<String, String>,
    pub probe: Option<&'a Probe>,
    /// Fixed host ports by container port.
    pub ports: &'a BTreeMap<u16, u16>,
    /// The most memory that it may use.
    pub memory: Option<Size>,
    /// Its data has a file system of its own, which faults work on.
    pub faultable: bool,
    /// A change of its files swaps a new process in behind the port of the old one.
    pub swapped: bool,
}

/// How a service of the product's own tells that it is ready: exactly one of the four.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Probe {
    /// An HTTP request is answered with the wanted status.
    Http(HttpProbe),
    /// A TCP connection is accepted.
    Tcp(TcpProbe),
    /// A line of the log matches this regular expression.
    Log(String),
    /// A command in the service ends with 0.
    Exec(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpProbe {
    /// The path to ask for, `/` unless said.
    #[serde(default = "root_path")]
    pub path: String,
    /// The status that means ready.
    #[serde(default = "ok_status")]
    pub status: u16,
    /// The service's (container's) port; its first one unless said.
    #[serde(default)]
    pub port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TcpProbe {
    /// The service's (container's) port; its first one unless said.
    #[serde(default)]
    pub port: Option<u16>,
}

fn root_path() -> String {
    "/".to_owned()
}

fn ok_status() -> u16 {
    200
}
