//! `devenv profiles`: lists the available profiles.

use super::{Outcome, exit::ExitStatus, project, session::Session, table};

/// List the available profiles: the project's, your own, and the built-in ones.
///
/// Example: devenv profiles
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// List the built-in examples and the profiles of chaos scenarios too. They can always be named.
    #[arg(long)]
    all: bool,
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let mut profiles = project::list(session)?;
    profiles.retain(|profile| arguments.all || !profile.example);
    session.printer.result(&serde_json::json!({ "profiles": profiles }), || {
        let rows = profiles.iter().map(|profile| {
            let from = profile.path.as_ref().map_or_else(|| "built in".to_owned(), |path| path.display().to_string());
            [profile.name.clone(), from, profile.description.clone().unwrap_or_default()]
        });
        table::columns(["PROFILE", "FROM", "DESCRIPTION"], rows)
    })?;
    Ok(ExitStatus::SUCCESS)
}
