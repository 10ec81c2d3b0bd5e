//! A `.csv` with a header: streamed into the table that the file is named after, in one transaction with its row.

use std::{io::BufReader, pin::pin};

use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::{Client, Error};

use super::{
    Database,
    csv_records::{self, Survey, TextRows},
    identifier,
    ledger::Mark,
    literal, server_message,
    staged::unreadable,
};
use crate::script::{Progress, Script, ScriptContext, ScriptError, source};

/// The first server version for which a line `\.` in CSV is data.
const TAKES_MARKERS_FOR_DATA: i32 = 180_000;

/// A file on its way into its table.
struct Load<'a> {
    script: &'a Script,
    /// Quoted.
    table: String,
    columns: Vec<String>,
    survey: Survey,
    /// The rows are sent in COPY's text format, for a server that would take such a line for the end.
    as_text: bool,
}

pub(super) async fn copy(database: &Database, mark: &Mark<'_>, cx: &ScriptContext<'_>) -> Result<(), ScriptError> {
    let script = mark.script;
    let server = |error: &Error| ScriptError::of(&script.path, server_message(error));
    let reading = script.clone();
    let surveyed = tokio::task::spawn_blocking(move || look(&reading)).await;
    let (survey, columns) = surveyed.map_err(|error| ScriptError::of(&script.path, error.to_string()))??;

    let mut session = database.session().await?;
    let table = find_table(&session.client, script).await?;
    let as_text = survey.has_end_marker && version(&session.client).await.map_err(|error| server(&error))? < TAKES_MARKERS_FOR_DATA;
    let load = Load { script, table, columns, survey, as_text };
    let transaction = session.client.transaction().await.map_err(|error| server(&error))?;
    transaction.batch_execute(&mark.start()).await.map_err(|error| server(&error))?;
    if Database::is_again(script.mode) {
        transaction.batch_execute(&format!("DELETE FROM {}", load.table)).await.map_err(|error| server(&error))?;
    }
    let rows = match load.send(&transaction, cx).await? {
        Ok(rows) => rows,
        Err(error) => return Err(load.explained(&error, database).await),
    };
    if rows != load.survey.records && !load.may_skip(&transaction).await.map_err(|error| server(&error))? {
        let message = format!("the server took {rows} rows of {}, so nothing of it is kept", load.survey.records);
        return Err(ScriptError::of(&script.path, message));
    }
    load.move_sequences(&transaction).await.map_err(|error| server(&error))?;
    transaction.batch_execute(&mark.finish(Some(rows))).await.map_err(|error| server(&error))?;
    if let Err(error) = transaction.commit().await {
        return Err(load.explained(&error, database).await);
    }
    (cx.progress)(Progress { path: &script.path, rows, bytes: script.size, total_bytes: script.size });
    Ok(())
}

impl Load<'_> {
    async fn send(&self, transaction: &tokio_postgres::Transaction<'_>, cx: &ScriptContext<'_>) -> Result<Result<u64, Error>, ScriptError> {
        let columns: Vec<String> = self.columns.iter().map(|column| identifier(column)).collect();
        // The header is sent along, so that the server's line numbers are those of the file.
        let format = if self.as_text { "FORMAT text" } else { "FORMAT csv, HEADER true" };
        let copy = format!("COPY {} ({}) FROM STDIN WITH ({format}, ENCODING 'UTF8')", self.table, columns.join(", "));
        let sink = match transaction.copy_in::<_, Bytes>(&copy).await {
            Ok(sink) => sink,
            Err(error) => return Ok(Err(error)),
        };
        let mut sink = pin!(sink);
        let mut flow = if self.as_text {
            source::flow_through(self.script, Bytes::new(), |input| Box::new(TextRows::new(BufReader::with_capacity(256 * 1024, input))))
        } else {
            source::flow(self.script, Vec::new(), Bytes::new())
        };
        while let Some(chunk) = flow.next().await {
            if sink.feed(chunk).await.is_err() {
                // The server's error comes with the end of the copy.
                break;
            }
            let rows = flow.meter.lines().saturating_sub(1).min(self.survey.records);
            (cx.progress)(Progress { path: &self.script.path, rows, bytes: flow.meter.bytes(), total_bytes: self.script.size });
        }
        match flow.meter.failure() {
            Some(failure) => Err(unreadable(self.script, &failure)),
            None => Ok(sink.finish().await),
        }
    }

    /// Whether a trigger may skip rows.
    async fn may_skip(&self, transaction: &tokio_postgres::Transaction<'_>) -> Result<bool, Error> {
        const BEFORE_EACH_INSERTED_ROW: &str = "SELECT EXISTS (SELECT FROM pg_trigger WHERE NOT tgisinternal AND tgtype & 7 = 7
            AND (tgrelid = to_regclass($1) OR tgrelid IN (SELECT relid FROM pg_partition_tree(to_regclass($1)))))
            OR EXISTS (SELECT FROM pg_class WHERE oid = to_regclass($1) AND relkind = 'v')";
        Ok(transaction.query_one(BEFORE_EACH_INSERTED_ROW, &[&self.table]).await?.get(0))
    }

    /// Sequences of columns that the file filled continue after its greatest number.
    async fn move_sequences(&self, transaction: &tokio_postgres::Transaction<'_>) -> Result<(), Error> {
        const BEHIND: &str = "SELECT quote_ident(a.attname), s.oid::regclass::text FROM pg_attribute AS a JOIN (
                SELECT refobjsubid AS number, objid AS sequence FROM pg_depend WHERE classid = 'pg_class'::regclass
                    AND refclassid = 'pg_class'::regclass AND refobjid = to_regclass($1) AND deptype IN ('a', 'i')
                UNION SELECT d.adnum, held.refobjid FROM pg_attrdef AS d JOIN pg_depend AS held ON held.classid = 'pg_attrdef'::regclass
                    AND held.objid = d.oid AND held.refclassid = 'pg_class'::regclass WHERE d.adrelid = to_regclass($1)
            ) AS behind ON behind.number = a.attnum
            JOIN pg_class AS s ON s.oid = behind.sequence AND s.relkind = 'S'
            JOIN pg_sequence AS q ON q.seqrelid = s.oid AND q.seqincrement > 0
            WHERE a.attrelid = to_regclass($1) AND a.atttypid IN (20, 21, 23) AND a.attname::text = ANY ($2)
            AND has_sequence_privilege(s.oid, 'UPDATE') AND has_sequence_privilege(s.oid, 'SELECT') AND has_table_privilege(a.attrelid, 'SELECT')";
        for row in transaction.query(BEHIND, &[&self.table, &self.columns]).await? {
            let (column, sequence): (String, String) = (row.get(0), row.get(1));
            let name = literal(&sequence);
            let ahead = format!(
                "SELECT setval({name}, filled.greatest) FROM (SELECT max({column})::bigint AS greatest FROM {}) AS filled, {sequence} AS held \
                 WHERE (filled.greatest > held.last_value OR filled.greatest = held.last_value AND NOT held.is_called) \
                 AND filled.greatest <= (SELECT seqmax FROM pg_sequence WHERE seqrelid = {name}::regclass)",
                self.table
            );
            transaction.query(&ahead, &[]).await?;
        }
        Ok(())
    }

    /// The server's error at the file's line, with a hint.
    async fn explained(&self, error: &Error, database: &Database) -> ScriptError {
        let code = error.code().map(|code| code.code().to_owned()).unwrap_or_default();
        let row = error.as_db_error().and_then(|found| found.where_()).and_then(copy_line);
        let line = match row {
            Some(row) if self.as_text => self.line_of(row).await,
            None if ["42703", "42701", "42P10", "428C9"].contains(&code.as_str()) => Some(1),
            row => row,
        };
        let explained = ScriptError::of(&self.script.path, server_message(error)).at(line);
        match code.as_str() {
            "42703" => explained.hint(self.about_columns(database).await),
            "23503" => explained.hint(
                "data sets go in the order of their names, each in a transaction of its own: a number in front (`01-customer.csv`, `02-address.csv`) changes the order",
            ),
            "22021" | "22P05" => explained.hint("the file has to be UTF-8: convert it, such as with `iconv -f WINDOWS-1252 -t UTF-8`"),
            _ => explained,
        }
    }

    async fn line_of(&self, record: u64) -> Option<u64> {
        let script = self.script.clone();
        let found = tokio::task::spawn_blocking(move || csv_records::line_of(BufReader::new(source::open(&script).ok()?), record).ok()?);
        found.await.ok()?
    }

    async fn about_columns(&self, database: &Database) -> String {
        const COLUMNS: &str = "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
            WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";
        let found = database.superuser.client.query_one(COLUMNS, &[&self.table]).await;
        let known = found.ok().and_then(|row| row.get::<_, Option<String>>(0)).unwrap_or_default();
        let divided = self.columns.len() == 1 && self.columns[0].contains([';', '\t', '|']);
        let separator = if divided { "the columns have to be separated by commas; " } else { "" };
        format!("{separator}the first line names the columns as the table does: {known}")
    }
}

async fn version(client: &Client) -> Result<i32, Error> {
    Ok(client.query_one("SELECT current_setting('server_version_num')::int", &[]).await?.get(0))
}

/// `item.csv` fills `item`, `audit.item.csv` the table of that schema; `01-item.csv` fills `item` if there is no table `01-item`.
async fn find_table(client: &Client, script: &Script) -> Result<String, ScriptError> {
    const ALIKE: &str =
        "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p', 'f', 'v') AND lower(relname) = lower($1) AND pg_table_is_visible(oid)";
    let wanted = candidates(&script.path);
    for table in &wanted {
        if client.query_one("SELECT to_regclass($1)::text IS NOT NULL", &[table]).await.is_ok_and(|row| row.get(0)) {
            return Ok(table.clone());
        }
    }
    let mut alike = None;
    for table in &wanted {
        let name = table.trim_matches('"');
        alike = alike.or(client.query_opt(ALIKE, &[&name]).await.ok().flatten().map(|row| row.get::<_, String>(0)));
    }
    let table = wanted.last().map_or("", String::as_str);
    let error = ScriptError::of(&script.path, format!("table {table} does not exist"));
    Err(match alike {
        Some(name) => error.hint(format!("a table \"{name}\" exists: names keep their case, so rename the file to `{name}.csv`")),
        None => error.hint("a `.csv` file fills the table it is named after; create the table in an init script"),
    })
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

/// A summary of the file, and the names in its first record.
fn look(script: &Script) -> Result<(Survey, Vec<String>), ScriptError> {
    let fail = |message: String| ScriptError::of(&script.path, message).at(1);
    let failed = |error: std::io::Error| unreadable(script, &error.to_string());
    let input = BufReader::with_capacity(256 * 1024, source::open(script).map_err(failed)?);
    let survey = csv_records::survey(input).map_err(failed)?;
    if survey.header.is_empty() {
        return Err(fail("the file is empty: there is no header".to_owned()).hint(HEADER));
    }
    if let Some(line) = survey.open_quote {
        return Err(ScriptError::of(&script.path, "unterminated quote in the record that begins here").at(line));
    }
    let columns = fields(&String::from_utf8_lossy(&survey.header)).ok_or_else(|| fail("unterminated quote in the header".to_owned()))?;
    if columns.iter().any(String::is_empty) {
        return Err(fail("the header has an empty column name".to_owned()).hint(HEADER));
    }
    Ok((survey, columns))
}

const HEADER: &str = "the first line must list the table's columns, separated by commas";

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
