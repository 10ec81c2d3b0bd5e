//! No connection left.

use super::{Action, FaultKind, Form, Injection, Parameter, Postgres, Refusal, Sign, Target, Undoing, Values};

pub(super) struct PostgresExhaust;

impl FaultKind for PostgresExhaust {
    fn name(&self) -> &'static str {
        "postgres-exhaust"
    }

    fn about(&self) -> &'static str {
        "Takes all connections that the server has for ordinary clients, but `leave`."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Kernel
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[Parameter::new("leave", Form::Count, "How many stay free.").or("0")];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.of_kind(self.name(), &["postgres"])?;
        let leave = values.count("leave").unwrap_or(0);
        Ok(Injection { action: Action::Postgres(Postgres::Exhaust { leave }), sign: Sign::Effect })
    }
}
