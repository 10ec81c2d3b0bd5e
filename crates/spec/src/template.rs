//! Text that may refer to secrets without containing them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Replaces a secret where text is shown.
pub const MASK: &str = "********";

/// The name of one secret of an environment: `db/orders` is the role `orders` of the service `db`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretRef(String);

impl SecretRef {
    pub fn new(service: &str, name: &str) -> Self {
        Self(format!("{service}/{name}"))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Text in which secrets are references.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Part {
    Text(String),
    Secret(SecretRef),
    /// A secret that a user gave as plain text. It is handled like a generated one.
    Sensitive(String),
}

impl Template {
    pub fn text(text: impl Into<String>) -> Self {
        Self(vec![Part::Text(text.into())])
    }

    pub fn secret(secret: SecretRef) -> Self {
        Self(vec![Part::Secret(secret)])
    }

    #[must_use]
    pub fn then(mut self, text: impl Into<String>) -> Self {
        self.0.push(Part::Text(text.into()));
        self
    }

    #[must_use]
    pub fn then_secret(mut self, secret: SecretRef) -> Self {
        self.0.push(Part::Secret(secret));
        self
    }

    /// Text that is kept secret, although it has no name in the vault.
    #[must_use]
    pub fn then_sensitive(mut self, text: impl Into<String>) -> Self {
        self.0.push(Part::Sensitive(text.into()));
        self
    }

    /// The values that users gave and that must stay secret.
    pub fn sensitive(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) | Part::Secret(_) => None,
            Part::Sensitive(text) => Some(text.as_str()),
        })
    }

    pub fn secrets(&self) -> impl Iterator<Item = &SecretRef> {
        self.0.iter().filter_map(|part| match part {
            Part::Text(_) | Part::Sensitive(_) => None,
            Part::Secret(secret) => Some(secret),
        })
    }

    pub fn holds_secret(&self) -> bool {
        self.secrets().next().is_some() || self.sensitive().next().is_some()
    }

    /// The text with every secret replaced by `********`.
    pub fn redacted(&self) -> String {
        self.written(|_| MASK.to_owned(), |_| MASK)
    }

    /// The text with every secret replaced by the result of `value`.
    pub fn fill(&self, value: impl FnMut(&SecretRef) -> String) -> String {
        self.written(value, |text| text)
    }

    fn written<'a>(&'a self, mut value: impl FnMut(&SecretRef) -> String, sensitive: impl Fn(&'a str) -> &'a str) -> String {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Secret(secret) => text.push_str(&value(secret)),
                Part::Sensitive(part) => text.push_str(sensitive(part)),
            }
        }
        text
    }
}

impl From<&str> for Template {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Template {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.written(|secret| format!("${{secret:{secret}}}"), |_| MASK))
    }
}
