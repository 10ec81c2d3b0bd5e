//! Sessions that are ended.

use std::time::Duration;

use devenv_faults::{ExpectedEffect, FaultKind, Form, Injection, Parameter, Refusal, Target, Undoing, Values};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Action, NAME,
    session::{Server, rows},
};
use crate::{
    capability::{Effect, FaultSite},
    postgres::provision::literal,
};

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

    fn lasts(&self, values: &Values) -> bool {
        values.duration("every").is_some()
    }

    fn describe(&self, values: &Values, target: &Target<'_>) -> Result<Injection, Refusal> {
        target.of_kind(self.name(), NAME)?;
        let (database, every) = (values.text("database").map(str::to_owned), values.duration("every"));
        Ok(Injection { action: Action::Terminate { database, every }.of_kind(), expected: ExpectedEffect::Effect })
    }
}

pub(super) async fn inject(
    server: Server,
    database: Option<String>,
    every: Option<Duration>,
    site: &mut dyn FaultSite,
) -> Result<Effect, String> {
    let effect = end(&server, database.as_deref()).await;
    if let Some(every) = every {
        site.hold(AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                tokio::time::sleep(every).await;
                // A server that does not answer has no sessions to end.
                let _ = end(&server, database.as_deref()).await;
            }
        })));
    }
    effect
}

async fn end(server: &Server, database: Option<&str>) -> Result<Effect, String> {
    let session = server.superuser(None).await?;
    // One of our own, so that the end of a session is seen even where nobody else has one.
    let victim = server.session(&server.login(database, false)?).await.map_err(|error| server.words(&error))?;
    let condition = database.map(|name| format!(" AND datname = {}", literal(name))).unwrap_or_default();
    let query = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid(){condition}"
    );
    let ended = rows(&session.client, &query).await.map_err(|error| server.words(&error))?.len();
    let gone = timeout(Duration::from_secs(3), async {
        while victim.client.simple_query("SELECT 1").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    Ok(match gone {
        Ok(()) => Effect::yes(format!("terminated {} client sessions and one of devenv's own", ended.saturating_sub(1))),
        Err(_) => Effect::no("a session that was terminated is still there"),
    })
}
