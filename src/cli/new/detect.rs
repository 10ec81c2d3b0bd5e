//! What a project's files say about the services that it needs. Reads small regular files of the project; runs nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use indexmap::IndexMap;
use serde_json::Value;

use super::{
    libraries::{SERVERS, Server, is_library, libraries},
    programs,
};

/// The largest file that is looked at.
const LARGEST: u64 = 4 << 20;

/// Files that list libraries: manifests, then lock files, in which a library may be that of another one.
const MANIFESTS: &[&str] = &[
    "package.json",
    "pyproject.toml",
    "requirements.txt",
    "Pipfile",
    "Cargo.toml",
    "go.mod",
    "Gemfile",
    "pom.xml",
    "build.gradle",
    "build.gradle.kts",
    "gradle/libs.versions.toml",
    "composer.json",
];
const LOCKS: &[&str] = &["poetry.lock", "uv.lock", "Pipfile.lock", "Gemfile.lock", "package-lock.json", "go.sum"];
/// How the processes are started, where the project says so itself.
const PROCFILES: &[&str] = &["Procfile.dev", "Procfile"];
const DEV_CONTAINERS: &[&str] = &[".devcontainer/devcontainer.json", ".devcontainer.json"];
/// Examples of env files, which a repository holds; `.env` itself is private and only its names count.
const ENV_EXAMPLES: &[&str] = &[".env.example", ".env.sample", ".env.template", ".env.dist", "env.example"];
/// Folders of scripts that make a schema, and of data.
const MIGRATIONS: &[&str] = &[
    "migrations",
    "db/migrations",
    "db/migration",
    "database/migrations",
    "sql",
    "db/init",
    "initdb",
    "src/main/resources/db/migration",
    "supabase/migrations",
    "prisma/migrations",
];
const SEEDS: &[&str] = &["seeds", "seed", "db/seeds", "database/seeds", "seed-data"];

/// A server that the project needs.
#[derive(Debug, Clone)]
pub(super) struct FoundServer {
    pub(super) service: &'static str,
    pub(super) sql: bool,
    /// The library or the line that says so, and its file.
    pub(super) from: String,
}

/// A program of the project.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) command: Vec<String>,
    pub(super) watch: Vec<String>,
    pub(super) from: String,
    /// It ends by itself, and the others wait for that.
    pub(super) job: bool,
    /// It serves a port, which it gets as `PORT`.
    pub(super) serves: bool,
}

/// What was found, and where.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) project: String,
    /// By their kinds.
    pub(super) servers: IndexMap<&'static str, FoundServer>,
    /// By their names.
    pub(super) programs: IndexMap<String, Program>,
    pub(super) migrations: Option<String>,
    pub(super) seeds: Option<String>,
    pub(super) env_file: EnvFile,
}

/// What is done with the project's `.env`.
#[derive(Debug, Default, PartialEq)]
pub(super) enum EnvFile {
    #[default]
    None,
    Read,
    /// It sets variables that lead to services of the environment.
    Replaces(Vec<String>),
}

/// The project's Compose files, or those that its dev container names.
pub(super) fn compose_files(directory: &Path) -> Vec<PathBuf> {
    let files = devenv_profile::load::compose_files(directory);
    if !files.is_empty() {
        return files;
    }
    for path in DEV_CONTAINERS.iter().map(|name| directory.join(name)) {
        let Some(value) = dev_container(&path) else { continue };
        let named = &value["dockerComposeFile"];
        let beside = path.parent().unwrap_or(directory);
        let list: Vec<&str> = named.as_str().into_iter().chain(named.as_array().into_iter().flatten().filter_map(Value::as_str)).collect();
        let files: Vec<PathBuf> = list.iter().filter_map(|file| beside.join(file).canonicalize().ok()).collect();
        if !files.is_empty() {
            return files;
        }
    }
    Vec::new()
}

impl Found {
    pub(super) fn of(directory: &Path) -> Self {
        let project = directory.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let mut found = Self { project, ..Self::default() };
        for manifest in MANIFESTS {
            if let Some(text) = read(&directory.join(manifest)) {
                found.libraries(manifest, &text);
                if let Some((name, program)) = programs::of_manifest(directory, manifest, &text) {
                    found.programs.entry(service_name(&name)).or_insert(program);
                }
            }
        }
        for lock in LOCKS {
            if let Some(text) = read(&directory.join(lock)) {
                found.libraries(lock, &text);
            }
        }
        for name in DEV_CONTAINERS {
            if let Some(value) = dev_container(&directory.join(name)) {
                found.features(name, &value);
            }
        }
        for name in ENV_EXAMPLES {
            if let Some(text) = read(&directory.join(name)) {
                found.urls(name, &text);
            }
        }
        if let Some(program) = programs::migration(directory) {
            found.programs.insert("migrate".to_owned(), program);
        }
        if let Some((name, text)) = PROCFILES.iter().find_map(|name| Some((name, read(&directory.join(name))?))) {
            // It says how the programs are started: better than a guess.
            found.programs = programs::of_procfile(name, &text).map(|(name, program)| (service_name(&name), program)).collect();
        }
        let has_files = |folder: &&&str| fs::read_dir(directory.join(folder)).is_ok_and(|mut entries| entries.next().is_some());
        found.migrations = MIGRATIONS.iter().find(|folder| has_files(folder) && has_sql(&directory.join(folder))).map(ToString::to_string);
        found.seeds = SEEDS.iter().find(|folder| has_files(folder) && has_sql(&directory.join(folder))).map(ToString::to_string);
        if let Some(folder) = found.migrations.clone().filter(|_| !found.servers.values().any(|server| server.sql)) {
            found.add(&SERVERS[0], format!("{folder}/"));
        }
        found.env_file = found.env_file(directory);
        found
    }

    fn add(&mut self, server: &'static Server, from: String) {
        self.servers.entry(server.kind).or_insert(FoundServer { service: server.service, sql: server.sql, from });
    }

    fn libraries(&mut self, file: &str, text: &str) {
        let names = libraries(file, text);
        for server in SERVERS {
            if let Some(library) = server.libraries.iter().find(|library| names.iter().any(|name| is_library(name, library))) {
                self.add(server, format!("`{library}` in {file}"));
            }
        }
    }

    /// Features of a dev container are programs in its image; those of servers say what the project needs.
    fn features(&mut self, file: &str, value: &Value) {
        for feature in value["features"].as_object().into_iter().flatten().map(|(name, _)| name) {
            let last = feature.rsplit('/').next().unwrap_or_default().split(':').next().unwrap_or_default();
            for server in SERVERS.iter().filter(|server| server.words.iter().any(|word| last.split(['-', '_']).any(|part| part == *word))) {
                self.add(server, format!("`{last}` in {file}"));
            }
        }
    }

    /// `DATABASE_URL=postgres://…`
    fn urls(&mut self, file: &str, text: &str) {
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        for (name, value) in lines.filter_map(|line| line.split_once('=')) {
            // `postgresql+asyncpg://` is a scheme of SQLAlchemy, `jdbc:mysql://` one of Java.
            let value = value.trim().trim_matches(['"', '\'']).trim_start_matches("jdbc:");
            let scheme = value.split("://").next().filter(|scheme| scheme.len() < value.len()).unwrap_or_default();
            let scheme = scheme.split('+').next().unwrap_or_default();
            for server in SERVERS.iter().filter(|server| server.schemes.contains(&scheme)) {
                self.add(server, format!("`{}` in {file}", name.trim_start_matches("export ").trim()));
            }
        }
    }

    fn env_file(&self, directory: &Path) -> EnvFile {
        let present = ENV_EXAMPLES.iter().chain([&".env"]).any(|name| directory.join(name).is_file());
        if !present {
            return EnvFile::None;
        }
        // A copy of the example becomes `.env`, so its names count too.
        let texts = ENV_EXAMPLES.iter().chain([&".env"]).filter_map(|name| read(&directory.join(name)));
        let mut replaced: Vec<String> = Vec::new();
        for text in texts {
            let names =
                text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name.trim().trim_start_matches("export ").trim());
            replaced.extend(names.filter(|name| self.provides(name)).map(str::to_owned));
        }
        replaced.sort();
        replaced.dedup();
        if replaced.is_empty() { EnvFile::Read } else { EnvFile::Replaces(replaced) }
    }

    /// Whether a service of the environment has a variable of this name.
    fn provides(&self, name: &str) -> bool {
        let of_server =
            SERVERS.iter().filter(|server| self.servers.contains_key(server.kind)).any(|server| server.provides.contains(&name));
        let services = self.servers.values().map(|server| server.service.to_owned()).chain(self.programs.keys().cloned());
        let mut prefixes = services.map(|service| service.to_uppercase().replace('-', "_") + "_");
        of_server || prefixes.any(|prefix| name.starts_with(&prefix))
    }

    /// Where what it writes is from, a line each.
    pub(super) fn took(&self) -> Vec<String> {
        let mut lines: Vec<String> =
            self.servers.iter().map(|(kind, server)| format!("{} ({kind}): {}", server.service, server.from)).collect();
        lines.extend(self.programs.iter().map(|(name, program)| format!("{name}: `{}` from {}", program.command.join(" "), program.from)));
        lines.extend(self.migrations.iter().map(|folder| format!("init scripts: {folder}/")));
        lines.extend(self.seeds.iter().map(|folder| format!("seeds: {folder}/")));
        match &self.env_file {
            EnvFile::None => {}
            EnvFile::Read => lines.push("variables: .env".to_owned()),
            EnvFile::Replaces(names) => {
                lines.push(format!("not read: .env, which sets {}; the environment sets it itself", names.join(", ")));
            }
        }
        if lines.is_empty() {
            lines.push("nothing was recognised: the profile holds a PostgreSQL to start from".to_owned());
        }
        lines
    }
}

/// A dev container's description, in JSON with comments and with commas at ends.
fn dev_container(path: &Path) -> Option<Value> {
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

fn service_name(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let plain = plain.trim_matches(|c: char| !c.is_ascii_lowercase()).chars().take(40).collect::<String>();
    if plain.is_empty() { "app".to_owned() } else { plain }
}

fn has_sql(folder: &Path) -> bool {
    let entries =
        |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).take(1000).collect::<Vec<_>>();
    let is_sql = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "sql");
    // A tool that runs programs has other files beside them, and is a program of its own.
    let is_program = |path: &PathBuf| {
        path.extension()
            .is_some_and(|extension| ["py", "rb", "js", "ts", "mjs", "cjs", "go", "php", "kt", "java"].iter().any(|of| extension == *of))
    };
    let found = entries(folder);
    !found.iter().any(is_program) && found.iter().any(|path| is_sql(path) || (path.is_dir() && entries(path).iter().any(is_sql)))
}

/// The text of a small regular file.
fn read(path: &Path) -> Option<String> {
    String::from_utf8(devenv_files::read_bounded_in_time(path, LARGEST).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_with_comments_and_with_commas_at_ends_is_read() {
        let text = "{ // one\n \"a\": \"x // y\", /* two */ \"b\": [1, 2,],\n \"c\": \"\\\"/*\",\n}";
        let value: Value = serde_json::from_str(&plain_json(text)).unwrap();
        assert_eq!(value, serde_json::json!({ "a": "x // y", "b": [1, 2], "c": "\"/*" }));
    }
}
