//! Dumps of `pg_dump` in custom, tar or directory format: `pg_restore` in the container turns them into SQL, which runs in one transaction.

use bytes::Bytes;

use super::{
    DUMP_DIRECTORY, Database, FED,
    ledger::Mark,
    staged::{self, RECEIVE, RECEIVE_DIRECTORY},
};
use crate::script::{ScriptContext, ScriptError, files::Content, source};

/// Objects that the owner may not create, or that exist already, are left out; the commit comes only after the whole dump.
const RESTORE: &str = r#"pg_restore -l "$d/script" > "$d/all"
grep -v -E '^[0-9]+; [0-9]+ [0-9]+ (SCHEMA - (public|devenv)|COMMENT - SCHEMA (public|devenv)|COMMENT - EXTENSION|[A-Z ]+ devenv) ' "$d/all" > "$d/list" || true
mkfifo "$d/pipe"
{ if pg_restore --no-owner --no-privileges -L "$d/list" -f - "$d/script"; then printf '\n%s\n' "$DEVENV_DONE"; else echo "devenv: pg_restore failed" >&2; fi; } > "$d/pipe" &
psql -X -q -v ON_ERROR_STOP=1 --no-password -o /dev/null -c 'BEGIN READ WRITE' -c "$DEVENV_BEGIN" -f - < "$d/pipe"
"#;

pub(super) async fn restore(database: &Database, mark: &Mark<'_>, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
    let script = mark.script;
    let mut environment = staged::session(database, FED);
    environment.push(("DEVENV_BEGIN".to_owned(), mark.start()));
    environment.push(("DEVENV_DONE".to_owned(), format!("RESET SESSION AUTHORIZATION;\nRESET ROLE;\n{};\nCOMMIT;", mark.finish(None))));
    let sh = |receive: &str| {
        vec!["sh".to_owned(), "-c".to_owned(), format!("{receive}{RESTORE}"), "devenv-dump".to_owned(), script.size.to_string()]
    };
    let output = match (&script.content, script.format) {
        (Content::File(directory), DUMP_DIRECTORY) => {
            let (directory, packing) = (directory.clone(), script.clone());
            let packed = tokio::task::spawn_blocking(move || {
                staged::packed(&packing, |archive| {
                    for entry in std::fs::read_dir(&directory)? {
                        let entry = entry?;
                        staged::append_as(archive, &entry.path(), std::path::Path::new(&entry.file_name()))?;
                    }
                    Ok(())
                })
            });
            let packed = packed.await.map_err(|error| ScriptError::of(&script.path, error.to_string()))?;
            let (_file, sent) = packed.map_err(|error| staged::unreadable(script, &error.to_string()))?;
            staged::execute(database, sh(RECEIVE_DIRECTORY), environment, Some(staged::archive_flow(&sent)), &sent, cx).await?
        }
        _ => staged::execute(database, sh(RECEIVE), environment, Some(source::flow(script, Vec::new(), Bytes::new())), script, cx).await?,
    };
    staged::whole(script, &output, None)?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.code == 0 && !said.contains("ERROR:") && !said.contains("devenv: pg_restore failed") {
        return Ok(());
    }
    let first =
        said.lines().find(|line| line.contains("ERROR:") || line.contains("error:")).or(said.lines().next()).unwrap_or("pg_restore failed");
    let first = first.split_once("ERROR:").or(first.split_once("error:")).map_or(first, |(_, rest)| rest);
    Err(ScriptError::of(&script.path, first.trim()))
}
