//! MariaDB: databases with their tables, rows, and statements that only read.
//!
//! The superuser makes a user that can read the databases of the project and has no other right: it cannot write, read or write files of
//! the server, or call functions. Its sessions are one read-only transaction each.

use async_trait::async_trait;
use devenv_api::{Column, DataGroup, DataGroupKind, DataItem, DataItemKind, Rows, Sort};
use devenv_spec::{Probe, SecretRef, ServiceSpec};
use futures_util::FutureExt;
use mysql_async::{Conn, Error, Value, prelude::Queryable};

use super::{
    MariadbKind, NAME,
    fields::SUPERUSER,
    session::{Login, Session, Texts, grantable, identifier, literal, reason, text},
    spec::{MariadbProbe, MariadbProvision},
};
use crate::{
    browse::{LONGEST_VALUE, MOST_ITEMS, STATEMENT},
    capability::{Browse, BrowseError, ProvisionContext, ReadQuery, RowsPage},
};

const READER: &str = "devenv_reader";
/// Rows are read until they have this many bytes.
const ENOUGH: usize = 7 << 20;
/// Databases of the server itself.
const SYSTEM: &str = "('mysql', 'sys', 'information_schema', 'performance_schema', 'devenv_ledger')";

#[async_trait]
impl Browse for MariadbKind {
    async fn outline(&self, service: &ServiceSpec, filter: Option<&str>, cx: &ProvisionContext) -> Result<Vec<DataGroup>, BrowseError> {
        let mut session = Server::of(service, cx)?.open().await?;
        let groups = databases(&mut session, filter).await;
        session.close().await;
        groups.map_err(refused)
    }

    async fn rows(&self, service: &ServiceSpec, page: &RowsPage, cx: &ProvisionContext) -> Result<Rows, BrowseError> {
        let mut session = Server::of(service, cx)?.open().await?;
        let rows = table_rows(&mut session, page).await;
        session.close().await;
        rows.map_err(refused)?
            .ok_or_else(|| BrowseError::NotFound(format!("the database `{}` has no table or view `{}`", page.group, page.item)))
    }

    async fn query(&self, service: &ServiceSpec, query: &ReadQuery, cx: &ProvisionContext) -> Result<Rows, BrowseError> {
        let server = Server::of(service, cx)?;
        let mut session = server.open().await?;
        let made = provide_reader(&mut session, &server.reader_password).await;
        session.close().await;
        made.map_err(refused)?;
        let reader = Login {
            user: READER.to_owned(),
            password: server.reader_password.clone(),
            database: query.database.clone().or(server.first_database),
            ..server.login
        };
        let mut connection = reader.connect().await.map_err(refused)?;
        let rows = statement(&mut connection, query).await.map_err(refused);
        // Without reading rows that are still on their way: dropped, it would read them in a task.
        let _ = connection.disconnect().now_or_never();
        rows
    }
}

/// A server, and how to log in.
struct Server {
    login: Login,
    first_database: Option<String>,
    reader_password: String,
}

impl Server {
    /// As the profile declares it, or as the probe of a container with such a server knows it.
    fn of(service: &ServiceSpec, cx: &ProvisionContext) -> Result<Self, BrowseError> {
        let (port, user, password, first_database, tls) = match (MariadbProvision::of(service), &service.probe) {
            (Some(declared), _) => {
                let first = declared.databases.into_iter().next().map(|database| database.name);
                (declared.port, SUPERUSER.to_owned(), declared.password, first, declared.tls)
            }
            (None, Probe::OfKind(probe)) if probe.kind == NAME => {
                let known: MariadbProbe = probe.decode().map_err(|error| BrowseError::Refused(error.to_string()))?;
                (known.port, known.user, known.password, known.database, known.tls)
            }
            _ => return Err(BrowseError::Refused(format!("devenv has no login for `{}`", service.name))),
        };
        let password = cx.vault.reveal(&password)?;
        let login = Login { port, user, password, database: None, authority: cx.authority.clone().filter(|_| tls) };
        let reader_password = cx.vault.reveal(&SecretRef::new(service.name.as_str(), READER))?;
        Ok(Self { login, first_database, reader_password })
    }

    async fn open(&self) -> Result<Session, BrowseError> {
        let mut session = self.login.open().await.map_err(refused)?;
        let limited = session.run(&format!("SET SESSION max_statement_time = {}", STATEMENT.as_secs())).await;
        limited.map_err(refused)?;
        Ok(session)
    }
}

async fn databases(session: &mut Session, filter: Option<&str>) -> Result<Vec<DataGroup>, Error> {
    let names =
        session.rows(&format!("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN {SYSTEM} ORDER BY 1")).await?;
    let mut groups = Vec::new();
    for name in names.into_iter().flatten().flatten() {
        let wanted = filter.map(|text| format!(" AND LOCATE({}, TABLE_NAME) > 0", literal(text))).unwrap_or_default();
        let tables = session
            .rows(&format!(
                "SELECT TABLE_NAME, TABLE_TYPE, TABLE_ROWS, DATA_LENGTH + INDEX_LENGTH, TABLE_COMMENT FROM information_schema.TABLES \
             WHERE TABLE_SCHEMA = {}{wanted} ORDER BY 1 LIMIT {}",
                literal(&name),
                MOST_ITEMS + 1
            ))
            .await?;
        let items = tables.into_iter().filter_map(item).collect();
        groups.push(DataGroup { name, kind: DataGroupKind::Database, items, more: false });
    }
    Ok(groups)
}

fn item(row: Texts) -> Option<DataItem> {
    let [name, kind, count, bytes, comment] = <[_; 5]>::try_from(row).ok()?;
    let is_view = kind.as_deref().is_some_and(|kind| kind.ends_with("VIEW"));
    let number = |text: Option<String>| text.and_then(|text| text.parse().ok());
    Some(DataItem {
        name: name?,
        kind: if is_view { DataItemKind::View } else { DataItemKind::Table },
        rows: number(count),
        bytes: number(bytes),
        detail: comment.filter(|comment| !comment.is_empty() && !is_view),
    })
}

/// `None` if there is no such table.
async fn table_rows(session: &mut Session, page: &RowsPage) -> Result<Option<Rows>, Error> {
    let found = session
        .rows(&format!(
            "SELECT COLUMN_NAME, COLUMN_TYPE, COLUMN_KEY FROM information_schema.COLUMNS \
         WHERE TABLE_SCHEMA = {} AND TABLE_NAME = {} AND TABLE_SCHEMA NOT IN {SYSTEM} ORDER BY ORDINAL_POSITION",
            literal(&page.group),
            literal(&page.item)
        ))
        .await?;
    let (mut columns, mut key) = (Vec::new(), Vec::new());
    for row in found {
        if let [Some(name), kind, of_key] = &row[..] {
            columns.push(Column { name: name.clone(), kind: kind.clone() });
            if of_key.as_deref() == Some("PRI") {
                key.push(identifier(name));
            }
        }
    }
    if columns.is_empty() {
        return Ok(None);
    }
    session.run("START TRANSACTION READ ONLY").await?;
    let mut rows = session.rows(&select(&columns, &key, page)).await?;
    let more = rows.len() > page.limit as usize;
    rows.truncate(page.limit as usize);
    Ok(Some(Rows { columns, rows, more, message: None }))
}

fn select(columns: &[Column], key: &[String], page: &RowsPage) -> String {
    let names: Vec<String> = columns.iter().map(|column| identifier(&column.name)).collect();
    let values: Vec<String> = names.iter().map(|name| format!("LEFT({name}, {})", LONGEST_VALUE + 1)).collect();
    let filter = page.filter.as_ref().map(|text| {
        let matches: Vec<String> = names.iter().map(|name| format!("LOCATE({}, {name}) > 0", literal(text))).collect();
        format!(" WHERE {}", matches.join(" OR "))
    });
    let order = match &page.sort {
        Some(Sort { column, descending }) => format!(" ORDER BY {}{}", identifier(column), if *descending { " DESC" } else { "" }),
        None if key.is_empty() => String::new(),
        None => format!(" ORDER BY {}", key.join(", ")),
    };
    format!(
        "SELECT {} FROM {}.{}{}{order} LIMIT {} OFFSET {}",
        values.join(", "),
        identifier(&page.group),
        identifier(&page.item),
        filter.unwrap_or_default(),
        page.limit + 1,
        page.offset
    )
}

/// The user, with this password, and its right to read every database of the project. Writes nothing if it has all of that.
async fn provide_reader(session: &mut Session, password: &str) -> Result<(), Error> {
    let (user, password) = (format!("{}@'%'", literal(READER)), literal(password));
    let known = session.rows(&format!(
        "SELECT JSON_VALUE(Priv, '$.authentication_string') = PASSWORD({password}) FROM mysql.global_priv WHERE User = {} AND Host = '%'",
        literal(READER)
    )).await?;
    if known.into_iter().flatten().flatten().next().as_deref() != Some("1") {
        session.run(&format!("CREATE OR REPLACE USER {user} IDENTIFIED BY {password}")).await?;
    }
    let closed = session
        .rows(&format!(
            "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME NOT IN {SYSTEM} AND NOT EXISTS \
         (SELECT 1 FROM mysql.db WHERE User = {} AND REPLACE(REPLACE(Db, '\\\\_', '_'), '\\\\%', '%') = SCHEMA_NAME AND Select_priv = 'Y')",
            literal(READER)
        ))
        .await?;
    for database in closed.into_iter().flatten().flatten() {
        session.run(&format!("GRANT SELECT, SHOW VIEW ON {}.* TO {user}", grantable(&database))).await?;
    }
    Ok(())
}

/// Prepared, the text can be one statement only.
async fn statement(connection: &mut Conn, query: &ReadQuery) -> Result<Rows, Error> {
    connection.query_drop(format!("SET SESSION max_statement_time = {}", query.time.as_secs_f64())).await?;
    connection.query_drop("START TRANSACTION READ ONLY").await?;
    let mut answer = connection.exec_iter(query.text.as_str(), ()).await?;
    let columns = answer.columns();
    let columns = columns.iter().flat_map(|columns| columns.iter());
    let columns: Vec<Column> = columns.map(|column| Column { name: column.name_str().into_owned(), kind: None }).collect();
    let (mut rows, mut size, mut more) = (Vec::new(), 0, false);
    while let Some(row) = answer.next().await? {
        if rows.len() == query.limit as usize || size > ENOUGH {
            more = true;
            break;
        }
        let row: Texts = row.unwrap().into_iter().map(shown).collect();
        size += row.iter().flatten().map(String::len).sum::<usize>();
        rows.push(row);
    }
    let message = columns.is_empty().then(|| "the statement has no rows".to_owned());
    Ok(Rows { columns, rows, more, message })
}

/// As the server writes it in text.
fn shown(value: Value) -> Option<String> {
    let is_quoted = matches!(value, Value::Date(..) | Value::Time(..));
    let text = text(value)?;
    Some(if is_quoted { text.trim_matches('\'').to_owned() } else { text })
}

fn refused(error: impl std::borrow::Borrow<Error>) -> BrowseError {
    BrowseError::Refused(reason(error.borrow()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_text_of_a_request_cannot_leave_their_quotes() {
        let page = RowsPage {
            group: "a`b".to_owned(),
            item: "item".to_owned(),
            offset: 20,
            limit: 10,
            filter: Some("it's".to_owned()),
            sort: None,
        };
        let columns = [Column { name: "n`".to_owned(), kind: None }];
        assert_eq!(
            select(&columns, &["`id`".to_owned()], &page),
            "SELECT LEFT(`n```, 16385) FROM `a``b`.`item` WHERE LOCATE('it''s', `n```) > 0 ORDER BY `id` LIMIT 11 OFFSET 20"
        );
    }
}
