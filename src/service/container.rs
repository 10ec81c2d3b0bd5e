//! Any image, or one built from a Dockerfile.

use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::spec::{SecretRef};

use super::{Connection, Context, Description, PortNeed, ServiceKind};

/// Any image, or one built from a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Container {
    /// The image, unless it is built.
    #[serde(default)]
    pub(crate) image: Option<String>,
    #[serde(default)]
    pub(crate) build: Option<Build>,
    #[serde(default)]
    pub(crate) command: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) entrypoint: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) user: Option<String>,
    /// Ports to publish on the host's loopback.
    #[serde(default)]
    pub(crate) expose: Vec<u16>,
    #[serde(default)]
    pub(crate) volumes: Vec<VolumeMount>,
}

/// An image built from the project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Build {
    /// A directory, relative to the project.
    pub(crate) context: String,
    #[serde(default = "default_dockerfile")]
    pub(crate) dockerfile: String,
    #[serde(default)]
    pub(crate) target: Option<String>,
    #[serde(default)]
    pub(crate) args: IndexMap<String, String>,
}

/// A directory of the project (`./…`, `/…`) or a named volume, in the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VolumeMount {
    pub(crate) source: String,
    pub(crate) target: String,
    #[serde(default)]
    pub(crate) read_only: bool,
}

fn default_dockerfile() -> String {
    "Dockerfile".to_owned()
}

impl ServiceKind for Container {
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
