//! Shapes of projects, and the profiles that come out: each is valid.

use std::{collections::BTreeMap, fs, path::Path};

use devenv_profile::{LoadRequest, load as loader};

use super::{
    detect::{self, EnvFile, Found},
    ports::Port,
};

fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

/// The profile's services by name, or what is wrong with it.
fn validated(directory: &Path, found: &Found) -> Vec<String> {
    let text = found.profile();
    fs::create_dir_all(directory.join("profiles")).unwrap();
    fs::write(directory.join("profiles/default.yaml"), &text).unwrap();
    // A copy of the example is what its users make of it.
    if directory.join(".env.example").exists() && !directory.join(".env").exists() {
        fs::copy(directory.join(".env.example"), directory.join(".env")).unwrap();
    }
    let environment = BTreeMap::new();
    let request = LoadRequest { project: directory, profile: "default", environment: &environment, user_directory: None, trusted: true };
    match loader::load(&request) {
        Ok(loaded) => {
            assert!(loaded.report.render().is_empty(), "{}\n{text}", loaded.report.render());
            loaded.profile.services.keys().map(ToString::to_string).collect()
        }
        Err(error) => panic!("{error}: {:?}\n{text}", error.to_api()),
    }
}

/// Files, the kinds of servers, the programs with their commands.
type Shape = (&'static [(&'static str, &'static str)], &'static [&'static str], &'static [(&'static str, &'static str)]);

const SHAPES: &[Shape] = &[
    (
        &[("package.json", r#"{"name":"web","scripts":{"dev":"x"},"dependencies":{"pg":"8","ioredis":"5"}}"#), ("migrations/1.sql", "")],
        &["postgres", "redis"],
        &[("web", "npm run dev")],
    ),
    (
        &[("package.json", r#"{"name":"@shop/web","scripts":{"start":"x"},"dependencies":{"express":"5"}}"#), ("pnpm-lock.yaml", "")],
        &[],
        &[("shop-web", "pnpm run start")],
    ),
    (
        &[("requirements.txt", "psycopg2-binary==2.9\npika>=1\n"), ("manage.py", "")],
        &["postgres", "rabbitmq"],
        &[("web", "sh -c exec python3 manage.py runserver 127.0.0.1:$PORT"), ("migrate", "python3 manage.py migrate --noinput")],
    ),
    (
        &[("pyproject.toml", "[project]\ndependencies = [\"fastapi\", \"asyncpg>=0.29\"]\n"), ("uv.lock", ""), ("app/main.py", "")],
        &["postgres"],
        &[("web", "sh -c exec uv run uvicorn app.main:app --port $PORT --reload")],
    ),
    (
        &[
            ("pyproject.toml", "[project]\ndependencies = [\"sqlalchemy\"]\n"),
            ("poetry.lock", "name = \"psycopg\"\n"),
            ("alembic.ini", ""),
            ("migrations/env.py", ""),
            ("migrations/a.sql", ""),
        ],
        &["postgres"],
        &[("migrate", "alembic upgrade head")],
    ),
    (&[("requirements.txt", "flask\n"), ("app.py", "")], &[], &[("web", "sh -c exec flask --app app run --debug --port $PORT")]),
    (
        &[("Cargo.toml", "[dependencies]\nsqlx = \"1\"\nrdkafka = \"0\"\n"), ("src/main.rs", "")],
        &["postgres", "kafka"],
        &[("app", "cargo run")],
    ),
    (&[("go.mod", "require github.com/jackc/pgx/v5 v5.0.0\n"), ("main.go", "")], &["postgres"], &[("app", "go run .")]),
    (&[("go.mod", "require github.com/redis/go-redis/v9 v9.0.0\n"), ("cmd/api/main.go", "")], &["redis"], &[("api", "go run ./cmd/api")]),
    (&[("Gemfile", "gem 'mysql2'\ngem 'sidekiq'\n")], &["mariadb", "redis"], &[]),
    (
        &[("Gemfile", "gem 'pg'\n"), ("Gemfile.lock", "    redis (5.0)\n"), ("bin/rails", ""), ("db/migrate/1_x.rb", "")],
        &["postgres", "redis"],
        &[("web", "sh -c exec bin/rails server -p $PORT"), ("migrate", "bin/rails db:migrate")],
    ),
    (
        &[("pom.xml", "<artifactId>postgresql</artifactId> spring-boot"), ("mvnw", ""), ("src/main/resources/db/migration/V1__x.sql", "")],
        &["postgres"],
        &[("app", "sh -c SERVER_PORT=$PORT exec ./mvnw spring-boot:run")],
    ),
    (
        &[("build.gradle.kts", "implementation(\"org.springframework.kafka:spring-kafka\")"), ("gradlew", "")],
        &["kafka"],
        &[("app", "sh -c SERVER_PORT=$PORT exec ./gradlew bootRun")],
    ),
    (
        &[
            ("Procfile", "web: serve -p $PORT\n# x: y\nworker: work \"a b\" \\ é\nrelease: prepare\n"),
            ("package.json", "{\"scripts\":{\"dev\":\"x\"}}"),
        ],
        &[],
        &[("web", "sh -c serve -p $PORT"), ("worker", "sh -c work \"a b\" \\ é"), ("release", "sh -c prepare")],
    ),
    (
        &[(
            ".devcontainer/devcontainer.json",
            "{ // a comment\n \"features\": { \"ghcr.io/x/features/redis-server:1\": {}, \"ghcr.io/x/node:1\": {}, }, }",
        )],
        &["redis"],
        &[],
    ),
    (
        &[(
            ".env.example",
            "# A\nDATABASE_URL=\"postgresql+asyncpg://u:p@localhost/app\"\nexport BROKER=amqp://localhost\nDEBUG=1\nEMPTY=\n",
        )],
        &["postgres", "rabbitmq"],
        &[],
    ),
    (
        &[(".env.example", "LOG_LEVEL=debug\n"), ("db/migrations/001_x.up.sql", ""), ("db/migrations/001_x.down.sql", "")],
        &["postgres"],
        &[],
    ),
    (&[("seeds/seed.js", ""), ("package.json", r#"{"dependencies":{"pg":"8"}}"#)], &["postgres"], &[]),
    (&[("supabase/migrations/1_a.sql", ""), ("seeds/1.sql", "")], &["postgres"], &[]),
    (
        &[("composer.json", r#"{"require":{"laravel/framework":"12"}}"#), ("artisan", "")],
        &[],
        &[("web", "sh -c exec php artisan serve --port $PORT"), ("migrate", "php artisan migrate --force")],
    ),
    (&[("pom.xml", "<artifactId>spring-boot-starter</artifactId>")], &[], &[("app", "sh -c SERVER_PORT=$PORT exec mvn spring-boot:run")]),
    (&[("build.gradle.kts", "plugins {\n    id(\"application\")\n}")], &[], &[("app", "gradle run")]),
    (&[("build.gradle.kts", "id(\"org.springframework.boot\") version \"3\" apply false")], &[], &[]),
    (
        &[("go.mod", "module x"), ("cmd/api/main.go", "os.Getenv(\"PORT\")"), ("cmd/worker/main.go", ""), ("cmd/lib/x.go", "")],
        &[],
        &[("api", "go run ./cmd/api"), ("worker", "go run ./cmd/worker")],
    ),
    (
        &[("requirements.txt", "flask\n"), ("app.py", ""), (".venv/bin/python3", "")],
        &[],
        &[("web", "sh -c exec .venv/bin/flask --app app run --debug --port $PORT")],
    ),
    // The name of a server is taken.
    (&[("package.json", r#"{"name":"db","scripts":{"dev":"x"},"dependencies":{"pg":"8"}}"#)], &["postgres"], &[("db-app", "npm run dev")]),
    (
        &[(
            ".devcontainer/devcontainer.json",
            r#"{"forwardPorts": [5432, 3000], "postCreateCommand": "npm ci", "remoteEnv": {"LOG_LEVEL": "debug", "HOME_OF": "${localEnv:HOME}"}}"#,
        )],
        &["postgres"],
        &[("prepare", "sh -c npm ci")],
    ),
    (&[("package.json", "{ this is no JSON")], &[], &[]),
    (&[("README.md", "pg redis")], &[], &[]),
    (&[], &[], &[]),
];

#[test]
fn every_shape_of_a_project_gives_a_valid_profile_with_what_it_needs() {
    for (files, servers, programs) in SHAPES {
        let directory = project(files);
        let found = Found::of(directory.path());
        assert_eq!(found.servers.keys().copied().collect::<Vec<_>>(), *servers, "{files:?}");
        let commands: Vec<(String, String)> =
            found.programs.iter().map(|(name, program)| (name.clone(), program.command.join(" "))).collect();
        let commands: Vec<(&str, &str)> = commands.iter().map(|(name, command)| (name.as_str(), command.as_str())).collect();
        assert_eq!(commands, *programs, "{files:?}");
        let services = validated(directory.path(), &found);
        assert_eq!(services.len(), (servers.len() + programs.len()).max(1), "{files:?}");
        assert!(found.took().len() <= 5, "{:?}", found.took());
    }
}

#[test]
fn an_env_file_that_leads_elsewhere_is_not_read_and_the_profile_says_so() {
    let directory =
        project(&[(".env", "DATABASE_URL=postgres://localhost/mine\nDB_POOL=5\n"), ("package.json", r#"{"dependencies":{"pg":"8"}}"#)]);
    let found = Found::of(directory.path());
    assert_eq!(found.env_file, EnvFile::Replaces(vec!["DATABASE_URL".to_owned(), "DB_POOL".to_owned()]));
    assert!(!found.profile().contains("\nenv_file"), "{}", found.profile());
    assert!(!found.profile().contains("localhost/mine"), "values of `.env` are private");
    validated(directory.path(), &found);

    let directory = project(&[(".env", "LOG_LEVEL=debug\n")]);
    let found = Found::of(directory.path());
    assert_eq!(found.env_file, EnvFile::Read);
    validated(directory.path(), &found);
}

#[test]
fn programs_wait_for_the_job_that_comes_before_them() {
    let directory = project(&[("Procfile", "release: prepare\nweb: serve\n")]);
    let text = Found::of(directory.path()).profile();
    assert!(text.contains("depends_on: { release: completed }") && text.matches("port: 0").count() == 1, "{text}");
}

#[test]
fn of_a_procfile_the_web_program_serves_a_port_and_a_worker_does_not() {
    let directory = project(&[("Procfile", "web: serve\nworker: work\nadmin: admin --port $PORT\n")]);
    let text = Found::of(directory.path()).profile();
    let (web, rest) = text.split_once("  worker:").unwrap();
    let (worker, admin) = rest.split_once("  admin:").unwrap();
    assert!(web.contains("port: 0") && !worker.contains("port: 0") && admin.contains("port: 0"), "{text}");
}

#[test]
fn the_compose_files_of_a_dev_container_are_found() {
    let directory = project(&[
        (".devcontainer/devcontainer.json", "{ \"dockerComposeFile\": [\"../stack.yml\", \"extra.yml\"], /* x */ }"),
        ("stack.yml", "services: {}\n"),
        (".devcontainer/extra.yml", "services: {}\n"),
    ]);
    let names: Vec<_> = detect::compose_files(directory.path()).iter().map(|file| file.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["stack.yml", "extra.yml"]);
}

/// Files of a monorepo, and its programs: name, command, directory, port.
type Monorepo = (&'static [(&'static str, &'static str)], &'static [(&'static str, &'static str, Option<&'static str>, Port)]);

const MONOREPOS: &[Monorepo] = &[
    // Without a workspace, by the usual places.
    (
        &[
            ("web/package.json", r#"{"name":"shop-web","scripts":{"dev":"vite"}}"#),
            ("api/requirements.txt", "fastapi\npsycopg\n"),
            ("api/main.py", ""),
            ("docs/package.json", r#"{"scripts":{"dev":"x"}}"#),
        ],
        &[
            ("api", "sh -c exec uvicorn main:app --port $PORT --reload", Some("api"), Port::Free),
            ("web", "sh -c exec npm run dev -- --port $PORT --host 127.0.0.1", Some("web"), Port::Free),
        ],
    ),
    // A workspace of pnpm: its own script starts all, a library serves nothing, and one member is left out.
    (
        &[
            ("package.json", r#"{"name":"all","scripts":{"dev":"turbo run dev"}}"#),
            ("pnpm-workspace.yaml", "packages:\n  - \"apps/*\"\n  - libs/*\n  - '!apps/old'\n"),
            ("apps/web/package.json", r#"{"scripts":{"dev":"next dev"}}"#),
            ("apps/old/package.json", r#"{"scripts":{"dev":"next dev"}}"#),
            ("apps/api/package.json", r#"{"scripts":{"dev":"tsx watch src/main.ts"}}"#),
            ("apps/api/src/main.ts", "app.listen(4000)"),
            ("libs/model/package.json", r#"{"scripts":{"dev":"tsc -w"}}"#),
        ],
        &[
            ("api", "pnpm run dev", Some("apps/api"), Port::Fixed(4000)),
            ("web", "pnpm run dev", Some("apps/web"), Port::Free),
            ("model", "pnpm run dev", Some("libs/model"), Port::None),
        ],
    ),
    // A workspace of Cargo is built from its root; a library is no program.
    (
        &[
            ("Cargo.toml", "[workspace]\nmembers = [\"crates/*\"]\n"),
            ("crates/api/Cargo.toml", "[package]\nname = \"shop-api\"\n[dependencies]\nmodel = { path = \"../model\" }\n"),
            ("crates/api/src/main.rs", "TcpListener::bind(\"127.0.0.1:7000\")"),
            ("crates/model/Cargo.toml", "[package]\nname = \"model\"\n"),
            ("crates/model/src/lib.rs", ""),
        ],
        &[("api", "cargo run --package shop-api", None, Port::Fixed(7000))],
    ),
    // Members of the same name, and two that listen on the same port.
    (
        &[
            ("apps/api/go.mod", "module a"),
            ("apps/api/main.go", "http.ListenAndServe(\":8080\", nil)"),
            ("services/api/go.mod", "module b"),
            ("services/api/main.go", "http.ListenAndServe(\":8080\", nil)"),
        ],
        &[("api", "go run .", Some("apps/api"), Port::Fixed(8080)), ("services-api", "go run .", Some("services/api"), Port::None)],
    ),
    // Modules of Maven and Gradle, from the root.
    (
        &[
            ("pom.xml", "<modules><module>orders</module></modules> spring-boot"),
            ("mvnw", ""),
            ("orders/pom.xml", "<artifactId>spring-boot-starter-web</artifactId>"),
        ],
        &[(
            "orders",
            "sh -c ./mvnw --quiet --projects orders --also-make -DskipTests install && SERVER_PORT=$PORT exec ./mvnw --projects orders spring-boot:run",
            None,
            Port::Free,
        )],
    ),
    (
        &[("settings.gradle.kts", "include(\":apps:orders\")\n"), ("apps/orders/build.gradle.kts", "id(\"org.springframework.boot\")")],
        &[("orders", "sh -c SERVER_PORT=$PORT exec gradle :apps:orders:bootRun", None, Port::Free)],
    ),
    // The one port of a dev container is that of the one program.
    (
        &[("package.json", r#"{"name":"shop","scripts":{"dev":"x"}}"#), (".devcontainer.json", r#"{"forwardPorts":[3300]}"#)],
        &[("shop", "npm run dev", None, Port::Fixed(3300))],
    ),
];

#[test]
fn every_member_of_a_monorepo_is_a_process_in_its_directory_with_the_port_that_it_serves() {
    for (files, expected) in MONOREPOS {
        let directory = project(files);
        let found = Found::of(directory.path());
        let programs = found.programs.iter();
        let programs: Vec<_> =
            programs.map(|(name, program)| (name.clone(), program.command.join(" "), program.directory.clone(), program.port)).collect();
        let expected: Vec<_> = expected
            .iter()
            .map(|(name, command, directory, port)| ((*name).to_owned(), (*command).to_owned(), directory.map(str::to_owned), *port))
            .collect();
        assert_eq!(programs, expected, "{files:?}");
        validated(directory.path(), &found);
        assert!(found.took().len() <= 5, "{:?}", found.took());
    }
}

#[test]
fn a_program_of_a_member_watches_its_files_and_the_libraries_that_it_uses() {
    let directory = project(MONOREPOS[2].0);
    let found = Found::of(directory.path());
    assert_eq!(found.programs["api"].watch, ["crates/api/src", "crates/api/Cargo.toml", "crates/model/src"]);
}

#[test]
fn a_large_project_is_told_in_five_lines_and_what_is_not_taken_is_said() {
    let names: Vec<String> = ('a'..='t').map(|name| format!("apps/{name}/package.json")).collect();
    let mut files: Vec<(&str, &str)> =
        names.iter().map(|name| (name.as_str(), r#"{"scripts":{"dev":"vite"},"dependencies":{"pg":"8"}}"#)).collect();
    files.extend([
        ("apps/a/migrations/1.sql", ""),
        ("apps/b/migrations/1.sql", ""),
        ("seeds/1.sql", ""),
        (".env.example", "LOG=x\n"),
        (".devcontainer.json", r#"{"postCreateCommand":"sudo apt-get install x","containerEnv":{"MODE":"dev","PATH":"/x"}}"#),
    ]);
    let directory = project(&files);
    let found = Found::of(directory.path());
    assert_eq!(found.programs.len(), 20);
    insta::assert_snapshot!(found.took().join("\n"), @r"
    servers: db (postgres); from `pg` in apps/a/package.json
    programs: a, b, c, d, e, f, g, h, and 12 more; from apps/a/package.json, apps/b/package.json, and 18 more
    scripts and seeds: apps/a/migrations/, seeds/
    variables: .env, MODE of the dev container
    not taken: apps/b/migrations/, because apps/a/migrations/ is taken; `sudo apt-get install x` of .devcontainer.json, which is for the container; PATH of .devcontainer.json, which the environment or its container sets
    ");
    validated(directory.path(), &found);
}

#[test]
fn what_prepares_a_project_comes_before_everything_else() {
    let directory = project(&[
        (".devcontainer.json", r#"{"postCreateCommand":"npm ci"}"#),
        ("package.json", r#"{"name":"web","scripts":{"dev":"vite"},"dependencies":{"pg":"8"}}"#),
        ("alembic.ini", ""),
    ]);
    let text = Found::of(directory.path()).profile();
    let (web, rest) = text.split_once("  migrate:").unwrap();
    let (migrate, prepare) = rest.split_once("  prepare:").unwrap();
    assert!(web.contains("depends_on: { db: ready, prepare: completed, migrate: completed }"), "{text}");
    assert!(migrate.contains("depends_on: { db: ready, prepare: completed }") && !prepare.contains("depends_on"), "{text}");
}
