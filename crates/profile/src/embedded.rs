//! What ships inside the binary: profiles, and the files that they name.

use devenv_shipped::FILES;

/// The shipped profiles: name and text.
pub(super) fn profiles() -> impl Iterator<Item = (&'static str, &'static str)> {
    devenv_shipped::documents("profiles")
}

/// The text of a shipped profile.
pub(super) fn profile(name: &str) -> Option<&'static str> {
    profiles().find(|(known, _)| *known == name).map(|(_, text)| text)
}

/// The shipped files at a path, which may be a directory: their paths and texts, in path order.
pub(crate) fn files(path: &str) -> Vec<(&'static str, &'static str)> {
    let path = path.trim_end_matches('/');
    FILES
        .iter()
        .filter(|(known, _)| known.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
        .copied()
        .collect()
}
