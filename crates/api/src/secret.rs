//! The secrets of an environment, without their values, and the values that users set.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::EnvironmentTarget;

/// What `secrets list --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Secrets {
    pub secrets: Vec<Secret>,
}

/// One secret. Its value is shown nowhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Secret {
    /// As the profile names it, or the user of a server.
    pub name: String,
    /// The server that has it; none for a secret that the profile declares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    pub source: SecretOrigin,
    /// Since its value changed last; none if it has no value yet.
    pub age_ms: Option<u64>,
}

/// Where the value of a secret comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretOrigin {
    /// A variable of the shell that runs `devenv up`.
    FromEnv,
    File,
    Command,
    /// devenv has generated it.
    Generate,
    /// `devenv secrets set`.
    Set,
}

/// Sets the value of a secret that the profile declares, or returns to the source that the profile names.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct SetSecretRequest {
    pub target: EnvironmentTarget,
    pub name: String,
    /// Without it, the next `up` takes the value from the profile's source again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

impl SecretOrigin {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FromEnv => "from_env",
            Self::File => "file",
            Self::Command => "command",
            Self::Generate => "generate",
            Self::Set => "set",
        }
    }
}

impl fmt::Display for SecretOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for SetSecretRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SetSecretRequest").field("target", &self.target).field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_shows_no_value() {
        let target = EnvironmentTarget { project: "/p".to_owned(), instance: "default".to_owned() };
        let request = SetSecretRequest { target, name: "KEY".to_owned(), value: Some("hidden".to_owned()) };
        let shown = format!("{request:?}");
        assert!(shown.contains("KEY") && !shown.contains("hidden"), "{shown}");
    }
}
