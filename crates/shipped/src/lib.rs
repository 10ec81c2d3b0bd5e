//! Files that are embedded in the binary, so that built-in profiles and scenarios work in an empty directory: with their scripts, data
//! sets and rules.
//!
//! The build script lists every file of `profiles`, `examples/profiles`, `chaos`, `init-scripts` and `seed-data`; a new file needs no
//! further change.

/// The text of every embedded file by its path in a project, sorted.
pub const FILES: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// The YAML documents directly in a directory: their names, without the extension, and their texts.
pub fn documents(directory: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    FILES.iter().filter_map(move |(path, text)| {
        let name = path.strip_prefix(directory)?.strip_prefix('/')?.strip_suffix(".yaml")?;
        (!name.contains('/')).then_some((name, *text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directory_is_in_the_binary_in_the_order_of_its_paths() {
        assert!(FILES.is_sorted_by_key(|(path, _)| *path));
        for directory in ["chaos/", "examples/profiles/", "init-scripts/", "profiles/", "seed-data/"] {
            assert!(FILES.iter().any(|(path, text)| path.starts_with(directory) && !text.is_empty()), "{directory}");
        }
        assert!(documents("profiles").any(|(name, text)| name == "default" && text.contains("services:")));
        assert!(documents("init-scripts").next().is_none());
    }
}
