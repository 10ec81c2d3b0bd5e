//! `devenv plan`: shows what `up` would do.

use devenv_api::Plan;

use super::{
    Outcome,
    exit::ExitStatus,
    project::{self, Selected, Selection},
    session::Session,
    table,
};

/// Show what `up` would do, why, and how it affects running services. Changes nothing.
///
/// Example: devenv plan shop
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The name of a profile, or a path if it contains `/` or ends in `.yaml`.
    ///
    /// Default: the environment's current profile, else `default`.
    profile: Option<String>,
    #[command(flatten)]
    selection: Selection,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let current = project::current_unless_named(session, &arguments.selection, arguments.profile.as_slice()).await?;
    let Selected { name, loaded, .. } = project::select(session, &arguments.selection, arguments.profile.as_slice(), current)?;
    let request = project::up_request(session, &name, &loaded)?;
    let plan = session.client().await?.plan(&request).await?;
    let plan = Plan { host_powers: loaded.host_powers(), overridden: loaded.overridden(), ..plan };
    session.printer.result(&plan, || table::plan(&plan))?;
    Ok(ExitStatus::SUCCESS)
}
