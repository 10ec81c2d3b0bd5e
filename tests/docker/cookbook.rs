//! Each recipe of the cookbook, run as its readers would run it. What a recipe names and this machine lacks (the project's own program, a
//! tool, an image) has a stand-in; the recipe's text stays as it is but for ports, which are free ones here.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::Path,
};

use crate::{
    clients::{redis, sql, try_sql},
    corner::{Corner, Ended, executable},
};

const PAGE: &str = include_str!("../../docs/guide/cookbook.md");
/// Serves the directory of the project.
const SERVER: &str = "exec python3 -m http.server --bind 127.0.0.1 \"$PORT\"";

/// What a recipe shows.
struct Recipe {
    profile: Option<String>,
    commands: String,
}

fn recipe(number: usize) -> Recipe {
    let start = PAGE.find(&format!("\n## {number}. ")).unwrap_or_else(|| panic!("no recipe {number}"));
    let rest = &PAGE[start + 1..];
    let text = &rest[..rest.find("\n## ").unwrap_or(rest.len())];
    let mut recipe = Recipe { profile: None, commands: String::new() };
    for block in text.split("```").skip(1).step_by(2) {
        let (language, body) = block.split_once('\n').unwrap();
        if language == "yaml" {
            recipe.profile = Some(body.to_owned());
        } else {
            body.lines().for_each(|line| recipe.commands.push_str(&format!("{}\n", line.strip_prefix("$ ").unwrap_or(line))));
        }
    }
    recipe
}

impl Recipe {
    /// An environment of the recipe's profile, up; `prepare` makes what the project has.
    fn up(&self, prepare: impl FnOnce(&Corner)) -> Corner {
        let corner = with(self.profile.as_ref().unwrap());
        prepare(&corner);
        corner.shell("devenv up").expect(0);
        corner
    }

    /// Runs the commands one after another; each must succeed.
    #[track_caller]
    fn run(&self, corner: &Corner) -> Ended {
        assert!(!self.commands.is_empty());
        corner.shell(&format!("set -ex\n{}", self.commands)).expect(0)
    }
}

fn with(profile: &str) -> Corner {
    let corner = Corner::new();
    for name in ["default", "ci"] {
        fs::write(corner.project().join(format!("profiles/{name}.yaml")), profile).unwrap();
    }
    corner
}

const DATABASE: &str = "services:\n  db:\n    postgres: {}\n";
const CACHE: &str = "services:\n  cache:\n    redis: {}\n";

/// The body, if the server answers at all.
fn get(url: &str, path: &str) -> Result<String, String> {
    let address = url.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).map_err(|error| error.to_string())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(|error| error.to_string())?;
    answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).ok_or_else(|| format!("no answer but {answer:?}"))
}

#[test]
fn every_recipe_has_a_test() {
    let recipes = PAGE.lines().filter(|line| line.starts_with("## ")).count();
    assert!(recipes >= 15, "{recipes}");
    for number in 1..=recipes {
        assert!(include_str!("cookbook.rs").contains(&format!(" recipe({number})")), "recipe {number} has no test");
    }
}

#[test]
fn two_databases_have_their_extensions_and_are_closed_to_each_others_roles() {
    let corner = recipe(1).up(|_| ());
    let (orders, billing) = (corner.variable("DATABASE_URL"), corner.variable("DB_BILLING_URL"));
    for (url, name) in [(&orders, "orders"), (&billing, "billing")] {
        assert_eq!(sql(url, "select current_database()"), [name]);
        assert_eq!(sql(url, "select extname from pg_extension where extname in ('pg_trgm', 'vector') order by 1"), ["pg_trgm", "vector"]);
    }
    let other = orders.replacen("/orders", "/billing", 1);
    assert_ne!(other, orders);
    let refused = try_sql(&other, "select 1").unwrap_err();
    assert!(refused.contains("billing"), "{refused}");
}

#[test]
fn a_dump_is_imported_and_restored_from_a_snapshot() {
    let corner = with(DATABASE);
    corner.shell("devenv up && printf 'create table item (id int);\\ninsert into item values (1), (2);\\n' | gzip > dump.sql.gz").expect(0);
    recipe(2).run(&corner);
    sql(&corner.variable("DATABASE_URL"), "drop table item");
    corner.ok(&["snapshot", "restore", "imported"]);
    assert_eq!(sql(&corner.variable("DATABASE_URL"), "select count(*) from item"), ["2"]);
    corner.ok(&["snapshot", "remove", "imported"]);
}

#[test]
fn migrations_of_a_tool_run_before_the_program() {
    let corner = recipe(3).up(|corner| {
        corner.program("alembic", "test \"$*\" = 'upgrade head' && test -n \"$DATABASE_URL\" && touch migrated");
        executable(&corner.project().join("api"), &format!("test -f migrated\n{SERVER}"));
    });
    assert_eq!(corner.service("migrate")["state"], "completed");
    assert_eq!(corner.service("api")["state"], "ready");
}

#[test]
fn a_port_stays_as_it_was_written() {
    let mut recipe = recipe(4);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    recipe.profile = recipe.profile.map(|profile| profile.replace("15432", &free.to_string()));
    let corner = recipe.up(|_| ());
    assert!(corner.variable("DATABASE_URL").contains(&format!(":{free}/")));
}

#[test]
fn a_server_without_a_kind_has_its_address_in_variables() {
    let mut recipe = recipe(5);
    let image = "image: \"docker.io/getmeili/meilisearch:v1.12\"";
    let server = "use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalPort => 7700, Listen => 5, ReuseAddr => 1) or die; \
        while (my $c = $s->accept) { while (<$c>) { last if /^\\s*$/ } print $c qq(HTTP/1.0 200 OK\\r\\n\\r\\n$ENV{MEILI_NO_ANALYTICS}); close $c }";
    let stand_in =
        format!("image: \"debian:trixie-slim\", command: [perl, -e, {}]", serde_json::to_string(&server.replace('$', "$$")).unwrap());
    recipe.profile = recipe.profile.map(|profile| profile.replace(image, &stand_in));
    assert!(recipe.profile.as_ref().unwrap().contains("perl"));
    let corner = recipe.up(|_| ());
    assert_eq!(get(&corner.variable("SEARCH_URL"), "/health").unwrap(), "true");
    assert!(corner.variable("SEARCH_URL").ends_with(&format!("{}:{}", corner.variable("SEARCH_HOST"), corner.variable("SEARCH_PORT"))));
}

#[test]
fn a_migration_is_tried_and_taken_back() {
    let corner = with(DATABASE);
    corner.shell("devenv up").expect(0);
    fs::write(corner.project().join("migration.sql"), "create table tried (id int);\n").unwrap();
    recipe(6).run(&corner);
    let is_there = || sql(&corner.variable("DATABASE_URL"), "select to_regclass('tried') is not null");
    assert_eq!(is_there(), ["f"]);
    corner.ok(&["undo"]);
    assert_eq!(is_there(), ["t"], "undo takes the restore back");
    corner.ok(&["snapshot", "remove", "before"]);
}

#[test]
fn a_fork_has_its_own_data() {
    let corner = with(DATABASE);
    corner.shell("devenv up").expect(0);
    recipe(7).run(&corner);
    assert_eq!(corner.service("db")["state"], "ready");
    assert_eq!(corner.json(&["status", "--instance", "review"])["phase"], "absent");
}

#[test]
fn a_command_has_its_own_database() {
    let corner = with(DATABASE);
    corner.program("pytest", "test \"$*\" = -q && echo \"$DATABASE_URL\" > url");
    recipe(8).run(&corner);
    let own = fs::read_to_string(corner.project().join("url")).unwrap();
    assert!(own.starts_with("postgres://") || own.starts_with("postgresql://"), "{own}");
    assert_ne!(own.trim(), corner.variable("DATABASE_URL"));
}

#[test]
fn tests_run_in_ci_as_on_the_laptop() {
    let corner = with(DATABASE);
    fs::write(corner.project().join("Makefile"), "test:\n\t@test -n \"$$DATABASE_URL\" && touch tested\n").unwrap();
    recipe(9).run(&corner);
    assert!(corner.project().join("tested").exists());
}

#[test]
fn a_secret_of_a_password_manager_reaches_the_program_alone() {
    let corner = recipe(10).up(|corner| {
        corner.program("op", "test \"$*\" = 'read op://dev/stripe/key' && echo sk-test-7f1c");
        executable(&corner.project().join("api"), &format!("test \"$STRIPE_KEY\" = sk-test-7f1c\necho started\n{SERVER}"));
    });
    let told = [corner.ok(&["status", "--json"]), corner.ok(&["config", "--json"]), corner.ok(&["logs", "api"])].concat();
    assert!(told.contains("started") && !told.contains("sk-test-7f1c"), "{told}");
}

#[test]
fn a_reload_refuses_no_request() {
    let write = |project: &Path, version: &str| {
        for (path, text) in [("health", "ok"), ("version", version)] {
            let path = project.join("versions").join(version).join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        fs::create_dir_all(project.join("src")).unwrap();
        fs::write(project.join("src/version"), version).unwrap();
    };
    let program = "exec python3 -m http.server --bind 127.0.0.1 --directory \"versions/$(cat target/debug/version)\" \"$PORT\"";
    let corner = recipe(11).up(|corner| {
        write(&corner.project(), "1");
        executable(&corner.project().join("target/debug/api"), program);
        fs::write(corner.project().join("target/debug/version"), "1").unwrap();
        corner.program("cargo", "test \"$*\" = build && cp src/version target/debug/version");
    });
    let url = corner.variable("API_URL");
    assert_eq!(get(&url, "/version").unwrap(), "1");
    write(&corner.project(), "2");
    corner.until("the second version answers", 30, || (get(&url, "/version").expect("no request is refused") == "2").then_some(()));
}

#[test]
fn a_cache_is_slow_and_then_gone() {
    let corner = with(CACHE);
    corner.shell("devenv up").expect(0);
    let ended = recipe(12).run(&corner);
    assert!(ended.stdout.contains("latency") && ended.stdout.contains("pause"), "{}", ended.stdout);
    corner.until("the faults end", 30, || corner.json(&["status"])["faults"].as_array().unwrap().is_empty().then_some(()));
    assert_eq!(redis(&corner.variable("REDIS_URL"), &["PING"]), "PONG");
}

#[test]
fn the_commands_that_explain_name_what_failed() {
    let corner = with("services:\n  api:\n    process: { command: [./api], port: 0 }\n");
    executable(&corner.project().join("api"), "echo no configuration >&2\nexit 3");
    assert_ne!(corner.shell("devenv up").code, 0);
    // The check of the host has findings of its own.
    let commands = recipe(13).commands.replace("devenv doctor", "devenv doctor || true");
    let ended = corner.shell(&format!("set -e\n{commands}")).expect(0);
    assert!(ended.stdout.contains("exited with code 3") && ended.stdout.contains("no configuration"), "{}", ended.stdout);
}

#[test]
fn an_environment_comes_up_without_a_network() {
    let corner = with(CACHE);
    recipe(14).run(&corner);
    assert_eq!(redis(&corner.variable("REDIS_URL"), &["PING"]), "PONG");
    corner.shell("set -e; devenv images save images.tar; devenv images load images.tar").expect(0);
}

#[test]
fn variables_are_at_the_prompt_of_the_project_alone() {
    let corner = with(CACHE);
    corner.shell("devenv up").expect(0);
    let prompts = "prompts() { for prompt in {1..40}; do eval \"$PROMPT_COMMAND\"; done; }";
    let script =
        format!("{}\n{prompts}\nprompts; echo \"inside $REDIS_URL\"; cd /; prompts; echo \"outside $REDIS_URL.\"", recipe(15).commands);
    let ended = corner.shell(&script).expect(0);
    let lines: Vec<&str> = ended.stdout.lines().collect();
    assert_eq!(lines, [format!("inside {}", corner.variable("REDIS_URL")).as_str(), "outside ."], "{}", ended.stderr);
}
