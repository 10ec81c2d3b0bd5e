//! PostgreSQL: databases with their tables, rows, and statements that only read.

mod reader;

use async_trait::async_trait;
use devenv_api::{Column, DataGroup, DataGroupKind, DataItem, DataItemKind, Rows, Sort};
use devenv_spec::ServiceSpec;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::{
    PostgresKind,
    provision::{identifier, literal, rows},
};
use crate::{
    browse::{LONGEST_VALUE, MOST_ITEMS},
    capability::{Browse, BrowseError, ProvisionContext, ReadQuery, RowsPage},
};
use reader::Server;
pub(super) use reader::without_role;

/// Rows are read until they have this many bytes: less than the connection's own limit for one answer.
const ENOUGH: usize = 7 << 20;
/// Databases that are read at the same time.
const AT_ONCE: usize = 4;

const TABLES: &str = "SELECT n.nspname || '.' || c.relname, c.relkind, \
    CASE WHEN c.relkind IN ('v', 'f') THEN NULL WHEN c.reltuples >= 0 THEN c.reltuples::bigint ELSE pg_stat_get_live_tuples(c.oid) END, \
    CASE WHEN c.relkind IN ('v', 'f') THEN NULL ELSE pg_total_relation_size(c.oid) END, obj_description(c.oid, 'pg_class') \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition \
    AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'devenv') AND n.nspname !~ '^pg_(toast|temp)'";

const COLUMNS: &str = "SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname), a.attname, \
    pg_catalog.format_type(a.atttypid, a.atttypmod), array_position(i.indkey::int2[], a.attnum) \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
    LEFT JOIN pg_catalog.pg_index i ON i.indrelid = c.oid AND i.indisprimary \
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')";

#[async_trait]
impl Browse for PostgresKind {
    async fn outline(&self, service: &ServiceSpec, filter: Option<&str>, cx: &ProvisionContext) -> Result<Vec<DataGroup>, BrowseError> {
        let server = Server::of(service, cx)?;
        let databases = server.open(None).await?;
        let groups = stream::iter(databases).map(|name| database(&server, name, filter)).buffered(AT_ONCE);
        groups.try_collect().await
    }

    async fn rows(&self, service: &ServiceSpec, page: &RowsPage, cx: &ProvisionContext) -> Result<Rows, BrowseError> {
        let server = Server::of(service, cx)?;
        server.open(Some(&page.group)).await?;
        server
            .read(&page.group, |client| async move { table_rows(&client, page).await })
            .await?
            .ok_or_else(|| BrowseError::NotFound(format!("the database `{}` has no table or view `{}`", page.group, page.item)))
    }

    async fn query(&self, service: &ServiceSpec, query: &ReadQuery, cx: &ProvisionContext) -> Result<Rows, BrowseError> {
        let server = Server::of(service, cx)?;
        let database = query.database.clone().unwrap_or_else(|| server.first_database().to_owned());
        server.open(Some(&database)).await?;
        server.read(&database, |client| async move { statement(&client, query).await }).await
    }
}

async fn database(server: &Server, name: String, filter: Option<&str>) -> Result<DataGroup, BrowseError> {
    let wanted = filter.map(|text| format!(" AND strpos(lower(n.nspname || '.' || c.relname), lower({})) > 0", literal(text)));
    let question = format!("{TABLES}{} ORDER BY 1 LIMIT {}", wanted.unwrap_or_default(), MOST_ITEMS + 1);
    let found = server.read(&name, |client| async move { rows(&client, &question).await }).await?;
    let items = found.into_iter().filter_map(item).collect();
    Ok(DataGroup { name, kind: DataGroupKind::Database, items, more: false })
}

fn item(row: Vec<Option<String>>) -> Option<DataItem> {
    let [name, kind, count, bytes, comment] = <[_; 5]>::try_from(row).ok()?;
    let (kind, sort) = match kind.as_deref() {
        Some("v") => (DataItemKind::View, None),
        Some("m") => (DataItemKind::View, Some("materialized view")),
        Some("f") => (DataItemKind::Table, Some("foreign table")),
        Some("p") => (DataItemKind::Table, Some("partitioned")),
        _ => (DataItemKind::Table, None),
    };
    let detail = [sort.map(str::to_owned), comment].into_iter().flatten().collect::<Vec<_>>().join(", ");
    let number = |text: Option<String>| text.and_then(|text| text.parse().ok());
    Some(DataItem { name: name?, kind, rows: number(count), bytes: number(bytes), detail: (!detail.is_empty()).then_some(detail) })
}

/// `None` if there is no such table.
async fn table_rows(client: &Client, page: &RowsPage) -> Result<Option<Rows>, Error> {
    let question = format!("{COLUMNS} AND n.nspname || '.' || c.relname = {} ORDER BY c.oid, a.attnum", literal(&page.item));
    let found = rows(client, &question).await?;
    let Some(Some(table)) = found.first().and_then(|row| row.first().cloned()) else { return Ok(None) };
    let (mut columns, mut key) = (Vec::new(), Vec::new());
    for row in found {
        if let [Some(of), Some(name), kind, position] = &row[..]
            && *of == table
        {
            columns.push(Column { name: name.clone(), kind: kind.clone() });
            key.extend(position.as_deref().and_then(|position| position.parse::<u32>().ok()).map(|position| (position, identifier(name))));
        }
    }
    key.sort();
    let key: Vec<String> = key.into_iter().map(|(_, name)| name).collect();
    let data = rows(client, &select(&table, &columns, &key, page)).await?;
    Ok(Some(limited(columns, data, page.limit)))
}

fn select(table: &str, columns: &[Column], key: &[String], page: &RowsPage) -> String {
    // A name that no column is likely to have: it stands for the whole row.
    const ROW: &str = "\"the whole row\"";
    let values: Vec<String> =
        columns.iter().map(|column| format!("left({ROW}.{}::text, {})", identifier(&column.name), LONGEST_VALUE + 1)).collect();
    let filter = page.filter.as_ref().map(|text| format!(" WHERE strpos(lower({ROW}::text), lower({})) > 0", literal(text)));
    let order = match &page.sort {
        Some(Sort { column, descending }) => {
            format!(" ORDER BY {ROW}.{}{} NULLS LAST", identifier(column), if *descending { " DESC" } else { "" })
        }
        None if key.is_empty() => String::new(),
        None => format!(" ORDER BY {}", key.iter().map(|name| format!("{ROW}.{name}")).collect::<Vec<_>>().join(", ")),
    };
    format!(
        "SELECT {} FROM {table} AS {ROW}{}{order} LIMIT {} OFFSET {}",
        values.join(", "),
        filter.unwrap_or_default(),
        page.limit + 1,
        page.offset
    )
}

/// One more row than the limit was asked for, to know whether there are more.
fn limited(columns: Vec<Column>, mut rows: Vec<Vec<Option<String>>>, limit: u32) -> Rows {
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    Rows { columns, rows, more, message: None }
}

/// The server parses the text twice: prepared, it can be one statement only; the second time its values come as text.
async fn statement(client: &Client, query: &ReadQuery) -> Result<Rows, Error> {
    let prepared = client.prepare(&query.text).await?;
    let columns = prepared.columns();
    let columns = columns.iter().map(|column| Column { name: column.name().to_owned(), kind: Some(column.type_().name().to_owned()) });
    let columns: Vec<Column> = columns.collect();
    let mut answer = std::pin::pin!(client.simple_query_raw(&query.text).await?);
    let (mut rows, mut size, mut more) = (Vec::new(), 0, false);
    while let Some(message) = answer.try_next().await? {
        let SimpleQueryMessage::Row(row) = message else { continue };
        if rows.len() == query.limit as usize || size > ENOUGH {
            more = true;
            break;
        }
        let row: Vec<Option<String>> = (0..row.len()).map(|column| row.get(column).map(str::to_owned)).collect();
        size += row.iter().flatten().map(String::len).sum::<usize>();
        rows.push(row);
    }
    let message = columns.is_empty().then(|| "the statement has no rows".to_owned());
    Ok(Rows { columns, rows, more, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_text_of_a_request_cannot_leave_their_quotes() {
        let page = RowsPage {
            group: "app".to_owned(),
            item: "public.item".to_owned(),
            offset: 20,
            limit: 10,
            filter: Some("it's".to_owned()),
            sort: Some(Sort { column: "na\"me".to_owned(), descending: true }),
        };
        let columns = [Column { name: "na\"me".to_owned(), kind: None }];
        assert_eq!(
            select("public.item", &columns, &[], &page),
            "SELECT left(\"the whole row\".\"na\"\"me\"::text, 16385) FROM public.item AS \"the whole row\" \
             WHERE strpos(lower(\"the whole row\"::text), lower('it''s')) > 0 ORDER BY \"the whole row\".\"na\"\"me\" DESC NULLS LAST \
             LIMIT 11 OFFSET 20"
        );
        let page = RowsPage { filter: None, sort: None, ..page };
        assert!(select("t", &columns, &["\"id\"".to_owned()], &page).contains(" ORDER BY \"the whole row\".\"id\" LIMIT"));
    }
}
