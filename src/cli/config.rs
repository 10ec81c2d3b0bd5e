//! `devenv config`: the profile as it is understood.

use super::{Outcome, exit::ExitStatus, project, session::Session};

/// Print the profile with everything it extends merged in and every variable filled in.
///
/// Holds no secrets: they are generated, and no part of a profile. Needs no daemon.
///
/// Example: devenv config shop --explain services.db.postgres.version
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A profile's name, or a path if it contains `/` or ends in `.yaml`.
    ///
    /// Default: the one that the environment runs, else `default`.
    profile: Option<String>,
    /// Tell where the value of this key comes from.
    #[arg(long, value_name = "KEY", conflicts_with = "images")]
    explain: Option<String>,
    /// Print the names of the images that the profile needs, one a line.
    #[arg(long)]
    images: bool,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let named = project::profile_name_if_running(session, arguments.profile.as_deref()).await?;
    let loaded = project::load(session, &named)?;
    if let Some(key) = &arguments.explain {
        let (explanation, words) = loaded.explain(key)?;
        session.printer.result(&explanation, || words)?;
        return Ok(ExitStatus::SUCCESS);
    }
    if arguments.images {
        let images = loaded.images();
        session.printer.result(&serde_json::json!({ "images": images }), || images.join("\n"))?;
        return Ok(ExitStatus::SUCCESS);
    }
    session.printer.result(&loaded.effective(), || loaded.effective_yaml().trim_end().to_owned())?;
    Ok(ExitStatus::SUCCESS)
}
