//! `devenv validate`: reports every problem of a file at once.

use devenv_api::{Problems, Severity};

use super::{Outcome, exit::ExitStatus, project, session::Session};

/// Check profiles, and report every problem with its line and column.
///
/// Exits with 2 if there are errors, and with 0 if there are only warnings. Does not need the daemon or a container engine.
///
/// Example: devenv validate profiles/shop.yaml
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The files to check.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<String>,
}

pub(super) fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let mut problems = Vec::new();
    for file in &arguments.files {
        problems.extend(project::check(session, &absolute(file))?);
    }
    let errors = problems.iter().filter(|problem| problem.severity == Severity::Error).count();
    session.printer.result(&Problems { problems }, String::new)?;
    if errors > 0 {
        session.printer.say(format_args!("{errors} {}", if errors == 1 { "problem" } else { "problems" }));
        return Ok(ExitStatus::USAGE);
    }
    session.printer.say(if arguments.files.len() == 1 { "the file is valid" } else { "all files are valid" });
    Ok(ExitStatus::SUCCESS)
}

/// A file is relative to the current directory, although paths in a profile are relative to the project.
fn absolute(file: &str) -> String {
    std::path::absolute(file).ok().and_then(|path| path.into_os_string().into_string().ok()).unwrap_or_else(|| file.to_owned())
}
