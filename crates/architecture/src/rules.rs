//! What no file may name, beyond what Cargo enforces. Each rule has a reason, and an example file in
//! which the tests plant a violation.

use crate::source::Source;

/// Files of one crate may not name these paths, nor call these methods.
pub struct Rule {
    /// As in `Cargo.toml`: `devenv` is the root.
    pub package: &'static str,
    /// Whether the rule applies to this file, relative to `src`.
    pub about: fn(&str) -> bool,
    /// A file that it applies to.
    pub example: &'static str,
    pub never: &'static [&'static [&'static str]],
    pub calls: &'static [&'static str],
    pub text: &'static str,
}

const DISK: &[&str] = &["std::fs", "tokio::fs", "devenv_files", "tempfile"];
const DISK_CALLS: &[&str] =
    &["exists", "try_exists", "is_file", "is_dir", "canonicalize", "read_dir", "read_link", "metadata", "symlink_metadata"];
const NETWORK: &[&str] = &[
    "std::net::TcpStream",
    "std::net::TcpListener",
    "std::net::UdpSocket",
    "std::os::unix::net",
    "tokio::net",
    "reqwest",
    "hyper",
    "redis",
    "rdkafka",
    "tokio_postgres",
];
const TASKS: &[&str] = &["tokio", "std::process::Command", "std::thread"];
const CLOCK: &[&str] = &["std::time::Instant::now", "std::time::SystemTime::now", "jiff::Timestamp::now", "jiff::Zoned::now"];
const EFFECTS: &[&str] = &["devenv_engine", "devenv_processes", "devenv_secrets"];
const PURE: &[&[&str]] = &[DISK, NETWORK, TASKS, CLOCK, EFFECTS];

pub const RULES: &[Rule] = &[
    Rule {
        package: "devenv-engine",
        about: |file| !file.starts_with("docker/"),
        example: "labels.rs",
        never: &[&["bollard"]],
        calls: &[],
        text: "in the engine crate, only docker/ uses bollard",
    },
    Rule {
        package: "devenv-profile",
        about: |file| !loads_profiles(file),
        example: "merge.rs",
        never: PURE,
        calls: DISK_CALLS,
        text: "only load.rs, load/ and find.rs of the profile crate read the disk; the rest is pure",
    },
    Rule {
        package: "devenv-profile",
        about: loads_profiles,
        example: "find.rs",
        never: &[NETWORK, TASKS, CLOCK, EFFECTS],
        calls: &[],
        text: "profiles are loaded from the disk, and from nowhere else",
    },
    Rule {
        package: "devenv-document",
        about: |_| true,
        example: "tree.rs",
        never: PURE,
        calls: DISK_CALLS,
        text: "documents are plain data",
    },
    Rule {
        package: "devenv-compose",
        about: |_| true,
        example: "merge.rs",
        never: PURE,
        calls: DISK_CALLS,
        text: "Compose files are read through a trait: the profile crate has the disk",
    },
    Rule { package: "devenv-spec", about: |_| true, example: "workload.rs", never: PURE, calls: DISK_CALLS, text: "specs are plain data" },
    Rule {
        package: "devenv-faults",
        about: |_| true,
        example: "kill.rs",
        never: PURE,
        calls: DISK_CALLS,
        text: "faults are described as data; the daemon injects them",
    },
    Rule {
        package: "devenv-kinds",
        about: is_pure_part_of_a_kind,
        example: "postgres/spec.rs",
        never: PURE,
        calls: DISK_CALLS,
        text: "a kind describes its services purely: fields, spec, rules, topics and diagnosis are data in, data out",
    },
    Rule {
        package: "devenv",
        about: |file| ["reconcile/state.rs", "reconcile/plan.rs", "reconcile/backoff.rs"].contains(&file),
        example: "reconcile/plan.rs",
        never: PURE,
        calls: DISK_CALLS,
        text: "the planner is pure",
    },
    Rule {
        package: "devenv",
        about: |file| file.starts_with("reconcile/"),
        example: "reconcile/actor.rs",
        never: &[&["devenv_kinds", "devenv_faults", "devenv_profile", "devenv_chaos"]],
        calls: &[],
        text: "reconcile sees specs, never kinds, faults or profiles",
    },
    Rule {
        package: "devenv",
        about: |file| file.starts_with("cli/") && file != "cli/daemon.rs",
        example: "cli/up.rs",
        never: &[
            &["devenv_engine"],
            &[
                "crate::daemon",
                "crate::server",
                "crate::reconcile",
                "crate::golden",
                "crate::runtime",
                "crate::reload",
                "crate::faults",
                "crate::environment",
                "crate::operation",
                "crate::operation_store",
                "crate::store",
                "crate::event",
            ],
        ],
        calls: &[],
        text: "the command line speaks to the daemon through the client; cli/daemon.rs alone runs it",
    },
    Rule {
        package: "devenv",
        // Tests run it in their own process through `hosted`.
        about: |file| !["cli/daemon.rs", "hosted.rs"].contains(&file) && !file.starts_with("daemon/"),
        example: "server/mod.rs",
        never: &[&["crate::daemon::run"]],
        calls: &[],
        text: "cli/daemon.rs alone runs the daemon",
    },
    Rule {
        package: "devenv",
        about: |file| !file.starts_with("cli/") && file != "lib.rs",
        example: "daemon/mod.rs",
        never: &[&["crate::cli"]],
        calls: &[],
        text: "nothing below the command line knows it",
    },
    Rule {
        package: "devenv",
        about: |file| file.starts_with("server/"),
        example: "server/log.rs",
        never: &[&["devenv_engine", "devenv_processes", "devenv_kinds", "devenv_snapshots", "devenv_watch"]],
        calls: &[],
        text: "handlers submit operations and read snapshots of state; they touch nothing themselves",
    },
];

/// The modules of the root crate from the lowest: each may name those of earlier rows, and no others. The command line
/// (`cli`) stands beside the rooms of the daemon and has rules of its own.
pub const ROOMS: &[&[&str]] = &[
    &["blocking", "error", "inherit", "openapi", "paths"],
    &["event", "net", "store"],
    &["backups", "operation_store", "reconcile"],
    &["golden"],
    &["runtime"],
    &["faults", "reload"],
    &["environment", "doctor"],
    &["operation"],
    &["server"],
    &["daemon"],
    &["hosted"],
];

/// A kind that uses another one's protocol: its folder may name the other's.
pub const BUILT_ON: &[(&str, &str)] = &[("redpanda", "kafka"), ("pgbouncer", "postgres")];

fn loads_profiles(file: &str) -> bool {
    ["load.rs", "find.rs"].contains(&file) || file.starts_with("load/")
}

fn is_pure_part_of_a_kind(file: &str) -> bool {
    file.starts_with("describe/")
        || file.contains("/fields/")
        || ["/fields.rs", "/spec.rs", "/rules.rs", "/topics.rs", "/diagnosis.rs"].iter().any(|pure| file.ends_with(pure))
        || file.starts_with("diagnosis/")
}

/// The violations in a package's files, as `package/src/file:line: what: why`.
pub fn violations(package: &str, source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for rule in RULES.iter().filter(|rule| rule.package == package) {
        for mention in source.mentions.iter().filter(|mention| (rule.about)(&mention.file)) {
            if let Some(path) = rule.never.iter().copied().flatten().find(|path| mention.is_below(path)) {
                found.push(format!("{package}/src/{}:{}: `{path}`: {}", mention.file, mention.line, rule.text));
            }
        }
        for call in source.calls.iter().filter(|call| (rule.about)(&call.file) && rule.calls.contains(&call.method.as_str())) {
            found.push(format!("{package}/src/{}:{}: `.{}()`: {}", call.file, call.line, call.method, rule.text));
        }
    }
    found.sort();
    found.dedup();
    found
}

/// The files that may write a kind's name as text, each with its meaning there.
pub const TEXTS_THAT_ARE_NO_KIND: &[(&str, &str, &str)] = &[
    ("devenv", "cli/args.rs", "the command `redis`"),
    ("devenv", "cli/client.rs", "schemes of addresses"),
    ("devenv", "cli/completions/values.rs", "the command `redis`"),
    ("devenv", "cli/help.rs", "pages of the guide"),
    ("devenv", "cli/new/libraries.rs", "the text of a profile that is written, by the client libraries of a project"),
    ("devenv-compose", "", "the document of a profile, whose services are containers"),
    ("devenv-profile", "compose.rs", "the same document"),
    ("devenv-profile", "render.rs", "the same document"),
    ("devenv-architecture", "", "the rules themselves"),
    ("devenv-engine", "", "containers and processes are the engine's own objects"),
    ("devenv-spec", "", "workloads are containers or processes"),
    ("devenv", "operation/gc.rs", "what gc removes is a container of the engine"),
    ("devenv", "reconcile/execute/run.rs", "what is not found is a container of the engine"),
    ("devenv-harness", "private.rs", "a client for test suites, which speaks these servers' protocols itself"),
];

/// Where a kind's folder names another kind's. `kinds` are the folders.
pub fn kinds_that_name_others(kinds: &[String], source: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for mention in &source.mentions {
        let (Some(own), [start, other, ..]) = (mention.module.first().filter(|own| kinds.contains(own)), mention.path.as_slice()) else {
            continue;
        };
        let allowed = BUILT_ON.contains(&(own.as_str(), other.as_str()));
        if start == "crate" && own != other && kinds.contains(other) && !allowed {
            found.push(format!("devenv-kinds/src/{}:{}: `{other}`: no kind knows another", mention.file, mention.line));
        }
    }
    found
}

/// Where a file outside of the kinds' crate names a kind's folder.
pub fn outsiders_that_name_kinds(package: &str, kinds: &[String], source: &Source) -> Vec<String> {
    let names_kind = |path: &[String]| matches!(path, [start, kind, ..] if start == "devenv_kinds" && kinds.contains(kind));
    let outside = source.mentions.iter().filter(|mention| names_kind(&mention.path));
    outside.map(|mention| format!("{package}/src/{}:{}: only `kinds` names a kind", mention.file, mention.line)).collect()
}

/// Where a file outside of the kinds' crate writes a kind's name as text, to compare or to choose by it.
pub fn outsiders_that_write_kinds(package: &str, kinds: &[String], source: &Source) -> Vec<String> {
    let known = |file: &str| TEXTS_THAT_ARE_NO_KIND.iter().any(|(of, part, _)| *of == package && file.starts_with(part));
    let named = source.texts.iter().filter(|text| kinds.contains(&text.text) && !known(&text.file));
    named.map(|text| format!("{package}/src/{}:{}: \"{}\": ask the kind for an ability instead", text.file, text.line, text.text)).collect()
}
