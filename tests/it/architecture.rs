//! The arrows that must never exist, read off the `use crate::…` lines (and every other path) of the sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A file (relative to `src/`) may not mention a path; the text says why.
struct Rule {
    from: fn(&str) -> bool,
    never: &'static [&'static str],
    text: &'static str,
}

const RULES: &[Rule] = &[
    Rule { from: |file| !file.starts_with("engine/docker/"), never: &["bollard"], text: "only engine/docker speaks to bollard" },
    Rule {
        from: |file| is_pure(file) && file != "profile/load.rs" && !file.starts_with("profile/load/"),
        never: &[
            "crate::engine",
            "crate::process",
            "tokio::",
            "std::net::Tcp",
            "std::fs",
            "SystemTime::now",
            "Instant::now()",
            "Timestamp::now",
        ],
        text: "profiles, specs, kinds, faults and the planner are pure: data in, data out",
    },
    Rule {
        from: |file| file.starts_with("reconcile/"),
        never: &["crate::service", "crate::fault"],
        text: "reconcile sees specs, never kinds or faults",
    },
    Rule {
        from: |file| file.starts_with("cli/") && file != "cli/daemon.rs",
        never: &["crate::reconcile", "crate::engine", "crate::server", "crate::daemon"],
        text: "the command line speaks to the daemon through the client; cli/daemon.rs alone runs it",
    },
    Rule {
        from: |file| file.starts_with("server/"),
        never: &["crate::engine", "crate::process", "crate::service"],
        text: "handlers send commands to handles",
    },
    Rule {
        from: |file| file.starts_with("watch/") || file.starts_with("probe/"),
        never: &["crate::reconcile"],
        text: "watch and probe emit observations",
    },
];

/// Kinds are one file each and do not know one another.
const KINDS: &[&str] =
    &["postgres", "redis", "kafka", "redpanda", "pgbouncer", "jaeger", "prometheus", "grafana", "s3", "container", "process"];

fn is_pure(file: &str) -> bool {
    ["profile/", "spec/", "service/", "fault/"].iter().any(|directory| file.starts_with(directory))
        || ["reconcile/state.rs", "reconcile/plan.rs", "reconcile/backoff.rs"].contains(&file)
}

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("the sources are there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file: comments and its test module left out.
fn code(path: &Path) -> Vec<(usize, String)> {
    let text = fs::read_to_string(path).expect("a source is text");
    let body = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
    body.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(number, line)| (number + 1, line.to_owned()))
        .collect()
}

fn is_test(file: &str) -> bool {
    file.ends_with("tests.rs")
        || file.contains("/tests/")
        || file.ends_with("/testing.rs")
        || file.contains("fake")
        || file.contains("conformance")
        || file.ends_with("/hostile.rs")
}

#[test]
fn no_forbidden_arrow_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    assert!(files.len() > 50, "the sources were not found");
    let mut broken = Vec::new();
    for path in &files {
        let file = path.strip_prefix(&root).expect("below the root").to_string_lossy().into_owned();
        if is_test(&file) {
            continue;
        }
        for rule in RULES.iter().filter(|rule| (rule.from)(&file)) {
            for (number, line) in code(path) {
                if let Some(word) = rule.never.iter().find(|word| line.contains(**word)) {
                    broken.push(format!("src/{file}:{number}: `{word}`: {}", rule.text));
                }
            }
        }
        if let Some(kind) = KINDS.iter().find(|kind| file == format!("service/{kind}.rs") || file.starts_with(&format!("service/{kind}/")))
        {
            for (number, line) in code(path) {
                for other in KINDS.iter().filter(|other| *other != kind) {
                    if line.contains(&format!("super::{other}::")) || line.contains(&format!("service::{other}::")) {
                        broken.push(format!("src/{file}:{number}: `{other}`: no kind knows another"));
                    }
                }
            }
        }
    }
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

#[test]
fn crates_do_not_depend_on_the_supervisor() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates");
    for entry in fs::read_dir(crates).expect("the crates are there").flatten() {
        let manifest = fs::read_to_string(entry.path().join("Cargo.toml")).expect("a crate has a manifest");
        let depends = manifest.lines().any(|line| line.starts_with("devenv =") || line.starts_with("devenv."));
        assert!(!depends, "{} depends on devenv", entry.path().display());
    }
}
