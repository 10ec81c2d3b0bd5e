//! `.sql`, `.sh` and dumps: run by psql inside the container, where COPY data and meta-commands mean what they mean.
//!
//! A **fed** script flows through psql's standard input into a transaction that is committed by what we send after it,
//! together with its row. If any process is killed on the way, the input ends without the commit, and the server rolls
//! back. A **staged** script cannot run in a transaction: it is first copied into the container as a whole, and a small
//! shell there marks it as running, runs it, and marks how it ended, whether or not anybody is left to listen.

use std::{
    io::{BufRead, BufReader},
    ops::Range,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;

use super::{
    DUMP_DIRECTORY, Database, FED, Mark, SESSION_OPTIONS, STAGED,
    csv::copy_line,
    scan::{Scan, Scanner},
};
use crate::script::{
    Progress, Script, ScriptContext, ScriptError,
    files::Content,
    source::{self, Flow},
};
use devenv_engine::{ExecOutput, ExecRequest};

const SYSTEM_USER: &str = "postgres";
const PSQL: [&str; 6] = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "--no-password"];
/// How it is known in the container's list of processes.
const STAGED_NAME: &str = "devenv-staged-script";
const CUT_OFF: i64 = 99;

/// Takes the script from its input, whole or not at all: `$1` is its length.
const RECEIVE: &str = r#"set -eu
umask 077
d=$(mktemp -d /tmp/devenv.XXXXXX)
trap 'rm -rf "$d"' EXIT
cat > "$d/script"
[ "$(wc -c < "$d/script")" -eq "$1" ] || exit 99
run() { psql -X -q -v ON_ERROR_STOP=1 --no-password -o /dev/null "$@"; }
"#;

const RUN_SQL: &str = r#"run -c "$DEVENV_BEGIN"
if run -f "$d/script"; then run -c "$DEVENV_DONE"; else code=$?; run -c "$DEVENV_FAILED" || true; exit "$code"; fi
"#;

/// The script sees nothing of the container's own variables, which hold the superuser's password.
const RUN_SHELL: &str = r#"run -c "$DEVENV_BEGIN"
printf '*:*:*:*:%s\n' "$PGPASSWORD" > "$d/pgpass"
if head -n 1 "$d/script" | grep -q '^#!'; then chmod +x "$d/script"; set -- "$d/script"; else set -- sh "$d/script"; fi
cd /tmp
if env -i PATH="$PATH" HOME="$d" LANG=C.UTF-8 PGHOST="$PGHOST" PGUSER="$PGUSER" PGDATABASE="$PGDATABASE" PGPASSFILE="$d/pgpass" PGAPPNAME="$PGAPPNAME" PGOPTIONS="$PGOPTIONS" "$@" < /dev/null
then run -c "$DEVENV_DONE"; else code=$?; run -c "$DEVENV_FAILED" || true; exit "$code"; fi
"#;

/// What the owner may not create, or what is there already, is left out; the commit comes only after all of the dump.
const RUN_DUMP: &str = r#"pg_restore -l "$d/script" > "$d/all"
grep -v -E '^[0-9]+; [0-9]+ [0-9]+ (SCHEMA - (public|devenv)|COMMENT - SCHEMA (public|devenv)|COMMENT - EXTENSION|[A-Z ]+ devenv) ' "$d/all" > "$d/list" || true
mkfifo "$d/pipe"
{ if pg_restore --no-owner --no-privileges -L "$d/list" -f - "$d/script"; then printf '\n%s\n' "$DEVENV_DONE"; else echo "devenv: pg_restore failed" >&2; fi; } > "$d/pipe" &
psql -X -q -v ON_ERROR_STOP=1 --no-password -o /dev/null -c BEGIN -c "$DEVENV_BEGIN" -f - < "$d/pipe"
"#;

const RECEIVE_DIRECTORY: &str = r#"set -eu
umask 077
d=$(mktemp -d /tmp/devenv.XXXXXX)
trap 'rm -rf "$d"' EXIT
mkdir "$d/script"
tar -x -C "$d/script" -f -
[ -e "$d/script/.devenv-complete" ] || exit 99
rm "$d/script/.devenv-complete"
"#;

pub(super) async fn sql(database: &Database, mark: &Mark<'_>, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
    let script = mark.script;
    let reading = script.clone();
    let scan =
        tokio::task::spawn_blocking(move || scan(&reading)).await.map_err(|error| ScriptError::of(&script.path, error.to_string()))??;
    if let Some(open) = scan.open {
        return Err(ScriptError::of(&script.path, format!("the script ends inside {open}")).at(scan.lines));
    }
    if scan.refuses.is_some() {
        return staged_sql(database, mark, &scan, cx).await;
    }
    // A semicolon only where one is missing: right after COPY data, psql takes a lone one for the end of the file.
    let end = if scan.unfinished { ";" } else { "" };
    let trailer =
        format!("\n{end}\nRESET SESSION AUTHORIZATION;\nRESET ROLE;\n\\o /dev/null\n{}\nCOMMIT;\n", mark.sql("applied", None, true));
    let blanked = scan.wrapper.clone().map(Vec::from).unwrap_or_default();
    let flow = source::flow(script, blanked, trailer.into());
    let meter = flow.meter.clone();
    let mut command: Vec<String> = PSQL.map(str::to_owned).to_vec();
    command.extend(["-o", "/dev/null", "-c", "BEGIN", "-c"].map(str::to_owned));
    command.push(format!("SET LOCAL devenv.batch = '{}'", mark.batch));
    command.extend(["-f".to_owned(), "-".to_owned()]);
    let output = execute(command, variables(database, FED), Some(flow), script, cx).await?;
    if let Some(failure) = meter.failure() {
        return Err(ScriptError::of(&script.path, format!("cannot be read: {failure}")));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("cannot run inside a transaction block") || said.contains("cannot be executed from a function or multi-command string")
    {
        return staged_sql(database, mark, &scan, cx).await;
    }
    if output.code == 0 && !said.contains("ERROR:") {
        return Ok(());
    }
    Err(explained(script, &said, &scan))
}

async fn staged_sql(database: &Database, mark: &Mark<'_>, scan: &Scan, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
    let script = mark.script;
    let output = staged(database, mark, RUN_SQL, scan.bytes, cx).await?;
    if output.code == 0 {
        return Ok(());
    }
    let mut error = explained(script, &String::from_utf8_lossy(&output.stderr), scan);
    let why = scan.refuses.as_ref().map_or(String::new(), |(line, what)| format!(" ({what}, line {line})"));
    error.hint = Some(format!("it does not run in a single transaction{why}, so the statements before that line stay applied"));
    Err(error)
}

pub(super) async fn shell(database: &Database, mark: &Mark<'_>, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
    let script = mark.script;
    let output = staged(database, mark, RUN_SHELL, script.size, cx).await?;
    if output.code == 0 {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let line = said.lines().rev().find_map(shell_line);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no output on standard error");
    let last = last.split_once("/script: ").map_or(last, |(_, rest)| rest);
    Err(ScriptError::of(&script.path, format!("it exited with {}: {last}", output.code)).at(line).hint("its changes so far stay applied"))
}

/// `/tmp/devenv.x/script: line 3: foo: not found`, or without `line`.
fn shell_line(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("/script: ")?;
    let rest = rest.strip_prefix("line ").unwrap_or(rest);
    rest.split_once(':')?.0.trim().parse().ok()
}

async fn staged(database: &Database, mark: &Mark<'_>, run: &str, size: u64, cx: &ScriptContext<'_>) -> Result<ExecOutput, ScriptError> {
    let script = mark.script;
    let flow = source::flow(script, Vec::new(), Bytes::new());
    let command = vec!["sh".to_owned(), "-c".to_owned(), format!("{RECEIVE}{run}"), STAGED_NAME.to_owned(), size.to_string()];
    let mut environment = variables(database, STAGED);
    environment.push(("DEVENV_BEGIN".to_owned(), mark.sql("running", None, false)));
    environment.push(("DEVENV_DONE".to_owned(), mark.sql("applied", None, false)));
    environment.push(("DEVENV_FAILED".to_owned(), mark.sql("failed", Some("it failed while no client was connected"), false)));
    let meter = flow.meter.clone();
    let output = execute(command, environment, Some(flow), script, cx).await?;
    whole(script, &output, meter.failure())?;
    Ok(output)
}

pub(super) async fn dump(database: &Database, mark: &Mark<'_>, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
    let script = mark.script;
    let mut environment = variables(database, FED);
    environment.push(("DEVENV_BEGIN".to_owned(), format!("SET LOCAL devenv.batch = '{}'", mark.batch)));
    environment.push((
        "DEVENV_DONE".to_owned(),
        format!("RESET SESSION AUTHORIZATION;\nRESET ROLE;\n{}\nCOMMIT;", mark.sql("applied", None, true)),
    ));
    let sh = |receive: &str| {
        vec!["sh".to_owned(), "-c".to_owned(), format!("{receive}{RUN_DUMP}"), "devenv-dump".to_owned(), script.size.to_string()]
    };
    let output = match (&script.content, script.format) {
        (Content::File(directory), DUMP_DIRECTORY) => {
            let directory = directory.clone();
            let packed = tokio::task::spawn_blocking(move || pack(&directory))
                .await
                .map_err(|error| ScriptError::of(&script.path, error.to_string()))?;
            let packed = packed.map_err(|error| ScriptError::of(&script.path, format!("cannot be read: {error}")))?;
            let script = Script { content: Content::File(packed.path().to_owned()), ..script.clone() };
            execute(sh(RECEIVE_DIRECTORY), environment, Some(source::flow(&script, Vec::new(), Bytes::new())), &script, cx).await?
        }
        _ => execute(sh(RECEIVE), environment, Some(source::flow(script, Vec::new(), Bytes::new())), script, cx).await?,
    };
    whole(script, &output, None)?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.code == 0 && !said.contains("ERROR:") && !said.contains("devenv: pg_restore failed") {
        return Ok(());
    }
    let first =
        said.lines().find(|line| line.contains("ERROR:") || line.contains("error:")).or(said.lines().next()).unwrap_or("pg_restore failed");
    let first = first.split_once("ERROR:").or(first.split_once("error:")).map_or(first, |(_, rest)| rest);
    Err(ScriptError::of(&script.path, first.trim()))
}

/// The directory's files as one archive, whose last entry says that it is complete.
fn pack(directory: &std::path::Path) -> std::io::Result<tempfile::NamedTempFile> {
    let mut archive = tar::Builder::new(tempfile::NamedTempFile::new()?);
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        archive.append_path_with_name(entry.path(), entry.file_name())?;
    }
    let mut complete = tar::Header::new_gnu();
    complete.set_size(0);
    complete.set_mode(0o600);
    complete.set_cksum();
    archive.append_data(&mut complete, ".devenv-complete", std::io::empty())?;
    archive.into_inner()
}

/// Whether any staged script, of whichever run, is still at work in the container.
pub(super) async fn staged_is_alive(cx: &ScriptContext<'_>) -> Result<bool, ScriptError> {
    let command = "grep -l -a 'devenv-staged-[s]cript' /proc/[0-9]*/cmdline 2>/dev/null | grep -q .";
    let request = ExecRequest {
        command: vec!["sh".into(), "-c".into(), command.into()],
        deadline: Some(Duration::from_secs(10)),
        ..ExecRequest::default()
    };
    let output = cx.engine.exec(cx.container, request).await.map_err(|error| ScriptError::of("ledger", error.to_string()))?;
    Ok(output.code == 0)
}

fn variables(database: &Database, application: &str) -> Vec<(String, String)> {
    [
        ("PGHOST", "/var/run/postgresql"),
        ("PGUSER", &database.role),
        ("PGDATABASE", &database.name),
        ("PGPASSWORD", &database.password),
        ("PGAPPNAME", application),
        ("PGOPTIONS", SESSION_OPTIONS),
        ("PGCLIENTENCODING", "UTF8"),
        ("PGCONNECT_TIMEOUT", "10"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

async fn execute(
    command: Vec<String>,
    environment: Vec<(String, String)>,
    flow: Option<Flow>,
    script: &Script,
    cx: &ScriptContext<'_>,
) -> Result<ExecOutput, ScriptError> {
    let meter = flow.as_ref().map(|flow| flow.meter.clone()).unwrap_or_default();
    let input = flow.map(|flow| Arc::new(Mutex::new(Some(flow.into_reader()))));
    let request = ExecRequest { command, user: Some(SYSTEM_USER.to_owned()), environment, directory: None, input, deadline: None };
    let mut running = std::pin::pin!(cx.engine.exec(cx.container, request));
    let mut server_message = tokio::time::interval(Duration::from_millis(200));
    loop {
        // Both branches are cancel-safe: the exec is pinned outside of the loop, and a tick that is lost is not missed.
        tokio::select! {
            output = &mut running => {
                let output = output.map_err(|error| ScriptError::of(&script.path, error.to_string()))?;
                (cx.progress)(Progress { path: &script.path, rows: 0, bytes: script.size, total_bytes: script.size });
                return Ok(output);
            }
            _ = server_message.tick() => (cx.progress)(Progress { path: &script.path, rows: 0, bytes: meter.bytes(), total_bytes: script.size }),
        }
    }
}

fn whole(script: &Script, output: &ExecOutput, failure: Option<String>) -> Result<(), ScriptError> {
    match failure {
        Some(failure) => Err(ScriptError::of(&script.path, format!("cannot be read: {failure}"))),
        None if output.code == CUT_OFF => Err(ScriptError::of(&script.path, "the container received it only in part")),
        None => Ok(()),
    }
}

fn scan(script: &Script) -> Result<Scan, ScriptError> {
    let fail = |error: std::io::Error| ScriptError::of(&script.path, format!("cannot be read: {error}"));
    let mut scanner = Scanner::default();
    each_line(script, |_, line| {
        scanner.line(line);
        true
    })
    .map_err(fail)?;
    Ok(scanner.finish())
}

/// Calls with each line and its number, until the answer is `false`.
fn each_line(script: &Script, mut with: impl FnMut(u64, &[u8]) -> bool) -> std::io::Result<()> {
    let mut input = BufReader::with_capacity(256 * 1024, source::open(script)?);
    let mut line = Vec::new();
    let mut number = 0;
    while input.read_until(b'\n', &mut line)? > 0 {
        number += 1;
        if !with(number, &line) {
            break;
        }
        line.clear();
    }
    Ok(())
}

/// What psql said, at the line of the script at which it went wrong.
fn explained(script: &Script, said: &str, scan: &Scan) -> ScriptError {
    let Some(found) = first_error(said) else {
        let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("psql failed without an error message");
        return ScriptError::of(&script.path, last);
    };
    let mut line = found.line.filter(|line| *line <= scan.lines);
    if let (Some(end), Some(row)) = (line, found.copy_row) {
        // psql counts to the end of the data; the server counts its rows.
        if let Some(copy) = scan.copies.iter().rev().find(|copy| copy.start < end) {
            line = Some((copy.start + row).min(copy.end));
        }
    } else if let (Some(end), Some(excerpt)) = (line, &found.excerpt) {
        line = nearest(script, end, excerpt).or(line);
    }
    let mut error = ScriptError::of(&script.path, found.message).at(line);
    error.hint = found.hint;
    error
}

#[derive(Debug, Default, PartialEq, Eq)]
struct PsqlError {
    line: Option<u64>,
    message: String,
    hint: Option<String>,
    excerpt: Option<String>,
    copy_row: Option<u64>,
}

/// The first error among notices, with what belongs to it.
fn first_error(said: &str) -> Option<PsqlError> {
    let mut lines = said.lines();
    let is_error = |text: &str| {
        ["ERROR:", "FATAL:", "error:"]
            .iter()
            .find_map(|word| text.split_once(word).map(|(before, rest)| (before.to_owned(), rest.trim().to_owned())))
    };
    let (before, message) = lines.by_ref().find_map(is_error)?;
    let number = |text: &str| text.trim_end().trim_end_matches(':').rsplit(':').next().and_then(|number| number.trim().parse().ok());
    let mut found = PsqlError { line: number(&before), message, ..PsqlError::default() };
    for line in lines {
        if line.starts_with("psql:") {
            break;
        } else if let Some(detail) = line.strip_prefix("DETAIL:") {
            found.message = format!("{} ({})", found.message, detail.trim());
        } else if let Some(hint) = line.strip_prefix("HINT:") {
            found.hint = Some(hint.trim().to_owned());
        } else if let Some(context) = line.strip_prefix("CONTEXT:") {
            found.copy_row = copy_line(context);
        } else if let Some((_, excerpt)) = line.strip_prefix("LINE ").and_then(|line| line.split_once(": ")) {
            found.excerpt = Some(excerpt.trim().trim_start_matches("...").trim_end_matches("...").to_owned());
        }
    }
    Some(found)
}

/// The last line up to `end` that holds the excerpt: psql names the line where the statement ends.
fn nearest(script: &Script, end: u64, excerpt: &str) -> Option<u64> {
    const REACH: u64 = 10_000;
    let near: Range<u64> = end.saturating_sub(REACH)..end + 1;
    let mut found = None;
    each_line(script, |number, line| {
        if near.contains(&number) && String::from_utf8_lossy(line).contains(excerpt) {
            found = Some(number);
        }
        number < end
    })
    .ok()?;
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_is_read_from_what_psql_says() {
        let said = "psql:<stdin>:2: NOTICE:  table \"x\" does not exist, skipping\npsql:<stdin>:9: ERROR:  column \"oops\" does not exist\nLINE 4:  ('b', oops);\n               ^\nHINT:  Perhaps.\n";
        assert_eq!(
            first_error(said),
            Some(PsqlError {
                line: Some(9),
                message: "column \"oops\" does not exist".into(),
                hint: Some("Perhaps.".into()),
                excerpt: Some("('b', oops);".into()),
                copy_row: None
            })
        );
        let said = "psql:/tmp/devenv.Ab/script:5: ERROR:  invalid input syntax for type integer: \"x\"\nCONTEXT:  COPY note, line 2, column n: \"x\"\n";
        let found = first_error(said).unwrap();
        assert_eq!((found.line, found.copy_row), (Some(5), Some(2)));
        assert_eq!(first_error("psql:<stdin>:1: error: invalid command \\bad\n").unwrap().message, "invalid command \\bad");
        assert_eq!(first_error("psql:<stdin>:1: NOTICE: fine\n"), None);
    }

    #[test]
    fn an_error_is_placed_at_the_line_of_the_script() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(
            directory.path().join("a.sql"),
            "SELECT 1;\nINSERT INTO t\n VALUES (1),\n ('b', oops),\n (2);\nCOPY note FROM stdin;\na\nb\n\\.\n",
        )
        .unwrap();
        let script = crate::script::files::tests::file(directory.path(), "a.sql");
        let scan = scan(&script).unwrap();
        let at = |said: &str| explained(&script, said, &scan).to_string();
        assert_eq!(at("psql:<stdin>:5: ERROR:  no oops\nLINE 3:  ('b', oops),\n"), "a.sql:4: no oops");
        assert_eq!(at("psql:<stdin>:9: ERROR:  bad\nCONTEXT:  COPY note, line 2: \"b\"\n"), "a.sql:8: bad");
        assert_eq!(at("psql:<stdin>:14: ERROR:  deferred\n"), "a.sql: deferred");
        assert_eq!(shell_line("/tmp/devenv.Q/script: line 3: foo: not found"), Some(3));
        assert_eq!(shell_line("/tmp/devenv.Q/script: 3: foo: not found"), Some(3));
    }
}
