//! `devenv why`: shows the chain of causes of a service's last change.

use devenv_api::WhyRequest;

use super::{Outcome, events, exit::ExitStatus, session::Session};

/// Explain the last change of a service's state, root cause first.
///
/// Example: devenv why api
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The service to explain.
    service: String,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let request = WhyRequest { target: session.target()?, service: arguments.service.clone() };
    let why = session.client().await?.why(&request).await?;
    session.printer.result(&why, || match why.events.as_slice() {
        [] => format!("no events of {} yet", arguments.service),
        events => events.iter().map(events::line).collect::<Vec<_>>().join("\n"),
    })?;
    Ok(ExitStatus::SUCCESS)
}
