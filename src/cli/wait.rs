//! `devenv wait`: waits until services are ready.

use std::time::Duration;

use devenv_api::WaitRequest;

use super::{Outcome, args::period, exit::ExitStatus, progress, session::Session, table};

/// Wait until services are ready.
///
/// Does not start anything. Fails immediately if a service has failed or is stopped.
///
/// Example: devenv wait db --timeout 30s
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The services to wait for. Default: all that are not optional.
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// Give up after this time, with exit code 4. Default: no limit.
    #[arg(long, value_name = "DURATION", value_parser = period)]
    timeout: Option<Duration>,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let request = WaitRequest {
        target: session.target()?,
        services: arguments.services.clone(),
        timeout_ms: arguments.timeout.map(|timeout| timeout.as_millis() as u64),
    };
    let client = session.client().await?;
    let status = progress::follow(&session.printer, client.wait(&request).await?).await?;
    session.printer.result(&status, || table::status(&status))?;
    Ok(ExitStatus::SUCCESS)
}
