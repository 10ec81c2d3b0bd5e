//! `devenv list`: every environment of this state directory.

use super::{Outcome, exit::ExitStatus, session::Session, table};

/// List the environments of all projects.
///
/// Example: devenv list
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(super) async fn run(_: &Arguments, session: &Session) -> Outcome {
    let environments = session.client().await?.environments().await?;
    session.printer.result(&environments, || table::environments(&environments))?;
    Ok(ExitStatus::SUCCESS)
}
