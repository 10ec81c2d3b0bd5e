//! What the scan finds in scripts, and what it does not take for something.

use super::*;

fn scan(text: &str) -> Scan {
    let mut scanner = Scanner::new(Session::default());
    for line in text.split_inclusive('\n') {
        scanner.line(line.as_bytes());
    }
    scanner.finish()
}

fn refuses(text: &str) -> Option<u64> {
    scan(text).refuses.map(|(line, _)| line)
}

#[test]
fn a_statement_that_cannot_run_in_a_transaction_is_found_with_its_line() {
    assert_eq!(scan("-- x\nCREATE INDEX CONCURRENTLY i ON t (a);\n").refuses, Some((2, "CREATE INDEX CONCURRENTLY I".into())));
    for text in [
        "vacuum;",
        "CREATE DATABASE x;",
        "alter system set a = 1;",
        "create unique index concurrently a on b(c)",
        "\\c other\n",
        "BEGIN; SELECT 1; COMMIT; SELECT 2;",
        "ROLLBACK;",
        "REINDEX TABLE CONCURRENTLY t;",
        "BEGIN\\; SELECT 1\\; COMMIT;",
        "\\! psql -c 'select 1'",
        "\\set AUTOCOMMIT off",
        "\\set ON_ERROR_STOP 0",
        "SET LOCAL search_path = a;",
        "CREATE TEMP TABLE t (a int) ON COMMIT DROP;",
        "-- +goose NO TRANSACTION\n",
        "-- devenv: transaction=off\nSELECT 1;",
        "COMMIT \\g",
    ] {
        assert_eq!(refuses(text), Some(1), "{text}");
    }
}

#[test]
fn words_in_strings_comments_data_and_bodies_count_for_nothing() {
    for text in [
        "INSERT INTO t VALUES ('; VACUUM; ''; COMMIT;');\n",
        "/* ; VACUUM; /* COMMIT; */ BEGIN; */ SELECT 1;",
        "SELECT E'\\'; VACUUM; '; SELECT 1;",
        "DO $$ BEGIN PERFORM 1; END; $$;\n",
        "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $body$\nBEGIN\nRETURN 1;\nEND;\n$body$;\n",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END;\nSELECT 1;",
        "COPY note FROM stdin;\n;VACUUM;\nCOMMIT;\n\\.\nSELECT 1;\n",
        "CREATE TABLE \"vacuum;\" (a int);",
        "SAVEPOINT a; ROLLBACK TO SAVEPOINT a;",
        "\\echo VACUUM; COMMIT;\nselect 1;",
        "SELECT $1; PREPARE p AS SELECT $1;",
        "CREATE FUNCTION f(begin int) RETURNS int LANGUAGE sql AS $$ SELECT 1 $$;\nCOPY t FROM stdin;\nAnna's; COMMIT;\n\\.\nSELECT 1;",
        "SET standard_conforming_strings = off;\nINSERT INTO t VALUES ('it\\'s; COMMIT; ');\nCOPY t FROM stdin;\ndon't\n\\.\n",
        "SET client_encoding = 'SJIS';\nSELECT E'a';\nCOPY t FROM stdin;\nx'\n\\.\nSELECT 1;",
        "\u{feff}SELECT 1;",
        "\\set name 'it''s; COMMIT;'\nSELECT :'name', :\"name\";",
        "\\copy t from stdin\nit's; COMMIT;\n\\.\nselect 1;",
        "COPY a FROM stdin; COPY b FROM stdin;\n'\n\\.\n'\n\\.\nSELECT 1;",
        "SELECT 'set_config', set_config('search_path', '', false);",
    ] {
        let found = scan(text);
        assert_eq!((found.refuses, found.fault), (None, None), "{text}");
    }
}

#[test]
fn what_a_script_may_say_and_a_dump_from_elsewhere_may_not_is_told_apart() {
    for (text, reaches, leaves) in [
        ("SET ROLE app; RESET ROLE;", false, true),
        ("set local session authorization app; reset session authorization;", false, true),
        ("RESET ROLE;", true, false),
        ("reset session authorization;", true, false),
        ("SET search_path = role; RESET ROLE; SET ROLE app;", true, false),
        ("\\getenv lib PG_LIBDIR\n", false, true),
        ("\\setenv PAGER cat\n", false, true),
        ("\\! id\n", true, false),
        ("select 1 \\g | sh\n", true, false),
        ("select 1 \\gx\n", false, false),
        ("select 1 as a \\gset g_\n", false, false),
    ] {
        let found = scan(text);
        assert_eq!((found.reaches.is_some(), found.leaves.is_some()), (reaches, leaves), "{text}");
    }
}

#[test]
fn a_scripts_own_single_transaction_is_replaced_by_ours() {
    let text = "-- head\nBEGIN;\nSET LOCAL search_path = a;\nSELECT 1;\nCOMMIT;\n";
    let found = scan(text);
    let [begin, commit] = found.wrapper.unwrap();
    assert_eq!(&text[begin.start as usize..begin.end as usize], "BEGIN;");
    assert_eq!(&text[commit.start as usize..commit.end as usize], "COMMIT;");
    assert_eq!(found.refuses, None);
    assert_eq!(scan("BEGIN ISOLATION LEVEL SERIALIZABLE;\nCOMMIT;").wrapper, None);
    assert_eq!(scan("\\if true\nBEGIN;\nCOMMIT;\n\\endif\n").wrapper, None);
    assert_eq!(scan("BEGIN;\nVACUUM;\nCOMMIT;").wrapper, None);
}

#[test]
fn copy_data_is_known_by_its_lines_and_an_open_end_by_its_name() {
    let found = scan("SELECT 1;\nCOPY a (b, c)\n FROM stdin;\n1\n2\n\\.\nCOPY b FROM stdin;\nx\n");
    assert_eq!(found.copies, [3..6, 7..8]);
    assert_eq!((found.fault, found.end), (None, End::Rows));
    assert_eq!(scan("SELECT 1").end, End::Statement);
    assert_eq!(scan("SELECT 1; -- x").end, End::Complete);
    for (text, line, wanted) in [
        ("SELECT 'a", 1, "a string"),
        ("SELECT $a$ $b$", 1, "a dollar-quoted string"),
        ("SELECT (1", 1, "parentheses"),
        ("SELECT 1;\n\\if true\nSELECT 2;\n", 2, "no `\\endif`"),
        ("SELECT 1;\nBEGIN;\nSELECT 2;\n", 2, "never committed"),
        ("BEGIN;\nCOMMIT AND CHAIN;\nSELECT 2;\n", 1, "never committed"),
    ] {
        let (at, found) = scan(text).fault.unwrap_or_default();
        assert!(at == line && found.contains(wanted), "{text}: {found} at {at}");
    }
    for text in [
        "BEGIN;\nROLLBACK;\n",
        "BEGIN;\nPREPARE TRANSACTION 'a';\n",
        "BEGIN;\n\\q\n",
        "BEGIN;\nEND;",
        "SELECT 1;\nBEGIN;\n-- nothing is in it\n",
        "BEGIN;\nCREATE FUNCTION f(begin int) BEGIN ATOMIC SELECT begin; END;\nCOMMIT;\n",
    ] {
        assert_eq!(scan(text).fault, None, "{text}");
    }
}

#[test]
fn files_that_a_script_reads_are_named_with_their_lines() {
    let found = scan(
        "\\i schema/a.sql\n\\ir 'b c.sql' \\\\ SELECT 1;\n\\i :dir/x.sql\n\\copy t from data.csv csv\n-- \\i no.sql\nSELECT '\\i no.sql';\n",
    );
    let named = |line, path: &str, role| Named { line, path: path.into(), role };
    assert_eq!(
        found.files,
        [named(1, "schema/a.sql", Role::Script), named(2, "b c.sql", Role::ScriptBeside), named(4, "data.csv", Role::Rows)]
    );
    assert!(scan("\\copy t from pstdin").needs_its_end);
    assert!(scan("\\copy t from stdin csv\na\n\\.").needs_its_end && !scan("COPY t FROM stdin;\na\n\\.\n").needs_its_end);
    assert!(scan("COPY t FROM stdin;\r\na\r\nb").needs_its_end && !scan("COPY t FROM stdin;\na\nb").needs_its_end);
    assert!(scan("CREATE FUNCTION f(begin int) BEGIN ATOMIC SELECT begin; END;\nSELECT 1;").needs_its_end);
}
