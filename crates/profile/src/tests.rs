//! The loader through its front door: files in, problems or a profile out.

mod values;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::embedded;
use super::load::{LoadError, LoadRequest, Loaded, Refused, find_project, list, load};

/// Fails when a generated file is not what the types say; `UPDATE=1` writes it.
pub(super) fn stays_current(path: &str, wanted: &str) {
    let file = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(path);
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, wanted).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert!(found == wanted, "{path} is out of date: run `make reference`");
}

/// A project on disk.
pub(super) struct Project {
    directory: tempfile::TempDir,
    environment: BTreeMap<String, String>,
}

impl Project {
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        let project = Self { directory: tempfile::tempdir().unwrap(), environment: BTreeMap::new() };
        fs::create_dir(project.path().join("profiles")).unwrap();
        for (path, text) in files {
            project.write(path, text.as_bytes());
        }
        project
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    pub(super) fn load(&self, profile: &str) -> Result<Loaded, LoadError> {
        let user = self.path().join("user");
        load(&LoadRequest { project: self.path(), profile, environment: &self.environment, user_directory: Some(&user), trusted: false })
    }

    fn problems_of(&self, profile: &str) -> Vec<String> {
        match self.load(profile) {
            Ok(loaded) => lines(&loaded.report.problems(), self.path()),
            Err(LoadError::NotFound { name, hint }) => vec![format!("no profile {name}: {hint}")],
            Err(error) => lines(&error.problems(), self.path()),
        }
    }
}

fn lines(problems: &[devenv_api::Problem], project: &Path) -> Vec<String> {
    let prefix = format!("{}/", project.display());
    problems
        .iter()
        .map(|problem| {
            let hint = problem.hint.as_ref().map(|hint| format!(" [{hint}]")).unwrap_or_default();
            let severity = if problem.severity == devenv_api::Severity::Warning { " (warning)" } else { "" };
            format!("{}:{}:{}: {}{severity}: {}{hint}", problem.file, problem.line, problem.column, problem.code, problem.message)
                .replace(&prefix, "")
        })
        .collect()
}

pub(super) fn fixtures(folder: &str) -> Vec<PathBuf> {
    let directory = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join("tests/fixtures/profiles").join(folder);
    let mut paths: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    paths.sort();
    paths
}

/// A project in which the fixture is the profile `fixture`, with what good profiles name.
fn project_of(fixture: &Path) -> Project {
    let project = Project::new(&[
        ("init-scripts/postgres/01.sql", "select 1;"),
        ("seed-data/demo/postgres/item.csv", "id\n1\n"),
        ("rules/alerts.yml", "groups: []\n"),
        ("dashboards/shop.json", "{}"),
        ("services/api/Dockerfile", "FROM scratch\n"),
        (".env", "FROM_FILE=file\nPORT_FROM_FILE=8081\n"),
        ("remote.env", "# theirs\nDATABASE_URL=postgres://db.example.com/prod\n"),
        ("broken.env", "A=1\nB B=2\nC='open\n"),
        ("profiles/base.yaml", "services:\n  db:\n    postgres: { version: \"16\", settings: { work_mem: 8MB } }\n"),
        ("profiles/loop.yaml", "extends: [fixture]\nservices: {}\n"),
        ("profiles/wrong.yaml", "services:\n  cache:\n    redis: { maxmemory: lots }\n"),
    ])
    .with("HOME", "/home/me")
    .with("SHELL_PORT", "8080")
    .with("SHELL_WORD", "word");
    project.write("profiles/fixture.yaml", &fs::read(fixture).unwrap());
    project
}

#[test]
fn each_bad_profile_is_reported_with_all_its_positions() {
    let fixtures = fixtures("bad");
    assert!(fixtures.len() >= 60, "only {} bad profiles", fixtures.len());
    let mut stale = Vec::new();
    for fixture in fixtures {
        let project = project_of(&fixture);
        assert!(project.load("fixture").is_err(), "{} loads", fixture.display());
        let found = project.problems_of("fixture").join("\n") + "\n";
        let expected = fixture.with_extension("expected");
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&expected, &found).unwrap();
        }
        let wanted = fs::read_to_string(&expected).unwrap_or_default();
        if found != wanted {
            stale.push(format!("{}\nwanted:\n{wanted}found:\n{found}", fixture.display()));
        }
    }
    assert!(stale.is_empty(), "{}", stale.join("\n"));
}

#[test]
fn each_good_profile_loads_without_a_word() {
    for fixture in fixtures("good") {
        assert_eq!(project_of(&fixture).problems_of("fixture"), Vec::<String>::new(), "{}", fixture.display());
    }
}

#[test]
fn an_env_file_outside_the_project_is_not_printed() {
    let elsewhere = tempfile::tempdir().unwrap();
    let shadow = elsewhere.path().join("shadow");
    fs::write(&shadow, "root:$6$hash:19000::\ndaemon x:*:1\n").unwrap();
    let project = Project::new(&[("profiles/a.yaml", &format!("env_file: [{}]\nservices: {{}}\n", shadow.display()))]);
    let Err(error) = project.load("a") else { panic!("it loads") };
    let LoadError::Invalid { report, .. } = &error else { panic!("{error}") };
    let shown = format!("{} {:?}", report.render(), report.problems());
    assert!(!shown.contains("hash") && !shown.contains("daemon"), "{shown}");
    assert!(shown.contains("is outside the project"), "{shown}");
}

#[test]
fn what_would_open_a_server_to_everybody_is_refused_at_its_place() {
    for (service, code) in [
        (r#"redis: { settings: { tcp-keepalive: "300\nuser open on nopass ~* +@all" } }"#, "bad-value"),
        (r#"redis: { settings: { tcp-keepalive: "300\rrequirepass x" } }"#, "bad-value"),
        (r#"redis: { settings: { "maxmemory 1\nuser x": "1" } }"#, "bad-name"),
        (r#"redis: { settings: { requirepass: "" } }"#, "reserved-setting"),
        (r#"redis: { settings: { USER: "x on nopass" } }"#, "reserved-setting"),
        (r#"redis: { users: { a: { rules: "on nopass ~* +@all" } } }"#, "no-password"),
        (r#"redis: { users: { a: { rules: "on NOPASS ~* +@all" } } }"#, "no-password"),
        (r#"redis: { users: { a: { rules: "~*\nnopass" } } }"#, "no-password"),
        (r#"redis: { users: { a: { rules: "resetpass ~*" } } }"#, "no-password"),
        (r#"redis: { users: { a: { rules: "~* >mine" } } }"#, "password-in-rules"),
        (r#"redis: { users: { "a on nopass": { rules: "~*" } } }"#, "bad-name"),
        (r#"postgres: { settings: { work_mem: "4MB\nlisten_addresses=*" } }"#, "bad-value"),
        (r#"mariadb: { settings: { max_connections: "5\nskip-grant-tables" } }"#, "bad-value"),
        (r#"kafka: { settings: { message.max.bytes: "5\nlisteners=PLAINTEXT://:9" } }"#, "bad-value"),
        (r#"kafka: { auth: scram, settings: { listeners: "PLAINTEXT://:9" } }"#, "reserved-setting"),
        (r#"kafka: { auth: scram, settings: { sasl.enabled.mechanisms: "PLAIN" } }"#, "reserved-setting"),
        (r#"kafka: { auth: scram, settings: { listener.name.host.plain.sasl.jaas.config: "x" } }"#, "reserved-setting"),
    ] {
        let project = Project::new(&[("profiles/a.yaml", &format!("services:\n  c:\n    {service}\n"))]);
        let problems = project.problems_of("a");
        let place = "profiles/a.yaml:3:";
        assert!(problems.iter().any(|problem| problem.starts_with(place) && problem.contains(code)), "{service}: {problems:?}");
    }
}

#[test]
fn pipes_and_devices_as_profiles_are_refused_at_once() {
    let project = Project::new(&[("profiles/a.yaml", "env_file: [pipe]\nservices: {}\n")]);
    let pipe = |path: &str| {
        let done = std::process::Command::new("mkfifo").arg(project.path().join(path)).status();
        assert!(done.unwrap().success());
    };
    ["profiles/x.yaml", "pipe"].into_iter().for_each(pipe);
    std::os::unix::fs::symlink("/dev/zero", project.path().join("profiles/z.yaml")).unwrap();
    for (name, words) in [("x", "is not a regular file"), ("profiles/z.yaml", "is not a regular file")] {
        let Err(error) = project.load(name) else { panic!("{name} loads") };
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(project.problems_of("a")[0].contains("`pipe` is not a regular file"), "{:?}", project.problems_of("a"));
    assert!(list(project.path(), None).iter().any(|entry| entry.name == "x"));
    project.write("profiles/b.yaml", b"services: { c: { redis: { init: [pipe] } } }\n");
    assert!(project.problems_of("b")[0].contains("`pipe` is not a regular file"), "{:?}", project.problems_of("b"));
}

#[test]
fn a_profile_that_others_can_write_is_refused_unless_the_project_is_trusted() {
    let project = Project::new(&[("profiles/a.yaml", "services: {}\n")]);
    fs::set_permissions(project.path().join("profiles/a.yaml"), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    assert!(matches!(project.load("a"), Err(LoadError::Refused(Refused::Untrusted(_)))));
    let request =
        LoadRequest { project: project.path(), profile: "a", environment: &project.environment, user_directory: None, trusted: true };
    assert!(load(&request).is_ok());
}

#[test]
fn a_connection_is_overridden_by_leave_and_a_secret_is_named_where_it_may_stand() {
    let text = "override: [DATABASE_URL]\nsecrets: { KEY: { generate: 20 } }\nvariables: { DATABASE_URL: x, TOKEN: \"${secret:KEY}\" }\n\
        services: { db: { postgres: {} } }\n";
    let project = Project::new(&[("profiles/a.yaml", text)]);
    assert_eq!(project.problems_of("a"), Vec::<String>::new());
    let loaded = project.load("a").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(loaded.profile.overrides, ["DATABASE_URL"]);
    assert!(loaded.origins.effective_yaml().contains("${secret:KEY}"), "{}", loaded.origins.effective_yaml());
}

#[test]
fn every_shipped_profile_loads() {
    let project = Project::new(&[]);
    for entry in list(project.path(), None) {
        assert_eq!(project.problems_of(&entry.name), Vec::<String>::new(), "{}", entry.name);
        assert!(entry.description.is_some(), "{}", entry.name);
    }
}

/// Problems that scripts rely on: file, line, and a word of the message.
#[test]
fn the_documented_lines_are_printed() {
    let shop = "description: a shop's data services\nservices:\n  db:\n    postgres:\n      version: \"17\"\n      extensions: [vector, uuid-ossp, pg_trgm, pg_stat_statements]\n      databases: { orders: { owner: orders } }\n  cache:\n    redis: { version: \"8.0\", persistence: { aof: everysec, rdb: \"60 1\" }, maxmemory: 64MiB, policy: allkeys-lru }\n";
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d]\nservices: {}\n";
    let not_text = [shop.as_bytes(), b"  \xff\xfe: 1\n"].concat();
    let cases: Vec<(&str, Vec<u8>, u32, &str)> = vec![
        ("unknown-key", shop.replace("maxmemory", "maxmemroy").into(), 9, "maxmemory"),
        ("unknown-kind", shop.replace("    redis:", "    rediss:").into(), 9, "redis"),
        ("duplicate-key", format!("{shop}  cache:\n    redis: {{}}\n").into(), 10, "cache"),
        ("wrong-type", shop.replace("[vector, uuid-ossp, pg_trgm, pg_stat_statements]", "vector").into(), 6, "extensions"),
        ("bad-size", shop.replace("64MiB", "64 parsecs").into(), 9, "maxmemory"),
        ("bad-policy", shop.replace("allkeys-lru", "allkeys-lrru").into(), 9, "allkeys-lru"),
        ("unknown-dependency", format!("{shop}    depends_on: {{ dbb: ready }}\n").into(), 10, "db"),
        ("unset-variable", shop.replace("\"17\"", "\"${NO_SUCH_VARIABLE}\"").into(), 5, "NO_SUCH_VARIABLE"),
        ("tab", shop.replace("  db:", "\tdb:").into(), 3, ""),
        ("not-utf8", not_text, 10, "UTF-8"),
        ("empty", Vec::new(), 1, "services"),
        ("alias-bomb", bomb.into(), 5, "alias"),
        ("rdb", shop.replace("60 1", "60 one").into(), 9, "rdb"),
        ("owner", shop.replace("owner: orders", "ownr: orders").into(), 7, "owner"),
    ];
    let project = Project::new(&[("profiles/shop.yaml", shop)]);
    assert_eq!(project.problems_of("shop"), Vec::<String>::new());
    for (name, text, line, word) in cases {
        project.write(&format!("profiles/{name}.yaml"), &text);
        let Err(error) = project.load(name) else { panic!("{name} loads") };
        let problems = error.problems();
        let problems_of = problems.iter().any(|one| {
            let text = format!("{} {} {:?}", one.code, one.message, one.hint).to_lowercase();
            one.line == line && text.contains(&word.to_lowercase())
        });
        assert!(problems_of, "{name}: {problems:#?}");
    }
}

#[test]
fn all_problems_of_a_file_come_at_once() {
    let text = "services:\n  db:\n    postgres:\n      version: 12\n      databases: { orders: { ownr: orders } }\n  cache:\n    depends_on: { dbb: ready }\n    redis: { persistence: { rdb: \"60 one\" }, maxmemroy: 64MiB, policy: lru }\n    ready_timeout: soon\n    image: ${NOT_SET}\n";
    let project = Project::new(&[("profiles/x.yaml", text)]);
    let Err(error) = project.load("x") else { panic!("it loads") };
    let codes: Vec<(u32, String)> = error.problems().into_iter().map(|problem| (problem.line, problem.code)).collect();
    let codes: Vec<(u32, &str)> = codes.iter().map(|(line, code)| (*line, code.as_str())).collect();
    assert_eq!(
        codes,
        [
            (4, "bad-version"),
            (5, "unknown-field"),
            (7, "unknown-service"),
            (8, "bad-value"),
            (8, "unknown-field"),
            (8, "bad-value"),
            (9, "bad-duration"),
            (10, "unset-variable"),
        ]
    );
}

#[test]
fn a_person_sees_the_line_the_mark_and_the_hint() {
    let project = Project::new(&[("profiles/x.yaml", "services:\n  cache:\n    redis: { maxmemroy: 64MiB }\n")]);
    let Err(LoadError::Invalid { report, .. }) = project.load("x") else { panic!("it loads") };
    let text = anstream::adapter::strip_str(&report.render()).to_string().replace(&format!("{}/", project.path().display()), "");
    insta::assert_snapshot!(text, @"
    error[unknown-field]: unknown field `maxmemroy` in `redis`
     --> profiles/x.yaml:3:14
      |
    3 |     redis: { maxmemroy: 64MiB }
      |              ^^^^^^^^^
      |
      = help: did you mean `maxmemory`? (expected `version`, `persistence`, `maxmemory`, `policy`, `databases`, `settings`, `users`, `tls`, `init` or `seed`)
    ");
}

#[test]
fn profiles_are_found_in_the_project_then_the_users_then_the_binary() {
    let project = Project::new(&[
        ("profiles/shop.yaml", "extends: [default]\ndescription: ours\nservices: {}\n"),
        ("profiles/default.yaml", "extends: [default]\nservices: { mine: { process: { command: [x] } } }\n"),
        ("user/default.yaml", "extends: [default]\nservices: { users: { redis: {} } }\n"),
        ("user/other.yaml", "description: theirs\nservices: {}\n"),
        ("profiles/deep/one.yaml", "extends: [two.yaml, ../shop.yaml, profiles/deep/two.yaml]\nservices: {}\n"),
        ("profiles/deep/two.yaml", "services: { two: { redis: {} } }\n"),
    ]);
    let user = project.path().join("user");
    let all = list(project.path(), Some(&user));
    assert!(all.iter().any(|entry| entry.name == "complianceflow" && entry.example), "examples have their names");
    let listed: Vec<String> = all
        .iter()
        .filter(|entry| !entry.example)
        .map(|entry| format!("{} {:?} {}", entry.name, entry.source, entry.description.is_some()))
        .collect();
    let shipped = embedded::profiles().filter(|(name, _)| *name != "default").map(|(name, _)| format!("{name} BuiltIn true"));
    let own = ["default Project false", "other User true", "shop Project true"].map(str::to_owned);
    let mut expected: Vec<String> = shipped.chain(own).collect();
    expected.sort();
    assert_eq!(listed, expected);
    assert!(listed.contains(&"data BuiltIn true".to_owned()));
    let names = |profile: &str| {
        let loaded = project.load(profile).ok().unwrap();
        loaded.profile.services.keys().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names("shop"), ["db", "cache", "events", "tracing", "users", "mine"]);
    assert_eq!(names("profiles/deep/one.yaml"), ["two", "db", "cache", "events", "tracing", "users", "mine"]);
    let problems = project.problems_of("shp");
    let begin = "no profile shp: did you mean `shop`? (available profiles: `data`, `default`, ";
    assert!(problems.len() == 1 && problems[0].starts_with(begin) && problems[0].ends_with(" and `shop`)"), "{problems:?}");
    assert_eq!(find_project(&project.path().join("user")), fs::canonicalize(project.path()).unwrap());
}

#[test]
fn a_service_waits_for_those_without_which_it_can_do_nothing() {
    let text = "services:\n  pool:\n    pgbouncer: { service: db }\n  db:\n    postgres: {}\n  metrics:\n    prometheus: { scrape: { api: { service: api } } }\n  api:\n    process: { command: [x], port: 0 }\n    depends_on: { metrics: started }\n";
    let project = Project::new(&[("profiles/x.yaml", text)]);
    let loaded = project.load("x").ok().unwrap();
    let waits: Vec<String> = loaded
        .profile
        .services
        .iter()
        .map(|(name, service)| format!("{name}: {:?}", service.depends_on.keys().map(ToString::to_string).collect::<Vec<_>>()))
        .collect();
    assert_eq!(waits, ["pool: [\"db\"]", "db: []", "metrics: []", "api: [\"metrics\"]"]);
    project.write(
        "profiles/y.yaml",
        b"services:\n  pool:\n    pgbouncer: { service: db }\n  db:\n    postgres: {}\n    depends_on: { pool: ready }\n",
    );
    assert_eq!(
        project.problems_of("y"),
        ["profiles/y.yaml:3:27: dependency-cycle: circular dependency: pool -> db -> pool [remove one of these dependencies]"]
    );
}

#[test]
fn contexts_and_mounts_name_services_that_exist_and_no_image_needs_itself() {
    let build =
        |contexts: &str| format!("container: {{ build: {{ context: ., inline: FROM scratch, additional_contexts: {{ {contexts} }} }} }}");
    let (a, b, c) = (build("x: 'service:b'"), build("x: 'service:c', y: 'https://example.org/y.git#main'"), build("x: 'service:a'"));
    let good = format!(
        "services:\n  a:\n    {a}\n  b:\n    {b}\n  c: {{ container: {{ image: x, volumes: [{{ source: 'service:a', target: /a }}] }} }}\n"
    );
    let project = Project::new(&[("profiles/good.yaml", &good)]);
    assert_eq!(project.problems_of("good"), [""; 0]);
    project.write("profiles/cycle.yaml", format!("services:\n  a:\n    {a}\n  b:\n    {b}\n  c:\n    {c}\n").as_bytes());
    let found = project.problems_of("cycle");
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].starts_with("profiles/cycle.yaml:3:") && found[0].contains("the image of `a` needs itself"), "{found:?}");
    project.write("profiles/unknown.yaml", format!("services:\n  a:\n    {a}\n").as_bytes());
    let found = project.problems_of("unknown");
    assert!(found.len() == 1 && found[0].contains("`b`"), "{found:?}");
}

#[test]
fn rules_and_dashboards_come_as_text_and_directories_as_their_files() {
    let project = Project::new(&[
        ("profiles/x.yaml", "services:\n  metrics:\n    prometheus: { rules: [rules, one.yml] }\n"),
        ("rules/b.yml", "b"),
        ("rules/a.yaml", "a"),
        ("rules/README.md", "not a rule"),
        ("one.yml", "one"),
    ]);
    let loaded = project.load("x").ok().unwrap();
    let assets: Vec<(&str, &str)> = loaded.profile.assets.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
    assert_eq!(assets, [("one.yml", "one"), ("rules/a.yaml", "a"), ("rules/b.yml", "b")]);
    let metrics = loaded.profile.services.values().next().unwrap();
    assert_eq!(metrics.kind.fields().assets(), ["rules/a.yaml", "rules/b.yml", "one.yml"]);
}
