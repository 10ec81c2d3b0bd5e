//! A program on the host.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::{SecretRef};

use super::{Connection, Context, Description, PortNeed, ServiceKind};

/// A program on the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Process {
    /// The program and its arguments.
    pub(crate) command: Vec<String>,
    /// Where it runs, relative to the project.
    #[serde(default)]
    pub(crate) directory: Option<String>,
    /// The port it listens on, given to it as `PORT`; 0 is leased.
    #[serde(default)]
    pub(crate) port: Option<u16>,
    /// The port its debugger listens on, the same across reloads.
    #[serde(default)]
    pub(crate) debug_port: Option<u16>,
}

impl ServiceKind for Process {
    fn ports(&self) -> Vec<PortNeed> {
        todo!()
    }

    fn secrets(&self, _service: &str) -> Vec<SecretRef> {
        todo!()
    }

    fn describe(&self, _cx: &Context<'_>) -> Description {
        todo!()
    }

    fn connection(&self, _cx: &Context<'_>) -> Connection {
        todo!()
    }
}
