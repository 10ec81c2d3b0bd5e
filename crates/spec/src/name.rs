//! Names and ids as types of their own, so that they cannot be confused with other strings.

use std::{borrow::Borrow, fmt, path::Path, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The name of a service: `[a-z][a-z0-9-]{0,39}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a valid name: a name starts with a letter and has at most 40 characters from a-z, 0-9 and `-`")]
pub struct InvalidName(pub String);

impl ServiceName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name's form in variables: upper case, with `_` for `-`.
    pub fn variable(&self) -> String {
        variable_form(&self.0)
    }
}

/// In upper case; every character that a variable name cannot have becomes `_`.
pub fn variable_form(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect()
}

impl FromStr for ServiceName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let mut characters = text.chars();
        let first = characters.next().is_some_and(|c| c.is_ascii_lowercase());
        let rest = characters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if first && rest && text.len() <= 40 { Ok(Self(text.to_owned())) } else { Err(InvalidName(text.to_owned())) }
    }
}

impl TryFrom<String> for ServiceName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        text.parse()
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0
    }
}

impl Borrow<str> for ServiceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// An environment's identity: its owner, the project directory, and an instance name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EnvironmentId(String);

impl EnvironmentId {
    /// Readable first, made unique by the hash: `shop-default-1a2b3c4d`. Two owners have two environments of one project; on a
    /// shared engine this name tells them apart.
    pub fn of(owner: &str, project: &Path, instance: &str) -> Self {
        let mut digest = Sha256::new();
        digest.update(owner.as_bytes());
        digest.update([0]);
        digest.update(project.as_os_str().as_encoded_bytes());
        digest.update([0]);
        digest.update(instance.as_bytes());
        let digest = digest.finalize();
        let directory = project.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let readable: String = directory
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .take(20)
            .collect::<String>()
            .trim_matches('-')
            .to_owned();
        let readable = if readable.is_empty() { "project".to_owned() } else { readable };
        let instance: String =
            instance.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).take(20).collect();
        Self(format!("{readable}-{instance}-{}", hex::encode(&digest[..4])))
    }

    /// An id as read back from a label or a state file.
    pub fn recorded(text: &str) -> Self {
        Self(text.to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EnvironmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_names_are_short_lower_case_words() {
        for good in ["a", "db", "rate-limits", "s3"] {
            assert!(good.parse::<ServiceName>().is_ok(), "{good}");
        }
        for bad in ["", "3s", "-a", "Db", "a_b", "a b", &"a".repeat(41)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn two_checkouts_of_one_name_have_two_ids() {
        let one = EnvironmentId::of("me", Path::new("/a/shop"), "default");
        let two = EnvironmentId::of("me", Path::new("/b/shop"), "default");
        assert_ne!(one, two);
        assert!(one.as_str().starts_with("shop-default-"));
    }

    #[test]
    fn two_owners_of_one_checkout_have_two_ids() {
        let id = |owner| EnvironmentId::of(owner, Path::new("/a/shop"), "default");
        assert_eq!(id("me"), id("me"));
        assert_ne!(id("me"), id("you"));
    }
}
