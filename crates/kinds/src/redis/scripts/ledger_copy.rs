//! A copy of the ledger that the server never evicts: a function library, which is saved and copied with the
//! keys, but is not a key.
//!
//! It is kept if the server may evict any key (`allkeys-*`), and is used only if the ledger's key is missing but others exist:
//! a dataset without any key was flushed, and its ledger with it.

use std::collections::HashMap;

use ::redis::{RedisError, cmd};

use super::{LEDGER, Server};

/// The library, and its function that returns the copy.
const NAME: &str = "devenv_ledger";

/// Rows as text, by path.
pub(super) type Rows = HashMap<String, String>;

impl Server {
    pub(super) async fn rows(&mut self) -> Result<Rows, RedisError> {
        let rows: Rows = cmd("HGETALL").arg(LEDGER).query_async(&mut self.connection).await?;
        if !rows.is_empty() || !self.may_evict_anything().await? {
            return Ok(rows);
        }
        let spare = self.spare().await;
        if spare.is_empty() {
            return Ok(rows);
        }
        let keys: String = cmd("INFO").arg("keyspace").query_async(&mut self.connection).await?;
        if !keys.lines().any(|line| line.starts_with("db")) {
            cmd("FUNCTION").arg("DELETE").arg(NAME).query_async::<()>(&mut self.connection).await?;
            return Ok(rows);
        }
        tracing::info!(service = %self.service, "The ledger was evicted, and is restored from its copy.");
        let pairs: Vec<(&String, &String)> = spare.iter().collect();
        cmd("HSET").arg(LEDGER).arg(pairs).query_async::<()>(&mut self.connection).await?;
        Ok(spare)
    }

    /// Copies the current ledger. A server without functions (before 7) gets no copy.
    pub(super) async fn keep_spare(&mut self) {
        let kept = async {
            if !self.may_evict_anything().await? {
                return Ok(());
            }
            let mut rows = self.spare().await;
            rows.extend(cmd("HGETALL").arg(LEDGER).query_async::<Rows>(&mut self.connection).await?);
            cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(library(&rows)).query_async::<String>(&mut self.connection).await?;
            Ok::<_, RedisError>(())
        };
        if let Err(error) = kept.await {
            tracing::warn!(%error, service = %self.service, "The ledger has no copy, and can be evicted.");
        }
    }

    /// `None` if there is none.
    async fn spare(&mut self) -> Rows {
        let reply: Result<String, _> = cmd("FCALL").arg(NAME).arg(0).query_async(&mut self.connection).await;
        reply.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    async fn may_evict_anything(&mut self) -> Result<bool, RedisError> {
        let policy: Vec<String> = cmd("CONFIG").arg("GET").arg("maxmemory-policy").query_async(&mut self.connection).await?;
        Ok(policy.last().is_some_and(|policy| policy.starts_with("allkeys-")))
    }
}

/// Lua code that returns the rows, in brackets that do not occur in them.
fn library(rows: &Rows) -> String {
    let text = serde_json::to_string(rows).expect("a map of texts serializes to JSON");
    let level = (0..=text.len())
        .map(|count| "=".repeat(count))
        .find(|level| !text.contains(&format!("]{level}]")))
        .expect("text does not contain a longer text");
    format!(
        "#!lua name={NAME}\nredis.register_function{{function_name='{NAME}',flags={{'no-writes'}},callback=function() return [{level}[{text}]{level}] end}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_can_leave_its_brackets() {
        let rows = Rows::from([("a]].jsonl".to_owned(), "x]=]y".to_owned())]);
        let library = library(&rows);
        assert!(library.contains("return [==[{\"a]].jsonl\":\"x]=]y\"}]==] end"), "{library}");
    }
}
