//! `devenv status`: shows the environment.

use super::{Outcome, exit::ExitStatus, session::Session, table};

/// Show the environment's services, their states and addresses.
///
/// Exits with 0 in every phase. Scripts that need a ready environment use `devenv wait`.
///
/// Example: devenv status --json
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(super) async fn run(_: &Arguments, session: &Session) -> Outcome {
    let target = session.target()?;
    let status = session.client().await?.status(&target).await?;
    session.printer.result(&status, || table::status(&status))?;
    Ok(ExitStatus::SUCCESS)
}
