//! `devenv list`: every environment of this state directory.

use std::collections::BTreeSet;

use super::{Outcome, exit::ExitStatus, session::Session, table};

/// List the environments of all projects.
///
/// Example: devenv list
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(super) async fn run(_: &Arguments, session: &Session) -> Outcome {
    let environments = session.client().await?.environments().await?;
    session.printer.result(&environments, || table::environments(&environments))?;
    let gone: BTreeSet<&str> = environments.iter().filter(|status| status.project_gone).map(|status| status.project.as_str()).collect();
    for project in gone {
        session.printer.say(format_args!(
            "the directory {project} does not exist any more: if it was moved, run `devenv move {project}` in the new directory; if its \
             environments are not needed, run `devenv down --volumes --project {project}`"
        ));
    }
    Ok(ExitStatus::SUCCESS)
}
