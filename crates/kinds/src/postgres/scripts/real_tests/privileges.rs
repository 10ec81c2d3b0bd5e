//! What scripts may do: those of an owner, those of the administrator, and the files that either may read.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn no_script_of_the_owner_becomes_the_superuser_over_the_socket() {
    let project = Project::new();
    let grant = "ALTER ROLE app SUPERUSER";
    for (path, text) in [
        ("init/a.sh", format!("psql -w -U postgres -d postgres -c '{grant}'\n")),
        ("init/a.sh", format!("#!/bin/sh\nunset PGPASSFILE\npsql -w -h /var/run/postgresql -U postgres -c '{grant}'\n")),
        ("init/a.sh", "echo 'local all all trust' > /var/lib/postgresql/data/pg_hba.conf\n".to_owned()),
        ("init/a.sh", "kill -HUP 1\n".to_owned()),
        ("init/a.sh", "cat /proc/1/environ\n".to_owned()),
        // What the scan cannot see: a variable whose value is a command of psql.
        ("init/a.sql", format!("\\set x '\\\\! psql -w -U postgres -c \"{grant}\"'\n:x\nSELECT 1 / 0;\n")),
        ("init/a.sql", format!("\\set x '\\\\c - postgres'\n:x\n{grant};\n")),
        ("init/a.sql", format!("SET ROLE postgres;\n{grant};\n")),
    ] {
        project.write(path, &text);
        assert!(project.apply().await.is_err(), "{text}");
        assert_eq!(project.sql("select rolsuper from pg_roles where rolname = 'app'"), "f", "{text}");
        project.sql("delete from devenv.ledger");
        fs::remove_file(project.path().join(path)).unwrap();
    }
    // What the image gives to its scripts works on: the owner's own session, by its password.
    project.write(
        "init/a.sh",
        "psql -v ON_ERROR_STOP=1 --username \"$POSTGRES_USER\" --dbname \"$POSTGRES_DB\" -c 'CREATE TABLE mine (x int)'\n",
    );
    project.apply().await.unwrap();
    assert_eq!(project.sql("select tableowner from pg_tables where tablename = 'mine'"), "app");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_of_the_administrator_is_the_superuser() {
    let mut project = Project::new();
    let superuser = SecretRef::new("db", "postgres");
    let place = ScriptPlace::Database { name: "app".into(), role: "postgres".into(), password: superuser };
    project.set.sources = vec![ScriptSource { place, paths: vec!["init".into()], seed: false }];
    project
        .write("init/a.sql", "CREATE ROLE reporting;\n\\! true\n")
        .write("init/b.sh", "psql -c 'CREATE ROLE auditing'\ntest -w \"$(psql -Atc 'show data_directory')\"\n");
    project.apply().await.unwrap();
    assert_eq!(project.sql("select count(*) from pg_roles where rolname in ('reporting', 'auditing')"), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_the_host_outside_of_the_project_is_refused_at_its_line() {
    let project = Project::new();
    project.write("init/a.sql", "CREATE TABLE line (t text);\n\\copy line from '/etc/passwd'\n");
    let error = project.apply().await.unwrap_err();
    assert_eq!(error.to_string(), "init/a.sql:2: /etc/passwd, which it reads, is outside of the project");
    assert_eq!(project.sql("select to_regclass('line') is null"), "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_of_the_owner_may_return_to_its_role_and_say_where_nothing_is_found() {
    let project = Project::new();
    project.write(
        "init/a.sql",
        "\\getenv here NOWHERE\nSET ROLE app;\nCREATE TABLE mine (x int);\nRESET ROLE;\nRESET SESSION AUTHORIZATION;\n",
    );
    project.apply().await.unwrap();
    assert_eq!(project.sql("select tableowner from pg_tables where tablename = 'mine'"), "app");
    project.write("init/b.sql", "RESET ROLE;\nSELECT 1;\n");
    let error = project.apply().await.unwrap_err();
    assert_eq!(error.to_string(), "init/b.sql:1: `RESET ROLE` reaches beyond the owner's role");
    project.write("init/b.sql", "SELECT 1;\n\\d nothing\n");
    let error = project.apply().await.unwrap_err();
    assert_eq!(error.to_string(), "init/b.sql:2: Did not find any relation named \"nothing\".");
}
