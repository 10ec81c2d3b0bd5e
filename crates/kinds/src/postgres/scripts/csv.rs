//! A `.csv` with a header: streamed into the table that the file is named after, in one transaction with its row.

use std::{io::Read, pin::pin};

use bytes::Bytes;
use futures_util::SinkExt;

use super::{Database, Mark, identifier, literal, server_message};
use crate::script::{Progress, Script, ScriptContext, ScriptError, mode_text, source};

const LONGEST_HEADER: u64 = 1024 * 1024;

pub(super) async fn copy(database: &Database, mark: &Mark<'_>, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
    let script = mark.script;
    let fail = |message: String| ScriptError::of(&script.path, message);
    let server = |error: &tokio_postgres::Error| fail(server_message(error));
    let reading = script.clone();
    let columns = tokio::task::spawn_blocking(move || header(&reading)).await.map_err(|error| fail(error.to_string()))??;

    let mut session = database.session().await?;
    let table = find_table(&session.client, script).await?;
    let transaction = session.client.transaction().await.map_err(|error| server(&error))?;
    transaction.batch_execute(&format!("SET LOCAL devenv.batch = '{}'", mark.batch)).await.map_err(|error| server(&error))?;
    if Database::is_again(script.mode) {
        transaction.batch_execute(&format!("DELETE FROM {table}")).await.map_err(|error| server(&error))?;
    }
    let columns: Vec<String> = columns.iter().map(|column| identifier(column)).collect();
    // The header is sent along, so that the server counts lines as the file does.
    let copy = format!("COPY {table} ({}) FROM STDIN WITH (FORMAT csv, HEADER true, ENCODING 'UTF8')", columns.join(", "));
    let located = |error: tokio_postgres::Error| {
        let line = error.as_db_error().and_then(|found| found.where_()).and_then(copy_line);
        fail(server_message(&error))
            .at(line.or((line.is_none() && error.as_db_error().is_some_and(|found| found.code().code() == "42703")).then_some(1)))
    };
    let sink = transaction.copy_in::<_, Bytes>(&copy).await.map_err(located)?;
    let mut sink = pin!(sink);
    let mut flow = source::flow(script, Vec::new(), Bytes::new());
    while let Some(chunk) = flow.next().await {
        if sink.feed(chunk).await.is_err() {
            // The server's reason comes with the end of the copy.
            break;
        }
        let rows = flow.meter.lines().saturating_sub(1);
        (cx.progress)(Progress { path: &script.path, rows, bytes: flow.meter.bytes(), total_bytes: script.size });
    }
    if let Some(failure) = flow.meter.failure() {
        return Err(fail(format!("cannot be read: {failure}")));
    }
    let rows = sink.finish().await.map_err(located)?;
    let record = format!(
        "SELECT devenv.record({}, {}, {}, 'applied', {rows}, NULL, {}, true)",
        literal(&script.path),
        literal(&script.checksum),
        literal(mode_text(script.mode)),
        literal(&mark.batch)
    );
    transaction.batch_execute(&record).await.map_err(|error| server(&error))?;
    transaction.commit().await.map_err(|error| server(&error))?;
    (cx.progress)(Progress { path: &script.path, rows, bytes: script.size, total_bytes: script.size });
    Ok(())
}

/// `item.csv` fills `item`, `audit.item.csv` the table of that schema, and `01-item.csv` `item` if there is no `01-item`.
async fn find_table(client: &tokio_postgres::Client, script: &Script) -> Result<String, ScriptError> {
    let wanted = candidates(&script.path);
    for table in &wanted {
        if client.query_one("SELECT to_regclass($1)::text IS NOT NULL", &[table]).await.is_ok_and(|row| row.get(0)) {
            return Ok(table.clone());
        }
    }
    let table = wanted.last().map_or("", String::as_str);
    Err(ScriptError::of(&script.path, format!("table {table} does not exist"))
        .hint("a `.csv` file fills the table it is named after; create the table in an init script"))
}

fn candidates(path: &str) -> Vec<String> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let stem = name.split_once(".csv").map_or(name, |(stem, _)| stem);
    let bare = stem.trim_start_matches(|c: char| c.is_ascii_digit());
    let bare = if bare.len() < stem.len() { bare.strip_prefix(['-', '_']).unwrap_or(stem) } else { stem };
    let mut names = vec![stem, bare];
    names.dedup();
    let mut tables = Vec::new();
    for name in names {
        tables.push(identifier(name));
        if let Some((schema, table)) = name.split_once('.') {
            tables.push(format!("{}.{}", identifier(schema), identifier(table)));
        }
    }
    tables
}

/// `COPY item, line 3, column id: "x"` happened at line 3.
pub(super) fn copy_line(context: &str) -> Option<u64> {
    let (_, rest) = context.split_once("COPY ")?;
    let (_, rest) = rest.split_once(", line ")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// The names in the first record.
fn header(script: &Script) -> Result<Vec<String>, ScriptError> {
    let fail = |message: String| ScriptError::of(&script.path, message).at(1);
    let mut input = source::open(script).map_err(|error| fail(format!("cannot be read: {error}")))?.take(LONGEST_HEADER);
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while !text.contains(&b'\n') {
        match input.read(&mut buffer).map_err(|error| fail(format!("cannot be read: {error}")))? {
            0 => break,
            count => text.extend_from_slice(&buffer[..count]),
        }
    }
    let columns = fields(&String::from_utf8_lossy(&text)).ok_or_else(|| fail("unterminated quote in the header".to_owned()))?;
    if columns.iter().any(String::is_empty) {
        return Err(fail("the header has an empty column name".to_owned())
            .hint("the first line must list the table's columns, separated by commas"));
    }
    Ok(columns)
}

fn fields(text: &str) -> Option<Vec<String>> {
    let mut columns = vec![String::new()];
    let mut characters = text.strip_prefix('\u{feff}').unwrap_or(text).chars().peekable();
    let mut quoted = false;
    while let Some(character) = characters.next() {
        let column = columns.last_mut()?;
        match character {
            '"' if quoted && characters.peek() == Some(&'"') => column.extend(characters.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => columns.push(String::new()),
            '\r' | '\n' if !quoted => break,
            other => column.push(other),
        }
    }
    (!quoted).then(|| columns.into_iter().map(|column| column.trim().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_read_as_csv() {
        assert_eq!(fields("\u{feff}id,\"full, \"\"name\"\"\",c\r\n1,2,3").unwrap(), ["id", "full, \"name\"", "c"]);
        assert_eq!(fields("id, name"), Some(vec!["id".into(), "name".into()]));
        assert_eq!(fields("\"id\n"), None);
    }

    #[test]
    fn a_file_names_its_table() {
        assert_eq!(candidates("seed/item.csv"), ["\"item\""]);
        assert_eq!(candidates("seed/01-item.csv.gz"), ["\"01-item\"", "\"item\""]);
        assert_eq!(candidates("audit.log.csv"), ["\"audit.log\"", "\"audit\".\"log\""]);
        assert_eq!(copy_line("COPY item, line 3, column id: \"x\""), Some(3));
    }
}
