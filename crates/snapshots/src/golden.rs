//! PURE: the key of a golden volume, which is a service's data as freshly provisioned, initialised and seeded.
//!
//! Two environments with the same key may start from copies of the same volume. What is in the key decides what is in
//! the data; everything else (ports, names, passwords of the superuser) is provisioned again.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Increase it when a kind's volume layout or the result of provisioning changes.
const LAYOUT: u32 = 1;

/// Everything that determines the data.
#[derive(Debug, Clone, Copy)]
pub struct GoldenInput<'a> {
    pub kind: &'a str,
    /// The image's id, which identifies its content.
    pub image: &'a str,
    /// What is configured in the service: settings, databases, roles, extensions, topics, as canonical text.
    pub settings: &'a [(String, String)],
    /// Path and checksum of each script, in the order of application.
    pub scripts: &'a [(String, String)],
}

/// A short name; two inputs share it only if they are equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GoldenKey(String);

impl GoldenKey {
    pub fn of(input: GoldenInput<'_>) -> Self {
        let mut digest = Sha256::new();
        // Each part with its length, so that different lists of parts never hash the same.
        let mut add = |part: &str| {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        };
        add(&LAYOUT.to_string());
        add(input.kind);
        add(input.image);
        let mut settings: Vec<_> = input.settings.iter().collect();
        settings.sort();
        add(&settings.len().to_string());
        for (name, value) in settings {
            add(name);
            add(value);
        }
        for (path, checksum) in input.scripts {
            add(path);
            add(checksum);
        }
        let mut key = hex::encode(digest.finalize());
        key.truncate(24);
        Self(key)
    }

    #[cfg(test)]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GoldenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(image: &str, settings: &[(&str, &str)], scripts: &[(&str, &str)]) -> GoldenKey {
        let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect::<Vec<_>>();
        GoldenKey::of(GoldenInput { kind: "postgres", image, settings: &owned(settings), scripts: &owned(scripts) })
    }

    #[test]
    fn the_key_follows_everything_that_decides_the_data_and_nothing_else() {
        let base = key("i", &[("a", "1"), ("b", "2")], &[("1.sql", "x"), ("2.sql", "y")]);
        assert_eq!(base, key("i", &[("b", "2"), ("a", "1")], &[("1.sql", "x"), ("2.sql", "y")]));
        for other in [
            key("j", &[("a", "1"), ("b", "2")], &[("1.sql", "x"), ("2.sql", "y")]),
            key("i", &[("a", "1"), ("b", "3")], &[("1.sql", "x"), ("2.sql", "y")]),
            key("i", &[("a", "1"), ("b", "2")], &[("2.sql", "y"), ("1.sql", "x")]),
            key("i", &[("a", "1"), ("b", "2")], &[("1.sql", "z"), ("2.sql", "y")]),
            key("i", &[("a", "1")], &[("b", "2"), ("1.sql", "x"), ("2.sql", "y")]),
        ] {
            assert_ne!(base, other);
        }
        assert_eq!(base.as_str().len(), 24);
    }
}
