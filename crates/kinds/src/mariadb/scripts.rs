//! Applying scripts and data sets, each recorded in the [`ledger`].
//!
//! The `mariadb` client inside the container runs `.sql`, because it understands `DELIMITER`. MariaDB commits at
//! each statement that changes a schema, so a script is first copied into the container as a whole; a small shell there
//! marks it as running, runs it and records how it ended, even without a client. A CSV file and its row
//! are one transaction ([`super::csv`]).

use std::{
    io::{BufRead, BufReader},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use devenv_api::LedgerMode;
use devenv_engine::{ExecOutput, ExecRequest};
use devenv_spec::{OfKind, ScriptPlace};
use mysql_async::Error;

use super::{
    MariadbKind, csv,
    fields::SUPERUSER,
    ledger::{self, Mark},
    provision::superuser,
    session::{Session, reason},
    spec::MariadbTarget,
};
use crate::{
    capability::{ScriptStore, Scripts},
    script::{Progress, Recorded, Script, ScriptContext, ScriptError, ScriptFormat, plan::RecordedState, source, staged, ways_on},
};

const SQL: ScriptFormat = ScriptFormat("sql");
const CSV: ScriptFormat = ScriptFormat("csv");

const CUT_OFF: i64 = 99;
/// The script did not reach its last line, and the client printed no error.
const UNFINISHED: i64 = 98;
const ADVICE_AFTER: Duration = Duration::from_mins(10);
/// The container's client prints this before an error's number.
const ERROR: &str = "ERROR ";

/// Takes the script from its input, whole or not at all: its last line is `$1`. The first line keeps the client from running
/// commands of the shell; older clients take it for a comment. So the client of an owner's script runs as a system user that has
/// nothing in the container, and reads its own login alone.
const STAGE: &str = r#"set -eu
umask 077
d=$(mktemp -d /tmp/devenv.XXXXXX)
trap 'rm -rf "$d"' EXIT
printf '%s\n' '/*M!999999\- enable the sandbox mode */' > "$d/script"
cat >> "$d/script"
tail -n 1 "$d/script" | grep -qF "$1" || exit 99
login() { printf '[client]\nprotocol=tcp\nhost=127.0.0.1\nuser="%s"\npassword="%s"\n%s\n' "$1" "$2" "$DEVENV_TLS"; }
login root "$DEVENV_ROOT" > "$d/root.cnf"
login "$DEVENV_USER" "$DEVENV_PASSWORD" > "$d/own.cnf"
unset DEVENV_ROOT DEVENV_PASSWORD
admin() { mariadb --defaults-file="$d/root.cnf" --execute "$1"; }
admin "$DEVENV_BEGIN"
code=0
if [ "$DEVENV_USER" = root ]; then client=; else
  client='setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs'
  chmod 711 "$d"
  chown 65534 "$d/own.cnf"
fi
$client mariadb --defaults-file="$d/own.cnf" --batch --default-character-set=utf8mb4 "$DEVENV_DATABASE" < "$d/script" > "$d/out" || code=$?
if [ "$code" = 0 ] && ! tail -n 1 "$d/out" | grep -qF "$1"; then code=98; fi
if [ "$code" = 0 ]; then admin "$DEVENV_DONE"; else admin "$DEVENV_FAILED" || true; fi
exit "$code"
"#;

#[async_trait]
impl Scripts for MariadbKind {
    fn format(&self, name: &str, _packed: bool) -> Option<ScriptFormat> {
        [(".sql", SQL), (".csv", CSV)].iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, format)| *format)
    }

    fn endings(&self) -> &'static str {
        "`.sql` and `.csv`, both also `.gz`, `.xz`, `.zst`"
    }

    async fn open(
        &self,
        service: &str,
        target: &OfKind,
        place: &ScriptPlace,
        cx: &ScriptContext<'_>,
    ) -> Result<Box<dyn ScriptStore>, ScriptError> {
        let fail = |message: String| ScriptError::of(service, message);
        let target: MariadbTarget = target.decode().map_err(|error| fail(error.to_string()))?;
        let ScriptPlace::Database { name, role, password } = place else {
            return Err(fail("MariaDB scripts need a database".to_owned()));
        };
        let reveal = |secret| cx.vault.reveal(secret).map_err(|error| fail(error.to_string()));
        let login = superuser(&target, cx.vault, cx.authority.map(Into::into), Some(name)).map_err(|error| fail(error.to_string()))?;
        let session = login.open().await.map_err(|error| fail(reason(&error)))?;
        Ok(Box::new(Database {
            service: service.to_owned(),
            name: name.clone(),
            role: role.clone(),
            password: reveal(password)?,
            root: reveal(&target.superuser)?,
            tls: target.tls,
            session,
        }))
    }
}

/// Why a script was not applied, and whether a part of it was.
struct Failure {
    error: ScriptError,
    partly: bool,
}

impl Failure {
    /// It had no effect.
    fn whole(error: ScriptError) -> Self {
        Self { error, partly: false }
    }

    fn partly(error: ScriptError) -> Self {
        Self { error, partly: true }
    }
}

/// One database with its rows of the ledger, open as the superuser.
pub(super) struct Database {
    service: String,
    pub(super) name: String,
    role: String,
    password: String,
    root: String,
    tls: bool,
    pub(super) session: Session,
}

#[async_trait]
impl ScriptStore for Database {
    async fn recorded(&mut self) -> Result<Vec<Recorded>, ScriptError> {
        ledger::recorded(&mut self.session, &self.name).await.map_err(|error| self.broken(&error))
    }

    async fn settle(&mut self, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
        ledger::provide(&mut self.session).await.map_err(|error| self.broken(&error))?;
        let began = std::time::Instant::now();
        while self.is_running().await? && staged::is_alive(cx).await? {
            if began.elapsed() > ADVICE_AFTER {
                return Err(ScriptError::of(&self.service, "a script of an earlier run is still running after ten minutes"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    async fn interrupted(&mut self, script: &Script) -> Result<(), ScriptError> {
        let statement = Mark::new(&self.name, script).interrupted();
        self.run(&statement).await
    }

    async fn apply(&mut self, script: &Script, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
        let name = self.name.clone();
        let mark = Mark::new(&name, script);
        let result = match script.format {
            CSV => csv::load(self, &mark, cx).await.map_err(Failure::whole),
            SQL => self.sql(&mark, cx).await,
            ScriptFormat(other) => {
                Err(Failure::whole(ScriptError::of(&script.path, format!("MariaDB does not support scripts of the format `{other}`"))))
            }
        };
        let Err(Failure { mut error, partly }) = result else { return Ok(()) };
        for secret in [&self.password, &self.root] {
            error.message = error.message.replace(secret.as_str(), "********");
        }
        let text = error.to_string();
        if partly {
            let ways = ways_on(&self.service, &script.path);
            error.hint = Some(error.hint.map_or(ways.clone(), |hint| format!("{hint}; {ways}")));
        }
        let record = if partly { mark.ended(Some(&text)) } else { mark.failed(&text) };
        if let Err(unrecorded) = self.session.run(&record).await {
            tracing::warn!(service = %self.service, path = %script.path, error = %reason(&unrecorded), "Cannot record the failure of a script.");
        }
        Err(error)
    }

    async fn forget(&mut self, script: &Script) -> Result<(), ScriptError> {
        let statement = Mark::new(&self.name, script).forgotten();
        self.run(&statement).await
    }

    async fn accept(&mut self, script: &Script) -> Result<(), ScriptError> {
        ledger::provide(&mut self.session).await.map_err(|error| self.broken(&error))?;
        let statement = Mark::new(&self.name, script).accepted();
        self.run(&statement).await
    }

    async fn close(self: Box<Self>) {
        self.session.close().await;
    }
}

impl Database {
    async fn is_running(&mut self) -> Result<bool, ScriptError> {
        Ok(self.recorded().await?.iter().any(|found| found.state == RecordedState::Running))
    }

    async fn run(&mut self, statement: &str) -> Result<(), ScriptError> {
        self.session.run(statement).await.map_err(|error| self.broken(&error))
    }

    pub(super) fn broken(&self, error: &Error) -> ScriptError {
        ScriptError::of(&format!("{}/{}", self.service, self.name), reason(error))
    }

    async fn sql(&mut self, mark: &Mark<'_>, cx: &ScriptContext<'_>) -> Result<(), Failure> {
        let script = mark.script;
        // The client runs the rest without a delimiter before it changes the delimiter; inside open quotes this is text.
        let done = format!("SELECT 'devenv {}' AS done;", mark.batch);
        let trailer = format!("\nDELIMITER ;\n{done}\n");
        let command = vec!["sh".to_owned(), "-c".to_owned(), STAGE.to_owned(), staged::NAME.to_owned(), format!("devenv {}", mark.batch)];
        let environment = [
            ("DEVENV_ROOT", self.root.as_str()),
            ("DEVENV_USER", &self.role),
            ("DEVENV_PASSWORD", if self.role == SUPERUSER { &self.root } else { &self.password }),
            ("DEVENV_DATABASE", &self.name),
            ("DEVENV_TLS", client_tls(self.tls)),
            ("DEVENV_BEGIN", &mark.running()),
            ("DEVENV_DONE", &mark.ended(None)),
            ("DEVENV_FAILED", &mark.ended(Some("it failed while no client was connected"))),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
        let flow = source::flow(script, Vec::new(), Bytes::from(trailer));
        let meter = flow.meter.clone();
        let input = Some(Arc::new(Mutex::new(Some(flow.into_reader()))));
        let request = ExecRequest { command, environment, input, ..ExecRequest::default() };
        // Whatever interrupts it from here on, a part of the script may be applied.
        let output = followed(request, || meter.bytes(), script, cx).await.map_err(Failure::partly)?;
        if let Some(failure) = meter.failure() {
            return Err(Failure::whole(ScriptError::of(&script.path, format!("cannot be read: {failure}"))));
        }
        match output.code {
            0 => Ok(()),
            CUT_OFF => Err(Failure::whole(ScriptError::of(&script.path, "the container received it only in part"))),
            UNFINISHED => Err(Failure::partly(
                ScriptError::of(&script.path, "it ended before its last line").hint("check for an unterminated quote or comment"),
            )),
            code => {
                let error = explained(script, code, &String::from_utf8_lossy(&output.stderr));
                let reading = (script.clone(), error.line);
                let first = tokio::task::spawn_blocking(move || reading.1.is_some_and(|line| is_first_statement(&reading.0, line)));
                Err(if first.await.unwrap_or(false) { Failure::whole(error) } else { Failure::partly(error) })
            }
        }
    }

    /// Whether a script that is applied again first deletes the rows that it inserted.
    pub(super) fn is_again(mode: LedgerMode) -> bool {
        mode != LedgerMode::Once
    }
}

/// The container's client reaches the server on the loopback, whose name it cannot verify in the certificate.
pub(super) fn client_tls(tls: bool) -> &'static str {
    if tls { "ssl\nskip-ssl-verify-server-cert" } else { "skip-ssl" }
}

async fn followed(
    request: ExecRequest,
    bytes: impl Fn() -> u64,
    script: &Script,
    cx: &ScriptContext<'_>,
) -> Result<ExecOutput, ScriptError> {
    let mut running = std::pin::pin!(cx.engine.exec(cx.container, request));
    let mut report = tokio::time::interval(Duration::from_millis(200));
    let progress = |bytes| (cx.progress)(Progress { path: &script.path, rows: 0, bytes, total_bytes: script.size });
    loop {
        // Both branches are cancel-safe: the exec is pinned outside of the loop, and a tick that is lost is not missed.
        tokio::select! {
            output = &mut running => {
                progress(script.size);
                return output.map_err(|error| ScriptError::of(&script.path, error.to_string()));
            }
            _ = report.tick() => progress(bytes()),
        }
    }
}

/// Whether only comments come before a line: then the failed statement was the first.
pub(super) fn is_first_statement(script: &Script, line: u64) -> bool {
    let Ok(input) = source::open(script) else { return false };
    let before = BufReader::new(input).lines().take(line.saturating_sub(1) as usize);
    before.map_while(Result::ok).all(|line| {
        let line = line.trim().to_owned();
        line.is_empty()
            || line.starts_with('#')
            || line.starts_with("--")
            || line.starts_with("/*") && !line.starts_with("/*!") && line.ends_with("*/")
    })
}

/// The client's message: `ERROR 1064 (42000) at line 3: You have…`. Its first line is ours.
pub(super) fn explained(script: &Script, code: i64, said: &str) -> ScriptError {
    let Some(error) = said.lines().find(|line| line.starts_with(ERROR)) else {
        let last = said.lines().rev().find(|line| !line.trim().is_empty());
        return ScriptError::of(
            &script.path,
            last.map_or_else(|| format!("the client exited with {code} without an error message"), str::to_owned),
        );
    };
    let (place, message) = error.split_once(": ").unwrap_or(("", error));
    let line = place.rsplit_once(" at line ").and_then(|(_, line)| line.parse::<u64>().ok()).map(|line| line.saturating_sub(1).max(1));
    ScriptError::of(&script.path, message)
        .at(line)
        .hint("MariaDB commits at each schema change, so the statements before that line stay applied")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::files::Content;

    #[test]
    fn an_error_of_the_client_is_reported_at_the_line_of_the_file() {
        let script = Script {
            path: "init/01.sql".into(),
            content: Content::Shipped(b""),
            format: SQL,
            mode: LedgerMode::Once,
            checksum: String::new(),
            seed: false,
            size: 0,
            only_up: false,
        };
        let error = explained(&script, 1, "ERROR 1064 (42000) at line 4: You have an error: near 'x' at line 1\n");
        assert_eq!(error.to_string(), "init/01.sql:3: You have an error: near 'x' at line 1");
        assert_eq!(explained(&script, 1, "Killed\n").to_string(), "init/01.sql: Killed");
        assert_eq!(explained(&script, 137, "").to_string(), "init/01.sql: the client exited with 137 without an error message");
    }
}
