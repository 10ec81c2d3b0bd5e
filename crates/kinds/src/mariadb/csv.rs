//! A `.csv` with a header: inserted into the table of the same name, in one transaction with its row of the ledger.
//!
//! devenv reads the file itself, because `LOAD DATA` changes bad values with only a warning when a client sends the
//! file. A field that is empty and not quoted is NULL.

use std::{
    io::{BufRead, BufReader},
    time::Instant,
};

use super::{
    ledger::Mark,
    scripts::Database,
    session::{identifier, literal, reason},
};
use crate::script::{Progress, Script, ScriptContext, ScriptError, source};

/// The size of one statement, in bytes: far below the server's packet limit.
const ROWS: usize = 1000;
const BYTES: usize = 1 << 20;

/// One field: `None` is NULL.
pub(super) type Field = Option<String>;

/// Rows that are sent together, each with its line.
pub(super) type Batch = Vec<(u64, Vec<Field>)>;

/// A table to fill.
pub(super) struct Table {
    pub(super) name: String,
    /// For the columns in the file's order: whether it is a boolean, which the server stores as a small number.
    pub(super) booleans: Vec<bool>,
}

pub(super) async fn load(database: &mut Database, mark: &Mark<'_>, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
    let began = Instant::now();
    let script = mark.script;
    let fail = |message: String| ScriptError::of(&script.path, message);
    let (sender, mut batches) = tokio::sync::mpsc::channel::<Result<Batch, ScriptError>>(2);
    let reading = script.clone();
    let reader = tokio::task::spawn_blocking(move || read(&reading, |batch| sender.blocking_send(batch).is_ok()));
    let mut columns = None;
    let mut rows = 0;
    let mut table = None;
    let filled = async {
        while let Some(batch) = batches.recv().await {
            let mut batch = batch?;
            if columns.is_none() {
                let (line, header) = batch.remove(0);
                let names: Vec<String> = header.into_iter().map(|name| name.unwrap_or_default().trim().to_owned()).collect();
                if names.iter().any(String::is_empty) {
                    return Err(fail("the header has an empty column name".to_owned())
                        .at(line)
                        .hint("the first line must list the table's columns, separated by commas"));
                }
                table = Some(find_table(database, script, &names).await?);
                database.session.run("START TRANSACTION").await.map_err(|error| fail(reason(&error)))?;
                if let Some(table) = table.as_ref().filter(|_| Database::is_again(script.mode)) {
                    let clear = format!("DELETE FROM {}", identifier(&table.name));
                    database.session.run(&clear).await.map_err(|error| fail(reason(&error)))?;
                }
                columns = Some(names);
            }
            let (Some(table), Some(columns)) = (&table, &columns) else { continue };
            insert(database, script, table, columns, &batch).await?;
            rows += batch.len() as u64;
            (cx.progress)(Progress { path: &script.path, rows, bytes: 0, total_bytes: script.size });
        }
        if columns.is_none() {
            return Err(fail("it has no header".to_owned()).at(1));
        }
        let done = mark.applied(rows, began.elapsed().as_millis());
        database.session.run_all(&[done, "COMMIT".to_owned()]).await.map_err(|error| fail(reason(&error)))
    };
    let filled = filled.await;
    drop(batches);
    reader.await.map_err(|error| fail(error.to_string()))?;
    if filled.is_err() {
        database.session.run("ROLLBACK").await.ok();
    }
    filled
}

async fn insert(database: &mut Database, script: &Script, table: &Table, columns: &[String], batch: &Batch) -> Result<(), ScriptError> {
    if batch.is_empty() {
        return Ok(());
    }
    if let Some((line, fields)) = batch.iter().find(|(_, fields)| fields.len() != columns.len()) {
        let message = format!("{} fields where the header names {}", fields.len(), columns.len());
        return Err(ScriptError::of(&script.path, message).at(*line));
    }
    let Err(error) = database.session.run(&statement(table, columns, batch)).await else { return Ok(()) };
    // The statement was rolled back; inserting the rows one by one finds the bad one, and everything is rolled back anyway.
    for row in batch {
        if let Err(error) = database.session.run(&statement(table, columns, std::slice::from_ref(row))).await {
            return Err(ScriptError::of(&script.path, reason(&error)).at(row.0));
        }
    }
    Err(ScriptError::of(&script.path, reason(&error)))
}

pub(super) fn statement(table: &Table, columns: &[String], rows: &[(u64, Vec<Field>)]) -> String {
    let names: Vec<String> = columns.iter().map(|column| identifier(column)).collect();
    let rows: Vec<String> = rows
        .iter()
        .map(|(_, fields)| {
            let values: Vec<String> =
                fields.iter().zip(&table.booleans).map(|(field, boolean)| value(field.as_deref(), *boolean)).collect();
            format!("({})", values.join(","))
        })
        .collect();
    format!("INSERT INTO {} ({}) VALUES {}", identifier(&table.name), names.join(","), rows.join(","))
}

fn value(field: Option<&str>, boolean: bool) -> String {
    match field {
        None => "NULL".to_owned(),
        Some(text) if boolean && ["true", "t"].iter().any(|word| text.eq_ignore_ascii_case(word)) => "1".to_owned(),
        Some(text) if boolean && ["false", "f"].iter().any(|word| text.eq_ignore_ascii_case(word)) => "0".to_owned(),
        Some(text) => literal(text),
    }
}

async fn find_table(database: &mut Database, script: &Script, columns: &[String]) -> Result<Table, ScriptError> {
    let names = candidates(&script.path);
    for name in &names {
        let query = format!(
            "SELECT COLUMN_NAME, COLUMN_TYPE FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {}",
            literal(&database.name),
            literal(name)
        );
        let found = database.session.rows(&query).await.map_err(|error| database.broken(&error))?;
        if found.is_empty() {
            continue;
        }
        let kind = |column: &String| {
            found.iter().find(|row| row[0].as_ref().is_some_and(|known| known.eq_ignore_ascii_case(column))).map(|row| row[1].as_deref())
        };
        if let Some(unknown) = columns.iter().find(|column| kind(column).is_none()) {
            return Err(ScriptError::of(&script.path, format!("the table `{name}` has no column `{unknown}`")).at(1));
        }
        let booleans = columns.iter().map(|column| kind(column).flatten() == Some("tinyint(1)")).collect();
        return Ok(Table { name: name.clone(), booleans });
    }
    let table = names.last().map_or("", String::as_str);
    Err(ScriptError::of(&script.path, format!("table `{table}` does not exist"))
        .hint("a `.csv` file fills the table it is named after; create the table in an init script"))
}

/// `item.csv` fills `item`; `01-item.csv` fills `item` if there is no table `01-item`.
pub(super) fn candidates(path: &str) -> Vec<String> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let stem = name.split_once(".csv").map_or(name, |(stem, _)| stem);
    let bare = stem.trim_start_matches(|c: char| c.is_ascii_digit());
    let bare = if bare.len() < stem.len() { bare.strip_prefix(['-', '_']).unwrap_or(stem) } else { stem };
    let mut names = vec![stem.to_owned(), bare.to_owned()];
    names.dedup();
    names
}

/// Passes the records to `take` in batches, the header alone first; ends when `take` wants no more.
pub(super) fn read(script: &Script, mut take: impl FnMut(Result<Batch, ScriptError>) -> bool) {
    let fail = |message: String, line: u64| ScriptError::of(&script.path, message).at(line);
    let mut input = match source::open(script) {
        Ok(input) => BufReader::with_capacity(256 * 1024, input),
        Err(error) => {
            take(Err(fail(format!("cannot be read: {error}"), 1)));
            return;
        }
    };
    let (mut batch, mut size, mut is_header, mut line) = (Batch::new(), 0, true, 0);
    let mut text = String::new();
    loop {
        let began = line + 1;
        text.clear();
        // A record ends with a line's end that is not in quotes.
        loop {
            let before = text.len();
            match input.read_line(&mut text) {
                Ok(0) if text.is_empty() || before == text.len() && quotes_are_closed(&text) => break,
                Ok(0) => {
                    take(Err(fail("unterminated quote".to_owned(), began)));
                    return;
                }
                Ok(_) => line += 1,
                Err(error) => {
                    take(Err(fail(format!("cannot be read: {error}"), line + 1)));
                    return;
                }
            }
            if quotes_are_closed(&text) {
                break;
            }
        }
        if text.is_empty() {
            break;
        }
        let record = text.trim_end_matches(['\r', '\n']);
        let record = if is_header { record.trim_start_matches('\u{feff}') } else { record };
        if record.is_empty() {
            continue;
        }
        size += record.len();
        batch.push((began, fields(record)));
        if is_header || batch.len() == ROWS || size > BYTES {
            is_header = false;
            size = 0;
            if !take(Ok(std::mem::take(&mut batch))) {
                return;
            }
        }
    }
    if !batch.is_empty() {
        take(Ok(batch));
    }
}

#[expect(clippy::naive_bytecount, reason = "reading the file costs more; no dependency for this")]
fn quotes_are_closed(text: &str) -> bool {
    text.as_bytes().iter().filter(|byte| **byte == b'"').count() % 2 == 0
}

fn fields(record: &str) -> Vec<Field> {
    let mut all = Vec::new();
    let (mut field, mut quoted, mut was_quoted) = (String::new(), false, false);
    let mut characters = record.chars().peekable();
    let finish = |field: &mut String, was_quoted: &mut bool| {
        let text = std::mem::take(field);
        (std::mem::take(was_quoted) || !text.is_empty()).then_some(text)
    };
    while let Some(character) = characters.next() {
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => field.extend(characters.next()),
            '"' => {
                quoted = !quoted;
                was_quoted = true;
            }
            ',' if !quoted => all.push(finish(&mut field, &mut was_quoted)),
            other => field.push(other),
        }
    }
    all.push(finish(&mut field, &mut was_quoted));
    all
}

#[cfg(test)]
mod tests {
    use devenv_api::LedgerMode;

    use super::*;
    use crate::script::{ScriptFormat, files::Content};

    fn records(text: &'static str) -> Vec<Result<Batch, String>> {
        let script = Script {
            path: "item.csv".into(),
            content: Content::Shipped(text.as_bytes()),
            format: ScriptFormat("csv"),
            mode: LedgerMode::Once,
            checksum: String::new(),
            seed: false,
            size: 0,
            only_up: false,
        };
        let mut all = Vec::new();
        read(&script, |batch| {
            all.push(batch.map_err(|error| error.to_string()));
            true
        });
        all
    }

    #[test]
    fn records_keep_their_lines_and_nothing_is_not_the_empty_text() {
        let read = records("\u{feff}id,name\r\n1,\"a\nb\"\n\n2,\n3,\"\"\n4,\"x, \"\"y\"\"\"");
        let text = |text: &str| Some(text.to_owned());
        assert_eq!(read[0], Ok(vec![(1, vec![text("id"), text("name")])]));
        assert_eq!(
            read[1],
            Ok(vec![
                (2, vec![text("1"), text("a\nb")]),
                (5, vec![text("2"), None]),
                (6, vec![text("3"), text("")]),
                (7, vec![text("4"), text("x, \"y\"")])
            ])
        );
        assert_eq!(records("id\n\"1\n"), [Ok(vec![(1, vec![text("id")])]), Err("item.csv:2: unterminated quote".to_owned())]);
    }

    #[test]
    fn values_are_written_as_the_server_reads_them() {
        let table = Table { name: "t`".into(), booleans: vec![false, true] };
        let columns = ["id".to_owned(), "on".to_owned()];
        let rows = [(2, vec![Some("it's".to_owned()), Some("TRUE".to_owned())]), (3, vec![None, Some("0".to_owned())])];
        assert_eq!(statement(&table, &columns, &rows), "INSERT INTO `t``` (`id`,`on`) VALUES ('it''s',1),(NULL,'0')");
    }

    #[test]
    fn a_file_names_its_table() {
        assert_eq!(candidates("seed/item.csv"), ["item"]);
        assert_eq!(candidates("seed/01-item.csv.gz"), ["01-item", "item"]);
    }
}
