//! A lock that is not let go.

use devenv_faults::{ExpectedEffect, FaultKind, Form, Injection, Parameter, Refusal, Target, Undoing, Values};
use tokio_postgres::error::SqlState;

use super::{
    Action, NAME,
    session::{Server, hold, rows},
};
use crate::{
    capability::{Effect, FaultSite},
    postgres::provision::identifier,
};

pub(super) struct PostgresLock;

impl FaultKind for PostgresLock {
    fn name(&self) -> &'static str {
        "postgres-lock"
    }

    fn about(&self) -> &'static str {
        "Hold an exclusive lock on one table, or on all tables of a database."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Kernel
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::new("database", Form::Text, "The database. Default: the first."),
            Parameter::new("table", Form::Text, "The table. Default: all user tables."),
        ];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.of_kind(self.name(), NAME)?;
        let text = |name| values.text(name).map(str::to_owned);
        Ok(Injection {
            action: Action::Lock { database: text("database"), table: text("table") }.of_kind(),
            expected: ExpectedEffect::Effect,
        })
    }
}

pub(super) async fn inject(
    server: &Server,
    database: Option<&str>,
    table: Option<&str>,
    site: &mut dyn FaultSite,
) -> Result<Effect, String> {
    let said = |error: tokio_postgres::Error| server.words(&error);
    let session = server.superuser(database).await?;
    let tables = if let Some(table) = table {
        vec![table.split('.').map(identifier).collect::<Vec<_>>().join(".")]
    } else {
        let query = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname NOT LIKE 'pg\\_%' AND schemaname <> 'information_schema'";
        rows(&session.client, query).await.map_err(said)?
    };
    let Some(first) = tables.first() else { return Err("no table to lock".to_owned()) };
    let statement = format!(
        "SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = 0; BEGIN; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE",
        tables.join(", ")
    );
    session.client.simple_query(&statement).await.map_err(said)?;
    let other = server.superuser(database).await?;
    let refused = other.client.simple_query(&format!("SET lock_timeout = '200ms'; BEGIN; LOCK TABLE {first} IN ACCESS SHARE MODE")).await;
    let effect = match refused {
        Err(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) => {
            Effect::yes(format!("{} tables are locked, and another session cannot read {first}", tables.len()))
        }
        Err(error) => return Err(said(error)),
        Ok(_) => Effect::no(format!("another session can read {first}")),
    };
    site.hold(hold(session));
    Ok(effect)
}
