//! Where sequences stand: a transaction that is taken back leaves them where it drove them, and a script that then runs again
//! would begin with other numbers.

use super::{Database, literal};
use crate::script::ScriptError;

/// Sequences by name, with what they gave out last and whether they gave it out.
pub(super) struct Sequences(Vec<(String, i64, bool)>);

const STATES: &str = r"
DO $do$
DECLARE found record; last bigint; called boolean;
BEGIN
    CREATE TEMP TABLE IF NOT EXISTS devenv_sequence (name text, last bigint, called boolean);
    TRUNCATE devenv_sequence;
    FOR found IN SELECT oid::regclass::text AS name FROM pg_class WHERE relkind = 'S' AND relpersistence <> 't' LOOP
        EXECUTE 'SELECT last_value, is_called FROM ' || found.name INTO last, called;
        INSERT INTO devenv_sequence VALUES (found.name, last, called);
    END LOOP;
END
$do$";

impl Database {
    pub(super) async fn sequences(&self) -> Result<Sequences, ScriptError> {
        let client = &self.superuser.client;
        let read = async {
            if client.query_one("SELECT NOT EXISTS (SELECT FROM pg_class WHERE relkind = 'S')", &[]).await?.get::<_, bool>(0) {
                return Ok(Vec::new());
            }
            client.batch_execute(STATES).await?;
            client.query("SELECT name, last, called FROM devenv_sequence", &[]).await
        };
        let rows = read.await.map_err(|error| self.broken(&error))?;
        Ok(Sequences(rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()))
    }

    /// Puts back what a script has moved that left nothing, unless somebody else is at work in the database.
    pub(super) async fn rewind(&self, before: &Sequences) -> Result<(), ScriptError> {
        const OTHERS: &str = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND application_name <> $1";
        if before.0.is_empty() {
            return Ok(());
        }
        let now = self.sequences().await?;
        let moved: Vec<String> = before
            .0
            .iter()
            .filter(|was| now.0.iter().any(|is| is.0 == was.0 && is != *was))
            .map(|(name, last, called)| format!("SELECT setval({}, {last}, {called});", literal(name)))
            .collect();
        if moved.is_empty() {
            return Ok(());
        }
        let client = &self.superuser.client;
        let alone = client.query_one(OTHERS, &[&super::FED]).await.map_err(|error| self.broken(&error))?.get::<_, i64>(0) == 0;
        if alone {
            client.batch_execute(&moved.concat()).await.map_err(|error| self.broken(&error))?;
        }
        Ok(())
    }
}
