//! The programs of a project: as its Procfile starts them, else as the tools of its language would.

use std::path::Path;

use serde_json::Value;

use super::{detect::Program, libraries::libraries};

/// The programs of a Procfile. `release` is what Heroku runs before the others.
pub(super) fn of_procfile<'a>(file: &'a str, text: &'a str) -> impl Iterator<Item = (String, Program)> + 'a {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(|line| line.split_once(':'));
    lines.map(move |(name, command)| {
        let name = name.trim();
        // As with Heroku, `web` serves a port, and a worker does not.
        let (job, serves) = (name == "release", name == "web" || command.contains("PORT"));
        let program = Program { command: shell(command.trim()), watch: Vec::new(), from: file.to_owned(), job, serves };
        (name.to_owned(), program)
    })
}

/// The program that a manifest is about, if it is known how to start it.
pub(super) fn of_manifest(directory: &Path, manifest: &str, text: &str) -> Option<(String, Program)> {
    let has = |path: &str| directory.join(path).exists();
    let program = |name: &str, command: Vec<String>, watch: &[&str]| {
        let watch = watch.iter().filter(|path| has(path)).map(ToString::to_string).collect();
        Some((name.to_owned(), Program { command, watch, from: manifest.to_owned(), job: false, serves: true }))
    };
    match manifest {
        "package.json" => {
            let value: Value = serde_json::from_str(text).unwrap_or_default();
            let script = ["dev", "start"].into_iter().find(|script| value["scripts"][*script].is_string())?;
            let tools = [("pnpm-lock.yaml", "pnpm"), ("yarn.lock", "yarn"), ("bun.lockb", "bun"), ("bun.lock", "bun")];
            let tool = tools.iter().find(|(lock, _)| has(lock)).map_or("npm", |(_, tool)| tool);
            program(value["name"].as_str().unwrap_or("web"), words(&format!("{tool} run {script}")), &["package.json"])
        }
        "pyproject.toml" | "requirements.txt" | "Pipfile" => {
            let before = [("uv.lock", "uv run "), ("poetry.lock", "poetry run "), ("Pipfile.lock", "pipenv run ")];
            let before = before.iter().find(|(lock, _)| has(lock)).map_or("", |(_, before)| before);
            let names = libraries(manifest, text);
            let uses = |library: &str| names.iter().any(|name| name == library);
            let module = [("app/main.py", "app.main"), ("src/main.py", "src.main"), ("main.py", "main"), ("app.py", "app")];
            let module = module.iter().find(|(file, _)| has(file));
            match module {
                _ if has("manage.py") => program("web", shell(&format!("exec {before}python3 manage.py runserver 127.0.0.1:$PORT")), &[]),
                Some((_, module)) if uses("fastapi") || uses("uvicorn") => {
                    program("web", shell(&format!("exec {before}uvicorn {module}:app --port $PORT --reload")), &[])
                }
                Some((_, module)) if uses("flask") => {
                    program("web", shell(&format!("exec {before}flask --app {module} run --debug --port $PORT")), &[])
                }
                _ => None,
            }
        }
        "Cargo.toml" if has("src/main.rs") => program("app", words("cargo run"), &["src", "Cargo.toml"]),
        "go.mod" if has("main.go") => program("app", words("go run ."), &["."]),
        "go.mod" => {
            // The usual place of commands, if there is one alone.
            let commands = std::fs::read_dir(directory.join("cmd")).into_iter().flatten().flatten().take(100);
            let mut commands = commands.filter(|entry| entry.path().join("main.go").exists());
            let name = commands.next()?.file_name().into_string().ok()?;
            if commands.next().is_some() {
                return None;
            }
            program(&name, vec!["go".to_owned(), "run".to_owned(), format!("./cmd/{name}")], &["."])
        }
        "Gemfile" if has("bin/rails") => program("web", shell("exec bin/rails server -p $PORT"), &["config", "Gemfile.lock"]),
        "pom.xml" if has("mvnw") && text.contains("spring-boot") => program("app", words("./mvnw spring-boot:run"), &["src"]),
        "build.gradle" | "build.gradle.kts" if has("gradlew") && text.contains("spring") => {
            program("app", words("./gradlew bootRun"), &["src"])
        }
        "composer.json" if has("artisan") => program("web", shell("exec php artisan serve --port $PORT"), &[]),
        _ => None,
    }
}

/// The tool that makes the schema by running programs, before the others start.
pub(super) fn migration(directory: &Path) -> Option<Program> {
    let has = |path: &str| directory.join(path).exists();
    let (command, from) = match () {
        () if has("alembic.ini") => (words("alembic upgrade head"), "alembic.ini"),
        () if has("manage.py") => (words("python3 manage.py migrate --noinput"), "manage.py"),
        () if has("bin/rails") && has("db/migrate") => (words("bin/rails db:migrate"), "db/migrate/"),
        () if has("knexfile.js") => (words("npx knex migrate:latest"), "knexfile.js"),
        () if has("knexfile.ts") => (words("npx knex migrate:latest"), "knexfile.ts"),
        () if has("artisan") => (words("php artisan migrate --force"), "artisan"),
        () => return None,
    };
    Some(Program { command, watch: Vec::new(), from: from.to_owned(), job: true, serves: false })
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn shell(line: &str) -> Vec<String> {
    vec!["sh".to_owned(), "-c".to_owned(), line.to_owned()]
}
