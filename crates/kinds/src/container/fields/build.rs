//! The fields of an image that is built from the project.

use devenv_spec::Size;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An image built from the project.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// The build context: a directory relative to the project, or the address of a Git repository as `URL#REFERENCE:DIRECTORY`.
    pub context: String,
    /// The Dockerfile, relative to the context.
    #[serde(default = "default_dockerfile")]
    pub dockerfile: String,
    /// The text of the Dockerfile, instead of a file.
    #[serde(default)]
    pub inline: Option<String>,
    /// The build stage to build.
    #[serde(default)]
    pub target: Option<String>,
    /// Build arguments.
    #[serde(default)]
    pub args: IndexMap<String, String>,
    /// The name by which other tools know the image; devenv gives it a name of its own.
    #[serde(default)]
    pub image: Option<String>,
    /// Labels of the image.
    #[serde(default)]
    pub labels: IndexMap<String, String>,
    /// The network of the build: `host`, `none`, or a network's name.
    #[serde(default)]
    pub network: Option<String>,
    /// Build every step anew.
    #[serde(default)]
    pub no_cache: bool,
    /// Ask the registry for newer base images.
    #[serde(default)]
    pub pull: bool,
    /// The platforms to build for; the first one is built.
    #[serde(default)]
    pub platforms: Vec<String>,
    /// Further host names, as `HOST:ADDRESS`.
    #[serde(default)]
    pub extra_hosts: Vec<String>,
    /// The size of `/dev/shm` in the build.
    #[serde(default)]
    pub shm_size: Option<Size>,
    /// Other contexts by name, for `FROM` and `COPY --from`: directories, addresses of Git repositories, images as
    /// `docker-image://NAME`, and images of other services as `service:NAME`, which are built first.
    #[serde(default)]
    pub additional_contexts: IndexMap<String, String>,
    /// Images whose layers may be reused.
    #[serde(default)]
    pub cache_from: Vec<String>,
    /// Agents and keys that the build may use: `default`, or `ID=PATH`.
    #[serde(default)]
    pub ssh: Vec<String>,
    /// Secrets of the build, by id.
    #[serde(default)]
    pub secrets: IndexMap<String, BuildSecretField>,
}

/// Where a secret of a build comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BuildSecretField {
    /// A file, relative to the project.
    #[serde(default)]
    pub file: Option<String>,
    /// A variable of the shell.
    #[serde(default)]
    pub from_env: Option<String>,
}

fn default_dockerfile() -> String {
    "Dockerfile".to_owned()
}
