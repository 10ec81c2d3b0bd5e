//! `devenv render`: writes a profile as files for other tools.

use std::path::PathBuf;

use devenv_profile::Rendering;

use super::{Outcome, config, exit::ExitStatus, failure::internal, project::Selection, session::Session};

/// Write a profile as a file for another tool.
///
/// `compose` writes a Compose file that Docker Compose runs, and that `devenv up -f` brings back as the same environment. Services of
/// every kind but `process` become containers; what the file lacks is named. Secrets stand as references to variables.
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
    let rendering = loaded.as_compose((!name.is_empty()).then_some(name));
    let said = remarks(&rendering);
    for line in &said {
        session.printer.say(format_args!("{line}"));
    }
    // A remark holds text of the profile, which must not end the comment.
    let head: String = said.iter().flat_map(|line| line.split(['\n', '\r'])).map(|line| format!("# {line}\n")).collect();
    let text = format!("{head}{}", rendering.text);
    let Some(directory) = &arguments.output else {
        session.printer.data(text.trim_end())?;
        return Ok(ExitStatus::SUCCESS);
    };
    let path = directory.join("compose.yaml");
    std::fs::create_dir_all(directory)
        .and_then(|()| devenv_files::write_result(&path, text.as_bytes()))
        .map_err(|error| internal("cannot write the file", error))?;
    session.printer.say(format_args!("wrote {}", path.display()));
    Ok(ExitStatus::SUCCESS)
}

/// What the file has not, and what it needs.
fn remarks(rendering: &Rendering) -> Vec<String> {
    let mut lines: Vec<String> =
        rendering.left_out.iter().map(|(service, reason)| format!("`{service}` is not in the file: {reason}")).collect();
    lines.extend(rendering.missing.iter().map(|(service, what)| format!("`{service}`: {what}")));
    if !rendering.variables.is_empty() {
        lines.push(format!("set these variables in the shell or in `.env`: {}", rendering.variables.join(", ")));
    }
    lines
}
