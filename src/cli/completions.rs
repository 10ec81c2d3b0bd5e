//! `devenv completions`: for shells.

use clap_complete::Shell;

use super::{Outcome, args, exit::ExitStatus, printer::Printer};

/// Print the completion script for a shell.
///
/// Example: devenv completions bash > ~/.local/share/bash-completion/completions/devenv
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    shell: Shell,
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut args::command(), "devenv", &mut script);
    Printer::raw_output(&script)?;
    Ok(ExitStatus::SUCCESS)
}
