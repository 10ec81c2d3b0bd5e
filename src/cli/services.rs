//! `devenv start`, `stop` and `restart`: single services of an environment that is up.

use devenv_api::{Client, ClientError, ServicesRequest, Stream, UpMessage};

use super::{Outcome, exit::ExitStatus, progress, session::Session, table};

/// Start stopped services, and wait until they are ready.
///
/// Example: devenv start cache
#[derive(Debug, clap::Args)]
pub(crate) struct Start {
    /// The services to start. Default: all.
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// Stop services until the next `start`, `restart` or `up`.
///
/// Keeps their containers and data.
///
/// Example: devenv stop cache
#[derive(Debug, clap::Args)]
pub(crate) struct Stop {
    /// The services to stop. Default: all.
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// Restart services, and wait until they are ready.
///
/// Example: devenv restart api
#[derive(Debug, clap::Args)]
pub(crate) struct Restart {
    /// The services to restart. Default: all.
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub(super) async fn start(arguments: &Start, session: &Session) -> Outcome {
    act(&arguments.services, session, async |client, request| client.start(&request).await).await
}

pub(super) async fn stop(arguments: &Stop, session: &Session) -> Outcome {
    act(&arguments.services, session, async |client, request| client.stop(&request).await).await
}

pub(super) async fn restart(arguments: &Restart, session: &Session) -> Outcome {
    act(&arguments.services, session, async |client, request| client.restart(&request).await).await
}

async fn act(
    services: &[String],
    session: &Session,
    ask: impl AsyncFnOnce(&Client, ServicesRequest) -> Result<Stream<UpMessage>, ClientError>,
) -> Outcome {
    let request = ServicesRequest { target: session.target()?, services: services.to_vec() };
    let client = session.client().await?;
    let status = progress::follow(&session.printer, ask(&client, request).await?).await?;
    session.printer.result(&status, || table::status(&status))?;
    Ok(ExitStatus::SUCCESS)
}
