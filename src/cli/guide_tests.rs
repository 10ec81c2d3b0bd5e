//! Tests the samples of the documentation: every profile is valid, every scenario can be parsed, every command line of `devenv` parses,
//! and every document in JSON is what its reader expects. Samples in Rust and TOML are tested by `crates/harness`, and the commands of the
//! first page are run by `tests/docker/guide.rs`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use devenv_profile::{ComposeRequest, LoadError, LoadRequest, load as loader};
use serde_json::Value;

use super::args;

/// A block of code: its page and line, its language, its text.
struct Sample {
    place: String,
    language: String,
    text: String,
}

/// Besides those of the guide and the reference.
const PAGES: &[&str] =
    &["README.md", "docs/security.md", "docs/images.md", "docs/compose.md", "examples/shop/README.md", "contrib/README.md"];

fn samples() -> Vec<Sample> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages: Vec<PathBuf> = PAGES.iter().map(|page| root.join(page)).collect();
    for folder in ["docs/guide", "docs/guide/services", "docs/reference"] {
        let entries = fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        pages.extend(entries.filter(|path| path.extension().is_some_and(|extension| extension == "md")));
    }
    pages.iter().flat_map(|page| in_page(root, page)).collect()
}

fn in_page(root: &Path, page: &Path) -> Vec<Sample> {
    let text = fs::read_to_string(page).unwrap();
    let name = page.strip_prefix(root).unwrap().display().to_string();
    let mut found = Vec::new();
    let mut open: Option<Sample> = None;
    for (number, line) in text.lines().enumerate() {
        match (line.trim_start().strip_prefix("```"), &mut open) {
            (Some(language), None) => {
                open = Some(Sample { place: format!("{name}:{}", number + 1), language: language.trim().to_owned(), text: String::new() });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (None, Some(sample)) => {
                sample.text.push_str(line);
                sample.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{name}: a block of code has no end");
    found
}

/// A project with the files that samples refer to.
fn project() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let files = [
        "init-scripts/postgres/1.sql",
        "seed-data/demo/postgres/1.sql",
        "db/migrations/1.sql",
        "db/seeds/1.sql",
        "db/init/1.sql",
        "services/api/src/main.rs",
        "src/main.rs",
        "Cargo.toml",
        ".secrets/licence",
        "mq/messages.jsonl",
        "init/1.sql",
        "seed/1.sql",
        "admin/1.sql",
    ];
    for file in files {
        let path = directory.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    fs::create_dir(directory.path().join("profiles")).unwrap();
    fs::write(directory.path().join("mq/definitions.json"), "{}").unwrap();
    directory
}

/// The problems of a profile, or of a Compose file on the page about them.
fn problems(sample: &Sample, text: &str) -> Option<String> {
    let directory = project();
    let environment: BTreeMap<String, String> =
        ["PAYMENT_KEY", "STRIPE_KEY", "HOME"].into_iter().map(|name| (name.to_owned(), "x".to_owned())).collect();
    let outcome = if sample.place.starts_with("docs/guide/compose.md") {
        let file = directory.path().join("compose.yaml");
        fs::write(&file, text).unwrap();
        let project = directory.path();
        let request = ComposeRequest {
            project,
            name: "compose.yaml",
            files: &[file],
            environment: &environment,
            profiles: &[],
            services: &[],
            trusted: true,
        };
        loader::load_compose(&request).map(drop)
    } else {
        fs::write(directory.path().join("profiles/sample.yaml"), text).unwrap();
        let project = directory.path();
        loader::load(&LoadRequest { project, profile: "sample", environment: &environment, user_directory: None, trusted: true }).map(drop)
    };
    match outcome {
        Ok(()) => None,
        Err(LoadError::Invalid { report, .. }) => Some(format!("{}: {}", sample.place, report.render())),
        Err(error) => Some(format!("{}: {error}", sample.place)),
    }
}

/// Pages and lines about one field of a service show only that.
fn whole(text: &str) -> Option<String> {
    let value: serde_yaml::Value = serde_yaml::from_str(text).ok()?;
    let first = value.as_mapping()?.keys().next()?.as_str()?.to_owned();
    let indented = |by: &str| text.lines().map(|line| format!("{by}{line}\n")).collect::<String>();
    let top = ["services", "extends", "description", "variables", "secrets", "env_file", "network", "x-"];
    let service = ["process", "container", "probe", "watch", "storage", "postgres", "redis", "kafka", "mariadb", "rabbitmq", "s3"];
    if value.get("services").is_some() || top.contains(&first.as_str()) {
        Some(text.to_owned())
    } else if service.contains(&first.as_str()) {
        Some(format!("services:\n  sample:\n{}", indented("    ")))
    } else {
        Some(format!("services:\n{}", indented("  ")))
    }
}

/// What is wrong with a comment that names the schema, from a profile's directory.
fn editor_comment(text: &str) -> Option<String> {
    let path = text.trim().strip_prefix("# yaml-language-server: $schema=")?;
    let profiles = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles");
    (!profiles.join(path).is_file()).then(|| format!("{path} is no file"))
}

#[test]
fn every_profile_and_scenario_of_the_documentation_is_valid() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for sample in samples().iter().filter(|sample| sample.language == "yaml") {
        // Comments alone are for editors.
        if sample.text.lines().all(|line| line.starts_with('#')) {
            wrong.extend(editor_comment(&sample.text).map(|problem| format!("{}: {problem}", sample.place)));
            continue;
        }
        let value: Result<serde_yaml::Value, _> = serde_yaml::from_str(&sample.text);
        let has = |key: &str| value.as_ref().is_ok_and(|value| value.get(key).is_some());
        // Of other programs: they must be YAML.
        let of_others = has("jobs") || has("stages") || has("steps") || has("on");
        if of_others || (value.is_err() && !sample.text.contains('!')) {
            wrong.extend(value.err().map(|error| format!("{}: {error}", sample.place)));
            continue;
        }
        seen += 1;
        if has("workload") && has("for") {
            let read = devenv_chaos::load::read("sample", "sample.yaml", sample.text.as_bytes(), None);
            wrong.extend(read.err().map(|report| format!("{}: {}", sample.place, report.render())));
        } else if has("timeline") || has("workload") {
            wrong.extend(
                devenv_chaos::read("sample", "sample.yaml", sample.text.as_bytes(), None)
                    .err()
                    .map(|report| format!("{}: {}", sample.place, report.render())),
            );
        } else {
            let text = whole(&sample.text).unwrap_or_else(|| sample.text.clone());
            wrong.extend(problems(sample, &text));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(seen > 25, "only {seen} samples were found");
}

/// The words of a simple command as a shell splits them; `None` for anything more complex.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None::<char>);
    let mut characters = line.chars().peekable();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '|' | '>' | ';' | '&' | ')') => break,
            (None, '#') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, '\\') => word.get_or_insert_default().extend(characters.next()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Where a command of `devenv` begins in a line of a shell: at its start, after variables, or after another command.
fn commands(line: &str) -> Vec<&str> {
    let starts = line.match_indices("devenv ").map(|(at, _)| at);
    let is_command = |at: &usize| {
        let before = line[..*at].trim_end();
        let last = before.rsplit(char::is_whitespace).next().unwrap_or_default();
        let is_assignment =
            last.split_once('=').is_some_and(|(name, _)| !name.is_empty() && name.chars().all(|c| c.is_ascii_uppercase() || c == '_'));
        let is_first =
            before.is_empty() || before.ends_with("$(") || ["&&", "||", "|", ";", "if", "then", "!", "exec", "sudo"].contains(&last);
        (is_first || is_assignment) && !before.contains(" # ") && !before.starts_with('#')
    };
    starts.filter(is_command).map(|at| &line[at..]).collect()
}

/// The lines that a reader types.
fn typed(sample: &Sample) -> Vec<String> {
    let text = sample.text.replace("\\\n", " ");
    // In a console, a line without a prompt is output.
    let lines =
        text.lines().filter_map(|line| if sample.language == "console" { line.trim_start().strip_prefix("$ ") } else { Some(line.trim()) });
    lines.map(str::to_owned).collect()
}

fn is_of_a_shell(sample: &Sample) -> bool {
    ["console", "sh", "bash", "shell"].contains(&sample.language.as_str())
}

#[test]
fn every_command_line_of_the_documentation_parses() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for sample in samples().iter().filter(|sample| is_of_a_shell(sample)) {
        for line in typed(sample) {
            for command in commands(&line) {
                let words = words(command);
                // `devenv snapshot save|restore NAME` and `…` are patterns and not commands.
                if words.iter().any(|word| word.contains('…') || word == "...") {
                    continue;
                }
                seen += 1;
                if let Err(error) = args::parse(words.iter().map(Into::into))
                    && error.use_stderr()
                {
                    wrong.push(format!("{}: {line}\n{error}", sample.place));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen > 60, "only {seen} command lines were found");
}

#[test]
fn what_the_documentation_runs_of_the_checkout_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let makefile = fs::read_to_string(root.join("Makefile")).unwrap();
    let mut seen = 0;
    for sample in samples().iter().filter(|sample| is_of_a_shell(sample)) {
        for line in typed(sample) {
            let words = words(&line);
            match words.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
                ["make", target, ..] => {
                    seen += 1;
                    assert!(makefile.contains(&format!("\n{target}:")), "{}: {line}", sample.place);
                }
                [script, ..] if script.starts_with("scripts/") => {
                    seen += 1;
                    assert!(root.join(script).is_file(), "{}: {line}", sample.place);
                }
                _ => {}
            }
        }
    }
    assert!(seen >= 4, "only {seen} were found");
}

#[test]
fn every_document_in_json_of_the_documentation_is_what_its_reader_expects() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for sample in samples().iter().filter(|sample| sample.language == "json") {
        let page = fs::read_to_string(root.join(sample.place.split(':').next().unwrap())).unwrap();
        // One document, or one in each line.
        let lines = || sample.text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>();
        let documents = serde_json::from_str(&sample.text).map(|document| vec![document]).or_else(|_| lines());
        for document in documents.unwrap_or_else(|error| panic!("{}: {error}", sample.place)) {
            seen += 1;
            for server in ["mcpServers", "servers"].iter().filter_map(|key| document[*key]["devenv"].as_object()) {
                let arguments = server["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap());
                let line = std::iter::once(server["command"].as_str().unwrap()).chain(arguments);
                args::parse(line.map(Into::into)).unwrap_or_else(|error| panic!("{}: {error}", sample.place));
            }
            // An editor attaches to the port that the profile above it gives the debugger.
            if let Some(port) = [&document["port"], &document["connect"]["port"]].iter().find_map(|port| port.as_u64())
                && document["request"] == "attach"
            {
                assert!(page.contains(&format!("debug_port: {port}")), "{}: {port}", sample.place);
            }
            if document["routing_key"].is_string() {
                let fields = document.as_object().unwrap().keys();
                let unknown: Vec<&String> = fields.filter(|field| !page.contains(&format!("| `{field}` |"))).collect();
                assert!(unknown.is_empty(), "{}: {unknown:?} are not in the table of the page", sample.place);
            }
        }
    }
    assert!(seen >= 8, "only {seen} were found");
}

#[test]
fn the_tasks_for_an_editor_run_commands_that_parse() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib/vscode/tasks.json")).unwrap();
    let without_comments: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
    let document: Value = serde_json::from_str(&without_comments).unwrap();
    let tasks = document["tasks"].as_array().unwrap();
    assert!(tasks.len() > 4, "{}", tasks.len());
    for task in tasks {
        let words = task["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap());
        assert_eq!(task["command"], "devenv");
        args::parse(std::iter::once("devenv").chain(words).map(Into::into)).unwrap_or_else(|error| panic!("{task}: {error}"));
    }
}
