//! A lock that is not let go.

use super::{Action, FaultKind, Form, Injection, Parameter, Postgres, Refusal, Sign, Target, Undoing, Values};

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
        target.of_kind(self.name(), &["postgres"])?;
        let text = |name| values.text(name).map(str::to_owned);
        Ok(Injection { action: Action::Postgres(Postgres::Lock { database: text("database"), table: text("table") }), sign: Sign::Effect })
    }
}
