//! The files in the binary: profiles, and the files that they name.

use devenv_shipped::FILES;

/// The built-in profiles that a project may extend: name and text.
pub(super) fn profiles() -> impl Iterator<Item = (&'static str, &'static str)> {
    devenv_shipped::documents("profiles")
}

/// The built-in profiles that are examples or that a scenario runs: found by name, and listed only on request.
pub(super) fn examples() -> impl Iterator<Item = (&'static str, &'static str)> {
    ["examples/profiles", "chaos/profiles"].into_iter().flat_map(devenv_shipped::documents)
}

/// The text of a built-in profile.
pub(super) fn profile(name: &str) -> Option<&'static str> {
    profiles().chain(examples()).find(|(known, _)| *known == name).map(|(_, text)| text)
}

/// The built-in files at a path, which may be a directory: their paths and texts, in path order.
pub(crate) fn files(path: &str) -> Vec<(&'static str, &'static str)> {
    let path = path.trim_end_matches('/');
    FILES
        .iter()
        .filter(|(known, _)| known.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
        .copied()
        .collect()
}
