//! `.sql`: psql runs it inside the container, because it understands COPY data and meta-commands.
//!
//! A script is first tried in one transaction; our text after the script commits it, together with its row. Nothing
//! else can be committed in that session: `devenv.start_script` fails any other commit, and a transaction after ours may only
//! read. If any process is killed on the way, the input ends without the commit, and the server rolls back. A script that
//! cannot run in a transaction, because of its content or because the server says so, is **staged**: psql runs it as `psql -f` does,
//! each statement by itself, recorded as running before.

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use bytes::Bytes;
use devenv_engine::ExecOutput;

use super::{
    Database, FED, SESSION_OPTIONS, SUPERUSER, authority,
    complaint::{Complaint, explained},
    included,
    ledger::Mark,
    scan::{End, Scan, Session},
    sequences::Sequences,
    staged::{self, RECEIVE, RECEIVE_DIRECTORY, Staged},
};
use crate::script::{Script, ScriptContext, ScriptError, files::Content, source};

/// Not `-q`: psql would end without a word where a `\d` finds nothing.
const PSQL: [&str; 7] = ["psql", "-X", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=verbose", "--no-password"];

/// From `$d/script`, in a shell that has received it.
const RUN: &str = r#"run -c "$DEVENV_BEGIN"
if run -v VERBOSITY=verbose -f "$d/script" < /dev/null; then run -c "$DEVENV_DONE"; else code=$?; run -c "$DEVENV_FAILED" || true; exit "$code"; fi
"#;

/// In the project's directory, so that included files are found.
const RUN_THERE: &str = r#"run -c "$DEVENV_BEGIN"
cd "$d/script$DEVENV_PROJECT"
if run -v VERBOSITY=verbose -f "$DEVENV_SCRIPT" < /dev/null; then cd /; run -c "$DEVENV_DONE"; else code=$?; cd /; run -c "$DEVENV_FAILED" || true; exit "$code"; fi
"#;

/// The same in one transaction.
const RUN_THERE_AS_ONE: &str = r#"cd "$d/script$DEVENV_PROJECT"
code=0
run -v VERBOSITY=verbose -c 'BEGIN READ WRITE' -c "$DEVENV_BEGIN" -f "$DEVENV_SCRIPT" -c 'RESET SESSION AUTHORIZATION' -c 'RESET ROLE' -c "$DEVENV_DONE" -c COMMIT < /dev/null || code=$?
cd /
exit "$code"
"#;

/// One attempt at one script.
struct Attempt<'a> {
    database: &'a Database,
    mark: &'a Mark<'a>,
    scan: Scan,
    cx: &'a ScriptContext<'a>,
}

pub(super) async fn sql(database: &Database, mark: &Mark<'_>, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
    let script = mark.script;
    let (reading, session) = (script.clone(), database.begins_with().await?);
    let scan = tokio::task::spawn_blocking(move || scan(&reading, session));
    let scan = scan.await.map_err(|error| ScriptError::of(&script.path, error.to_string()))??;
    if let Some((line, fault)) = scan.fault {
        return Err(ScriptError::of(&script.path, fault).at(line));
    }
    if database.role != SUPERUSER {
        stays_within(script, &scan, cx)?;
    }
    reads_the_project_alone(script, &scan, cx).await?;
    Attempt { database, mark, scan, cx }.run().await
}

/// Refuses what would reach the container's system or another role, in the script and in included ones.
fn stays_within(script: &Script, scan: &Scan, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
    if let Some((line, what)) = &scan.reaches {
        return Err(ScriptError::of(&script.path, format!("`{what}` reaches beyond the owner's role")).at(*line).hint(authority::HINT));
    }
    let Content::File(path) = &script.content else { return Ok(()) };
    match included::reaching(&scan.files, path, cx.project) {
        Some((path, line, what)) => {
            let words = format!("`{what}` in {}:{line} reaches beyond the owner's role", path.display());
            Err(ScriptError::of(&script.path, words).hint(authority::HINT))
        }
        None => Ok(()),
    }
}

/// Refuses files of the host that are none of the project's. Scripts of the superuser, too: that is one of the server, not of the host.
async fn reads_the_project_alone(script: &Script, scan: &Scan, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
    if scan.files.is_empty() {
        return Ok(());
    }
    let (names, own, project) = (scan.files.clone(), own_path(script, cx.project), cx.project.to_owned());
    let followed = tokio::task::spawn_blocking(move || included::named_by(&names, &own, &project));
    match followed.await.map_err(|error| ScriptError::of(&script.path, error.to_string()))?.refused {
        Some(refused) => Err(ScriptError::of(&refused.script, refused.why)
            .at(refused.line)
            .hint("a script can read regular files of the project, and those beside it: copy the file there")),
        None => Ok(()),
    }
}

/// Where the script is, or would be if it were the project's.
fn own_path(script: &Script, project: &Path) -> PathBuf {
    match &script.content {
        Content::File(path) => included::absolute(path),
        Content::Shipped(_) => included::absolute(project).join(&script.path),
    }
}

impl Attempt<'_> {
    async fn run(mut self) -> Result<(), ScriptError> {
        if self.scan.refuses.is_some() {
            return self.staged().await;
        }
        let before = self.database.sequences().await?;
        let output = if self.needs_files() { self.with_files_as_one().await? } else { self.fed().await? };
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let complaint = Complaint::read(&said);
        // psql reports some errors of its own commands, such as an open quote after `\echo`, and continues.
        if output.code == 0 && self.database.state_of(self.mark).await?.is_some() {
            return Ok(());
        }
        self.rewind(&before).await;
        match complaint {
            // It ended before our text, by `\q` or by the value of a variable. psql knows how far it got.
            None if output.code == 0 => self.staged().await,
            Some(complaint) if complaint.needs_no_transaction() => {
                let line = complaint.line.filter(|line| complaint.file.is_none() && *line <= self.scan.lines).unwrap_or(self.scan.lines);
                self.scan.refuses = Some((line, complaint.message));
                self.staged().await
            }
            _ => Err(explained(self.mark.script, &said, &self.scan, self.cx.project)),
        }
    }

    /// The progress of an attempt that had no effect.
    async fn rewind(&self, before: &Sequences) {
        if let Err(error) = self.database.rewind(before).await {
            tracing::warn!(%error, path = %self.mark.script.path, "Cannot put sequences back.");
        }
    }

    fn needs_files(&self) -> bool {
        !self.scan.files.is_empty() || self.scan.needs_its_end
    }

    /// Through psql's input, so that a script of any size is never stored as a whole.
    async fn fed(&self) -> Result<ExecOutput, ScriptError> {
        let script = self.mark.script;
        // A semicolon only if one is missing: directly after COPY data, psql takes a single one for the end of the file.
        let end = match (self.scan.end, self.scan.cut_line) {
            (End::Complete, _) => "\n",
            (End::Statement, _) => "\n;\n",
            (End::Rows, false) => "\\.\n",
            (End::Rows, true) => "\n\\.\n",
        };
        let trailer = format!("{end}RESET SESSION AUTHORIZATION;\nRESET ROLE;\n{};\nCOMMIT;\n", self.mark.finish(None));
        let blanked = self.scan.wrapper.clone().map(Vec::from).unwrap_or_default();
        let flow = source::flow(script, blanked, trailer.into());
        let meter = flow.meter.clone();
        let mut command: Vec<String> = PSQL.map(str::to_owned).to_vec();
        command.extend(["-o", "/dev/null", "-c", "BEGIN READ WRITE", "-c"].map(str::to_owned));
        command.push(self.mark.start());
        command.extend(["-f".to_owned(), "-".to_owned()]);
        let output = staged::execute(self.database, command, self.as_one(), Some(flow), script, self.cx).await?;
        match meter.failure() {
            Some(failure) => Err(staged::unreadable(script, &failure)),
            None => Ok(output),
        }
    }

    /// For a session in which only one transaction may write.
    fn as_one(&self) -> Vec<(String, String)> {
        let mut variables = staged::session(self.database, FED);
        variables.retain(|(name, _)| name != "PGOPTIONS");
        variables.push(("PGOPTIONS".to_owned(), format!("{SESSION_OPTIONS} -c default_transaction_read_only=on")));
        variables
    }

    async fn with_files_as_one(&self) -> Result<ExecOutput, ScriptError> {
        let (_file, sent, mut variables) = self.packed(true).await?;
        variables.extend(self.as_one());
        variables.push(("DEVENV_BEGIN".to_owned(), self.mark.start()));
        variables.push(("DEVENV_DONE".to_owned(), self.mark.finish(None)));
        let command = ["sh", "-c", &format!("{RECEIVE_DIRECTORY}{RUN_THERE_AS_ONE}"), "devenv-script"].map(str::to_owned).to_vec();
        let output =
            staged::execute(self.database, command, variables, Some(staged::archive_flow(&sent)), self.mark.script, self.cx).await?;
        staged::whole(self.mark.script, &output, None)?;
        Ok(output)
    }

    /// As `psql -f` runs it.
    async fn staged(self) -> Result<(), ScriptError> {
        let (script, database, mark) = (self.mark.script, self.database, self.mark);
        let output = if self.needs_files() {
            let (_file, sent, variables) = self.packed(false).await?;
            let shell = format!("{RECEIVE_DIRECTORY}{RUN_THERE}");
            Staged { database, mark, shell, variables }.run(staged::archive_flow(&sent), 0, self.cx).await?
        } else {
            let shell = format!("{RECEIVE}{RUN}");
            let flow = source::flow(script, Vec::new(), Bytes::new());
            Staged { database, mark, shell, variables: Vec::new() }.run(flow, self.scan.bytes, self.cx).await?
        };
        if output.code == 0 {
            return Ok(());
        }
        let mut error = explained(script, &String::from_utf8_lossy(&output.stderr), &self.scan, self.cx.project);
        let why = self.scan.refuses.as_ref().map_or(String::new(), |(line, what)| format!(" (line {line}: {what})"));
        let stays = format!("it does not run in a single transaction{why}, so the statements before that line stay applied");
        error.hint = Some(error.hint.map_or(stays.clone(), |hint| format!("{hint}; {stays}")));
        Err(error)
    }

    /// The script with everything that it includes, and its place in there.
    async fn packed(&self, as_one: bool) -> Result<(tempfile::NamedTempFile, Script, Vec<(String, String)>), ScriptError> {
        let script = self.mark.script.clone();
        let (names, project) = (self.scan.files.clone(), included::absolute(self.cx.project));
        let blanked = self.scan.wrapper.clone().filter(|_| as_one).map(Vec::from).unwrap_or_default();
        let (shown, bytes) = (project.clone(), self.scan.bytes);
        let path = script.path.clone();
        let packed = tokio::task::spawn_blocking(move || {
            let own = own_path(&script, &project);
            staged::packed(&script, |archive| {
                let mut header = tar::Header::new_gnu();
                header.set_size(bytes);
                header.set_mode(0o600);
                let text = source::blanked(source::open(&script)?, blanked);
                archive.append_data(&mut header, own.strip_prefix("/").unwrap_or(&own), text.take(bytes))?;
                for file in included::named_by(&names, &own, &project).files {
                    staged::append_under_root(archive, &file)?;
                }
                // psql runs here even if the directory is otherwise empty.
                let mut directory = tar::Header::new_gnu();
                directory.set_entry_type(tar::EntryType::Directory);
                directory.set_size(0);
                directory.set_mode(0o700);
                archive.append_data(&mut directory, project.strip_prefix("/").unwrap_or(&project), std::io::empty())
            })
        });
        let packed = packed.await.map_err(|error| ScriptError::of(&path, error.to_string()))?;
        let (file, sent) = packed.map_err(|error| staged::unreadable(self.mark.script, &error.to_string()))?;
        let variables = vec![
            ("DEVENV_PROJECT".to_owned(), shown.to_string_lossy().into_owned()),
            ("DEVENV_SCRIPT".to_owned(), self.mark.script.path.clone()),
        ];
        Ok((file, sent, variables))
    }
}

/// The first statement in a dump of SQL text that reaches beyond the role which restores it: its line and text. `None` for an archive, which
/// psql does not read.
pub(crate) fn reaches(file: &std::path::Path) -> std::io::Result<Option<(u64, String)>> {
    let mut input = BufReader::with_capacity(256 * 1024, devenv_files::TimedReader::open(file)?);
    if input.fill_buf()?.starts_with(b"PGDMP") {
        return Ok(None);
    }
    let scan = included::scan(input, Session::default())?;
    Ok([scan.reaches, scan.leaves].into_iter().flatten().min_by_key(|(line, _)| *line))
}

pub(super) fn scan(script: &Script, session: Session) -> Result<Scan, ScriptError> {
    let fail = |error: std::io::Error| staged::unreadable(script, &error.to_string());
    included::scan(source::open(script).map_err(fail)?, session).map_err(fail)
}
