//! Files that travel in the binary, so that a shipped profile works in an empty directory: its scripts, data sets, rules.

/// Every shipped file by its path in a project, sorted.
pub(crate) const FILES: &[(&str, &[u8])] = &[];

/// The text of a shipped file, such as a file of alert rules.
pub(crate) fn text(path: &str) -> Option<&'static str> {
    FILES.iter().find(|(name, _)| *name == path).and_then(|(_, bytes)| std::str::from_utf8(bytes).ok())
}
