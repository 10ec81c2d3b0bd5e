//! The directories of a project that are projects of their own: those that its workspace names, else those in the usual places of a monorepo.
//! Reads small files, follows no links, and never leaves the project.

use std::{fs, path::Path};

use serde_json::Value;

use super::{
    detect::{MANIFESTS, read},
    libraries::quoted_texts,
};

/// Of a larger monorepo, the first ones.
const MOST: usize = 100;
/// Levels below a `**`.
const DEEPEST: usize = 3;
/// What holds no projects of the repository's own.
const PASSED_OVER: &[&str] = &["node_modules", "target", "vendor", "dist", "build", "out", "__pycache__", "venv", "bin", "obj"];
/// Where monorepos without a workspace have their projects.
const USUAL: &[&str] =
    &["apps/*", "services/*", "packages/*", "api", "app", "backend", "client", "frontend", "gateway", "server", "ui", "web", "worker"];

/// The projects below this directory, by their paths relative to it.
pub(super) fn members(directory: &Path) -> Vec<String> {
    let patterns = patterns(directory);
    let (left_out, named): (Vec<&str>, Vec<&str>) = patterns.iter().map(String::as_str).partition(|pattern| pattern.starts_with('!'));
    let mut found: Vec<String> = Vec::new();
    for pattern in named.iter().chain(USUAL) {
        for path in expand(directory, pattern) {
            let is_project = MANIFESTS.iter().any(|manifest| directory.join(&path).join(manifest).is_file());
            if is_project && !path.is_empty() && !found.contains(&path) {
                found.push(path);
            }
        }
    }
    for pattern in left_out {
        let without = expand(directory, pattern.trim_start_matches('!'));
        found.retain(|path| !without.contains(path));
    }
    found.truncate(MOST);
    found
}

/// Whether the manifest is that of a workspace, whose own command would start the programs of its members once more.
pub(super) fn is_workspace(manifest: &str, text: &str, directory: &Path) -> bool {
    manifest == "package.json"
        && (!node_workspaces(text, "workspaces").is_empty()
            || ["pnpm-workspace.yaml", "lerna.json"].iter().any(|file| directory.join(file).is_file()))
}

/// What the tools of the languages are told, with `!` before what is left out.
fn patterns(directory: &Path) -> Vec<String> {
    let file = |name: &str| read(&directory.join(name)).unwrap_or_default();
    let mut found = node_workspaces(&file("package.json"), "workspaces");
    found.extend(node_workspaces(&file("lerna.json"), "packages"));
    found.extend(pnpm_packages(&file("pnpm-workspace.yaml")));
    let cargo = file("Cargo.toml");
    found.extend(toml_list(&cargo, "workspace", "members"));
    found.extend(toml_list(&cargo, "workspace", "exclude").iter().map(|path| format!("!{path}")));
    found.extend(toml_list(&file("pyproject.toml"), "tool.uv.workspace", "members"));
    found.extend(go_uses(&file("go.work")));
    found.extend(gradle_includes(&file("settings.gradle")));
    found.extend(gradle_includes(&file("settings.gradle.kts")));
    let pom = file("pom.xml");
    found.extend(pom.split("<module>").skip(1).filter_map(|rest| Some(rest.split_once("</module>")?.0.trim().to_owned())));
    found
}

/// A list of texts, or one below `packages`.
fn node_workspaces(text: &str, key: &str) -> Vec<String> {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let list = value[key].as_array().or_else(|| value[key]["packages"].as_array());
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn pnpm_packages(text: &str) -> Vec<String> {
    let Some((_, rest)) = text.split_once("packages:") else { return Vec::new() };
    let (first, lines) = rest.split_once('\n').unwrap_or((rest, ""));
    if first.contains('[') {
        return quoted_texts(rest.split(']').next().unwrap_or_default());
    }
    let is_part = |line: &&str| line.trim().is_empty() || line.trim_start().starts_with(['-', '#']);
    let items = lines.lines().take_while(is_part).filter_map(|line| line.trim().strip_prefix('-'));
    items.map(|item| item.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned()).collect()
}

/// `key = ["…", "…"]` in a section.
pub(super) fn toml_list(text: &str, section: &str, key: &str) -> Vec<String> {
    let header = format!("[{section}]");
    let mut lines = text.lines().skip_while(|line| line.trim() != header).skip(1).take_while(|line| !line.starts_with('['));
    let starts = |line: &str| line.trim().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='));
    let Some(first) = lines.find(|line| starts(line)) else { return Vec::new() };
    let mut list = String::new();
    for line in std::iter::once(first).chain(lines) {
        let line = line.split('#').next().unwrap_or_default();
        list.push_str(line);
        list.push('\n');
        if line.contains(']') {
            break;
        }
    }
    quoted_texts(&list)
}

fn go_uses(text: &str) -> Vec<String> {
    let mut in_list = false;
    let mut found = Vec::new();
    for line in text.lines().map(|line| line.split("//").next().unwrap_or_default().trim()) {
        match line {
            ")" => in_list = false,
            "use (" | "use(" => in_list = true,
            path if in_list && !path.is_empty() => found.push(path.to_owned()),
            line => found.extend(line.strip_prefix("use ").map(|path| path.trim().to_owned())),
        }
    }
    found
}

/// `include(":api", "libs:model")`
fn gradle_includes(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with("include") && !line.starts_with("includeBuild"));
    lines.flat_map(quoted_texts).map(|path| path.trim_start_matches(':').replace(':', "/")).collect()
}

/// The directories that a pattern with `*` and `**` names.
fn expand(directory: &Path, pattern: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    for part in pattern.split('/').filter(|part| !part.is_empty() && *part != ".") {
        found = match part {
            // Outside of the project is nothing of it.
            ".." => return Vec::new(),
            "**" => found.iter().flat_map(|path| below(directory, path, DEEPEST)).collect(),
            part if part.contains('*') => {
                let within = found.iter().flat_map(|path| directories(directory, path).into_iter().map(move |name| (path, name)));
                within.filter(|(_, name)| matches(part, name)).map(|(path, name)| joined(path, &name)).collect()
            }
            part => found.iter().map(|path| joined(path, part)).filter(|path| is_directory(&directory.join(path))).collect(),
        };
        found.truncate(10 * MOST);
    }
    found
}

fn below(directory: &Path, path: &str, levels: usize) -> Vec<String> {
    let mut found = vec![path.to_owned()];
    if levels > 0 {
        for name in directories(directory, path) {
            found.extend(below(directory, &joined(path, &name), levels - 1));
        }
    }
    found
}

/// The names of the directories in one, in order.
pub(super) fn directories(directory: &Path, path: &str) -> Vec<String> {
    let entries = fs::read_dir(directory.join(path)).into_iter().flatten().flatten().take(1000);
    let names = entries.filter(|entry| is_directory(&entry.path())).filter_map(|entry| entry.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| !name.starts_with('.') && !PASSED_OVER.contains(&name.as_str())).collect();
    names.sort();
    names
}

fn is_directory(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

pub(super) fn joined(path: &str, name: &str) -> String {
    match (path, name) {
        ("", name) => name.to_owned(),
        (path, ".") => path.to_owned(),
        (path, name) => format!("{path}/{name}"),
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut parts = parts.peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_from_the_files_of_each_tool() {
        assert_eq!(node_workspaces(r#"{"workspaces":["a/*"]}"#, "workspaces"), ["a/*"]);
        assert_eq!(node_workspaces(r#"{"workspaces":{"packages":["b"]}}"#, "workspaces"), ["b"]);
        assert_eq!(pnpm_packages("packages:\n  - 'apps/*' # all\n\n  # no\n  - \"!apps/old\"\ncatalog:\n  - x\n"), ["apps/*", "!apps/old"]);
        assert_eq!(pnpm_packages("packages: [\"a\", 'b']\n"), ["a", "b"]);
        let cargo = "[package]\nmembers = [\"no\"]\n[workspace]\nresolver = \"3\"\nmembers = [ # these\n  \"crates/*\",\n  \"x\", # \"y\"\n]\nexclude = [\"crates/z\"]\n";
        assert_eq!(toml_list(cargo, "workspace", "members"), ["crates/*", "x"]);
        assert_eq!(toml_list(cargo, "workspace", "exclude"), ["crates/z"]);
        assert_eq!(go_uses("go 1.24\nuse ./a\nuse (\n\t./b // b\n\t./c\n)\n"), ["./a", "./b", "./c"]);
        assert_eq!(
            gradle_includes("include(\":api\", \"libs:model\")\ninclude 'web'\nincludeBuild(\"other\")\n"),
            ["api", "libs/model", "web"]
        );
    }

    #[test]
    fn patterns_name_directories_of_the_project_and_neither_links_nor_what_is_outside() {
        let project = tempfile::tempdir().unwrap();
        let outside = tempfile::tempdir().unwrap();
        for path in ["apps/web", "apps/api-v2", "apps/node_modules", "apps/.git", "libs/deep/er"] {
            fs::create_dir_all(project.path().join(path)).unwrap();
        }
        std::os::unix::fs::symlink(outside.path(), project.path().join("apps/link")).unwrap();
        let expanded = |pattern| expand(project.path(), pattern);
        assert_eq!(expanded("./apps/*/"), ["apps/api-v2", "apps/web"]);
        assert_eq!(expanded("apps/api-*"), ["apps/api-v2"]);
        assert_eq!(expanded("libs/**"), ["libs", "libs/deep", "libs/deep/er"]);
        assert_eq!(expanded("/apps/web"), ["apps/web"]);
        for nothing in ["../*", "apps/../..", "apps/link", "none/*", "*/x/*"] {
            assert!(expanded(nothing).is_empty(), "{nothing}");
        }
        assert!(matches("*", "x") && matches("a*c*e", "abcde") && !matches("a*c", "abcd") && !matches("ab", "abc"));
    }
}
