//! The programs of a project: as its Procfile starts them, else as the tools of its language would.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    detect::read,
    libraries::{libraries, quoted_texts},
    members::{directories, joined},
    node,
    ports::{Port, of_command, port},
};

/// A program of the project.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) command: Vec<String>,
    /// Where it runs, if that is not the project's own directory.
    pub(super) directory: Option<String>,
    pub(super) watch: Vec<String>,
    pub(super) from: String,
    pub(super) runs: Runs,
    pub(super) port: Port,
    /// Its first start compiles or downloads for minutes.
    pub(super) slow: bool,
}

/// How long a program runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Runs {
    /// While the environment is up.
    On,
    /// To its end, when the servers are ready; the others wait for that.
    Once,
    /// To its end, before every other program.
    First,
}

/// A project, or a member of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) root: &'a Path,
    /// Relative to the root; empty for the root.
    pub(super) member: &'a str,
}

impl Place<'_> {
    pub(super) fn path(&self, path: &str) -> PathBuf {
        self.root.join(self.member).join(path)
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.path(path).exists()
    }

    /// Lock files and wrappers of a workspace are at its root.
    pub(super) fn has_above(&self, path: &str) -> bool {
        self.has(path) || self.root.join(path).exists()
    }

    pub(super) fn shown(&self, path: &str) -> String {
        joined(self.member, path)
    }

    pub(super) fn port(&self, directories: &[&str]) -> Port {
        port(&directories.iter().map(|path| self.path(path)).collect::<Vec<_>>())
    }

    pub(super) fn program(&self, manifest: &str, command: Vec<String>, watch: &[&str], port: Port) -> Program {
        let watch = watch.iter().filter(|path| self.has(path)).map(|path| self.shown(path)).collect();
        let directory = (!self.member.is_empty()).then(|| self.member.to_owned());
        Program { command, directory, watch, from: self.shown(manifest), runs: Runs::On, port, slow: false }
    }

    /// The name of a member's directory.
    pub(super) fn name<'a>(&'a self, otherwise: &'a str) -> &'a str {
        self.member.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(otherwise)
    }
}

/// The programs of a Procfile. `release` is what Heroku runs before the others.
pub(super) fn of_procfile<'a>(file: &'a str, text: &'a str) -> impl Iterator<Item = (String, Program)> + 'a {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#')).filter_map(|line| line.split_once(':'));
    lines.map(move |(name, command)| {
        let (name, command) = (name.trim(), command.trim());
        let runs = if name == "release" { Runs::Once } else { Runs::On };
        // As with Heroku, `web` serves a port, and a worker does not.
        let port = match of_command(command) {
            _ if runs == Runs::Once => Port::None,
            Some(port) => Port::Fixed(port),
            None if command.contains("$PORT") || command.contains("${PORT") => Port::Free,
            None if name == "web" => Port::Offered,
            None => Port::None,
        };
        let from = file.to_owned();
        (name.to_owned(), Program { command: shell(command), directory: None, watch: Vec::new(), from, runs, port, slow: false })
    })
}

/// The programs that a manifest is about, if it is known how to start them.
pub(super) fn of_manifest(place: Place<'_>, manifest: &str, text: &str) -> Vec<(String, Program)> {
    let one = |name: &str, command: Vec<String>, watch: &[&str], port: Port| {
        vec![(place.name(name).to_owned(), place.program(manifest, command, watch, port))]
    };
    match manifest {
        "package.json" => node::program(place, text).into_iter().collect(),
        "pyproject.toml" | "requirements.txt" | "Pipfile" => of_python(place, manifest, text).into_iter().collect(),
        "Cargo.toml" => of_cargo(place, text).into_iter().collect(),
        "go.mod" if place.has("main.go") => slow(one("app", words("go run ."), &["."], place.port(&["."]))),
        "go.mod" => slow(of_go_commands(place)),
        "Gemfile" if place.has("bin/rails") => one("web", shell("exec bin/rails server -p $PORT"), &["config", "Gemfile.lock"], Port::Free),
        "pom.xml" => of_maven(place, text).into_iter().collect(),
        "build.gradle" | "build.gradle.kts" => of_gradle(place, manifest, text).into_iter().collect(),
        "composer.json" if place.has("artisan") => one("web", shell("exec php artisan serve --port $PORT"), &[], Port::Free),
        _ => Vec::new(),
    }
}

fn of_python(place: Place<'_>, manifest: &str, text: &str) -> Option<(String, Program)> {
    let tools = [("uv.lock", "uv run "), ("poetry.lock", "poetry run "), ("Pipfile.lock", "pipenv run ")];
    let tool = tools.iter().find(|(lock, _)| place.has_above(lock)).map(|(_, tool)| *tool);
    // What is installed in a directory of the project is not on the search path.
    let own = [".venv/bin/", "venv/bin/"].into_iter().find(|folder| place.has(&format!("{folder}python3")));
    let before = tool.or(own).unwrap_or_default();
    let python = if tool.is_some() { "python" } else { "python3" };
    let names = libraries(manifest, text);
    let uses = |library: &str| names.iter().any(|name| name == library);
    let modules = [("app/main.py", "app.main"), ("src/main.py", "src.main"), ("main.py", "main"), ("app.py", "app")];
    let module = modules.iter().find(|(file, _)| place.has(file));
    let (name, command, watch, port) = match module {
        _ if place.has("manage.py") => {
            ("web", shell(&format!("exec {before}{python} manage.py runserver 127.0.0.1:$PORT")), Vec::new(), Port::Free)
        }
        Some((_, module)) if uses("fastapi") || uses("uvicorn") => {
            ("web", shell(&format!("exec {before}uvicorn {module}:app --port $PORT --reload")), Vec::new(), Port::Free)
        }
        Some((_, module)) if uses("flask") => {
            ("web", shell(&format!("exec {before}flask --app {module} run --debug --port $PORT")), Vec::new(), Port::Free)
        }
        // A member of a monorepo is a program; at the root, a script may be anything.
        Some((file, _)) if !place.member.is_empty() => {
            let folder = file.split_once('/').map_or(".", |(folder, _)| folder);
            ("app", words(&format!("{before}{python} {file}")), vec![folder], place.port(&[folder]))
        }
        _ => return None,
    };
    Some((place.name(name).to_owned(), place.program(manifest, command, &watch, port)))
}

/// A package with a program. In a workspace it is built from the root, by its name.
fn of_cargo(place: Place<'_>, text: &str) -> Option<(String, Program)> {
    // Of several programs, the manifest says which is meant.
    let is_one = place.has("src/main.rs") || text.contains("default-run") || rust_files(&place.path("src/bin")) == 1;
    if !is_one {
        return None;
    }
    let mut program = place.program("Cargo.toml", words("cargo run"), &["src", "Cargo.toml"], place.port(&["src", "src/bin"]));
    program.slow = true;
    let lines = text.lines().map(str::trim).skip_while(|line| *line != "[package]").skip(1).take_while(|line| !line.starts_with('['));
    let package = lines
        .filter_map(|line| line.strip_prefix("name")?.trim_start().strip_prefix('='))
        .find_map(|name| quoted_texts(name).into_iter().next());
    let in_workspace = read(&place.root.join("Cargo.toml")).is_some_and(|root| root.contains("[workspace]"));
    if let (false, true, Some(package)) = (place.member.is_empty(), in_workspace, package) {
        program.command = vec!["cargo".to_owned(), "run".to_owned(), "--package".to_owned(), package];
        program.directory = None;
    }
    // Libraries of the same repository.
    for path in text.split("path = \"").skip(1).filter_map(|rest| rest.split('"').next()) {
        let library = resolved(place.member, path).map(|path| joined(&path, "src"));
        let library = library.filter(|path| place.root.join(path).is_dir() && !program.watch.contains(path));
        program.watch.extend(library);
    }
    Some((place.name("app").to_owned(), program))
}

fn rust_files(directory: &Path) -> usize {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().take(100);
    entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "rs")).count()
}

/// The usual place of a module's commands.
fn of_go_commands(place: Place<'_>) -> Vec<(String, Program)> {
    let names = directories(place.root, &place.shown("cmd")).into_iter();
    let names: Vec<String> = names.filter(|name| place.has(&format!("cmd/{name}/main.go"))).take(20).collect();
    let command = |name: &str| vec!["go".to_owned(), "run".to_owned(), format!("./cmd/{name}")];
    let program = |name: &String| place.program("go.mod", command(name), &["."], place.port(&[&format!("cmd/{name}")]));
    names.iter().map(|name| (name.clone(), program(name))).collect()
}

/// Spring reads `SERVER_PORT` and not `PORT`. A module of a larger build is started from its root.
fn of_maven(place: Place<'_>, text: &str) -> Option<(String, Program)> {
    if !text.contains("spring-boot") || text.contains("<modules>") {
        return None;
    }
    let module = Some(place.member).filter(|member| !member.is_empty() && place.root.join("pom.xml").exists());
    let maven = if module.map_or_else(|| place.has("mvnw"), |_| place.root.join("mvnw").exists()) { "./mvnw" } else { "mvn" };
    let command = match module {
        None => format!("SERVER_PORT=$PORT exec {maven} spring-boot:run"),
        // Its libraries come first; `spring-boot:run` with `--also-make` would try to run them.
        Some(module) => format!(
            "{maven} --quiet --projects {module} --also-make -DskipTests install && SERVER_PORT=$PORT exec {maven} --projects {module} spring-boot:run"
        ),
    };
    let program = place.program("pom.xml", shell(&command), &["src"], Port::Free);
    let directory = program.directory.clone().filter(|_| module.is_none());
    Some((place.name("app").to_owned(), Program { directory, slow: true, ..program }))
}

fn of_gradle(place: Place<'_>, manifest: &str, text: &str) -> Option<(String, Program)> {
    let is_part = !place.member.is_empty() && ["settings.gradle", "settings.gradle.kts"].iter().any(|file| place.root.join(file).exists());
    let module = if is_part { format!(":{}:", place.member.replace('/', ":")) } else { String::new() };
    let wrapper = if is_part { place.root.join("gradlew") } else { place.path("gradlew") };
    let gradle = if wrapper.exists() { "./gradlew" } else { "gradle" };
    let boot: Vec<&str> = text.lines().filter(|line| line.contains("org.springframework.boot")).collect();
    // The root of a build may name the plugin only for its modules.
    let is_spring =
        if boot.is_empty() { !is_part && text.contains("spring") } else { boot.iter().any(|line| !line.contains("apply false")) };
    let is_application = ["id(\"application\")", "id 'application'", "apply plugin: 'application'", "\n    application\n"];
    let (command, port) = if is_spring {
        (shell(&format!("SERVER_PORT=$PORT exec {gradle} {module}bootRun")), Port::Free)
    } else if is_application.iter().any(|word| text.contains(word)) {
        (words(&format!("{gradle} {module}run")), Port::None)
    } else {
        return None;
    };
    let program = place.program(manifest, command, &["src"], port);
    let directory = program.directory.clone().filter(|_| !is_part);
    Some((place.name("app").to_owned(), Program { directory, slow: true, ..program }))
}

/// The tool that makes the schema by running programs, before the others start.
pub(super) fn migration(place: Place<'_>) -> Option<Program> {
    let has = |path: &str| place.has(path);
    let (command, from) = match () {
        () if has("alembic.ini") => (words("alembic upgrade head"), "alembic.ini"),
        () if has("manage.py") => (words("python3 manage.py migrate --noinput"), "manage.py"),
        () if has("bin/rails") && has("db/migrate") => (words("bin/rails db:migrate"), "db/migrate/"),
        () if has("knexfile.js") => (words("npx knex migrate:latest"), "knexfile.js"),
        () if has("knexfile.ts") => (words("npx knex migrate:latest"), "knexfile.ts"),
        () if has("artisan") => (words("php artisan migrate --force"), "artisan"),
        () => return None,
    };
    Some(Program { runs: Runs::Once, ..place.program(from, command, &[], Port::None) })
}

/// A path of the project, from one that is relative to a member; nothing if it leads outside.
fn resolved(member: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = member.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match part {
            ".." => parts.pop().map(drop)?,
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn slow(programs: Vec<(String, Program)>) -> Vec<(String, Program)> {
    programs.into_iter().map(|(name, program)| (name, Program { slow: true, ..program })).collect()
}

pub(super) fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

pub(super) fn shell(line: &str) -> Vec<String> {
    vec!["sh".to_owned(), "-c".to_owned(), line.to_owned()]
}
