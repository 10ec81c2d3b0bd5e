//! `.sh`: run in the container, with what the official image gives to its init scripts.
//!
//! A script with a line `#!` runs by itself; one without is sourced by bash, with `set -Eeo pipefail`, as the image does.

use std::io::Read;

use bytes::Bytes;

use super::{
    Database,
    ledger::Mark,
    staged::{RECEIVE, Staged, unreadable},
};
use crate::script::{Script, ScriptContext, ScriptError, source};

/// The script sees nothing of the container's own variables, which hold the superuser's password. In an image without bash,
/// sh runs a script without `#!`.
const RUN: &str = r#"run -c "$DEVENV_BEGIN"
printf '*:*:*:*:%s\n' "$PGPASSWORD" > "$d/pgpass"
cat > "$d/source" <<'END'
set -Eeo pipefail
psql=( psql -v ON_ERROR_STOP=1 --no-psqlrc )
docker_process_sql() { psql -v ON_ERROR_STOP=1 --no-psqlrc "$@"; }
. "$1"
END
if head -n 1 "$d/script" | grep -q '^#!'; then chmod +x "$d/script"; set -- "$d/script"
elif command -v bash > /dev/null 2>&1; then set -- bash "$d/source" "$d/script"
else set -- sh -e "$d/script"; fi
cd /tmp
if env -i PATH="$PATH" HOME="$d" LANG=C.UTF-8 PGDATA="${PGDATA:-}" POSTGRES_USER="$PGUSER" POSTGRES_DB="$PGDATABASE" PGHOST="$PGHOST" PGUSER="$PGUSER" PGDATABASE="$PGDATABASE" PGPASSFILE="$d/pgpass" PGAPPNAME="$PGAPPNAME" PGOPTIONS="$PGOPTIONS" "$@" < /dev/null
then run -c "$DEVENV_DONE"; else code=$?; run -c "$DEVENV_FAILED" || true; exit "$code"; fi
"#;

pub(super) async fn run(database: &Database, mark: &Mark<'_>, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
    let script = mark.script;
    let reading = script.clone();
    let first = tokio::task::spawn_blocking(move || first_line(&reading)).await;
    let first =
        first.map_err(|error| ScriptError::of(&script.path, error.to_string()))?.map_err(|error| unreadable(script, &error.to_string()))?;
    if first.ends_with('\r') {
        let what = match first.strip_prefix("#!") {
            Some(program) => format!("it has Windows line ends: there is no interpreter `{}\\r`", program.trim()),
            None => "it has Windows line ends, which no shell in the container reads".to_owned(),
        };
        return Err(ScriptError::of(&script.path, what)
            .at(1)
            .hint("save it with line ends of LF, and let git keep them: `*.sh text eol=lf` in .gitattributes"));
    }
    let staged = Staged { database, mark, shell: format!("{RECEIVE}{RUN}"), variables: Vec::new() };
    let output = staged.run(source::flow(script, Vec::new(), Bytes::new()), script.size, cx).await?;
    if output.code == 0 {
        return Ok(());
    }
    Err(explained(script, output.code, &String::from_utf8_lossy(&output.stderr), &first))
}

fn explained(script: &Script, code: i64, said: &str, first: &str) -> ScriptError {
    let line = said.lines().rev().find_map(shell_line);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no output on standard error");
    let last = last.split_once("/script: ").map_or(last, |(_, rest)| rest);
    let error = ScriptError::of(&script.path, format!("it exited with {code}: {last}")).at(line);
    if last.contains("unbound variable") || last.contains("parameter not set") {
        return error.hint(
            "scripts see POSTGRES_USER, POSTGRES_DB, PGHOST, PGUSER, PGDATABASE and PGDATA; the password is in the file that PGPASSFILE names",
        );
    }
    match first.strip_prefix("#!") {
        Some(program) if matches!(code, 126 | 127) => {
            error.hint(format!("its first line asks for `{}`: check that the image has it", program.trim()))
        }
        Some(_) => error,
        None => error.hint("it has no `#!` line, so bash reads it (sh in an image without bash) and ends at the first command that fails"),
    }
}

fn first_line(script: &Script) -> std::io::Result<String> {
    let mut head = Vec::new();
    source::open(script)?.take(4096).read_to_end(&mut head)?;
    Ok(String::from_utf8_lossy(&head).split('\n').next().unwrap_or_default().to_owned())
}

/// `/tmp/devenv.x/script: line 3: foo: not found`, or without `line`.
fn shell_line(text: &str) -> Option<u64> {
    let (_, rest) = text.split_once("/script: ")?;
    let rest = rest.strip_prefix("line ").unwrap_or(rest);
    rest.split_once(':')?.0.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_reported_with_its_line_and_its_explanation() {
        assert_eq!(shell_line("/tmp/devenv.Q/script: line 3: foo: not found"), Some(3));
        assert_eq!(shell_line("/tmp/devenv.Q/script: 3: foo: not found"), Some(3));
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a.sh"), "x").unwrap();
        let script = crate::script::files::tests::file(directory.path(), "a.sh");
        for (code, said, first, hint) in [
            (1, "/tmp/devenv.Q/script: line 6: POSTGRES_PASSWORD: unbound variable\n", "#!/bin/bash", "POSTGRES_USER"),
            (127, "env: '/usr/bin/python3': No such file or directory\n", "#!/usr/bin/python3", "`/usr/bin/python3`"),
            (2, "/tmp/devenv.Q/script: line 2: [[: not found\n", "names=(one two)", "no `#!` line"),
        ] {
            let error = explained(&script, code, said, first);
            assert!(error.hint.as_deref().is_some_and(|found| found.contains(hint)), "{error} {:?}", error.hint);
        }
    }
}
