//! No connection left.

use super::{Action, FaultKind, Form, Injection, Parameter, Postgres, Refusal, Sign, Target, Undoing, Values};

pub(super) struct PostgresExhaust;

impl FaultKind for PostgresExhaust {
    fn name(&self) -> &'static str {
        "postgres-exhaust"
    }

    fn about(&self) -> &'static str {
        "Open all connections that the server allows to ordinary clients, except for `leave`."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Kernel
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[Parameter::new("leave", Form::Count, "The number of connections to leave free.").or("0")];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.of_kind(self.name(), &["postgres"])?;
        let leave = values.count("leave").unwrap_or(0);
        Ok(Injection { action: Action::Postgres(Postgres::Exhaust { leave }), sign: Sign::Effect })
    }
}
