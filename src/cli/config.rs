//! `devenv config`: prints the resolved profile.

use super::{
    Outcome,
    exit::ExitStatus,
    failure::Failure,
    project::{self, Loaded, Selection},
    session::Session,
};

/// Print the resolved profile, with everything it extends merged and all variables expanded.
///
/// Masks what users keep secret: variables with names such as `STRIPE_KEY`, and passwords in URLs. Does not need the daemon.
///
/// With `--file`, the profile that Compose files become.
///
/// Example: devenv config shop --explain services.db.postgres.version
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The name of a profile, or a path if it contains `/` or ends in `.yaml`.
    ///
    /// Default: the environment's current profile, else `default`.
    profile: Option<String>,
    #[command(flatten)]
    selection: Selection,
    /// Show which file and line sets the value of this key.
    #[arg(long, value_name = "KEY", conflicts_with = "images")]
    explain: Option<String>,
    /// Print the names of the images that the profile needs, one per line.
    #[arg(long)]
    images: bool,
    /// Do not mask secrets.
    #[arg(long)]
    no_redact: bool,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let loaded = loaded(session, &arguments.selection, arguments.profile.as_ref()).await?;
    if let Some(key) = &arguments.explain {
        let (explanation, words) = loaded.explain(key, arguments.no_redact)?;
        session.printer.result(&explanation, || words)?;
        return Ok(ExitStatus::SUCCESS);
    }
    if arguments.images {
        let images = loaded.images();
        session.printer.result(&serde_json::json!({ "images": images }), || images.join("\n"))?;
        return Ok(ExitStatus::SUCCESS);
    }
    session.printer.result(&loaded.effective(arguments.no_redact), || loaded.effective_yaml(arguments.no_redact).trim_end().to_owned())?;
    Ok(ExitStatus::SUCCESS)
}

/// The requested profile; no daemon is started for it.
pub(super) async fn loaded(session: &Session, selection: &Selection, profile: Option<&String>) -> Result<Loaded, Failure> {
    if selection.files.is_empty() && selection.profiles.is_empty() {
        let named = project::profile_name_if_running(session, profile.map(String::as_str)).await?;
        return project::load(session, &named);
    }
    let current = if selection.files.is_empty() { project::current_if_running(session).await? } else { None };
    Ok(project::select(session, selection, profile.map(std::slice::from_ref).unwrap_or_default(), current)?.loaded)
}
