//! The page in the browser: asked for by `devenv ui`, and served as long as that command's connection lasts.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::EnvironmentTarget;

/// Asks the daemon to serve the page.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct UiRequest {
    /// The environment that the page shows first.
    pub target: EnvironmentTarget,
    /// The port to listen on. Default: a free one.
    #[serde(default)]
    pub port: Option<u16>,
    /// The address to listen on. Default: 127.0.0.1.
    #[serde(default)]
    pub host: Option<IpAddr>,
    /// The session of an earlier daemon, so that a page that is open stays open.
    #[serde(default)]
    pub session: Option<String>,
}

/// The only message of the answer; the connection stays open after it.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct UiOpened {
    /// With a token that is good once.
    pub url: String,
    pub port: u16,
    /// For [`UiRequest::session`]. A secret.
    pub session: String,
}

/// What `ui --json` prints.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct UiAddress {
    pub url: String,
}
