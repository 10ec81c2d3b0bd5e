//! `devenv completions`: for shells.

use clap_complete::Shell;

use super::{Outcome, args, exit::ExitStatus, printer::Printer};

/// Generate a shell completion script.
///
/// Example: devenv completions bash > ~/.local/share/bash-completion/completions/devenv
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The shell to generate it for.
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut args::command(), "devenv", &mut script);
    Printer::raw_output(&script)?;
    Ok(ExitStatus::SUCCESS)
}
