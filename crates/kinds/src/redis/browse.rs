//! Redis: keys with type, time to live and memory, and the elements of a key. Only commands that read.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use devenv_api::{DataGroup, DataGroupKind, DataItem, DataItemKind, Rows};
use devenv_spec::{Probe, SecretRef, ServiceSpec};
use redis::{Cmd, Value, aio::MultiplexedConnection, cmd};

use super::{
    NAME, RedisKind,
    probe::{SessionError, session, words},
    spec::{RedisProbe, RedisProvision},
};
use crate::{
    browse::{LONGEST_VALUE, MOST_ITEMS, paged},
    capability::{Browse, BrowseError, ProvisionContext, RowsPage},
};

/// The time for which keys that a filter leaves out are searched.
const SEARCH: Duration = Duration::from_secs(4);
/// Keys that the server looks at in one step.
const STEP: usize = 500;
/// Elements of a set or hash that are read to find a page of it.
const MOST_ELEMENTS: usize = 20_000;

#[async_trait]
impl Browse for RedisKind {
    async fn outline(&self, service: &ServiceSpec, filter: Option<&str>, cx: &ProvisionContext) -> Result<Vec<DataGroup>, BrowseError> {
        let pattern = filter.map(pattern);
        ask(service, cx, |mut connection| async move {
            let info: String = cmd("INFO").arg("keyspace").query_async(&mut connection).await?;
            let mut groups = Vec::new();
            for number in numbered_databases(&info) {
                cmd("SELECT").arg(number).query_async::<()>(&mut connection).await?;
                let (names, more) = keys(&mut connection, pattern.as_deref()).await?;
                let items = described(&mut connection, names).await?;
                groups.push(DataGroup { name: format!("db{number}"), kind: DataGroupKind::Keys, items, more });
            }
            Ok(groups)
        })
        .await
    }

    async fn rows(&self, service: &ServiceSpec, page: &RowsPage, cx: &ProvisionContext) -> Result<Rows, BrowseError> {
        let number = page.group.strip_prefix("db").and_then(|number| number.parse::<u32>().ok());
        let number = number.ok_or_else(|| BrowseError::NotFound(format!("no numbered database has the name `{}`", page.group)))?;
        let rows = ask(service, cx, |mut connection| async move {
            cmd("SELECT").arg(number).query_async::<()>(&mut connection).await?;
            elements(&mut connection, page).await
        });
        rows.await?.ok_or_else(|| BrowseError::NotFound(format!("`{}` has no key `{}`", page.group, page.item)))
    }
}

async fn ask<T, W>(service: &ServiceSpec, cx: &ProvisionContext, work: impl FnOnce(MultiplexedConnection) -> W) -> Result<T, BrowseError>
where
    W: Future<Output = Result<T, SessionError>>,
{
    let (port, user, password, tls): (u16, String, SecretRef, bool) = match (RedisProvision::of(service), &service.probe) {
        (Some(declared), _) => (declared.port, "default".to_owned(), declared.password, declared.tls),
        (None, Probe::OfKind(probe)) if probe.kind == NAME => {
            let known: RedisProbe = probe.decode().map_err(|error| BrowseError::Refused(error.to_string()))?;
            (known.port, known.user, known.password, known.tls)
        }
        _ => return Err(BrowseError::Refused(format!("devenv has no login for `{}`", service.name))),
    };
    let (password, tls) = (cx.vault.reveal(&password)?, cx.trust(tls)?);
    session(port, &user, &password, tls, work).await.map_err(|error| BrowseError::Refused(words(port, error)))
}

/// From `db0:keys=3,…`; the first one is always shown.
fn numbered_databases(info: &str) -> Vec<u32> {
    let known = info.lines().filter_map(|line| line.strip_prefix("db")?.split_once(':')?.0.parse().ok());
    let mut numbers: Vec<u32> = std::iter::once(0).chain(known).collect();
    numbers.dedup();
    numbers
}

/// Text as a pattern that finds it anywhere.
fn pattern(text: &str) -> String {
    let escaped: String = text.chars().flat_map(|c| if "*?[]^\\".contains(c) { vec!['\\', c] } else { vec![c] }).collect();
    format!("*{escaped}*")
}

/// Names in their order, and whether there are more.
async fn keys(connection: &mut MultiplexedConnection, pattern: Option<&str>) -> Result<(Vec<Vec<u8>>, bool), SessionError> {
    let (mut cursor, mut names, begun) = (0u64, Vec::new(), Instant::now());
    loop {
        let mut scan = cmd("SCAN");
        scan.arg(cursor).arg("COUNT").arg(STEP);
        if let Some(pattern) = pattern {
            scan.arg("MATCH").arg(pattern);
        }
        let (next, found): (u64, Vec<Vec<u8>>) = scan.query_async(connection).await?;
        names.extend(found);
        cursor = next;
        if cursor == 0 || names.len() >= MOST_ITEMS || begun.elapsed() > SEARCH {
            break;
        }
    }
    // A key may be found twice.
    names.sort();
    names.dedup();
    let more = cursor != 0 || names.len() > MOST_ITEMS;
    names.truncate(MOST_ITEMS);
    Ok((names, more))
}

async fn described(connection: &mut MultiplexedConnection, names: Vec<Vec<u8>>) -> Result<Vec<DataItem>, SessionError> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut questions = redis::pipe();
    for name in &names {
        questions.cmd("TYPE").arg(name).cmd("PTTL").arg(name).cmd("MEMORY").arg("USAGE").arg(name).arg("SAMPLES").arg(1);
    }
    let answers: Vec<Value> = questions.query_async(connection).await?;
    let items = names.iter().zip(answers.chunks(3)).filter_map(|(name, answers)| {
        let [kind, left, bytes] = answers else { return None };
        let kind = text(kind);
        // It has expired since.
        if kind == "none" {
            return None;
        }
        let left = number(left).filter(|left| *left >= 0).map(|left| format!(", ttl {} s", (left + 999) / 1000));
        Some(DataItem {
            name: shown(name),
            kind: DataItemKind::Key,
            rows: None,
            bytes: number(bytes).and_then(|bytes| u64::try_from(bytes).ok()),
            detail: Some(format!("{kind}{}", left.unwrap_or_default())),
        })
    });
    Ok(items.collect())
}

/// `None` if there is no such key.
async fn elements(connection: &mut MultiplexedConnection, page: &RowsPage) -> Result<Option<Rows>, SessionError> {
    let key = bytes_of(&page.item);
    let kind: String = cmd("TYPE").arg(&key).query_async(connection).await?;
    let is_part = page.filter.is_none() && page.sort.is_none();
    // Beyond the limit by one, to know whether there are more.
    let (first, last) = if is_part { (page.offset, page.offset + u64::from(page.limit)) } else { (0, MOST_ELEMENTS as u64 - 1) };
    let (columns, rows, is_page): (&[&str], Vec<Vec<Value>>, bool) = match kind.as_str() {
        "none" => return Ok(None),
        "string" => (&["value"], vec![vec![cmd("GETRANGE").arg(&key).arg(0).arg(LONGEST_VALUE).query_async(connection).await?]], false),
        "list" => {
            let found: Vec<Value> = cmd("LRANGE").arg(&key).arg(first).arg(last).query_async(connection).await?;
            (&["index", "value"], (first..).zip(found).map(|(index, value)| vec![Value::Int(index as i64), value]).collect(), is_part)
        }
        "zset" => {
            let found = cmd("ZRANGE").arg(&key).arg(first).arg(last).arg("WITHSCORES").query_async(connection).await?;
            (&["member", "score"], pairs(found), is_part)
        }
        "hash" => (&["field", "value"], scanned(connection, "HSCAN", &key, 2).await?, false),
        "set" => (&["member"], scanned(connection, "SSCAN", &key, 1).await?, false),
        "stream" => {
            let mut question = cmd("XREVRANGE");
            question.arg(&key).arg("+").arg("-").arg("COUNT").arg(last + 1);
            (&["id", "fields"], entries(question, connection).await?, false)
        }
        kind => {
            let message = format!("devenv does not show the elements of a key of the type `{kind}`");
            return Ok(Some(Rows { message: Some(message), ..Rows::default() }));
        }
    };
    let rows: Vec<Vec<Option<String>>> = rows.into_iter().map(|row| row.iter().map(|value| Some(text(value))).collect()).collect();
    let is_all_read = rows.len() < MOST_ELEMENTS;
    let rest = RowsPage { offset: if is_page { 0 } else { page.offset }, ..page.clone() };
    let mut shown = paged(columns, rows, &rest, !is_all_read);
    shown.message = (!is_all_read).then(|| format!("searched the first {MOST_ELEMENTS} elements"));
    Ok(Some(shown))
}

/// The elements of a hash or a set, by their names.
async fn scanned(
    connection: &mut MultiplexedConnection,
    question: &str,
    key: &[u8],
    width: usize,
) -> Result<Vec<Vec<Value>>, SessionError> {
    let (mut cursor, mut rows) = (0u64, Vec::new());
    loop {
        let (next, found): (u64, Vec<Value>) = cmd(question).arg(key).arg(cursor).arg("COUNT").arg(STEP).query_async(connection).await?;
        rows.extend(found.chunks(width).map(<[Value]>::to_vec));
        cursor = next;
        if cursor == 0 || rows.len() >= MOST_ELEMENTS {
            break;
        }
    }
    rows.sort_by_cached_key(|row| row.first().map(text));
    rows.dedup();
    Ok(rows)
}

fn pairs(found: Vec<Value>) -> Vec<Vec<Value>> {
    found.chunks(2).map(<[Value]>::to_vec).collect()
}

/// Entries of a stream, each with its fields as `name=value`.
async fn entries(question: Cmd, connection: &mut MultiplexedConnection) -> Result<Vec<Vec<Value>>, SessionError> {
    let found: Vec<(Value, Vec<Value>)> = question.query_async(connection).await?;
    let fields = |fields: &[Value]| fields.chunks(2).map(|pair| pair.iter().map(text).collect::<Vec<_>>().join("=")).collect::<Vec<_>>();
    Ok(found.into_iter().map(|(id, found)| vec![id, Value::SimpleString(fields(&found).join(", "))]).collect())
}

fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => shown(bytes),
        Value::SimpleString(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Double(number) => number.to_string(),
        Value::Okay => "OK".to_owned(),
        Value::Nil => String::new(),
        other => format!("{other:?}"),
    }
}

fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        _ => None,
    }
}

/// Text as it is. In a key of other bytes, those and backslashes are `\xNN`, so that the name leads back to the key.
fn shown(bytes: &[u8]) -> String {
    if let Ok(text) = std::str::from_utf8(bytes)
        && !text.contains("\\x")
    {
        return text.to_owned();
    }
    let mut text = String::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', "\\x5c"));
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text
}

/// The reverse of [`shown`].
fn bytes_of(text: &str) -> Vec<u8> {
    let mut parts = text.split("\\x");
    let mut bytes: Vec<u8> = parts.next().unwrap_or_default().into();
    for part in parts {
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend(&part.as_bytes()[2..]);
            }
            None => bytes.extend([b"\\x", part.as_bytes()].concat()),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_any_bytes_is_found_again_by_its_shown_name() {
        for key in [&b"session:7"[..], b"\xff\xfe\x00a", b"a\\xff", b"\\x", "ä\\".as_bytes(), b"\\\\x41"] {
            assert_eq!(bytes_of(&shown(key)), key, "{key:?}");
        }
        assert_eq!(shown(b"a\xffb"), "a\\xffb");
    }

    #[test]
    fn text_is_found_as_it_is_written() {
        assert_eq!(pattern("a*[b"), "*a\\*\\[b*");
        assert_eq!(numbered_databases("# Keyspace\r\ndb0:keys=1,expires=0\r\ndb3:keys=2\r\n"), [0, 3]);
        assert_eq!(numbered_databases(""), [0]);
    }
}
