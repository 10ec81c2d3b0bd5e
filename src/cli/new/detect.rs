//! What a project's files say about the services that it needs. Reads small regular files of the project; runs nothing.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use indexmap::IndexMap;
use serde_json::Value;

/// The largest file that is looked at.
const LARGEST: u64 = 4 << 20;

/// The kinds of servers: the service's name, whether it takes scripts in SQL, and the client libraries that need it, as manifests name
/// them.
const LIBRARIES: &[(&str, &str, bool, &[&str])] = &[
    (
        "postgres",
        "db",
        true,
        &[
            "pg",
            "postgres",
            "pg-promise",
            "slonik",
            "psycopg",
            "psycopg2",
            "psycopg2-binary",
            "asyncpg",
            "tokio-postgres",
            "sqlx",
            "diesel",
            "github.com/lib/pq",
            "github.com/jackc/pgx",
            "postgresql",
            "typeorm",
            "@prisma/client",
            "drizzle-orm",
        ],
    ),
    (
        "mariadb",
        "mysql",
        true,
        &[
            "mysql",
            "mysql2",
            "mariadb",
            "pymysql",
            "mysqlclient",
            "mysql_async",
            "github.com/go-sql-driver/mysql",
            "mysql-connector-j",
            "mysql-connector-java",
            "mariadb-java-client",
        ],
    ),
    (
        "redis",
        "cache",
        false,
        &[
            "redis",
            "ioredis",
            "bullmq",
            "bull",
            "celery",
            "rq",
            "sidekiq",
            "fred",
            "github.com/redis/go-redis",
            "github.com/go-redis/redis",
            "jedis",
            "lettuce-core",
            "spring-boot-starter-data-redis",
        ],
    ),
    (
        "kafka",
        "events",
        false,
        &[
            "kafkajs",
            "node-rdkafka",
            "kafka-python",
            "confluent-kafka",
            "aiokafka",
            "rdkafka",
            "github.com/segmentio/kafka-go",
            "github.com/ibm/sarama",
            "github.com/twmb/franz-go",
            "spring-kafka",
            "kafka-clients",
            "karafka",
            "ruby-kafka",
        ],
    ),
    (
        "rabbitmq",
        "queue",
        false,
        &[
            "amqplib",
            "pika",
            "aio-pika",
            "kombu",
            "lapin",
            "github.com/rabbitmq/amqp091-go",
            "github.com/streadway/amqp",
            "bunny",
            "spring-boot-starter-amqp",
            "amqp-client",
        ],
    ),
    ("s3", "files", false, &["@aws-sdk/client-s3", "minio", "boto3", "aws-sdk-s3", "github.com/aws/aws-sdk-go-v2/service/s3", "rusty-s3"]),
    (
        "jaeger",
        "tracing",
        false,
        &[
            "@opentelemetry/sdk-node",
            "@opentelemetry/api",
            "opentelemetry-sdk",
            "opentelemetry",
            "opentelemetry-otlp",
            "go.opentelemetry.io/otel",
            "opentelemetry-api",
        ],
    ),
];

/// Files that list libraries.
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
];
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

/// What was found, and where.
#[derive(Debug, Default)]
pub(super) struct Found {
    project: String,
    /// Kinds of servers: the service's name, whether it takes SQL, and the library and the file that say so.
    servers: IndexMap<&'static str, (&'static str, bool, String)>,
    /// Programs by name: command, files to watch, and where they are from.
    programs: IndexMap<String, (Vec<String>, Vec<String>, String)>,
    migrations: Option<String>,
    seeds: Option<String>,
    env_file: bool,
}

/// The project's Compose files, or those that its dev container names.
pub(super) fn compose_files(directory: &Path) -> Vec<PathBuf> {
    let files = crate::profile::load::compose_files(directory);
    if !files.is_empty() {
        return files;
    }
    for name in [".devcontainer/devcontainer.json", ".devcontainer.json"] {
        let path = directory.join(name);
        let Some(text) = read(&path) else { continue };
        // With comments, as the format allows them.
        let text: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect();
        let Ok(value) = serde_json::from_str::<Value>(&text) else { continue };
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
                found.manifest(directory, manifest, &text);
            }
        }
        if let Some(text) = read(&directory.join("Procfile")) {
            // It says how the programs are started: better than a guess.
            found.programs.clear();
            for (name, command) in text.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(|line| line.split_once(':')) {
                let command = vec!["sh".to_owned(), "-c".to_owned(), command.trim().to_owned()];
                found.programs.insert(service_name(name.trim()), (command, Vec::new(), "Procfile".to_owned()));
            }
        }
        let has_files = |folder: &&&str| fs::read_dir(directory.join(folder)).is_ok_and(|mut entries| entries.next().is_some());
        found.migrations = MIGRATIONS.iter().find(|folder| has_files(folder) && has_sql(&directory.join(folder))).map(ToString::to_string);
        found.seeds = SEEDS.iter().find(has_files).map(ToString::to_string);
        found.env_file = [".env.example", ".env.sample", ".env"].iter().any(|name| directory.join(name).is_file());
        if let Some(folder) = found.migrations.clone().filter(|_| !found.servers.values().any(|(_, sql, _)| *sql)) {
            let (kind, name, ..) = LIBRARIES[0];
            found.servers.insert(kind, (name, true, format!("{folder}/")));
        }
        found
    }

    fn manifest(&mut self, directory: &Path, manifest: &str, text: &str) {
        let names = libraries(manifest, text);
        for (kind, service, sql, libraries) in LIBRARIES {
            if let Some(library) = libraries.iter().find(|library| names.iter().any(|name| is_library(name, library))) {
                self.servers.entry(kind).or_insert_with(|| (service, *sql, format!("`{library}` in {manifest}")));
            }
        }
        let words = |line: &str| -> Vec<String> { line.split_whitespace().map(str::to_owned).collect() };
        let mut program = |name: &str, command: Vec<String>, watch: &[&str]| {
            let watch = watch.iter().filter(|path| directory.join(path).exists()).map(ToString::to_string).collect();
            self.programs.entry(service_name(name)).or_insert((command, watch, manifest.to_owned()));
        };
        match manifest {
            "package.json" => {
                let value: Value = serde_json::from_str(text).unwrap_or_default();
                let script = ["dev", "start"].into_iter().find(|script| value["scripts"][*script].is_string());
                let tool = [("pnpm-lock.yaml", "pnpm"), ("yarn.lock", "yarn"), ("bun.lockb", "bun")];
                let tool = tool.iter().find(|(lock, _)| directory.join(lock).exists()).map_or("npm", |(_, tool)| tool);
                if let Some(script) = script {
                    program(value["name"].as_str().unwrap_or("web"), words(&format!("{tool} run {script}")), &["package.json"]);
                }
            }
            "pyproject.toml" | "requirements.txt" | "Pipfile" if directory.join("manage.py").exists() => {
                program("web", vec!["sh".to_owned(), "-c".to_owned(), "exec python manage.py runserver 127.0.0.1:$PORT".to_owned()], &[]);
            }
            "Cargo.toml" if directory.join("src/main.rs").exists() => program("app", words("cargo run"), &["src", "Cargo.toml"]),
            "go.mod" if directory.join("main.go").exists() => program("app", words("go run ."), &["."]),
            "Gemfile" if directory.join("bin/rails").exists() => {
                program(
                    "web",
                    vec!["sh".to_owned(), "-c".to_owned(), "exec bin/rails server -p $PORT".to_owned()],
                    &["config", "Gemfile.lock"],
                );
            }
            "pom.xml" if directory.join("mvnw").exists() && text.contains("spring-boot") => {
                program("app", words("./mvnw spring-boot:run"), &["src"]);
            }
            "build.gradle" | "build.gradle.kts" if directory.join("gradlew").exists() && text.contains("spring") => {
                program("app", words("./gradlew bootRun"), &["src"]);
            }
            _ => {}
        }
    }

    /// Where what it writes is from, a line each.
    pub(super) fn took(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.servers.iter().map(|(kind, (name, _, from))| format!("{name} ({kind}): {from}")).collect();
        lines.extend(self.programs.iter().map(|(name, (command, _, from))| format!("{name}: `{}` from {from}", command.join(" "))));
        lines.extend(self.migrations.iter().map(|folder| format!("init scripts: {folder}/")));
        lines.extend(self.seeds.iter().map(|folder| format!("seeds: {folder}/")));
        if lines.is_empty() {
            lines.push("nothing was recognised: the profile holds a PostgreSQL to start from".to_owned());
        }
        lines
    }

    /// The text of a profile.
    pub(super) fn profile(&self) -> String {
        let mut text = String::from(
            "# Written by `devenv new` from what the project holds. `devenv up` starts it, `devenv env` prints its variables.\n\
             # All fields: docs/reference/profile.md\n",
        );
        let _ = writeln!(text, "description: {}", quoted(&format!("The services of {}", self.project)));
        if self.env_file {
            text.push_str("# Variables for all services; the `?` says that the file may be missing.\nenv_file: [\".env?\"]\n");
        }
        text.push_str("services:\n");
        let mut servers = self.servers.clone();
        if servers.is_empty() && self.programs.is_empty() {
            let (kind, name, sql, _) = LIBRARIES[0];
            servers.insert(kind, (name, sql, "a database to start from".to_owned()));
        }
        // Scripts go to the first one that takes them.
        let database = servers.values().find(|(_, sql, _)| *sql).map(|(name, ..)| *name);
        for (kind, (name, _, from)) in &servers {
            let _ = writeln!(text, "  # {from}");
            let init = self.migrations.as_ref().filter(|_| database == Some(*name));
            let seed = self.seeds.as_ref().filter(|_| database == Some(*name));
            if init.is_none() && seed.is_none() {
                let _ = writeln!(text, "  {name}:\n    {kind}: {{}}");
                continue;
            }
            let _ = writeln!(text, "  {name}:\n    {kind}:");
            if let Some(folder) = init {
                let _ = writeln!(
                    text,
                    "      # Applied once each, in the order of their names; `devenv ledger` shows which.\n      init: [{}]",
                    quoted(folder)
                );
            }
            if let Some(folder) = seed {
                let _ = writeln!(text, "      # Data sets, applied after the scripts.\n      seed: [{}]", quoted(folder));
            }
        }
        for (name, (command, watch, from)) in &self.programs {
            let words: Vec<String> = command.iter().map(|word| quoted(word)).collect();
            let _ = writeln!(text, "  # {from}\n  {name}:\n    process:\n      command: [{}]", words.join(", "));
            text.push_str("      # A free port, which the program finds in `PORT`.\n      port: 0\n");
            if !servers.is_empty() {
                let needs: Vec<String> = servers.values().map(|(name, ..)| format!("{name}: ready")).collect();
                let _ = writeln!(text, "    depends_on: {{ {} }}", needs.join(", "));
            }
            if !watch.is_empty() {
                let paths: Vec<String> = watch.iter().map(|path| quoted(path)).collect();
                let _ = writeln!(text, "    watch:\n      - {{ paths: [{}], on_change: restart }}", paths.join(", "));
            }
        }
        text
    }
}

/// The names of libraries in a manifest.
fn libraries(manifest: &str, text: &str) -> Vec<String> {
    if manifest == "package.json" {
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        let sections = ["dependencies", "devDependencies", "optionalDependencies"];
        return sections
            .iter()
            .flat_map(|section| value[*section].as_object().into_iter().flatten())
            .map(|(name, _)| name.clone())
            .collect();
    }
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '@');
    text.split(|c| !word(c)).filter(|name| !name.is_empty()).map(str::to_lowercase).collect()
}

/// A Go module has its version in its path.
fn is_library(name: &str, library: &str) -> bool {
    name == library || (library.contains('/') && name.strip_prefix(library).is_some_and(|rest| rest.starts_with("/v")))
}

fn service_name(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let plain = plain.trim_matches(|c: char| !c.is_ascii_lowercase()).chars().take(40).collect::<String>();
    if plain.is_empty() { "app".to_owned() } else { plain }
}

/// Text as YAML takes it in every place.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '/');
    let is_word = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(plain)
        && !matches!(text, "true" | "false" | "null" | "yes" | "no");
    if is_word { text.to_owned() } else { format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace("${", "$${")) }
}

fn has_sql(folder: &Path) -> bool {
    let entries =
        |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()).take(1000).collect::<Vec<_>>();
    let is_sql = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "sql");
    entries(folder).iter().any(|path| is_sql(path) || (path.is_dir() && entries(path).iter().any(is_sql)))
}

/// The text of a small regular file.
fn read(path: &Path) -> Option<String> {
    fs::metadata(path).ok().filter(|metadata| metadata.is_file() && metadata.len() <= LARGEST)?;
    fs::read_to_string(path).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Found {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Found::of(directory.path())
    }

    #[test]
    fn servers_and_programs_are_found_in_the_files_of_every_language() {
        for (files, servers, programs) in [
            (
                vec![
                    ("package.json", r#"{"name":"web","scripts":{"dev":"x"},"dependencies":{"pg":"8","ioredis":"5"}}"#),
                    ("migrations/1.sql", ""),
                ],
                vec!["postgres", "redis"],
                vec![("web", "npm run dev")],
            ),
            (
                vec![("requirements.txt", "psycopg2-binary==2.9\npika>=1\n"), ("manage.py", "")],
                vec!["postgres", "rabbitmq"],
                vec![("web", "sh -c exec python manage.py runserver 127.0.0.1:$PORT")],
            ),
            (
                vec![("Cargo.toml", "[dependencies]\nsqlx = \"1\"\nrdkafka = \"0\"\n"), ("src/main.rs", "")],
                vec!["postgres", "kafka"],
                vec![("app", "cargo run")],
            ),
            (vec![("go.mod", "require github.com/jackc/pgx/v5 v5.0.0\n"), ("main.go", "")], vec!["postgres"], vec![("app", "go run .")]),
            (vec![("Gemfile", "gem 'mysql2'\ngem 'sidekiq'\n")], vec!["mariadb", "redis"], vec![]),
            (vec![("pom.xml", "<artifactId>postgresql</artifactId>")], vec!["postgres"], vec![]),
            (
                vec![("Procfile", "web: serve -p $PORT\n# x: y\nworker: work\n")],
                vec![],
                vec![("web", "sh -c serve -p $PORT"), ("worker", "sh -c work")],
            ),
            (vec![("README.md", "pg redis")], vec![], vec![]),
        ] {
            let found = found(&files);
            assert_eq!(found.servers.keys().copied().collect::<Vec<_>>(), servers, "{files:?}");
            let commands: Vec<(String, String)> =
                found.programs.iter().map(|(name, (command, ..))| (name.clone(), command.join(" "))).collect();
            let commands: Vec<(&str, &str)> = commands.iter().map(|(name, command)| (name.as_str(), command.as_str())).collect();
            assert_eq!(commands, programs, "{files:?}");
            let value: serde_yaml::Value = serde_yaml::from_str(&found.profile()).unwrap();
            assert!(value.get("services").is_some_and(serde_yaml::Value::is_mapping));
        }
    }
}
