//! What a dev container's description says about the project: servers, ports, variables, and what is run once.
//!
//! The container itself is not used: programs of a profile run on the host, so what is meant for a container's system is left out, and
//! what was left out is said.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{
    detect::read,
    ports::Port,
    programs::{Place, Program, Runs, shell},
    text::{escaped, yaml},
};

const FILES: &[&str] = &[".devcontainer/devcontainer.json", ".devcontainer.json"];
/// Commands that prepare the project and not the system of the container.
const PREPARES: &[&str] = &[
    "npm",
    "pnpm",
    "yarn",
    "bun",
    "pip",
    "pip3",
    "pipenv",
    "poetry",
    "uv",
    "bundle",
    "composer",
    "cargo",
    "go",
    "mvn",
    "./mvnw",
    "gradle",
    "./gradlew",
    "make",
    "just",
    "python",
    "python3",
    "node",
    "npx",
    "dotnet",
    "mix",
];

/// A project's description of its dev container.
#[derive(Debug)]
pub(super) struct DevContainer {
    pub(super) file: &'static str,
    value: Value,
}

impl DevContainer {
    pub(super) fn of(project: &Path) -> Option<Self> {
        FILES.iter().find_map(|file| Some(Self { file, value: parsed(&project.join(file))? }))
    }

    /// The Compose files that it names.
    pub(super) fn compose_files(project: &Path) -> Vec<PathBuf> {
        let Some(found) = Self::of(project) else { return Vec::new() };
        let named = &found.value["dockerComposeFile"];
        let path = project.join(found.file);
        let beside = path.parent().unwrap_or(project);
        let list = named.as_str().into_iter().chain(named.as_array().into_iter().flatten().filter_map(Value::as_str));
        list.filter_map(|file| beside.join(file).canonicalize().ok()).collect()
    }

    /// The names of its features, without the registry and the version.
    pub(super) fn features(&self) -> Vec<String> {
        let names = self.value["features"].as_object().into_iter().flatten().map(|(name, _)| name);
        names.map(|name| name.rsplit('/').next().unwrap_or_default().split(':').next().unwrap_or_default().to_owned()).collect()
    }

    /// `3000`, `"3000"` and `"db:5432"`.
    pub(super) fn forwarded_ports(&self) -> Vec<u16> {
        let ports = self.value["forwardPorts"].as_array().into_iter().flatten();
        let number = |value: &Value| match value {
            Value::String(text) => text.rsplit(':').next().and_then(|port| port.parse().ok()),
            value => value.as_u64().and_then(|port| u16::try_from(port).ok()),
        };
        ports.filter_map(number).filter(|port| *port > 0).collect()
    }

    /// Programs to run once before the others, and those that are for the container alone.
    pub(super) fn prepares(&self) -> (Vec<(String, Program)>, Vec<String>) {
        let value = &self.value["postCreateCommand"];
        let named: Vec<(&str, &Value)> = match value {
            Value::Object(commands) => commands.iter().map(|(name, command)| (name.as_str(), command)).collect(),
            value => vec![("prepare", value)],
        };
        let (mut programs, mut left_out) = (Vec::new(), Vec::new());
        for (name, value) in named {
            let command: Vec<String> = match value {
                Value::String(line) => shell(line),
                Value::Array(words) => words.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
                _ => Vec::new(),
            };
            let Some(line) = value.as_str().map(str::to_owned).or_else(|| (!command.is_empty()).then(|| command.join(" "))) else {
                continue;
            };
            let steps: Vec<&str> = line.split(['&', ';', '|', '\n']).map(str::trim).filter(|step| !step.is_empty()).collect();
            let prepares = |step: &&str| step.split_whitespace().next().is_some_and(|word| PREPARES.contains(&word) || word == "cd");
            if !steps.is_empty() && steps.iter().all(prepares) && !line.contains("/workspaces/") {
                let from = format!("postCreateCommand of {}", self.file);
                let program =
                    Program { command, directory: None, watch: Vec::new(), from, runs: Runs::First, port: Port::None, slow: true };
                programs.push((name.to_owned(), program));
            } else {
                left_out.push(format!("`{line}` of {}, which is for the container", self.file));
            }
        }
        (programs, left_out)
    }

    /// Variables as a profile writes them, and the names of those that have no meaning outside of the container.
    pub(super) fn variables(&self, project: &Place<'_>) -> (Vec<(String, String)>, Vec<String>) {
        let (mut variables, mut left_out) = (Vec::<(String, String)>::new(), Vec::new());
        for (name, value) in ["containerEnv", "remoteEnv"].iter().flat_map(|key| self.value[*key].as_object().into_iter().flatten()) {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Number(_) | Value::Bool(_) => value.to_string(),
                _ => continue,
            };
            let usable = name != "PATH"
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
                && !name.starts_with(|c: char| c.is_ascii_digit());
            match profile_text(&text, project.root).filter(|_| usable) {
                Some(text) => {
                    // `remoteEnv` comes last, and wins.
                    variables.retain(|(other, _)| other != name);
                    variables.push((name.clone(), yaml(&text)));
                }
                None => left_out.push(name.clone()),
            }
        }
        (variables, left_out)
    }
}

/// With `${localEnv:NAME:default}` as a profile writes it; nothing if the text is about the container.
fn profile_text(text: &str, project: &Path) -> Option<String> {
    if text.contains("/workspaces/") {
        return None;
    }
    let mut found = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (inner, after) = after.split_once('}')?;
        found += &escaped(before);
        let mut parts = inner.splitn(3, ':');
        match (parts.next()?, parts.next()) {
            ("localEnv" | "env", Some(name)) if !name.is_empty() => {
                found += &format!("${{{name}:-{}}}", parts.next().unwrap_or_default());
            }
            ("localWorkspaceFolderBasename" | "containerWorkspaceFolderBasename", None) => {
                found += &escaped(&project.file_name()?.to_string_lossy());
            }
            _ => return None,
        }
        rest = after;
    }
    Some(found + &escaped(rest))
}

/// JSON with comments and with commas at ends.
fn parsed(path: &Path) -> Option<Value> {
    let text = plain_json(&read(path)?);
    serde_json::from_str(&text).ok()
}

/// Without comments and without commas before a closing bracket.
fn plain_json(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    let mut in_text = false;
    while let Some(character) = characters.next() {
        match (in_text, character, characters.peek()) {
            (true, '\\', _) => {
                plain.push(character);
                plain.extend(characters.next());
            }
            (_, '"', _) => {
                in_text = !in_text;
                plain.push(character);
            }
            (false, '/', Some('/')) => {
                characters.by_ref().take_while(|c| *c != '\n').for_each(drop);
                plain.push('\n');
            }
            (false, '/', Some('*')) => {
                let mut last = ' ';
                characters.next();
                for character in characters.by_ref() {
                    if last == '*' && character == '/' {
                        break;
                    }
                    last = character;
                }
            }
            (false, '}' | ']', _) => {
                let kept = plain.trim_end().len();
                if plain[..kept].ends_with(',') {
                    plain.truncate(kept - 1);
                }
                plain.push(character);
            }
            _ => plain.push(character),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(json: &str) -> DevContainer {
        DevContainer { file: FILES[1], value: serde_json::from_str(&plain_json(json)).unwrap() }
    }

    #[test]
    fn json_with_comments_and_with_commas_at_ends_is_read() {
        let text = "{ // one\n \"a\": \"x // y\", /* two */ \"b\": [1, 2,],\n \"c\": \"\\\"/*\",\n}";
        let value: Value = serde_json::from_str(&plain_json(text)).unwrap();
        assert_eq!(value, serde_json::json!({ "a": "x // y", "b": [1, 2], "c": "\"/*" }));
    }

    #[test]
    fn the_ports_and_the_features_of_a_dev_container_are_read_in_each_form() {
        let found = described(
            r#"{"forwardPorts": [3000, "db:5432", "8080", 0, 70000, "x"], "features": {"ghcr.io/a/b/redis-server:1": {}, "./local": {}}}"#,
        );
        assert_eq!(found.forwarded_ports(), [3000, 5432, 8080]);
        assert_eq!(found.features(), ["redis-server", "local"]);
        assert!(described("{}").forwarded_ports().is_empty());
    }

    #[test]
    fn commands_that_prepare_the_project_run_once_and_those_for_the_container_do_not() {
        for (json, commands, left_out) in [
            (r#""npm ci && npm run build""#, vec!["sh -c npm ci && npm run build"], 0),
            (r#"["pip", "install", "-r", "requirements.txt"]"#, vec!["pip install -r requirements.txt"], 0),
            (r#"{"web": "cd web && npm ci", "system": "sudo apt-get install -y jq"}"#, vec!["sh -c cd web && npm ci"], 1),
            (r#""npm ci; sudo chown -R node .""#, vec![], 1),
            (r#""cd /workspaces/shop && npm ci""#, vec![], 1),
            (r#""bash .devcontainer/setup.sh""#, vec![], 1),
            ("null", vec![], 0),
            ("7", vec![], 0),
        ] {
            let (programs, others) = described(&format!("{{\"postCreateCommand\": {json}}}")).prepares();
            assert_eq!(programs.iter().map(|(_, program)| program.command.join(" ")).collect::<Vec<_>>(), commands, "{json}");
            assert!(programs.iter().all(|(_, program)| program.runs == Runs::First) && others.len() == left_out, "{json}");
        }
    }

    #[test]
    fn variables_of_a_dev_container_become_those_of_a_profile() {
        let found = described(
            r#"{"containerEnv": {"A": "x", "B": "1", "N": 7}, "remoteEnv": {"B": "${localEnv:HOME}/b", "C": "${localEnv:C:none} $${x", "D": "${containerEnv:Z}",
                "PATH": "/x", "E": "/workspaces/shop", "F": null, "A-B": "x"}}"#,
        );
        let (variables, left_out) = found.variables(&Place { root: Path::new("/home/me/shop"), member: "" });
        let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(variables, [("A", "x"), ("N", "\"7\""), ("B", "\"${HOME:-}/b\"")]);
        assert_eq!(left_out, ["C", "D", "PATH", "E", "A-B"]);
    }
}
