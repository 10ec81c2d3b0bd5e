//! `devenv plan`: what `up` would do.

use devenv_api::Plan;

use super::{Outcome, exit::ExitStatus, project, session::Session, table};

/// Show what `up` would do, why, and how it affects running services. Changes nothing.
///
/// Example: devenv plan shop
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The name of a profile, or a path if it contains `/` or ends in `.yaml`.
    ///
    /// Default: the environment's current profile, else `default`.
    profile: Option<String>,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let named = project::profile_name(session, arguments.profile.as_deref()).await?;
    let loaded = project::load(session, &named)?;
    let request = project::up_request(session, &named, &loaded)?;
    let plan = session.client().await?.plan(&request).await?;
    let plan = Plan { host_powers: loaded.host_powers(), overridden: loaded.overridden(), ..plan };
    session.printer.result(&plan, || table::plan(&plan))?;
    Ok(ExitStatus::SUCCESS)
}
