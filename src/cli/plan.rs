//! `devenv plan`: what `up` would do.

use super::{Outcome, exit::ExitStatus, project, session::Session, table};

/// Show what `up` would do, why, and what it means for whoever uses a service. Changes nothing.
///
/// Example: devenv plan shop
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A profile's name, or a path if it contains `/` or ends in `.yaml`.
    ///
    /// Default: the one that the environment runs, else `default`.
    profile: Option<String>,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let named = project::profile_name(session, arguments.profile.as_deref()).await?;
    let loaded = project::load(session, &named)?;
    let request = project::up_request(session, &named, &loaded)?;
    let plan = session.client().await?.plan(&request).await?;
    session.printer.result(&plan, || table::plan(&plan))?;
    Ok(ExitStatus::SUCCESS)
}
