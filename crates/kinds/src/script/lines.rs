//! Data sets with one entry per line, for any server.

use std::io::{BufRead, BufReader};

use serde_json::Value;

use super::{Script, ScriptError, source};

/// Calls `with` for every line that is not empty, with its number.
pub(crate) fn lines(script: &Script, mut with: impl FnMut(u64, &str) -> Result<(), ScriptError>) -> Result<(), ScriptError> {
    let fail = |error: std::io::Error, line| ScriptError::of(&script.path, format!("cannot be read: {error}")).at(line);
    let input = BufReader::with_capacity(256 * 1024, source::open(script).map_err(|error| fail(error, None))?);
    for (number, line) in (1..).zip(input.lines()) {
        let line = line.map_err(|error| fail(error, Some(number)))?;
        if !line.trim().is_empty() {
            with(number, line.trim_start_matches('\u{feff}'))?;
        }
    }
    Ok(())
}

/// Text as it is, anything else as compact JSON.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
