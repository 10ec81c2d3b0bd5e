//! `devenv down`: stop an environment, or all of them.

use devenv_api::{Client, DownRequest, EnvironmentTarget, OperationRequest, Phase, Status};
use futures_util::future::join_all;

use super::{Outcome, exit::ExitStatus, failure::Failure, operation::carry_out, session::Session};

/// Stop the environment and remove its containers and network.
///
/// Keeps the data for the next `up`. With `--volumes`, moves the data to the trash, where it stays for 24 hours.
///
/// Example: devenv down --volumes
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Remove the data too. `devenv undo` brings it back for 24 hours.
    #[arg(long)]
    volumes: bool,
    /// Stop every environment of this state directory, not only this one.
    #[arg(long)]
    all: bool,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let client = session.client().await?;
    if arguments.all {
        return all(&client, arguments.volumes, session).await;
    }
    let status = one(&client, session.target_even_if_gone()?, arguments.volumes, session).await?;
    session.printer.result(&status, String::new)?;
    session.printer.say(format_args!("{} {} is stopped", status.project, status.instance));
    Ok(ExitStatus::SUCCESS)
}

/// Stops all environments in parallel, and returns the first failure after all have finished.
async fn all(client: &Client, volumes: bool, session: &Session) -> Outcome {
    let environments = client.environments().await?;
    // Kept volumes are all that an absent environment may still have.
    let found: Vec<Status> = environments.into_iter().filter(|status| volumes || status.phase != Phase::Absent).collect();
    for status in &found {
        let data = if volumes { ", with its data" } else { "" };
        session.printer.say(format_args!("stopping {} {}{}{data}", status.project, status.instance, services_of(status)));
    }
    let targets = found.into_iter().map(|status| EnvironmentTarget { project: status.project, instance: status.instance });
    let ends = join_all(targets.map(|target| one(client, target, volumes, session))).await;
    let ended = ends.into_iter().collect::<Result<Vec<Status>, Failure>>()?;
    session.printer.result(&ended, String::new)?;
    let noun = if ended.len() == 1 { "environment" } else { "environments" };
    session.printer.say(format_args!("stopped {} {noun}", ended.len()));
    Ok(ExitStatus::SUCCESS)
}

/// ` (db, cache)`.
fn services_of(status: &Status) -> String {
    let names: Vec<&str> = status.services.iter().map(|service| service.name.as_str()).collect();
    if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) }
}

async fn one(client: &Client, target: EnvironmentTarget, volumes: bool, session: &Session) -> Result<Status, Failure> {
    carry_out(session, client, OperationRequest::Down(DownRequest { target, volumes })).await
}
