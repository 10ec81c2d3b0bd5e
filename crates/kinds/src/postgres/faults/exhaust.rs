//! No connection left.

use devenv_faults::{ExpectedEffect, FaultKind, Form, Injection, Parameter, Refusal, Target, Undoing, Values};
use tokio::time::timeout;
use tokio_postgres::error::SqlState;

use super::{
    Action, NAME,
    session::{ANSWER, Server, hold},
};
use crate::capability::{Effect, FaultSite};

/// More than any server that is set up for development has.
const MOST: usize = 2000;

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
        target.of_kind(self.name(), NAME)?;
        let leave = values.count("leave").unwrap_or(0);
        Ok(Injection { action: Action::Exhaust { leave }.of_kind(), expected: ExpectedEffect::Effect })
    }
}

/// Holds every connection that an ordinary client can have.
pub(super) async fn inject(server: &Server, leave: u64, site: &mut dyn FaultSite) -> Result<Effect, String> {
    let way = server.login(None, false)?;
    let mut held = Vec::new();
    let last = loop {
        if held.len() >= MOST {
            break format!("opened {MOST} connections, and the server still accepts more");
        }
        match timeout(ANSWER, server.session(&way)).await {
            Ok(Ok(session)) => held.push(session),
            Ok(Err(error)) if error.code() == Some(&SqlState::TOO_MANY_CONNECTIONS) => break server.words(&error),
            Ok(Err(error)) => return Err(server.words(&error)),
            Err(_) => return Err("the server did not answer".to_owned()),
        }
    };
    let refused = held.len() < MOST;
    held.truncate(held.len().saturating_sub(leave as usize));
    let what = format!("{} connections are open; the next: {last}", held.len());
    held.into_iter().map(hold).for_each(|task| site.hold(task));
    Ok(if refused { Effect::yes(what) } else { Effect::no(what) })
}
