//! What a project's files say about the services that it needs. Reads small regular files of the project; runs nothing.

use std::{
    fs,
    path::{Path, PathBuf},
};

use indexmap::IndexMap;

use super::{
    dev_container::DevContainer,
    libraries::{SERVERS, Server, is_library, libraries},
    members::{is_workspace, members},
    ports::Port,
    programs::{self, Place, Program, Runs},
};

/// The largest file that is looked at.
const LARGEST: u64 = 4 << 20;

/// Files that list libraries: manifests, then lock files, in which a library may be that of another one.
pub(super) const MANIFESTS: &[&str] = &[
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
    /// Of the dev container, as a profile writes them.
    pub(super) variables: Vec<(String, String)>,
    /// What was seen and not taken, and why.
    pub(super) left_out: Vec<String>,
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
    if files.is_empty() { DevContainer::compose_files(directory) } else { files }
}

impl Found {
    pub(super) fn of(directory: &Path) -> Self {
        let project = directory.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
        let mut found = Self { project, ..Self::default() };
        let members = members(directory);
        let paths = std::iter::once("").chain(members.iter().map(String::as_str));
        let places: Vec<Place<'_>> = paths.map(|member| Place { root: directory, member }).collect();
        let dev_container = DevContainer::of(directory);
        for place in &places {
            found.servers_of(*place);
        }
        if let Some(dev_container) = &dev_container {
            found.servers_of_dev_container(dev_container);
        }
        for place in &places {
            found.folders_of(*place);
        }
        if let Some(folder) = found.migrations.clone().filter(|_| !found.servers.values().any(|server| server.sql)) {
            found.add(&SERVERS[0], format!("{folder}/"));
        }
        found.programs_of(&places);
        found.env_file = found.env_file(directory);
        if let Some(dev_container) = &dev_container {
            found.take(dev_container, &places[0]);
        }
        found.share_no_port();
        found
    }

    /// The servers that libraries and examples of env files name.
    fn servers_of(&mut self, place: Place<'_>) {
        for file in MANIFESTS.iter().chain(LOCKS) {
            if let Some(text) = read(&place.path(file)) {
                self.libraries(file, &place.shown(file), &text);
            }
        }
        for file in ENV_EXAMPLES {
            if let Some(text) = read(&place.path(file)) {
                self.urls(&place.shown(file), &text);
            }
        }
    }

    /// Scripts for the database. There is one, so that those of the first place that has some are taken.
    fn folders_of(&mut self, place: Place<'_>) {
        let has_scripts = |folder: &&&str| has_sql(&place.path(folder));
        let mut take = |folders: &[&str], taken: &mut Option<String>| {
            let Some(folder) = folders.iter().find(has_scripts).map(|folder| place.shown(folder)) else { return };
            match taken {
                None => *taken = Some(folder),
                Some(first) => self.left_out.push(format!("{folder}/, because {first}/ is taken")),
            }
        };
        take(MIGRATIONS, &mut self.migrations);
        take(SEEDS, &mut self.seeds);
    }

    fn programs_of(&mut self, places: &[Place<'_>]) {
        let root = places[0];
        if let Some((file, text)) = PROCFILES.iter().find_map(|file| Some((file, read(&root.path(file))?))) {
            // It says how the programs are started: better than a guess.
            for (name, program) in programs::of_procfile(file, &text) {
                self.add_program(&name, "", program);
            }
            return;
        }
        // Members first: the manifest of a workspace may only start them all.
        for place in places.iter().skip(1).chain([&root]) {
            for manifest in MANIFESTS {
                let Some(text) = read(&place.path(manifest)) else { continue };
                let starts_members = place.member.is_empty() && !self.programs.is_empty() && is_workspace(manifest, &text, place.root);
                if !starts_members {
                    for (name, program) in programs::of_manifest(*place, manifest, &text) {
                        self.add_program(&name, place.member, program);
                    }
                }
            }
        }
        for place in places {
            if let Some(program) = programs::migration(*place) {
                let name = if place.member.is_empty() { "migrate".to_owned() } else { format!("{}-migrate", place.name("")) };
                self.add_program(&name, place.member, program);
            }
        }
    }

    /// Adds a program under a name that no other service has. Several manifests of a directory may be about the same one.
    fn add_program(&mut self, name: &str, member: &str, program: Program) {
        if self.programs.values().any(|other| other.command == program.command && other.directory == program.directory) {
            return;
        }
        let numbered = (2..).map(|number| format!("{}-{number}", service_name(name)));
        let names = [service_name(name), service_name(&member.replace('/', "-")), service_name(&format!("{name}-app"))];
        let is_free = |name: &String| !self.programs.contains_key(name) && !self.servers.values().any(|server| server.service == name);
        let candidates = names.into_iter().enumerate().filter(|(at, _)| *at != 1 || !member.is_empty()).map(|(_, name)| name);
        if let Some(name) = candidates.chain(numbered).find(is_free) {
            self.programs.insert(name, program);
        }
    }

    fn servers_of_dev_container(&mut self, dev_container: &DevContainer) {
        let file = dev_container.file;
        // Features are programs in its image; those of servers say what the project needs.
        for feature in dev_container.features() {
            for server in
                SERVERS.iter().filter(|server| server.words.iter().any(|word| feature.split(['-', '_']).any(|part| part == *word)))
            {
                self.add(server, format!("`{feature}` in {file}"));
            }
        }
        for port in dev_container.forwarded_ports() {
            for server in SERVERS.iter().filter(|server| server.port == Some(port)) {
                self.add(server, format!("port {port} in {file}"));
            }
        }
    }

    /// What the dev container says about programs and their variables.
    fn take(&mut self, dev_container: &DevContainer, root: &Place<'_>) {
        let (programs, left_out) = dev_container.prepares();
        self.left_out.extend(left_out);
        let ports = dev_container.forwarded_ports().into_iter().filter(|port| !SERVERS.iter().any(|server| server.port == Some(*port)));
        let ports: Vec<u16> = ports.collect();
        let mut running = self.programs.values_mut().filter(|program| program.runs == Runs::On);
        // With one program and one port, there is no doubt which is whose.
        if let (Some(program), None, [port]) = (running.next(), running.next(), ports.as_slice())
            && program.port == Port::None
        {
            program.port = Port::Fixed(*port);
        }
        for (name, program) in programs {
            self.add_program(&name, "", program);
        }
        let (variables, mut unusable) = dev_container.variables(root);
        for (name, value) in variables {
            if self.provides(&name) {
                unusable.push(name);
            } else {
                self.variables.push((name, value));
            }
        }
        if !unusable.is_empty() {
            self.left_out.push(format!("{} of {}, which the environment or its container sets", unusable.join(", "), dev_container.file));
        }
    }

    /// Two programs cannot listen on the same port: the second one is left without, for its owner to decide.
    fn share_no_port(&mut self) {
        let mut taken: IndexMap<u16, String> = IndexMap::new();
        for (name, program) in &mut self.programs {
            let Port::Fixed(port) = program.port else { continue };
            if let Some(other) = taken.get(&port) {
                self.left_out.push(format!("port {port} of {name}, because {other} listens on it: give one of them another"));
                program.port = Port::None;
            } else {
                taken.insert(port, name.clone());
            }
        }
    }

    fn add(&mut self, server: &'static Server, from: String) {
        self.servers.entry(server.kind).or_insert(FoundServer { service: server.service, sql: server.sql, from });
    }

    fn libraries(&mut self, file: &str, shown: &str, text: &str) {
        let names = libraries(file, text);
        for server in SERVERS {
            if let Some(library) = server.libraries.iter().find(|library| names.iter().any(|name| is_library(name, library))) {
                self.add(server, format!("`{library}` in {shown}"));
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
}

fn service_name(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let plain = plain.trim_start_matches(|c: char| !c.is_ascii_lowercase()).chars().take(40).collect::<String>();
    let plain = plain.trim_end_matches('-').to_owned();
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
pub(super) fn read(path: &Path) -> Option<String> {
    String::from_utf8(devenv_files::read_bounded_in_time(path, LARGEST).ok()?).ok()
}
