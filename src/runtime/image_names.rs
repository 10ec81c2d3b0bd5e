//! The names that loading an archive would give to images, read from the lists in it before the engine sees any of it.
//!
//! An archive may come from anybody. It must not take the place of an image that devenv itself makes and runs.

use std::{
    collections::BTreeSet,
    io::{self, Read, Seek},
    path::{Component, Path},
};

use serde_json::Value;

/// The lists of an archive: Docker's, OCI's, and that of old Docker versions.
const LISTS: [&str; 3] = ["manifest.json", "index.json", "repositories"];
/// The most that a list may hold, in bytes.
const LARGEST_LIST: u64 = 8 << 20;
/// The most files that an archive may hold.
const MOST_FILES: usize = 1_000_000;
/// What the names of images begin with that devenv makes.
const OWN: &str = "devenv-";

/// Every name in an archive that is not compressed.
pub(super) fn named_in(archive: impl Read + Seek) -> io::Result<BTreeSet<String>> {
    let mut archive = tar::Archive::new(archive);
    let (mut names, mut lists) = (BTreeSet::new(), 0);
    for (count, entry) in archive.entries_with_seek()?.enumerate() {
        let entry = entry?;
        if count == MOST_FILES {
            return Err(invalid("it holds too many files"));
        }
        let path = entry.path()?;
        let Some(list) = LISTS.into_iter().find(|list| is_at_root(&path, list)) else { continue };
        // A link could lead to a list under another name.
        if !entry.header().entry_type().is_file() || entry.size() > LARGEST_LIST {
            return Err(invalid(&format!("its `{list}` is not a file, or too large")));
        }
        let value: Value = serde_json::from_reader(entry).map_err(|error| invalid(&format!("its `{list}` is not JSON: {error}")))?;
        collect(list, &value, &mut names);
        lists += 1;
    }
    if lists == 0 {
        return Err(invalid("it has no list of images; a compressed archive must be decompressed first"));
    }
    Ok(names)
}

/// Whether an image of this name is one that devenv makes.
pub(super) fn is_own(name: &str) -> bool {
    let bare = ["docker.io/", "index.docker.io/", "localhost/"].iter().find_map(|registry| name.strip_prefix(registry)).unwrap_or(name);
    let bare = bare.strip_prefix("library/").unwrap_or(bare);
    // With a slash it is the account of somebody else.
    bare.starts_with(OWN) && !bare.contains('/')
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn is_at_root(path: &Path, name: &str) -> bool {
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part),
            Component::ParentDir => drop(parts.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    parts.len() == 1 && parts[0] == name
}

fn collect(list: &str, value: &Value, names: &mut BTreeSet<String>) {
    let mut add = |value: &Value| names.extend(value.as_str().map(str::to_owned));
    match list {
        "manifest.json" => value.as_array().into_iter().flatten().filter_map(|image| image["RepoTags"].as_array()).flatten().for_each(add),
        "index.json" => {
            let annotations = value["manifests"].as_array().into_iter().flatten().filter_map(|image| image["annotations"].as_object());
            annotations.flat_map(|all| all.values()).for_each(add);
        }
        _ => {
            for (repository, tags) in value.as_object().into_iter().flatten() {
                for tag in tags.as_object().into_iter().flat_map(|tags| tags.keys()) {
                    add(&Value::from(format!("{repository}:{tag}")));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn archive(files: &[(&str, &str)]) -> Cursor<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, path, text.as_bytes()).unwrap();
        }
        Cursor::new(archive.into_inner().unwrap())
    }

    #[test]
    fn the_names_of_every_list_are_found() {
        let names = named_in(archive(&[
            ("blobs/sha256/1", "manifest.json"),
            ("./manifest.json", r#"[{ "RepoTags": ["redis:8.0", "a/b:1"] }, { "RepoTags": null }]"#),
            ("index.json", r#"{ "manifests": [{ "annotations": { "io.containerd.image.name": "docker.io/library/c:1" } }, {}] }"#),
            ("repositories", r#"{ "d": { "2": "abc" } }"#),
        ]));
        assert_eq!(names.unwrap().into_iter().collect::<Vec<_>>(), ["a/b:1", "d:2", "docker.io/library/c:1", "redis:8.0"]);
    }

    #[test]
    fn an_archive_that_hides_its_lists_is_refused() {
        assert!(named_in(archive(&[("x/manifest.json", "[]")])).unwrap_err().to_string().contains("no list of images"));
        assert!(named_in(archive(&[("manifest.json", "{")])).unwrap_err().to_string().contains("not JSON"));
        assert!(named_in(Cursor::new(b"\x1f\x8b\x08compressed".to_vec())).is_err());
        let mut linked = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        linked.append_link(&mut header, "manifest.json", "elsewhere").unwrap();
        assert!(named_in(Cursor::new(linked.into_inner().unwrap())).unwrap_err().to_string().contains("not a file"));
    }

    #[test]
    fn devenvs_own_images_are_known_under_every_spelling() {
        for name in ["devenv-holder:1", "docker.io/library/devenv-holder:1", "library/devenv-inline:x", "localhost/devenv-holder"] {
            assert!(is_own(name), "{name}");
        }
        for name in [
            "redis:8.0",
            "me/devenv-holder:1",
            "registry.example.com/devenv-holder:1",
            "devenv/postgres-base:trixie",
            "devenv-test/archived:1",
        ] {
            assert!(!is_own(name), "{name}");
        }
    }
}
