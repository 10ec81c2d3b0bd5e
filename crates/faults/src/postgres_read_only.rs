//! A server that takes no writes, as a standby.

use super::{Action, FaultKind, Injection, Postgres, Refusal, Sign, Target, Undoing, Values};

pub(super) struct PostgresReadOnly;

impl FaultKind for PostgresReadOnly {
    fn name(&self) -> &'static str {
        "postgres-read-only"
    }

    fn about(&self) -> &'static str {
        "Make transactions read-only by default."
    }

    fn undone_by(&self) -> Undoing {
        Undoing::Lease
    }

    fn describe(&self, _: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.of_kind(self.name(), &["postgres"])?;
        Ok(Injection { action: Action::Postgres(Postgres::ReadOnly), sign: Sign::Effect })
    }
}
