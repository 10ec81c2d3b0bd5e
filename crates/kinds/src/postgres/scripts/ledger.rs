//! The tables and functions of the schema `devenv`, and the rows that are written outside of scripts.
//!
//! A script in one transaction begins with `devenv.start_script`, which inserts a row whose deferred trigger allows only the
//! commit after `devenv.finish_script`: a `COMMIT` in the script rolls the whole script back. A script outside
//! of a transaction records `running` before it begins, and `interrupted` if it ends half-way.

use devenv_api::LedgerMode;

use super::{Database, SUPERUSER, identifier, literal, server_message};
use crate::script::{
    Recorded, Script, ScriptContext, ScriptError, mode_from, mode_text,
    plan::{INTERRUPTED, RecordedState},
};

/// The functions raise this if a script ends the transaction that it runs in.
pub(super) const ENDED_TRANSACTION: &str = "DEV01";

const SCHEMA: &str = r"
SET client_min_messages = warning;
CREATE SCHEMA IF NOT EXISTS devenv;
COMMENT ON SCHEMA devenv IS 'Scripts that were applied here. Kept by devenv.';
CREATE TABLE IF NOT EXISTS devenv.ledger (
    path text PRIMARY KEY,
    checksum text NOT NULL,
    mode text NOT NULL,
    state text NOT NULL CHECK (state IN ('running', 'interrupted', 'applied', 'failed')),
    started_at timestamptz NOT NULL,
    applied_at timestamptz,
    duration_ms bigint,
    rows bigint,
    error text,
    batch text NOT NULL
);
CREATE TABLE IF NOT EXISTS devenv.claim (path text PRIMARY KEY, batch text NOT NULL);
ALTER TABLE devenv.claim ADD COLUMN IF NOT EXISTS checksum text NOT NULL DEFAULT '', ADD COLUMN IF NOT EXISTS mode text NOT NULL DEFAULT 'once';
CREATE TABLE IF NOT EXISTS devenv.attempt (batch text PRIMARY KEY);
DROP FUNCTION IF EXISTS devenv.record(text, text, text, text, bigint, text, text, boolean);
CREATE OR REPLACE FUNCTION devenv.forbid_commit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
BEGIN
    IF NOT EXISTS (SELECT FROM devenv.ledger AS known WHERE known.batch = NEW.batch AND known.state = 'applied') THEN
        RAISE EXCEPTION 'the script ends the transaction that it runs in' USING ERRCODE = 'DEV01';
    END IF;
    RETURN NULL;
END
$body$;
DO $do$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = 'devenv.attempt'::regclass AND tgname = 'forbid_commit') THEN
        CREATE CONSTRAINT TRIGGER forbid_commit AFTER INSERT ON devenv.attempt DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION devenv.forbid_commit();
        ALTER TABLE devenv.attempt ENABLE ALWAYS TRIGGER forbid_commit;
    END IF;
END
$do$;
CREATE OR REPLACE FUNCTION devenv.start_script(p_batch text) RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
    AS $body$ INSERT INTO devenv.attempt VALUES (p_batch) $body$;
CREATE OR REPLACE FUNCTION devenv.finish_script(p_batch text, p_rows bigint)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    claimed devenv.claim;
    counted bigint := p_rows;
    began timestamptz := transaction_timestamp();
BEGIN
    DELETE FROM devenv.attempt WHERE batch = p_batch;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the script has ended the transaction that it runs in' USING ERRCODE = 'DEV01';
    END IF;
    -- An attempt whose process was killed may come late. To commit a script, a session must own its claim; the row lock
    -- makes the next claim wait for this commit.
    SELECT held.* INTO claimed FROM devenv.claim AS held WHERE held.batch = p_batch FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'a later run has taken over the script' USING ERRCODE = '55006';
    END IF;
    IF counted IS NULL THEN
        SELECT sum(n_tup_ins) INTO counted FROM pg_stat_xact_user_tables WHERE schemaname <> 'devenv';
    END IF;
    INSERT INTO devenv.ledger AS known (path, checksum, mode, state, started_at, applied_at, duration_ms, rows, error, batch)
    VALUES (claimed.path, claimed.checksum, claimed.mode, 'applied', began, clock_timestamp(),
            extract(epoch FROM clock_timestamp() - began) * 1000, counted, NULL, p_batch)
    ON CONFLICT (path) DO UPDATE SET checksum = excluded.checksum, mode = excluded.mode, state = excluded.state,
        started_at = excluded.started_at, applied_at = excluded.applied_at, duration_ms = excluded.duration_ms,
        rows = excluded.rows, error = excluded.error, batch = excluded.batch;
END
$body$;
CREATE OR REPLACE FUNCTION devenv.record_state(p_path text, p_checksum text, p_mode text, p_state text, p_error text, p_batch text)
RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
DECLARE
    began timestamptz;
    ended text := p_state;
BEGIN
    -- Nobody has written anything since the script said that it runs: it has left nothing.
    IF p_state = 'interrupted' AND EXISTS (
        SELECT FROM devenv.ledger AS known WHERE known.path = p_path AND known.batch = p_batch AND known.state = 'running'
        AND (known.xmin::text::bigint + 1) % 4294967296 = pg_snapshot_xmax(pg_current_snapshot())::text::bigint % 4294967296)
    THEN
        ended := 'failed';
    END IF;
    -- To begin a script, a session must own its claim. What has begun may always say how it ended.
    PERFORM FROM devenv.claim AS held WHERE held.path = p_path AND held.batch = p_batch FOR UPDATE;
    IF NOT FOUND AND (p_state = 'running' OR NOT EXISTS (
        SELECT FROM devenv.ledger AS known WHERE known.path = p_path AND known.batch = p_batch)) THEN
        RAISE EXCEPTION 'a later run has taken over the script' USING ERRCODE = '55006';
    END IF;
    SELECT started_at INTO began FROM devenv.ledger AS known WHERE known.path = p_path AND known.batch = p_batch;
    began := coalesce(began, clock_timestamp());
    INSERT INTO devenv.ledger AS known (path, checksum, mode, state, started_at, applied_at, duration_ms, rows, error, batch)
    VALUES (p_path, p_checksum, p_mode, ended, began,
            CASE WHEN ended = 'applied' THEN clock_timestamp() END,
            CASE WHEN ended <> 'running' THEN extract(epoch FROM clock_timestamp() - began) * 1000 END, NULL, p_error, p_batch)
    ON CONFLICT (path) DO UPDATE SET checksum = excluded.checksum, mode = excluded.mode, state = excluded.state,
        started_at = excluded.started_at, applied_at = excluded.applied_at, duration_ms = excluded.duration_ms,
        rows = excluded.rows, error = excluded.error, batch = excluded.batch;
END
$body$;
REVOKE ALL ON SCHEMA devenv FROM PUBLIC;
REVOKE ALL ON FUNCTION devenv.start_script, devenv.finish_script, devenv.record_state, devenv.forbid_commit FROM PUBLIC;
";

/// How one attempt at a script is recorded.
pub(super) struct Mark<'a> {
    pub(super) script: &'a Script,
    /// Unique to this attempt.
    pub(super) batch: String,
}

impl<'a> Mark<'a> {
    pub(super) fn new(script: &'a Script) -> Self {
        Self { script, batch: format!("{:032x}", rand::random::<u128>()) }
    }

    /// Begins the transaction of a script. If a script that ends that transaction continues, it cannot write anything.
    pub(super) fn start(&self) -> String {
        format!("SELECT devenv.start_script('{}')", self.batch)
    }

    /// Plain ASCII, whatever the script has done to the session's encoding and quotes.
    pub(super) fn finish(&self, rows: Option<u64>) -> String {
        format!("SELECT devenv.finish_script('{}', {})", self.batch, rows.map_or("NULL".to_owned(), |rows| rows.to_string()))
    }

    /// For a script outside of a transaction, in a session that the script has not used.
    pub(super) fn state(&self, state: &str, error: Option<&str>) -> String {
        format!(
            "SELECT devenv.record_state({}, {}, {}, {}, {}, {});",
            literal(&self.script.path),
            literal(&self.script.checksum),
            literal(mode_text(self.script.mode)),
            literal(state),
            error.map_or("NULL".to_owned(), literal),
            literal(&self.batch)
        )
    }
}

impl Database {
    pub(super) async fn provide(&self) -> Result<(), ScriptError> {
        let mut setup = SCHEMA.to_owned();
        if self.role != SUPERUSER {
            let role = identifier(&self.role);
            let grants = format!(
                "GRANT USAGE ON SCHEMA devenv TO {role}; GRANT SELECT ON devenv.ledger TO {role}; \
                 GRANT EXECUTE ON FUNCTION devenv.start_script, devenv.finish_script, devenv.record_state TO {role};"
            );
            setup.push_str(&grants);
        }
        self.superuser.client.batch_execute(&setup).await.map_err(|error| self.broken(&error))
    }

    pub(super) async fn is_running(&self) -> Result<bool, ScriptError> {
        let row = self
            .superuser
            .client
            .query_one("SELECT count(*) FROM devenv.ledger WHERE state = 'running'", &[])
            .await
            .map_err(|error| self.broken(&error))?;
        Ok(row.get::<_, i64>(0) > 0)
    }

    pub(super) async fn recorded(&mut self) -> Result<Vec<Recorded>, ScriptError> {
        const ALL: &str = r#"SELECT path, checksum, mode, state, to_char(applied_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), duration_ms, rows, error
            FROM devenv.ledger ORDER BY started_at, path"#;
        let there = "SELECT to_regclass('devenv.ledger') IS NOT NULL";
        if !self.superuser.client.query_one(there, &[]).await.map_err(|error| self.broken(&error))?.get::<_, bool>(0) {
            return Ok(Vec::new());
        }
        let rows = self.superuser.client.query(ALL, &[]).await.map_err(|error| self.broken(&error))?;
        Ok(rows
            .iter()
            .map(|row| Recorded {
                path: row.get(0),
                checksum: row.get(1),
                mode: mode_from(row.get(2)),
                state: state_from(row.get(3)),
                applied_at: row.get(4),
                duration_ms: row.get::<_, Option<i64>>(5).map(|value| value as u64),
                rows: row.get::<_, Option<i64>>(6).map(|value| value as u64),
                error: row.get(7),
            })
            .collect())
    }

    /// Whether a late attempt has finished it in the meantime.
    pub(super) async fn claim(&mut self, mark: &Mark<'_>, cx: &ScriptContext<'_>) -> Result<bool, ScriptError> {
        const CLAIM: &str = "INSERT INTO devenv.claim (path, batch, checksum, mode) VALUES ($1, $2, $3, $4)
            ON CONFLICT (path) DO UPDATE SET batch = excluded.batch, checksum = excluded.checksum, mode = excluded.mode";
        let script = mark.script;
        let claimed = self.superuser.client.execute(CLAIM, &[&script.path, &mark.batch, &script.checksum, &mode_text(script.mode)]).await;
        claimed.map_err(|error| self.broken(&error))?;
        let find = |found: Vec<Recorded>| found.into_iter().find(|found| found.path == script.path && found.checksum == script.checksum);
        let mut found = find(self.recorded().await?);
        if found.as_ref().is_some_and(|found| found.state == RecordedState::Running) {
            self.settle(cx).await?;
            found = find(self.recorded().await?);
        }
        match found.map(|found| found.state) {
            Some(RecordedState::Running) => {
                self.interrupted(script).await?;
                Err(ScriptError::of(&script.path, INTERRUPTED))
            }
            Some(RecordedState::Applied) => Ok(script.mode != LedgerMode::Always),
            Some(RecordedState::Failed | RecordedState::Interrupted) | None => Ok(false),
        }
    }

    pub(super) async fn interrupted(&self, script: &Script) -> Result<(), ScriptError> {
        const CUT_OFF: &str = "UPDATE devenv.ledger SET state = 'interrupted', error = $2 WHERE path = $1 AND state = 'running'";
        self.superuser.client.execute(CUT_OFF, &[&script.path, &INTERRUPTED]).await.map_err(|error| self.broken(&error))?;
        Ok(())
    }

    /// Makes an interrupted script pending again.
    pub(super) async fn forget(&self, script: &Script) -> Result<(), ScriptError> {
        const FORGET: &str = "UPDATE devenv.ledger SET state = 'failed' WHERE path = $1 AND state IN ('running', 'interrupted', 'applied')";
        self.superuser.client.execute(FORGET, &[&script.path]).await.map_err(|error| self.broken(&error))?;
        Ok(())
    }

    /// The record of this attempt.
    pub(super) async fn state_of(&self, mark: &Mark<'_>) -> Result<Option<RecordedState>, ScriptError> {
        const FIND: &str = "SELECT state FROM devenv.ledger WHERE path = $1 AND batch = $2";
        let found = self.superuser.client.query_opt(FIND, &[&mark.script.path, &mark.batch]).await;
        Ok(found.map_err(|error| self.broken(&error))?.map(|row| state_from(row.get(0))))
    }

    /// Records the failure of an attempt. One that ran outside of a transaction keeps its own record.
    pub(super) async fn failed(&self, mark: &Mark<'_>, mut error: ScriptError) -> Result<(), ScriptError> {
        const TELL: &str = "UPDATE devenv.ledger SET error = $3, state = CASE state WHEN 'running' THEN 'interrupted' ELSE state END
            WHERE path = $1 AND batch = $2 RETURNING state";
        error.message = error.message.replace(&self.password, "********");
        let client = &self.superuser.client;
        let text = error.to_string();
        let recorded = async {
            let told = client.query_opt(TELL, &[&mark.script.path, &mark.batch, &text]).await?;
            match told {
                Some(row) => Ok(state_from(row.get(0))),
                None => client.batch_execute(&mark.state("failed", Some(&text))).await.map(|()| RecordedState::Failed),
            }
        };
        match recorded.await {
            Ok(RecordedState::Interrupted) => {
                let ways = crate::script::ways_on(&self.service, &mark.script.path);
                error.hint = Some(error.hint.map_or(ways.clone(), |hint| format!("{hint}; {ways}")));
            }
            Ok(_) => {}
            Err(unrecorded) => {
                tracing::warn!(service = %self.service, path = %mark.script.path, error = %server_message(&unrecorded), "Cannot record the failure of a script.");
            }
        }
        Err(error)
    }

    pub(super) async fn accept(&mut self, script: &Script) -> Result<(), ScriptError> {
        const ACCEPT: &str = "INSERT INTO devenv.ledger AS known (path, checksum, mode, state, started_at, applied_at, batch) VALUES ($1, $2, $3, 'applied', clock_timestamp(), clock_timestamp(), '')
            ON CONFLICT (path) DO UPDATE SET checksum = excluded.checksum, mode = excluded.mode, state = 'applied', error = NULL, applied_at = coalesce(known.applied_at, excluded.applied_at)";
        self.provide().await?;
        self.superuser
            .client
            .execute(ACCEPT, &[&script.path, &script.checksum, &mode_text(script.mode)])
            .await
            .map_err(|error| self.broken(&error))?;
        Ok(())
    }

    /// The settings of a new session of the script's role, as far as psql's parsing depends on them.
    pub(super) async fn begins_with(&self) -> Result<super::scan::Session, ScriptError> {
        const FIND: &str = "SELECT coalesce((
                SELECT split_part(line, '=', 2) FROM pg_db_role_setting AS held, unnest(held.setconfig) AS line
                WHERE line LIKE 'standard_conforming_strings=%' AND held.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
                AND (held.setrole = 0 OR held.setrole = (SELECT oid FROM pg_roles WHERE rolname = $1))
                ORDER BY held.setrole <> 0 AND held.setdatabase <> 0 DESC, held.setrole <> 0 DESC LIMIT 1),
            (SELECT reset_val FROM pg_settings WHERE name = 'standard_conforming_strings'))";
        let found = self.superuser.client.query_one(FIND, &[&self.role]).await.map_err(|error| self.broken(&error))?;
        let standard_strings = found.get::<_, Option<String>>(0).is_none_or(|value| super::scan::is_on(&value));
        Ok(super::scan::Session { standard_strings, ..super::scan::Session::default() })
    }
}

fn state_from(text: &str) -> RecordedState {
    match text {
        "applied" => RecordedState::Applied,
        "failed" => RecordedState::Failed,
        "interrupted" => RecordedState::Interrupted,
        _ => RecordedState::Running,
    }
}
