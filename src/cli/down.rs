//! `devenv down`: stop an environment, or all of them.

use devenv_api::{Client, DownRequest, EnvironmentTarget, Phase, Status};
use futures_util::future::join_all;

use super::{Outcome, exit::ExitStatus, failure::Failure, progress, session::Session};

/// Stop the environment and remove its containers and network.
///
/// Data is kept, so the next `up` finds it. With `--volumes` the data goes too, to a trash where it rests for 24 hours.
///
/// Example: devenv down --volumes
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Remove the data too.
    #[arg(long)]
    volumes: bool,
    /// Every environment of this state directory, not just this one.
    #[arg(long)]
    all: bool,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let client = session.client().await?;
    if arguments.all {
        return all(&client, arguments.volumes, session).await;
    }
    let status = one(&client, session.target()?, arguments.volumes, session).await?;
    session.printer.result(&status, String::new)?;
    session.printer.say(format_args!("{} {} is down", status.project, status.instance));
    Ok(ExitStatus::SUCCESS)
}

/// All at once; the first failure is told after the others have ended.
async fn all(client: &Client, volumes: bool, session: &Session) -> Outcome {
    let environments = client.environments().await?;
    // Kept volumes are all that an absent environment may still have.
    let targets = environments
        .into_iter()
        .filter(|status| volumes || status.phase != Phase::Absent)
        .map(|status| EnvironmentTarget { project: status.project, instance: status.instance });
    let ends = join_all(targets.map(|target| one(client, target, volumes, session))).await;
    let ended = ends.into_iter().collect::<Result<Vec<Status>, Failure>>()?;
    session.printer.result(&ended, String::new)?;
    let noun = if ended.len() == 1 { "environment is" } else { "environments are" };
    session.printer.say(format_args!("{} {noun} down", ended.len()));
    Ok(ExitStatus::SUCCESS)
}

async fn one(client: &Client, target: EnvironmentTarget, volumes: bool, session: &Session) -> Result<Status, Failure> {
    progress::follow(&session.printer, client.down(&DownRequest { target, volumes }).await?).await
}
