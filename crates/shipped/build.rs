//! Lists the files that are embedded in the binary: everything in the directories below, by its path in a project.

use std::{
    env,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

const DIRECTORIES: &[&str] = &["chaos", "examples/profiles", "init-scripts", "profiles", "seed-data"];

fn main() -> io::Result<()> {
    let variable = |name: &str| env::var_os(name).map(PathBuf::from).ok_or_else(|| io::Error::other(format!("{name} is not set")));
    let root = variable("CARGO_MANIFEST_DIR")?.join("../..").canonicalize()?;
    let mut found = Vec::new();
    for directory in DIRECTORIES {
        println!("cargo::rerun-if-changed={}", root.join(directory).display());
        collect(&root.join(directory), &mut found)?;
    }
    let prefix = format!("{}/", root.display());
    let mut found: Vec<String> = found.iter().map(|path| path.display().to_string()).collect();
    found.sort();
    let mut text = String::from("&[\n");
    for path in found {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    ({:?}, include_str!({path:?})),", path.trim_start_matches(&prefix));
    }
    text.push_str("]\n");
    fs::write(variable("OUT_DIR")?.join("files.rs"), text)
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            collect(&path, found)?;
        } else if !name.starts_with('.') && !name.ends_with('~') {
            // Files of editors are left out too.
            found.push(path);
        }
    }
    Ok(())
}
