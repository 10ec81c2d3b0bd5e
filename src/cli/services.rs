//! `devenv start`, `stop`, `restart`, `sleep` and `wake`: single services of an environment that is up.

use devenv_api::{OperationRequest, ServicesRequest, Status};

use super::{Outcome, exit::ExitStatus, operation::carry_out, session::Session, table};

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

/// Put services to sleep until a client connects to them.
///
/// For profiles that say `sleep`. Services that depend on them fall asleep too.
///
/// Example: devenv sleep
#[derive(Debug, clap::Args)]
pub(crate) struct Sleep {
    /// The services to put to sleep. Default: all that may sleep.
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// Wake sleeping services with what they depend on, and wait until they are ready.
///
/// Example: devenv wake db
#[derive(Debug, clap::Args)]
pub(crate) struct Wake {
    /// The services to wake. Default: all.
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

pub(super) async fn sleep(arguments: &Sleep, session: &Session) -> Outcome {
    act(&arguments.services, session, OperationRequest::Sleep).await
}

pub(super) async fn wake(arguments: &Wake, session: &Session) -> Outcome {
    act(&arguments.services, session, OperationRequest::Wake).await
}

pub(super) async fn start(arguments: &Start, session: &Session) -> Outcome {
    act(&arguments.services, session, OperationRequest::Start).await
}

pub(super) async fn stop(arguments: &Stop, session: &Session) -> Outcome {
    act(&arguments.services, session, OperationRequest::Stop).await
}

pub(super) async fn restart(arguments: &Restart, session: &Session) -> Outcome {
    act(&arguments.services, session, OperationRequest::Restart).await
}

async fn act(services: &[String], session: &Session, request: fn(ServicesRequest) -> OperationRequest) -> Outcome {
    let request = request(ServicesRequest { target: session.target()?, services: services.to_vec() });
    let status: Status = carry_out(session, &session.client().await?, request).await?;
    session.printer.result(&status, || table::status(&status))?;
    Ok(ExitStatus::SUCCESS)
}
