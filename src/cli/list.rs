//! `devenv list`: every environment of this state directory.

use std::collections::BTreeSet;

use devenv_api::Status;

use super::{Outcome, exit::ExitStatus, session::Session, table};

/// List the environments of all projects.
///
/// Example: devenv list
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Show which subnet each environment uses, sorted by subnet.
    #[arg(long)]
    subnets: bool,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let mut environments = session.client().await?.environments().await?;
    if arguments.subnets {
        let address = |status: &Status| status.subnet.as_ref().and_then(|subnet| subnet.parse::<ipnet::Ipv4Net>().ok());
        environments.retain(|status| status.subnet.is_some());
        environments.sort_by_key(address);
        session.printer.result(&environments, || table::subnets(&environments))?;
    } else {
        session.printer.result(&environments, || table::environments(&environments))?;
    }
    let gone: BTreeSet<&str> = environments.iter().filter(|status| status.project_gone).map(|status| status.project.as_str()).collect();
    for project in gone {
        session.printer.say(format_args!(
            "the directory {project} does not exist any more: if it was moved, run `devenv move {project}` in the new directory; if its \
             environments are not needed, run `devenv down --volumes --project {project}`"
        ));
    }
    Ok(ExitStatus::SUCCESS)
}
