//! The labels that make the engine the source of truth: the owner of an object, and its purpose.

use std::{collections::HashMap, fmt};

use devenv_spec::{EnvironmentId, ServiceName, SpecHash};
use serde::{Deserialize, Serialize};

pub(crate) const OWNER: &str = "dev.devenv.owner";
pub(crate) const ENVIRONMENT: &str = "dev.devenv.environment";
pub(crate) const PROJECT: &str = "dev.devenv.project";
pub(crate) const INSTANCE: &str = "dev.devenv.instance";
pub(crate) const SERVICE: &str = "dev.devenv.service";
pub(crate) const SPEC: &str = "dev.devenv.spec";
/// What a volume holds, or what a helper container does.
pub(crate) const ROLE: &str = "dev.devenv.role";

/// The id of the state directory: a daemon touches only objects with its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OwnerId(pub String);

impl OwnerId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The parsed labels of one object. Missing ones are empty: old objects must still be removable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Labels {
    pub owner: OwnerId,
    pub environment: EnvironmentId,
    pub project: String,
    pub instance: String,
    pub service: Option<ServiceName>,
    pub spec: Option<SpecHash>,
    pub role: Option<String>,
}

impl Labels {
    /// Whether both describe the same object of devenv, whatever it was made from.
    pub fn same_subject(&self, other: &Self) -> bool {
        self.owner == other.owner && self.environment == other.environment && self.service == other.service && self.role == other.role
    }

    pub fn to_map(&self) -> HashMap<String, String> {
        let mut map = HashMap::from([
            (OWNER.to_owned(), self.owner.0.clone()),
            (ENVIRONMENT.to_owned(), self.environment.as_str().to_owned()),
            (PROJECT.to_owned(), self.project.clone()),
            (INSTANCE.to_owned(), self.instance.clone()),
        ]);
        if let Some(service) = &self.service {
            map.insert(SERVICE.to_owned(), service.as_str().to_owned());
        }
        if let Some(spec) = &self.spec {
            map.insert(SPEC.to_owned(), spec.as_str().to_owned());
        }
        if let Some(role) = &self.role {
            map.insert(ROLE.to_owned(), role.clone());
        }
        map
    }

    /// `None` without an owner label of devenv.
    pub fn parse(map: &HashMap<String, String>) -> Option<Self> {
        let text = |key: &str| map.get(key).cloned().unwrap_or_default();
        Some(Self {
            owner: OwnerId(map.get(OWNER)?.clone()),
            environment: EnvironmentId::recorded(&text(ENVIRONMENT)),
            project: text(PROJECT),
            instance: text(INSTANCE),
            service: map.get(SERVICE).and_then(|name| name.parse().ok()),
            spec: map.get(SPEC).map(|hash| SpecHash::recorded(hash)),
            role: map.get(ROLE).cloned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_read_back_as_they_were_written() {
        let labels = Labels {
            owner: OwnerId("o1".into()),
            environment: EnvironmentId::recorded("shop-default-00000000"),
            project: "/p".into(),
            instance: "default".into(),
            service: Some("db".parse().unwrap()),
            spec: Some(SpecHash::recorded("1:ab")),
            role: None,
        };
        assert_eq!(Labels::parse(&labels.to_map()), Some(labels));
        assert_eq!(Labels::parse(&HashMap::new()), None);
    }
}
