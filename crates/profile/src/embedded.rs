//! What ships inside the binary: profiles, and the files that they name.

use devenv_shipped::FILES;

/// The shipped profiles that a project may build on: name and text.
pub(super) fn profiles() -> impl Iterator<Item = (&'static str, &'static str)> {
    devenv_shipped::documents("profiles")
}

/// The shipped profiles that show something, or that a scenario runs: found by their names, and not listed unless asked for.
pub(super) fn examples() -> impl Iterator<Item = (&'static str, &'static str)> {
    ["examples/profiles", "chaos/profiles"].into_iter().flat_map(devenv_shipped::documents)
}

/// The text of a shipped profile.
pub(super) fn profile(name: &str) -> Option<&'static str> {
    profiles().chain(examples()).find(|(known, _)| *known == name).map(|(_, text)| text)
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
