//! What runs in the container whether or not anybody is left to listen: a script is copied there as a whole first, and a
//! small shell runs it and says how it ended.

use std::{
    io::Read,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use devenv_engine::{ExecOutput, ExecRequest};

use super::{Database, SESSION_OPTIONS, STAGED, ledger::Mark};
use crate::{
    postgres::access,
    script::{
        Progress, Script, ScriptContext, ScriptError,
        source::{self, Flow},
        staged,
    },
};

/// The exit code of a shell that did not receive the whole of a script.
const CUT_OFF: i64 = 99;

/// Takes the script from its input, whole or not at all: `$1` is its length.
pub(super) const RECEIVE: &str = r#"set -eu
umask 077
d=$(mktemp -d /tmp/devenv.XXXXXX)
trap 'rm -rf "$d"' EXIT
cat > "$d/script"
[ "$(wc -c < "$d/script")" -eq "$1" ] || exit 99
run() { psql -X -v ON_ERROR_STOP=1 --no-password -o /dev/null "$@"; }
"#;

/// The same for an archive, whose last entry says that it is complete.
pub(super) const RECEIVE_DIRECTORY: &str = r#"set -eu
umask 077
d=$(mktemp -d /tmp/devenv.XXXXXX)
trap 'rm -rf "$d"' EXIT
mkdir "$d/script"
tar -x -C "$d/script" -f -
[ -e "$d/script/.devenv-complete" ] || exit 99
rm "$d/script/.devenv-complete"
run() { psql -X -v ON_ERROR_STOP=1 --no-password -o /dev/null "$@"; }
"#;

/// How a script runs outside of a transaction: marked as running, and then as what became of it.
pub(super) struct Staged<'a> {
    pub(super) database: &'a Database,
    pub(super) mark: &'a Mark<'a>,
    /// A shell script that receives and runs, with `$DEVENV_BEGIN`, `$DEVENV_DONE` and `$DEVENV_FAILED` at hand.
    pub(super) shell: String,
    pub(super) variables: Vec<(String, String)>,
}

impl Staged<'_> {
    /// `size` is the length of what is sent, unless it is an archive.
    pub(super) async fn run(self, flow: Flow, size: u64, cx: &ScriptContext<'_>) -> Result<ExecOutput, ScriptError> {
        let Self { database, mark, shell, mut variables } = self;
        let command = vec!["sh".to_owned(), "-c".to_owned(), shell, staged::NAME.to_owned(), size.to_string()];
        variables.extend(session(database, STAGED));
        variables.push(("DEVENV_BEGIN".to_owned(), mark.state("running", None)));
        variables.push(("DEVENV_DONE".to_owned(), mark.state("applied", None)));
        variables.push(("DEVENV_FAILED".to_owned(), mark.state("interrupted", Some("it failed while no client was connected"))));
        let meter = flow.meter.clone();
        let output = execute(database, command, variables, Some(flow), mark.script, cx).await?;
        whole(mark.script, &output, meter.failure())?;
        Ok(output)
    }
}

pub(super) fn whole(script: &Script, output: &ExecOutput, failure: Option<String>) -> Result<(), ScriptError> {
    match failure {
        Some(failure) => Err(unreadable(script, &failure)),
        None if output.code == CUT_OFF => Err(ScriptError::of(&script.path, "the container received it only in part")),
        None => Ok(()),
    }
}

pub(super) fn unreadable(script: &Script, failure: &str) -> ScriptError {
    ScriptError::of(&script.path, format!("cannot be read: {failure}"))
}

/// What tells a client in the container where to connect, and as whom.
pub(super) fn session(database: &Database, application: &str) -> Vec<(String, String)> {
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

/// As the system user of the database's role, who is the superuser on the socket only for scripts of the superuser.
pub(super) async fn execute(
    database: &Database,
    command: Vec<String>,
    environment: Vec<(String, String)>,
    flow: Option<Flow>,
    script: &Script,
    cx: &ScriptContext<'_>,
) -> Result<ExecOutput, ScriptError> {
    let meter = flow.as_ref().map(|flow| flow.meter.clone()).unwrap_or_default();
    let input = flow.map(|flow| Arc::new(Mutex::new(Some(flow.into_reader()))));
    let request =
        ExecRequest { command, user: Some(access::system_user(&database.role).to_owned()), environment, input, ..ExecRequest::default() };
    let mut running = std::pin::pin!(cx.engine.exec(cx.container, request));
    let mut report = tokio::time::interval(Duration::from_millis(200));
    loop {
        // Both branches are cancel-safe: the exec is pinned outside of the loop, and a tick that is lost is not missed.
        tokio::select! {
            output = &mut running => {
                let output = output.map_err(|error| ScriptError::of(&script.path, error.to_string()))?;
                (cx.progress)(Progress { path: &script.path, rows: 0, bytes: script.size, total_bytes: script.size });
                return Ok(output);
            }
            _ = report.tick() => (cx.progress)(Progress { path: &script.path, rows: 0, bytes: meter.bytes(), total_bytes: script.size }),
        }
    }
}

/// Entries of an archive, whose last says that it is complete, as something to send.
pub(super) fn packed(
    script: &Script,
    fill: impl FnOnce(&mut tar::Builder<tempfile::NamedTempFile>) -> std::io::Result<()>,
) -> std::io::Result<(tempfile::NamedTempFile, Script)> {
    let mut archive = tar::Builder::new(tempfile::NamedTempFile::new()?);
    fill(&mut archive)?;
    let mut complete = tar::Header::new_gnu();
    complete.set_size(0);
    complete.set_mode(0o600);
    complete.set_cksum();
    archive.append_data(&mut complete, ".devenv-complete", std::io::empty())?;
    let file = archive.into_inner()?;
    let sent = script.as_archive(file.path());
    Ok((file, sent))
}

/// The flow of an archive as [`packed`] made it.
pub(super) fn archive_flow(sent: &Script) -> Flow {
    source::flow(sent, Vec::new(), Bytes::new())
}

/// Adds a file under the path that it has on the host, so that paths between files mean what they mean there.
pub(super) fn append_under_root<W: std::io::Write>(archive: &mut tar::Builder<W>, path: &Path) -> std::io::Result<()> {
    append_as(archive, path, path.strip_prefix("/").unwrap_or(path))
}

/// Adds a regular file. Exactly as many bytes as its size was when it was opened.
pub(super) fn append_as<W: std::io::Write>(archive: &mut tar::Builder<W>, file: &Path, name: &Path) -> std::io::Result<()> {
    let (content, metadata) = devenv_files::TimedReader::open_with_metadata(file)?;
    let mut header = tar::Header::new_gnu();
    header.set_metadata(&metadata);
    archive.append_data(&mut header, name, content.take(metadata.len()))
}
