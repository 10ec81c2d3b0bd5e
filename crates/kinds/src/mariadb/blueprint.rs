//! The schema of a database, as statements that create it again in another one: MariaDB cannot copy a database itself.
//!
//! Statements are the server's own (`SHOW CREATE`), read with the database in use, because only then do they not name it.
//! A view can only be read if its definer may use the database.
//! Tables come first, then rows, and last what would act on rows or refers to tables.

use std::collections::BTreeMap;

use mysql_async::Error;
use serde::{Deserialize, Serialize};

use super::session::{Session, Texts, identifier, literal};

/// A database without its rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Blueprint {
    /// The default character set and collation.
    defaults: (String, String),
    pub(super) tables: Vec<Table>,
    sequences: Vec<(String, String)>,
    /// Views, functions, procedures, triggers and events: everything that does not move with a table.
    pub(super) programs: Vec<Program>,
}

/// A table, and the columns to copy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Table {
    pub(super) name: String,
    create: String,
    pub(super) columns: Vec<String>,
}

/// An object that one statement creates and that is dropped by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Program {
    kind: String,
    name: String,
    /// The SQL mode in which the statement was written.
    mode: Option<String>,
    create: String,
}

impl Blueprint {
    /// Reads the current database; the session uses it afterwards.
    pub(super) async fn read(session: &mut Session, database: &str) -> Result<Self, Error> {
        let of = literal(database);
        session.run(&format!("USE {}", identifier(database))).await?;
        let mut blueprint = Self::default();
        let defaults =
            format!("SELECT DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = {of}");
        if let Some([set, collation]) = session.rows(&defaults).await?.into_iter().next().and_then(|row| <[_; 2]>::try_from(row).ok()) {
            blueprint.defaults = (set.unwrap_or_default(), collation.unwrap_or_default());
        }
        let columns = format!(
            "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = {of} AND IS_GENERATED = 'NEVER' \
             AND EXTRA NOT LIKE '%GENERATED%' ORDER BY TABLE_NAME, ORDINAL_POSITION"
        );
        let mut columns_of: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (table, column) in pairs(session.rows(&columns).await?) {
            columns_of.entry(table).or_default().push(column);
        }
        let tables = format!("SELECT TABLE_NAME, TABLE_TYPE FROM information_schema.TABLES WHERE TABLE_SCHEMA = {of} ORDER BY TABLE_NAME");
        for (name, kind) in pairs(session.rows(&tables).await?) {
            match kind.as_str() {
                "SEQUENCE" => {
                    let create = shown(session, &format!("SHOW CREATE SEQUENCE {}", identifier(&name)), 1).await?;
                    blueprint.sequences.push((name, create));
                }
                "VIEW" => blueprint.program(session, "VIEW", name, 1, None).await?,
                _ => {
                    let create = shown(session, &format!("SHOW CREATE TABLE {}", identifier(&name)), 1).await?;
                    let columns = columns_of.remove(&name).unwrap_or_default();
                    blueprint.tables.push(Table { name, create, columns });
                }
            }
        }
        let routines =
            format!("SELECT ROUTINE_NAME, ROUTINE_TYPE FROM information_schema.ROUTINES WHERE ROUTINE_SCHEMA = {of} ORDER BY 2, 1");
        for (name, kind) in pairs(session.rows(&routines).await?) {
            blueprint.program(session, &kind, name, 2, Some(1)).await?;
        }
        let triggers = format!(
            "SELECT TRIGGER_NAME, '' FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = {of} \
             ORDER BY EVENT_OBJECT_TABLE, ACTION_TIMING, EVENT_MANIPULATION, ACTION_ORDER"
        );
        for (name, _) in pairs(session.rows(&triggers).await?) {
            blueprint.program(session, "TRIGGER", name, 2, Some(1)).await?;
        }
        let events = format!("SELECT EVENT_NAME, '' FROM information_schema.EVENTS WHERE EVENT_SCHEMA = {of} ORDER BY 1");
        for (name, _) in pairs(session.rows(&events).await?) {
            blueprint.program(session, "EVENT", name, 3, Some(1)).await?;
        }
        Ok(blueprint)
    }

    async fn program(&mut self, session: &mut Session, kind: &str, name: String, create: usize, mode: Option<usize>) -> Result<(), Error> {
        let row = session.rows(&format!("SHOW CREATE {kind} {}", identifier(&name))).await?.into_iter().next().unwrap_or_default();
        let text = |index: usize| row.get(index).cloned().flatten();
        // Without a text the right to read it is missing, which the superuser always has.
        if let Some(statement) = text(create) {
            self.programs.push(Program { kind: kind.to_owned(), name, mode: mode.and_then(text), create: statement });
        }
        Ok(())
    }

    /// Creates an empty database with the same tables. The session uses it afterwards, without foreign key checks.
    pub(super) async fn make(&self, session: &mut Session, database: &str) -> Result<(), Error> {
        let (set, collation) = &self.defaults;
        let defaults = if set.is_empty() { String::new() } else { format!(" CHARACTER SET {set} COLLATE {collation}") };
        session.run(&format!("CREATE DATABASE {}{defaults}", identifier(database))).await?;
        session.run(&format!("USE {}", identifier(database))).await?;
        session.run("SET SESSION foreign_key_checks = 0, unique_checks = 0").await?;
        for (_, create) in &self.sequences {
            session.run(create).await?;
        }
        for table in &self.tables {
            session.run(&table.create).await?;
        }
        Ok(())
    }

    /// Copies all rows from one database into the empty tables of another one. With `lock` nobody writes meanwhile, so all
    /// rows are of one moment.
    pub(super) async fn fill(&self, session: &mut Session, from: &str, to: &str, lock: bool) -> Result<(), Error> {
        let (from, to) = (identifier(from), identifier(to));
        if lock && !self.tables.is_empty() {
            let each = |table: &Table| {
                let name = identifier(&table.name);
                format!("{from}.{name} READ, {to}.{name} WRITE")
            };
            session.run(&format!("LOCK TABLES {}", self.tables.iter().map(each).collect::<Vec<_>>().join(", "))).await?;
        }
        for table in self.tables.iter().filter(|table| !table.columns.is_empty()) {
            let (name, columns) =
                (identifier(&table.name), table.columns.iter().map(|column| identifier(column)).collect::<Vec<_>>().join(","));
            session.run(&format!("INSERT INTO {to}.{name} ({columns}) SELECT {columns} FROM {from}.{name}")).await?;
        }
        if lock && !self.tables.is_empty() {
            session.run("UNLOCK TABLES").await?;
        }
        for (name, _) in &self.sequences {
            let name = identifier(name);
            let next = session.rows(&format!("SELECT next_not_cached_value FROM {from}.{name}")).await?;
            if let Some(next) = next.into_iter().flatten().flatten().next() {
                session.run(&format!("DO SETVAL({to}.{name}, {next}, 0)")).await?;
            }
        }
        Ok(())
    }

    /// Creates what does not move with tables, in the session's database. Views may depend on one another.
    pub(super) async fn make_programs(&self, session: &mut Session) -> Result<(), Error> {
        for statement in self.program_statements() {
            session.run(&statement).await?;
        }
        let mut left: Vec<&Program> = self.programs.iter().filter(|program| program.kind == "VIEW").collect();
        while !left.is_empty() {
            let (mut refused, mut last) = (Vec::new(), None);
            for view in &left {
                if let Err(error) = session.run(&view.create).await {
                    refused.push(*view);
                    last = Some(error);
                }
            }
            match last {
                Some(error) if refused.len() == left.len() => return Err(error),
                _ => left = refused,
            }
        }
        self.restore_mode(session).await
    }

    async fn restore_mode(&self, session: &mut Session) -> Result<(), Error> {
        session.run("SET SESSION sql_mode = 'STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_AUTO_CREATE_USER,NO_ENGINE_SUBSTITUTION,NO_AUTO_VALUE_ON_ZERO'").await
    }

    /// Everything but the views, each after the mode in which it was written.
    fn program_statements(&self) -> Vec<String> {
        let mut statements = Vec::new();
        for program in self.programs.iter().filter(|program| program.kind != "VIEW") {
            if let Some(mode) = &program.mode {
                statements.push(format!("SET SESSION sql_mode = {}", literal(mode)));
            }
            statements.push(program.create.clone());
        }
        statements
    }

    /// Drops what does not move with tables.
    pub(super) fn drops(&self, database: &str) -> Vec<String> {
        let drop = |program: &Program| format!("DROP {} IF EXISTS {}.{}", program.kind, identifier(database), identifier(&program.name));
        self.programs.iter().map(drop).collect()
    }

    /// Tables and sequences, with which a whole database moves.
    pub(super) fn movable(&self) -> impl Iterator<Item = &str> {
        self.tables.iter().map(|table| table.name.as_str()).chain(self.sequences.iter().map(|(name, _)| name.as_str()))
    }

    /// The statements of [`Self::make_programs`], which may fail one by one and be repeated.
    pub(super) fn programs_again(&self, database: &str) -> Vec<String> {
        let mut statements = self.drops(database);
        statements.push(format!("USE {}", identifier(database)));
        let views: Vec<&Program> = self.programs.iter().filter(|program| program.kind == "VIEW").collect();
        // As often as there are views, which is enough for any order among them.
        for _ in 0..views.len() {
            statements.extend(views.iter().map(|view| view.create.replacen("CREATE ", "CREATE OR REPLACE ", 1)));
        }
        statements.extend(self.program_statements());
        statements
    }
}

fn pairs(rows: Vec<Texts>) -> Vec<(String, String)> {
    rows.into_iter()
        .filter_map(|row| match <[_; 2]>::try_from(row) {
            Ok([Some(first), second]) => Some((first, second.unwrap_or_default())),
            _ => None,
        })
        .collect()
}

async fn shown(session: &mut Session, query: &str, column: usize) -> Result<String, Error> {
    Ok(session.rows(query).await?.into_iter().next().and_then(|row| row.into_iter().nth(column)?).unwrap_or_default())
}
