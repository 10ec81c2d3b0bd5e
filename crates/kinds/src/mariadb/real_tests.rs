//! A real server, started as the kind describes it.

use std::{fs, path::Path};

use devenv_api::{LedgerEntry, LedgerState};
use devenv_profile::testing::given;
use devenv_secrets::Vault;
use devenv_spec::ServiceSpec;
use indexmap::IndexMap;
use serde_json::json;

use super::{
    MariadbKind,
    dump::dump,
    session::{Login, Session, Texts},
    spec::MariadbProvision,
};
use crate::{
    capability::{Leases, ServerSite, Staged, StagedRestore},
    probe::real_tests::{Running, free_port, ready, start_described, vault},
    provision::{ProvisionContext, apply as provision},
    script::{
        Checksums, Choice, ScriptContext, ScriptError,
        testing::{apply, engine},
    },
};

const SCHEMA: &str = "create table person (id int primary key auto_increment, name varchar(20) not null, vip boolean, born date);
create table visit (id int primary key auto_increment, person int not null, cents int, twice int as (cents * 2) stored, foreign key (person) references person (id));
create table note (what varchar(50));
create view vips as select * from person where vip;
create sequence numbers start with 100;
delimiter //
create trigger visited after insert on visit for each row begin insert into note values (concat('paid ', new.cents)); end//
create function double_of(n int) returns int deterministic return n * 2//
delimiter ;
";

pub(super) struct Server {
    pub(super) service: ServiceSpec,
    pub(super) vault: Vault,
    project: tempfile::TempDir,
    checksums: Checksums,
    running: Running,
    _secrets: tempfile::TempDir,
}

impl Server {
    pub(super) async fn start() -> Self {
        let (secrets, vault) = vault();
        let port = free_port();
        let declared = json!({"mariadb": { "databases": { "app": { "init": ["init"], "seed": ["seed"] }, "au_dit": {} } }});
        let given = given("store", declared).with(|service| service.ports.extend([(3306, port)]));
        let service = given.spec().services["store"].clone();
        let project = tempfile::tempdir().unwrap();
        for directory in ["init", "seed"] {
            fs::create_dir(project.path().join(directory)).unwrap();
        }
        let running = start_described(&service, &vault);
        let server = Self { service, vault, project, checksums: Checksums::default(), running, _secrets: secrets };
        ready(&server.service.probe, &server.vault).await;
        server.provision().await;
        server
    }

    async fn as_root(&self, query: &str) -> String {
        let rows = self.session("root", "mysql").await.unwrap().rows(query).await.unwrap();
        rows.into_iter().flatten().next().flatten().unwrap_or_default()
    }

    async fn provision(&self) -> Vec<String> {
        let changes = provision(&self.service.provision[0], &self.context()).await.unwrap();
        changes.into_iter().map(|change| change.what).collect()
    }

    fn context(&self) -> ProvisionContext {
        ProvisionContext { vault: self.vault.clone(), authority: None, again: false }
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        fs::write(self.project.path().join(path), content).unwrap();
        self
    }

    async fn apply(&self) -> Result<Vec<LedgerEntry>, ScriptError> {
        let cx = ScriptContext {
            engine: engine().await,
            container: &self.running.0,
            vault: &self.vault,
            project: self.project.path(),
            authority: None,
            checksums: &self.checksums,
            progress: &|_| {},
        };
        apply(self.service.scripts.as_ref().unwrap(), Choice::All, &cx).await
    }

    pub(super) async fn session(&self, user: &str, database: &str) -> Result<Session, mysql_async::Error> {
        let provision = MariadbProvision::of(&self.service).unwrap();
        let secret = devenv_spec::SecretRef::new("store", user);
        let login = Login {
            port: provision.port,
            user: user.to_owned(),
            password: self.vault.reveal(&secret).unwrap(),
            database: Some(database.to_owned()),
            authority: None,
        };
        login.open().await
    }

    async fn rows(&self, database: &str, query: &str) -> Vec<Texts> {
        self.session("app", database).await.unwrap().rows(query).await.unwrap()
    }

    async fn one(&self, database: &str, query: &str) -> String {
        self.rows(database, query).await.into_iter().flatten().flatten().next().unwrap_or_default()
    }

    async fn filled() -> Self {
        let server = Self::start().await;
        server.write("init/01.sql", SCHEMA).write("seed/person.csv", "id,name,vip,born\n1,Ada,true,1815-12-10\n2,\"B\nob\",f,\n");
        server.write("seed/visit.sql", "insert into visit (person, cents) values (1, 5), (2, 7);\n");
        server.apply().await.unwrap();
        server
    }
}

#[tokio::test]
async fn an_owner_reaches_its_own_database_only_and_then_nothing_is_left_to_do() {
    let server = Server::start().await;
    assert_eq!(server.provision().await, Vec::<String>::new());
    ready(server.service.proof.as_ref().unwrap(), &server.vault).await;
    for (user, database) in [("app", "au_dit"), ("au_dit", "app"), ("app", "devenv_ledger"), ("app", "mysql")] {
        let refused = server.session(user, database).await.err().expect("it is another's");
        assert!(super::session::reason(&refused).contains("Access denied"), "{refused}");
    }
    // A name that the pattern of the other one would match.
    let mut root = server.session("root", "mysql").await.unwrap();
    root.run("CREATE DATABASE auXdit").await.unwrap();
    assert!(server.session("au_dit", "auXdit").await.is_err());

    root.run("ALTER USER app@'%' IDENTIFIED BY 'another'").await.unwrap();
    assert_eq!(server.provision().await, ["password of the user `app` set to the stored one"]);
}

#[tokio::test]
async fn scripts_and_data_sets_are_applied_once_and_a_failure_is_reported_at_its_line() {
    let server = Server::filled().await;
    assert_eq!(server.rows("app", "select id, name, vip, born from person order by id").await[1][1].as_deref(), Some("B\nob"));
    assert_eq!(server.one("app", "select count(*) from person where born is null").await, "1");
    assert_eq!(server.one("app", "select count(*) from note").await, "2");
    let before = server.apply().await.unwrap();
    assert!(before.iter().all(|entry| entry.state == LedgerState::Applied), "{before:?}");
    assert_eq!(server.one("app", "select count(*) from visit").await, "2");

    for (path, content, line) in [
        ("seed/w-person.csv", "id,name\n7,x\n8,\n", None),
        ("seed/x-visit.sql", "select 1;\ninsert into nowhere values (1);\n", Some(2)),
        ("seed/x-visit.sql", "insert into note values ('it is never closed);\n", Some(1)),
        ("seed/x-visit.sql", "select 1;\n\\! id\n", None),
    ] {
        let error = server.write(path, content).apply().await.unwrap_err();
        assert!(line.is_none() || error.line == line, "{error}");
        fs::remove_file(server.project.path().join(path)).unwrap();
    }
    server.write("seed/02-person.csv", "id,name\n7,x\n1,twice\n");
    let error = server.apply().await.unwrap_err();
    assert_eq!(error.line, Some(3), "{error}");
    assert_eq!(server.one("app", "select count(*) from person").await, "2", "all rows of the file or none");
}

#[tokio::test]
async fn a_lease_is_a_private_full_copy_that_is_removed_with_its_holder() {
    let server = Server::filled().await;
    let lessor = MariadbKind.lessor(&server.service, &server.context()).unwrap();
    let (one, other) = (lessor.take("a", Some("app"), "1").await.unwrap(), lessor.take("b", Some("app"), "1").await.unwrap());
    let name = one.database().unwrap().to_owned();
    assert_ne!(Some(name.as_str()), other.database());
    assert_eq!(server.one(&name, "select group_concat(name) from vips").await, "Ada");
    assert_eq!(server.one(&name, "select double_of(21)").await, "42");
    let mut session = server.session("app", &name).await.unwrap();
    session.run("insert into visit (person, cents) values (1, 9)").await.unwrap();
    assert!(session.run("insert into visit (person, cents) values (99, 9)").await.is_err(), "foreign keys are copied");
    assert_eq!(server.one(&name, "select count(*) from note").await, "3");
    assert_eq!(server.one("app", "select count(*) from note").await, "2");

    let mut variables = IndexMap::from([("STORE_APP_URL".to_owned(), "mysql://app:s@127.0.0.1:1/app".to_owned())]);
    one.make_private(&mut variables);
    assert_eq!(variables["STORE_APP_DATABASE"], name);
    one.give_back().await;
    let mut root = server.session("root", "mysql").await.unwrap();
    let left = format!(
        "select (select count(*) from information_schema.schemata where schema_name = '{name}') + (select count(*) from mysql.db where replace(db, '\\\\', '') = '{name}')"
    );
    for _ in 0..1000 {
        if root.rows(&left).await.unwrap()[0][0].as_deref() == Some("0") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("it is still there");
}

#[tokio::test]
async fn a_dump_is_restored_beside_the_database_in_use_and_replaces_it() {
    let server = Server::filled().await;
    let engine = engine().await;
    let site = ServerSite {
        service: &server.service,
        engine,
        container: &server.running.0,
        vault: &server.vault,
        authority: Path::new("/nonexistent"),
    };
    for own in [true, false] {
        let file = server.project.path().join("dump.sql");
        let before = dump(&site, "app", own, &file).await.unwrap();
        assert_eq!(before.iter().map(|content| content.rows).sum::<u64>(), 6, "{before:?}");
        let mut root = server.session("root", "app").await.unwrap();
        root.run_all(&["delete from note", "drop view vips", "create table later (id int)", "drop trigger visited"].map(str::to_owned))
            .await
            .unwrap();
        let part = Staged { database: Some("app".to_owned()), file, own };
        MariadbKind.prepare(&site, &["app".to_owned()]).await.unwrap();
        let arrived = MariadbKind.stage(&site, &part).await.unwrap();
        assert_eq!(arrived.contents, before);
        assert_eq!(server.one("app", "select count(*) from note").await, "0", "what is in use is not touched");
        MariadbKind.swap(&site, &["app".to_owned()]).await.unwrap();
        assert!(root.run("do 0").await.is_err(), "who used the database connects again");
        let mut root = server.session("root", "app").await.unwrap();
        assert_eq!(server.one("app", "select count(*) from note").await, "2");
        assert_eq!(server.one("app", "select group_concat(name) from vips").await, "Ada");
        assert_eq!(
            server.one("app", "select count(*) from information_schema.tables where table_schema = 'app' and table_name = 'later'").await,
            "0"
        );
        root.run_all(&[
            "use app".to_owned(),
            "insert into visit (person, cents) values (1, 1)".to_owned(),
            "delete from visit where cents = 1".to_owned(),
        ])
        .await
        .unwrap();
        assert_eq!(server.one("app", "select count(*) from note").await, "3", "the trigger is back");
        root.run("delete from note where what = 'paid 1'").await.unwrap();
        MariadbKind.conclude(&site, &["app".to_owned()]).await.unwrap();
        let left = root.rows("select count(*) from information_schema.schemata where schema_name like 'app %'").await.unwrap();
        assert_eq!(left[0][0].as_deref(), Some("0"));
    }
    assert!(server.apply().await.unwrap().iter().all(|entry| entry.state == LedgerState::Applied));
}

/// Its command in the container would go on with the database of that name that the next restore makes.
#[tokio::test]
async fn a_cancelled_restore_does_nothing_to_the_next_one() {
    let server = Server::start().await;
    let site = ServerSite {
        service: &server.service,
        engine: engine().await,
        container: &server.running.0,
        vault: &server.vault,
        authority: Path::new("/nonexistent"),
    };
    let names = ["app".to_owned()];
    let dump = |text: &str, own: bool| {
        let file = server.project.path().join("dump.sql");
        fs::write(&file, text).unwrap();
        Staged { database: Some("app".to_owned()), file, own }
    };
    let schema = format!("table_schema = '{}'", crate::backup::staged_name("app"));
    let tables = format!("select group_concat(table_name order by 1) from information_schema.tables where {schema}");
    let slept = "select count(*) from information_schema.processlist where info like 'do sleep%'";
    for own in [true, false] {
        MariadbKind.prepare(&site, &names).await.unwrap();
        let slow = dump("create table begun (id int);\ndo sleep(600);\ncreate table late (id int);\n", own);
        let sleeps = async {
            while server.as_root(&tables).await != "begun" || server.as_root(slept).await != "1" {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            staged = MariadbKind.stage(&site, &slow) => panic!("it sleeps for ten minutes: {staged:?}"),
            () = sleeps => {}
        }
        MariadbKind.revert(&site, &names).await.unwrap();
        assert_eq!((server.as_root(&tables).await.as_str(), server.as_root(slept).await.as_str()), ("", "0"), "own: {own}");
        let next = dump("create table next (id int);\n", own);
        MariadbKind.stage(&site, &next).await.unwrap();
        let processes =
            crate::probe::real_tests::docker(&["exec", &server.running.0, "sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]);
        let processes = String::from_utf8_lossy(&processes.stdout).into_owned();
        assert!(!processes.contains(" restored ") && server.as_root(&tables).await == "next", "own: {own}: {processes}");
        MariadbKind.revert(&site, &names).await.unwrap();
    }
}

#[tokio::test]
async fn databases_with_the_longest_names_take_their_place_and_go_back_to_it_together() {
    let server = Server::filled().await;
    let mut service = server.service.clone();
    let mut declared = MariadbProvision::of(&service).unwrap();
    let long = "n".repeat(64);
    let mut second = declared.databases[0].clone();
    second.name.clone_from(&long);
    declared.databases.push(second);
    service.provision = vec![declared.into_provision()];
    provision(&service.provision[0], &server.context()).await.unwrap();
    let mut root = server.session("root", "mysql").await.unwrap();
    root.run(&format!("create table {long}.item (id int)")).await.unwrap();
    root.run(&format!("insert into {long}.item values (1)")).await.unwrap();
    let engine = engine().await;
    let site =
        ServerSite { service: &service, engine, container: &server.running.0, vault: &server.vault, authority: Path::new("/nonexistent") };
    let names = ["app".to_owned(), long.clone()];
    let mut parts = Vec::new();
    for name in &names {
        let file = server.project.path().join(format!("{name}.sql"));
        dump(&site, name, true, &file).await.unwrap();
        parts.push(Staged { database: Some(name.clone()), file, own: true });
    }
    let ledger = server.as_root("select count(*) from devenv_ledger.devenv_script where db = 'app'").await;
    let mut root = server.session("root", "mysql").await.unwrap();
    root.run_all(&[
        "delete from app.note".to_owned(),
        "drop view app.vips".to_owned(),
        "create view app.mine as select 7 as x".to_owned(),
        format!("delete from {long}.item"),
        "insert into devenv_ledger.devenv_script select db, 'later.sql', checksum, mode, state, started_at, applied_at, duration_ms, \
             row_count, error, batch from devenv_ledger.devenv_script where db = 'app' limit 1"
            .to_owned(),
    ])
    .await
    .unwrap();
    let state = async || {
        let items = server.as_root(&format!("select count(*) from {long}.item")).await;
        let notes = server.as_root("select count(*) from app.note").await;
        let views =
            server.as_root("select group_concat(table_name order by 1) from information_schema.views where table_schema = 'app'").await;
        let scripts = server.as_root("select count(*) from devenv_ledger.devenv_script where db = 'app'").await;
        [items, notes, views, scripts]
    };
    let changed = state().await;
    assert_eq!(changed[..3], ["0", "0", "mine"]);
    let left = "select (select count(*) from information_schema.schemata where schema_name like '% restored %' or schema_name like '% former %') \
        + (select count(*) from mysql.db where db like '% restored %') + (select count(*) from devenv_ledger.devenv_exchange)";
    for is_swapped in [false, true] {
        MariadbKind.prepare(&site, &names).await.unwrap();
        for part in &parts {
            MariadbKind.stage(&site, part).await.unwrap();
        }
        assert_eq!(state().await, changed, "what is in use is not touched");
        if is_swapped {
            MariadbKind.swap(&site, &names).await.unwrap();
            assert_eq!(state().await, ["1", "2", "vips", ledger.as_str()]);
        }
        // The next daemon may repeat it, and may provision the server before.
        for _ in 0..2 {
            provision(&service.provision[0], &server.context()).await.unwrap();
            MariadbKind.revert(&site, &names).await.unwrap();
            assert_eq!(state().await, changed);
            assert_eq!(server.as_root(left).await, "0");
        }
    }
    MariadbKind.prepare(&site, &names).await.unwrap();
    for part in &parts {
        MariadbKind.stage(&site, part).await.unwrap();
    }
    MariadbKind.swap(&site, &names).await.unwrap();
    for _ in 0..2 {
        MariadbKind.conclude(&site, &names).await.unwrap();
        assert_eq!(state().await, ["1", "2", "vips", ledger.as_str()]);
        assert_eq!(server.as_root(left).await, "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_the_client_do_nothing_for_a_script_and_it_is_the_owner() {
    let server = Server::start().await;
    let (mark, root) = ("/tmp/reached", "/run/devenv/mariadb-root-password");
    for text in [
        format!("\\! touch {mark}\n"),
        format!("system touch {mark};\n"),
        format!("source {root}\n"),
        format!("tee {mark}\nselect 1;\n"),
        format!("pager touch {mark}\nselect 1;\n"),
        format!("load data local infile '{root}' into table loaded;\n"),
        format!("select 1 into outfile '{mark}';\n"),
        "create user stranger;\n".to_owned(),
        "grant all on *.* to app@'%';\n".to_owned(),
    ] {
        server.write("init/1.sql", format!("create table if not exists loaded (t text);\n{text}"));
        // Refused or without an effect.
        let result = server.apply().await;
        let reached = crate::probe::real_tests::docker(&["exec", &server.running.0, "test", "-e", mark]).status.success();
        assert!(!reached, "{text}: {result:?}");
        assert_eq!(server.as_root("select count(*) from app.loaded").await, "0", "{text}: {result:?}");
        assert_eq!(server.as_root("select count(*) from mysql.global_priv where user = 'stranger'").await, "0", "{text}");
        server.as_root("delete from devenv_ledger.devenv_script").await;
    }
    server.write("init/1.sql", "create table mine as select current_user() as who;\n");
    server.apply().await.unwrap();
    assert_eq!(server.one("app", "select who from mine").await, "app@%");
}
