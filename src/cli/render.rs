//! `devenv render`: a profile as plain files for other tools.

use std::path::PathBuf;

use devenv_api::{ApiError, ErrorCode};

use super::{Outcome, config, exit::ExitStatus, failure::internal, project::Selection, session::Session};

/// Write a profile as a file for another tool.
///
/// `compose` writes a Compose file that Docker Compose runs, and that `devenv up -f` brings back as the same environment. Services of the
/// kind `container` can be rendered. Secrets stand as references to variables.
///
/// Example: devenv render compose shop --output deploy
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The tool to render for.
    #[arg(value_enum)]
    tool: Tool,
    /// The name of a profile, or a path if it contains `/` or ends in `.yaml`.
    ///
    /// Default: the environment's current profile, else `default`.
    profile: Option<String>,
    #[command(flatten)]
    selection: Selection,
    /// Write the files into this directory instead of printing them.
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Tool {
    /// Docker Compose.
    Compose,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let Tool::Compose = arguments.tool;
    let loaded = config::loaded(session, &arguments.selection, arguments.profile.as_ref()).await?;
    let name: String = session.project()?.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect();
    let name = name.trim_start_matches(['-', '_']);
    let text = crate::profile::render(&loaded.effective(true), (!name.is_empty()).then_some(name)).map_err(|all| {
        let reasons: Vec<String> = all.iter().map(|(service, reason)| format!("`{service}`: {reason}")).collect();
        ApiError::new(ErrorCode::Failed, format!("these services cannot be rendered: {}", reasons.join("; ")))
            .hint("only services of the kind `container` can be rendered")
    })?;
    let Some(directory) = &arguments.output else {
        session.printer.data(text.trim_end())?;
        return Ok(ExitStatus::SUCCESS);
    };
    let path = directory.join("compose.yaml");
    std::fs::create_dir_all(directory)
        .and_then(|()| std::fs::write(&path, text))
        .map_err(|error| internal("cannot write the file", error))?;
    session.printer.say(format_args!("wrote {}", path.display()));
    Ok(ExitStatus::SUCCESS)
}
