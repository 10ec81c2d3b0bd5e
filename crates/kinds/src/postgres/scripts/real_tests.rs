//! Scripts of every kind against a real PostgreSQL server.

mod csv;
mod privileges;
mod project;

use std::{fmt::Write, fs, path::Path, time::Duration};

use devenv_api::{LedgerEntry, LedgerState};

use devenv_secrets::Vault;
use devenv_spec::{ScriptPlace, ScriptSet, ScriptSource, SecretRef};

use crate::{
    postgres::spec::PostgresTarget,
    script::{
        Checksums, Choice, ScriptContext, ScriptError, accept, drift,
        testing::{Server, apply, docker, engine, ledger},
    },
};
use project::Project;

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_script_is_applied_once_and_recorded_with_its_rows() {
    let project = Project::new();
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, b"CREATE TABLE packed (x int);\nINSERT INTO packed SELECT generate_series(1, 7);\n").unwrap();
    project
        .write("init/01-tables.sql", "\\set ON_ERROR_STOP on\nCREATE TABLE item (id int PRIMARY KEY, name text NOT NULL);\nCREATE TABLE note (t text);\nCOPY note FROM stdin;\nfirst\nsecond\n\\.\nselect pg_sleep(0.1)")
        .write("init/02-index.sql", "CREATE INDEX CONCURRENTLY item_name ON item (name);\n")
        .write("init/03-packed.sql.gz", packed.finish().unwrap())
        .write("init/04-own.sql", "BEGIN;\nCREATE TABLE own (x int);\nCOMMIT;\n")
        .write("init/05-two.sql", "BEGIN;\nCREATE TABLE two (x int);\nCOMMIT;\nBEGIN;\nINSERT INTO two VALUES (1);\nCOMMIT;\n")
        .write("init/06-shell.sh", "#!/bin/bash\nset -e\n[ -z \"$POSTGRES_PASSWORD\" ]\nenv | grep -c PGPASSWORD && exit 4\n[[ -n $PGUSER ]]\npsql -c 'CREATE TABLE shell AS SELECT current_user AS who'\n")
        .write("init/07-plain.sh", "psql -c 'CREATE TABLE shell2 (x int)'\n")
        .write("seed/item.csv", "id,name\n1,\"one, \"\"1\"\"\"\n2,\"two\nlines\"\n3,three\n")
        .write("seed/note.csv.gz", {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            std::io::Write::write_all(&mut packed, b"t\nthird\n").unwrap();
            packed.finish().unwrap()
        });
    let entries = project.apply().await.unwrap();
    let shown: Vec<String> = entries.iter().map(|entry| format!("{} {:?} {:?}", entry.path, entry.state, entry.rows)).collect();
    assert_eq!(
        shown,
        [
            "init/01-tables.sql Applied Some(2)",
            "init/02-index.sql Applied None",
            "init/03-packed.sql.gz Applied Some(7)",
            "init/04-own.sql Applied Some(0)",
            "init/05-two.sql Applied None",
            "init/06-shell.sh Applied None",
            "init/07-plain.sh Applied None",
            "seed/item.csv Applied Some(3)",
            "seed/note.csv.gz Applied Some(1)"
        ]
    );
    assert!(
        entries.iter().all(|entry| entry.applied_at.as_ref().is_some_and(|time| time.len() == 27) && entry.duration_ms.is_some()),
        "{entries:#?}"
    );
    assert_eq!(project.sql("select who from shell"), "app");
    assert_eq!(
        project
            .sql("select string_agg(tablename, ' ' order by tablename) from pg_tables where schemaname = 'public' and tableowner = 'app'"),
        "item note own packed shell shell2 two"
    );
    assert_eq!(project.apply().await.unwrap(), entries);
    assert_eq!(project.sql("select count(*) from item"), "3");
    // The owner can read the ledger and cannot write it.
    assert_eq!(project.sql("set role app; select count(*) from devenv.ledger"), "9");
    assert!(project.server.try_psql("app", "set role app; delete from devenv.ledger").is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_script_is_reported_with_its_line_and_leaves_nothing() {
    let project = Project::new();
    project.write("init/01-tables.sql", "CREATE TABLE item (id int, name text);\n");
    for (path, text, wanted, untouched) in [
        (
            "init/02.sql",
            "CREATE TABLE good (x int);\n\nINSERT INTO good VALUES ('no number');\n",
            "init/02.sql:3: invalid input syntax for type integer: \"no number\"",
            true,
        ),
        (
            "init/02.sql",
            "CREATE TABLE good (x int);\nCOPY good FROM stdin;\n1\nx\n\\.\n",
            "init/02.sql:4: invalid input syntax for type integer: \"x\"",
            true,
        ),
        ("init/02.sql", "CREATE TABLE good (x int);\nSELECT 'open", "init/02.sql:2: the script ends inside a string", true),
        (
            "init/02.sql",
            "CREATE TABLE good (x int);\nDO $$ BEGIN EXECUTE 'commit'; END $$;\n",
            "init/02.sql:2: EXECUTE of transaction commands is not implemented",
            true,
        ),
        ("init/02.sql", "CREATE TABLE good (x int);\n\\i none.sql\n", "init/02.sql:2: none.sql: No such file or directory", true),
        (
            "init/02.sql",
            "CREATE TABLE good (x int PRIMARY KEY);\nCREATE TABLE b (x int REFERENCES good DEFERRABLE INITIALLY DEFERRED);\nINSERT INTO b VALUES (1);\n",
            "init/02.sql: insert or update on table \"b\" violates foreign key constraint",
            true,
        ),
        (
            "init/02.sql",
            "CREATE TABLE good (x int);\nALTER SYSTEM SET work_mem = '5MB';\n",
            "init/02.sql:2: permission denied to set parameter",
            false,
        ),
        (
            "init/02.sh",
            "psql -c 'select 1'\nnosuchcommand\nexit 3\n",
            "init/02.sh:2: it exited with 127: line 2: nosuchcommand: command not found",
            true,
        ),
        ("init/02.dump", "no dump", "init/02.dump: input file does not appear to be a valid archive", true),
        ("init/02.sql.gz", "no gzip", "init/02.sql.gz: cannot be read: ", true),
        ("init/02.sql.xz", "no xz", "init/02.sql.xz: cannot be read: ", true),
        ("init/02.sql.zst", "no zstd", "init/02.sql.zst: cannot be read: ", true),
        ("seed/item.csv", "id,name\n1,one\nx,two\n", "seed/item.csv:3: invalid input syntax for type integer: \"x\"", true),
        ("seed/item.csv", "id,nome\n1,one\n", "seed/item.csv:1: column \"nome\" of relation \"item\" does not exist", true),
        ("seed/thing.csv", "id,name\n1,one\n", "seed/thing.csv: table \"thing\" does not exist", true),
    ] {
        project.write(path, text);
        let error = project.apply().await.unwrap_err();
        assert!(error.to_string().starts_with(wanted), "{path}: {error} / {:?}", error.hint);
        assert_eq!(project.state(path).await, if untouched { LedgerState::Failed } else { LedgerState::Interrupted }, "{path}");
        assert_eq!(project.sql("select to_regclass('good') is null"), if untouched { "t" } else { "f" }, "{text}");
        assert_eq!(project.sql("select count(*) from item"), "0");
        project.sql("drop table if exists good; delete from devenv.ledger where path <> 'init/01-tables.sql'");
        fs::remove_file(project.path().join(path)).unwrap();
    }
    project.write("init/02.sql", "CREATE TABLE good (x int);\nINSERT INTO good VALUES ('no number');\n");
    project.apply().await.unwrap_err();
    project.write("init/02.sql", "CREATE TABLE good (x int);\nINSERT INTO good VALUES (1);\n");
    project.apply().await.unwrap();
    assert_eq!(project.sql("select count(*) from good"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_script_is_drift_until_it_is_accepted() {
    let project = Project::new();
    project
        .write("init/01.sql", "CREATE TABLE item (id int);\n")
        .write("init/02.sql", "-- devenv: mode=on-change\nCREATE OR REPLACE VIEW v AS SELECT 1 AS a;\n")
        .write("seed/item.csv", "id\n1\n");
    project.apply().await.unwrap();
    project
        .write("seed/item.csv", "id\n2\n")
        .write("init/02.sql", "-- devenv: mode=on-change\nCREATE OR REPLACE VIEW v AS SELECT 2 AS a;\n");
    let entries = project.apply().await.unwrap();
    assert_eq!(drift(&entries).iter().map(|entry| entry.path.as_str()).collect::<Vec<_>>(), ["seed/item.csv"]);
    assert_eq!(project.sql("select a from v"), "2");
    assert!(project.with(async |cx| accept(&project.set, "seed/item.csv", cx).await).await.unwrap());
    assert!(!project.with(async |cx| accept(&project.set, "seed/none.csv", cx).await).await.unwrap());
    assert_eq!(drift(&project.ledger().await), []);
    assert_eq!(project.sql("select id from item"), "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn dumps_in_both_formats_are_restored_without_their_owners() {
    let project = Project::new();
    let server = &project.server;
    server.psql("postgres", "create database source");
    server.psql("source", "create schema devenv; create table devenv.ledger (x int); create extension pg_trgm; create table item (id int primary key, name text); insert into item select g, 'n' || g from generate_series(1, 500) g; create role other; alter table item owner to other; comment on table item is 'x'");
    docker(&[
        "exec",
        &server.id,
        "sh",
        "-c",
        "cd /tmp; pg_dump -U postgres -Fc -f item.dump source && pg_dump -U postgres -Fd -f item.dir source && pg_dump -U postgres -Fp -O -t item -f item.sql source",
    ]);
    server.psql("app", "create extension pg_trgm");
    for (name, path) in [("item.dump", "seed/item.dump"), ("item.dir", "seed/item.dir"), ("item.sql", "seed/item.sql")] {
        docker(&["cp", &format!("{}:/tmp/{name}", server.id), project.path().join(path).to_str().unwrap()]);
        let entries = project.apply().await.unwrap();
        assert_eq!(
            entries.iter().find(|entry| entry.path == path).map(|entry| (entry.state, entry.rows)),
            Some((LedgerState::Applied, Some(500))),
            "{path}"
        );
        assert_eq!(
            project.sql("select count(*) || tableowner from item, pg_tables where tablename = 'item' group by tableowner"),
            "500app",
            "{path}"
        );
        project.sql("drop table item");
        if project.path().join(path).is_dir() {
            fs::remove_dir_all(project.path().join(path)).unwrap();
        } else {
            fs::remove_file(project.path().join(path)).unwrap();
        }
    }
}

/// One run of the applying process, to be killed: started by the next test from this very binary.
#[tokio::test(flavor = "multi_thread")]
async fn an_applying_process_can_be_started_from_outside() {
    let Ok(settings) = std::env::var("DEVENV_TEST_APPLY") else { return };
    let mut parts = settings.split('|');
    let (project, container, port) = (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap().parse().unwrap());
    let place = ScriptPlace::Database { name: "app".into(), role: "app".into(), password: SecretRef::new("db", "app") };
    let set = ScriptSet {
        service: "db".parse().unwrap(),
        target: PostgresTarget { port, tls: false, superuser: SecretRef::new("db", "postgres") }.into_target(),
        sources: vec![
            ScriptSource { place: place.clone(), paths: vec!["init".into()], seed: false },
            ScriptSource { place, paths: vec!["seed".into()], seed: true },
        ],
    };
    let (vault, checksums) = (Vault::new(Path::new(project).join(".secrets")), Checksums::default());
    let cx = ScriptContext {
        engine: engine().await,
        container,
        vault: &vault,
        project: Path::new(project),
        authority: None,
        checksums: &checksums,
        progress: &|_| {},
    };
    apply(&set, Choice::All, &cx).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn sigkill_at_any_moment_leaves_exactly_the_rows_after_the_next_run() {
    const ROWS: usize = 150_000;
    let project = Project::new();
    let csv = std::iter::once("id,name".to_owned()).chain((0..ROWS).map(|i| format!("{i},name {i}"))).collect::<Vec<_>>().join("\n");
    let copy = (0..ROWS).map(|i| i.to_string()).collect::<Vec<_>>().join("\n") + "\n";
    project
        .write("init/01-tables.sql", "CREATE TABLE item (id int PRIMARY KEY, name text NOT NULL);\nCREATE TABLE note (t int);\nCREATE TABLE big (x int);\nCREATE TABLE shell (x int);\n")
        .write("init/02-copy.sql", format!("COPY note FROM stdin;\n{copy}\\.\n"))
        .write("init/03-index.sql", "CREATE INDEX CONCURRENTLY note_t ON note (t);\nINSERT INTO big SELECT generate_series(1, 100000);\n")
        .write("init/04-shell.sh", "psql -c 'INSERT INTO shell VALUES (1)'\nsleep 0.3\npsql -c 'INSERT INTO shell VALUES (2)'\n")
        .write("seed/item.csv", csv);
    let settings = format!("{}|{}|{}", project.path().display(), project.server.id, project.server.port);
    let start = || {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command
            .args(["--nocapture", "--exact", "postgres::scripts::real_tests::an_applying_process_can_be_started_from_outside"])
            .env("DEVENV_TEST_APPLY", &settings);
        command.stdout(std::process::Stdio::null()).spawn().unwrap()
    };
    project.server.psql("postgres", "alter database app reset statement_timeout");
    let began = std::time::Instant::now();
    assert!(start().wait().unwrap().success());
    let whole = began.elapsed();
    let mut cut = 0;
    for round in 0..30 {
        project.sql("drop table item, note, big, shell; drop schema devenv cascade");
        let mut child = start();
        std::thread::sleep(whole.mul_f64(f64::from(round) / 30.0));
        cut += i32::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
        let entries = project.apply().await.unwrap_or_else(|error| panic!("round {round}: {error} {:?}", error.hint));
        assert!(entries.iter().all(|entry| entry.state == LedgerState::Applied), "round {round}: {entries:#?}");
        let counts = project.sql("select concat_ws(' ', (select count(*) from item), (select count(*) from note), (select count(*) from big), (select count(*) from shell), (select indisvalid from pg_index where indexrelid = 'note_t'::regclass))");
        assert_eq!(counts, format!("{ROWS} {ROWS} 100000 2 t"), "round {round}");
    }
    assert!(cut > 10, "only {cut} runs were cut off");
    // An attempt that comes late can neither commit nor begin.
    for (calls, wanted) in [
        ("select devenv.start_script('late'); select devenv.finish_script('late', null)", "a later run has taken over"),
        ("select devenv.record_state('init/04-shell.sh', 'x', 'once', 'running', null, 'late')", "a later run has taken over"),
        ("begin; select devenv.start_script('late'); commit", "the script ends the transaction"),
        ("select devenv.finish_script('late', null)", "the script has ended the transaction"),
    ] {
        let refused = project.server.try_psql("app", calls).unwrap_err();
        assert!(refused.contains(wanted), "{calls}: {refused}");
    }
    // A script that a server crash interrupted is reported, not repeated.
    project.sql("update devenv.ledger set state = 'running' where path = 'init/03-index.sql'");
    let error = project.apply().await.unwrap_err();
    assert!(error.to_string().contains("it was interrupted") && error.hint.unwrap().contains("devenv reset db"));
    assert_eq!(project.state("init/03-index.sql").await, LedgerState::Interrupted);
}

/// The scripts that psql applies, and where it stops half-way.
#[tokio::test(flavor = "multi_thread")]
async fn a_script_has_the_same_result_as_in_psql_and_is_never_applied_again_without_a_request() {
    let project = Project::new();
    project.sql("set role app; create type mood as enum ('good'); create table item (id serial, t text); create procedure twice() language plpgsql as $$ begin insert into item (t) values ('a'); commit; insert into item (t) values ('b'); end $$");
    for (name, text, rows) in [
        ("gexec", "INSERT INTO item (t) VALUES ('a');\nSELECT 'COMMIT' \\gexec\nINSERT INTO item (t) VALUES ('b');\n", "1a 2b"),
        ("rollback", "INSERT INTO item (t) VALUES ('a');\nSELECT 'ROLLBACK' \\gexec\nINSERT INTO item (t) VALUES ('b');\n", "1a 2b"),
        ("variable", "\\set done 'COMMIT;'\nINSERT INTO item (t) VALUES ('a');\n:done\nINSERT INTO item (t) VALUES ('b');\n", "1a 2b"),
        ("procedure", "CALL twice();\n", "1a 2b"),
        (
            "enum",
            "INSERT INTO item (t) VALUES ('a');\nALTER TYPE mood ADD VALUE 'bad';\nINSERT INTO item (t) VALUES ('bad'::mood);\n",
            "1a 2bad",
        ),
        ("quit", "INSERT INTO item (t) VALUES ('a');\n\\q\nINSERT INTO item (t) VALUES ('b');\n", "1a"),
        ("branches", "\\if true\nINSERT INTO item (t) VALUES ('a');\n\\else\nSELECT 'it''s';\n\\endif\n", "1a"),
        (
            "settings",
            "SET client_encoding = 'LATIN1';\nSET search_path = '';\nSET ROLE app;\nINSERT INTO public.item (t) VALUES ('a');\nRESET ALL;\nSET search_path = nowhere;\n",
            "1a",
        ),
        ("rows without an end", "COPY item (t) FROM stdin;\na\nb", "1a 2b"),
        ("rows without an end on Windows", "COPY item (t) FROM stdin;\r\na\r\nb", "1a 2b"),
        ("begin by gexec", "INSERT INTO item (t) VALUES ('a');\nSELECT 'BEGIN' \\gexec\nINSERT INTO item (t) VALUES ('b');\n", "1a"),
        ("begin", "BEGIN;\nSET LOCAL search_path = public;\nINSERT INTO item (t) VALUES ('a');\nCOMMIT;\n", "1a"),
        ("constraints", "SET CONSTRAINTS ALL IMMEDIATE;\nINSERT INTO item (t) VALUES ('a');\n", "1a"),
        (
            "temporary",
            "CREATE TEMP TABLE x ON COMMIT DROP AS SELECT 1 AS a;\nINSERT INTO item (t) SELECT 'gone' WHERE to_regclass('x') IS NULL;\n",
            "1gone",
        ),
    ] {
        project.write("init/Überblick.sql", text);
        project.apply().await.unwrap_or_else(|error| panic!("{name}: {error}"));
        project.apply().await.unwrap();
        assert_eq!(project.sql("select coalesce(string_agg(id || t, ' ' order by id), '') from item"), rows, "{name}");
        project.sql("truncate item restart identity; delete from devenv.ledger");
    }
    for (name, text, rows) in [
        ("half", "INSERT INTO item (t) VALUES ('a');\nSELECT 'COMMIT' \\gexec\nSELECT oops;\n", "a"),
        ("first statement", "VACUUM nosuch;\nINSERT INTO item (t) VALUES ('a');\n", ""),
    ] {
        project.write("init/Überblick.sql", text);
        project.apply().await.unwrap_err();
        let again = project.apply().await.unwrap_err();
        assert_eq!(project.sql("select coalesce(string_agg(t, ' '), '') from item"), rows, "{name}: {again}");
        let half = !rows.is_empty();
        assert_eq!(project.state("init/Überblick.sql").await, if half { LedgerState::Interrupted } else { LedgerState::Failed }, "{name}");
        assert_eq!(again.hint.unwrap_or_default().contains("devenv ledger run init/Überblick.sql"), half, "{name}");
        project.sql("truncate item restart identity; delete from devenv.ledger");
    }
    // On request.
    project.write("init/Überblick.sql", "INSERT INTO item (t) VALUES ('a');\nSELECT 'COMMIT' \\gexec\nSELECT 1 / (2 - count(*)) FROM item HAVING count(*) < 2;\nSELECT 1 / (count(*) - 1) FROM item;\n");
    project.apply().await.unwrap_err();
    assert!(project.with(async |cx| crate::script::run_again(&project.set, "init/Überblick.sql", cx).await).await.unwrap());
    assert_eq!(project.sql("select count(*) from item"), "2");
    assert_eq!(project.state("init/Überblick.sql").await, LedgerState::Applied);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_a_script_reads_are_part_of_it() {
    let project = Project::new();
    fs::create_dir(project.path().join("db")).unwrap();
    project
        .write("init/01.sql", "CREATE TABLE a (x int);\n\\ir ../db/b.sql\n\\i db/c.sql\n\\copy a from 'db/rows.csv' csv\n")
        .write("db/b.sql", "CREATE TABLE b (x int);\n")
        .write("db/c.sql", "CREATE TABLE c (x int);\n\nSELECT oops;\n")
        .write("db/rows.csv", "1\n2\n");
    let error = project.apply().await.unwrap_err();
    assert!(error.to_string().starts_with("db/c.sql:3: column \"oops\" does not exist"), "{error}");
    assert_eq!(project.sql("select to_regclass('b') is null"), "t");
    project.write("db/c.sql", "CREATE TABLE c (x int);\n");
    project.apply().await.unwrap();
    // One by one: the planner takes a join of tables that were never analysed for a large one, and compiles it longer than clients may wait.
    for table in ["b", "c"] {
        assert_eq!(project.sql(&format!("select count(*) from {table}")), "0", "{table}");
    }
    assert_eq!(project.sql("select count(*) from a"), "2");
    project.write("db/b.sql", "-- changed\n");
    assert_eq!(project.state("init/01.sql").await, LedgerState::Changed);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_server_takes_every_kind_and_a_foreign_authority_is_refused() {
    let project = Project::new();
    let authority = devenv_secrets::tls::Authority::open(&project.path().join("authority")).unwrap();
    let foreign = devenv_secrets::tls::Authority::open(&project.path().join("foreign")).unwrap();
    let (certificate, key) = authority.server(&["db".into()]).unwrap();
    project.write("server.crt", certificate).write("server.key", key);
    for name in ["server.crt", "server.key"] {
        docker(&["cp", project.path().join(name).to_str().unwrap(), &format!("{}:/var/lib/postgresql/data/{name}", project.server.id)]);
    }
    let enable = "cd /var/lib/postgresql/data; chown postgres server.*; chmod 600 server.*; sed -i 's/^host /hostssl /' /tmp/hba; psql -U postgres -c 'alter system set ssl = on' -c 'select pg_reload_conf()'";
    docker(&["exec", &project.server.id, "sh", "-c", enable]);
    project.server.until(|| project.sql("show ssl") == "on");
    project.write("init/01.sql", "CREATE TABLE item (id int);\n").write("seed/item.csv", "id\n1\n");
    let mut set = project.set.clone();
    set.target = PostgresTarget { tls: true, ..set.target.decode().unwrap() }.into_target();
    let apply = async |authority: &devenv_secrets::tls::Authority| {
        project.with(async |cx| apply(&set, Choice::All, &ScriptContext { authority: Some(authority.certificate()), ..*cx }).await).await
    };
    let refused = apply(&foreign).await.unwrap_err().to_string();
    assert!(refused.contains("certificate"), "{refused}");
    assert!(project.apply().await.unwrap_err().to_string().contains("no encryption"));
    assert_eq!(apply(&authority).await.unwrap().len(), 2);
    assert_eq!(project.sql("select count(*) from item"), "1");
}
