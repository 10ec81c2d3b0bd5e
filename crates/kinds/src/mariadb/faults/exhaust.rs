//! No connection left.

use devenv_faults::{ExpectedEffect, FaultKind, Form, Injection, Parameter, Refusal, Target, Undoing, Values};

use super::{
    Action, NAME,
    server::{Server, hold, within},
};
use crate::{
    capability::{Effect, FaultSite},
    mariadb::session::{code, reason},
};

/// More than any server that is set up for development has.
const MOST: usize = 2000;
/// The server's numbers for too many connections, of all users and of this one.
const TOO_MANY: [u16; 2] = [1040, 1203];

pub(super) struct MariadbExhaust;

impl FaultKind for MariadbExhaust {
    fn name(&self) -> &'static str {
        "mariadb-exhaust"
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

/// Holds every connection that an ordinary client can have. The server keeps one more for its superuser.
pub(super) async fn inject(server: &Server, leave: u64, site: &mut dyn FaultSite) -> Result<Effect, String> {
    let login = server.owner(None)?;
    let mut held = Vec::new();
    let last = loop {
        if held.len() >= MOST {
            break format!("opened {MOST} connections, and the server still accepts more");
        }
        match within(login.connect()).await? {
            Ok(connection) => held.push(connection),
            Err(error) if code(&error).is_some_and(|code| TOO_MANY.contains(&code)) => break reason(&error),
            Err(error) => return Err(reason(&error)),
        }
    };
    let refused = held.len() < MOST;
    held.truncate(held.len().saturating_sub(usize::try_from(leave).unwrap_or(usize::MAX)));
    let what = format!("{} connections are open; the next: {last}", held.len());
    held.into_iter().map(hold).for_each(|task| site.hold(task));
    Ok(if refused { Effect::yes(what) } else { Effect::no(what) })
}
