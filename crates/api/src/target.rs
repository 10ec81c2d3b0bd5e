//! The environment that a request is about.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which environment a request is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub struct EnvironmentTarget {
    /// The project's directory, canonical.
    pub project: String,
    pub instance: String,
}

/// Whether this is a valid name of an instance. The name becomes part of the names of containers and directories.
pub fn is_instance_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.starts_with(|first: char| first.is_ascii_alphanumeric()) && name.len() <= 40 && name.chars().all(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_leads_elsewhere_is_no_instance() {
        assert!(is_instance_name("feature-1.x_y"));
        for name in ["../x", "", ".x", "a/b", "a b", "\u{1b}[2J", &"x".repeat(41)] {
            assert!(!is_instance_name(name), "{name}");
        }
    }
}
