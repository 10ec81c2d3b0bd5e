//! Sessions that are ended.

use super::{Action, FaultKind, Form, Injection, Parameter, Postgres, Refusal, Sign, Target, Undoing, Values};

pub(super) struct PostgresTerminate;

impl FaultKind for PostgresTerminate {
    fn name(&self) -> &'static str {
        "postgres-terminate"
    }

    fn about(&self) -> &'static str {
        "Terminate the sessions of all clients, repeatedly with `every`."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Nothing
    }

    fn parameters(&self) -> &'static [Parameter] {
        const PARAMETERS: &[Parameter] = &[
            Parameter::new("database", Form::Text, "Only sessions of this database."),
            Parameter::new("every", Form::Duration, "Terminate again after this time, as long as the fault lasts."),
        ];
        PARAMETERS
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.of_kind(self.name(), &["postgres"])?;
        let (database, every) = (values.text("database").map(str::to_owned), values.duration("every"));
        Ok(Injection { action: Action::Postgres(Postgres::Terminate { database, every }), sign: Sign::Effect })
    }
}
