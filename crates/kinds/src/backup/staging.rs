//! PURE: the names of the databases beside one that is being replaced.
//!
//! Servers limit names to 63 bytes (PostgreSQL, which truncates silently) or 64 characters (MariaDB), and a
//! database of the user may use them all. So a name is a readable prefix and a hash of the whole name.

use sha2::{Digest, Sha256};

/// The number of bytes of the database's own name.
const BEGINNING: usize = 30;
/// Hexadecimal digits.
const HASH: usize = 16;

/// The name of a restored database that is not in use yet.
pub(crate) fn staged_name(database: &str) -> String {
    named(database, "restored")
}

/// The name of the old database until the restored one is final.
pub(crate) fn former_name(database: &str) -> String {
    named(database, "former")
}

fn named(database: &str, what: &str) -> String {
    let end = (0..=BEGINNING.min(database.len())).rev().find(|end| database.is_char_boundary(*end)).unwrap_or_default();
    let hash = hex::encode(Sha256::digest(database));
    format!("{} {what} {}", &database[..end], &hash[..HASH])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_database_are_short_and_their_own() {
        let long = "x".repeat(60);
        let databases = ["app", "app2", &format!("{long}abc"), &format!("{long}abd"), &"ä".repeat(31), ""];
        let names: std::collections::HashSet<String> =
            databases.iter().flat_map(|database| [staged_name(database), former_name(database)]).collect();
        assert_eq!(names.len(), 2 * databases.len());
        assert!(names.iter().all(|name| name.len() <= 63 && !databases.contains(&name.as_str())));
        assert_eq!(staged_name("app"), staged_name("app"), "the next daemon finds it again");
    }
}
