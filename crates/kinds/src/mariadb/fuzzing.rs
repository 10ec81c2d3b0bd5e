//! The doors for `fuzz/`, which alone builds with this: a CSV file, and what the client says of a script.

use super::{
    csv::{Table, candidates, read, statement},
    scripts::{explained, is_first_statement},
};
use crate::script::Script;

/// A CSV file, up to the statements that are sent.
pub fn csv(script: &Script) {
    let mut columns: Option<Vec<String>> = None;
    read(script, |batch| {
        let Ok(batch) = batch else { return false };
        match &columns {
            None => columns = batch.first().map(|(_, fields)| fields.iter().flatten().cloned().collect()),
            Some(columns) => {
                let table = Table { name: "t".to_owned(), booleans: vec![true; columns.len()] };
                let fitting: Vec<_> = batch.into_iter().filter(|(_, fields)| fields.len() == columns.len()).collect();
                let _ = statement(&table, columns, &fitting);
            }
        }
        true
    });
}

/// A script, and what the client says of it.
pub fn script(script: &Script, said: &str) {
    let error = explained(script, 1, said);
    let _ = is_first_statement(script, error.line.unwrap_or(3));
    let _ = candidates(said);
}
