//! A row of a ledger that is kept as text: in Redis's hash and in Kafka's topic, under the script's path.

use std::{collections::HashMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    ScriptError,
    files::Script,
    mode_from, mode_text,
    plan::{INTERRUPTED, Recorded, RecordedState},
};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    checksum: String,
    mode: String,
    state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    applied_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    duration_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rows: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The journal of a file that is applied in parts: the number of commands done, and the database selected then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    done: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    selected: Option<String>,
}

impl Row {
    pub(crate) fn applied(script: &Script, rows: Option<u64>, took: Duration) -> Self {
        let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        Self { applied_at: Some(now), duration_ms: Some(took.as_millis() as u64), rows, ..Self::of(script, "applied") }
    }

    pub(crate) fn running(script: &Script) -> Self {
        Self::of(script, "running")
    }

    /// With the journal of what is done.
    pub(crate) fn running_at(script: &Script, done: u64, selected: &str) -> Self {
        Self { done: Some(done), selected: Some(selected.to_owned()), ..Self::running(script) }
    }

    /// Where an interrupted file continues.
    pub(crate) fn journal(self, script: &Script) -> Option<(u64, String)> {
        (self.state == "running" && self.checksum == script.checksum).then_some((self.done?, self.selected.unwrap_or_default()))
    }

    /// An interrupted file with a journal must be applied, from where it stopped.
    pub(crate) fn resumable(self) -> Self {
        match self.done {
            Some(done) if self.state == "running" => {
                let error = format!("it was cut off after {done} commands, and goes on there");
                Self { state: "failed".to_owned(), error: Some(error), ..self }
            }
            _ => self,
        }
    }

    pub(crate) fn interrupted(script: &Script) -> Self {
        Self { error: Some(INTERRUPTED.to_owned()), ..Self::of(script, "interrupted") }
    }

    /// Interrupted by an error, which describes the result.
    pub(crate) fn interrupted_by(script: &Script, error: &ScriptError) -> Self {
        Self { error: Some(error.to_string()), ..Self::of(script, "interrupted") }
    }

    /// To be applied from its beginning, on request.
    pub(crate) fn forgotten(script: &Script) -> Self {
        Self::of(script, "failed")
    }

    pub(crate) fn failed(script: &Script, error: &ScriptError) -> Self {
        Self { error: Some(error.to_string()), ..Self::of(script, "failed") }
    }

    fn of(script: &Script, state: &str) -> Self {
        Self {
            checksum: script.checksum.clone(),
            mode: mode_text(script.mode).to_owned(),
            state: state.to_owned(),
            applied_at: None,
            duration_ms: None,
            rows: None,
            error: None,
            done: None,
            selected: None,
        }
    }

    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).expect("a row serializes to JSON")
    }
}

/// In the order of application.
pub(crate) fn recorded(rows: HashMap<String, Row>) -> Vec<Recorded> {
    let mut recorded: Vec<Recorded> = rows
        .into_iter()
        .map(|(path, row)| Recorded {
            path,
            checksum: row.checksum,
            mode: mode_from(&row.mode),
            state: match row.state.as_str() {
                "applied" => RecordedState::Applied,
                "failed" => RecordedState::Failed,
                "interrupted" => RecordedState::Interrupted,
                _ => RecordedState::Running,
            },
            applied_at: row.applied_at,
            duration_ms: row.duration_ms,
            rows: row.rows,
            error: row.error,
        })
        .collect();
    recorded.sort_by(|a, b| (&a.applied_at, &a.path).cmp(&(&b.applied_at, &b.path)));
    recorded
}
