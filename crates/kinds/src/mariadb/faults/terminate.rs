//! Sessions that are ended.

use std::time::Duration;

use devenv_faults::{ExpectedEffect, FaultKind, Form, Injection, Parameter, Refusal, Target, Undoing, Values};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::{
    Action, NAME,
    server::{Server, within},
};
use crate::{
    capability::{Effect, FaultSite},
    mariadb::session::{code, literal, reason},
};

/// The server's number for a session that has ended by itself.
const NO_SESSION: u16 = 1094;

pub(super) struct MariadbTerminate;

impl FaultKind for MariadbTerminate {
    fn name(&self) -> &'static str {
        "mariadb-terminate"
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
    let mut session = server.superuser().await?;
    // One of our own, so that the end of a session is seen even where nobody else has one.
    let mut victim = within(server.owner(database)?.open()).await?.map_err(|error| reason(&error))?;
    let condition = database.map(|name| format!(" AND DB = {}", literal(name))).unwrap_or_default();
    let query = format!(
        "SELECT ID FROM information_schema.PROCESSLIST WHERE ID <> CONNECTION_ID() AND COMMAND <> 'Daemon' AND USER <> 'system user'{condition}"
    );
    let sessions = within(session.rows(&query)).await?.map_err(|error| reason(&error))?;
    let mut ended = 0_usize;
    for id in sessions.into_iter().flatten().flatten() {
        match within(session.run(&format!("KILL CONNECTION {id}"))).await? {
            Ok(()) => ended += 1,
            Err(error) if code(&error) == Some(NO_SESSION) => {}
            Err(error) => return Err(reason(&error)),
        }
    }
    session.close().await;
    let gone = timeout(Duration::from_secs(3), async {
        while victim.run("DO 0").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    Ok(match gone {
        Ok(()) => Effect::yes(format!("terminated {} client sessions and one of devenv's own", ended.saturating_sub(1))),
        Err(_) => Effect::no("a session that was terminated is still there"),
    })
}
