//! `devenv completions`: the script for a shell, and the candidates that the script requests from this binary at each TAB.
//!
//! A script sets [`paths::COMPLETE`](crate::paths::COMPLETE) and calls devenv with the words of the line; [`answer_if_asked`] then prints
//! candidates instead of running a command. Names come from `values`, which starts no daemon and prints nothing else.

mod nushell;
mod values;

use std::{ffi::OsString, process::ExitCode};

use clap_complete::env::{Bash, CompleteEnv, Elvish, EnvCompleter, Fish, Powershell, Shells, Zsh};

use self::nushell::Nushell;
use super::{Outcome, args, exit::ExitStatus, failure::internal, printer::Printer};
use crate::paths;

/// Generate a shell completion script.
///
/// The script completes commands and options, and names: services, profiles, instances, snapshots, faults, scenarios and topics. It asks
/// `devenv` for them, which has to be on the `PATH`.
///
/// Example: devenv completions bash > ~/.local/share/bash-completion/completions/devenv
///
/// Example: devenv completions zsh > ~/.zfunc/_devenv
///
/// Example: devenv completions fish > ~/.config/fish/completions/devenv.fish
///
/// Example: devenv completions nushell > devenv.nu
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The shell to generate it for.
    shell: Shell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Shell {
    Bash,
    Elvish,
    Fish,
    Nushell,
    Powershell,
    Zsh,
}

impl Shell {
    fn adapter(self) -> &'static dyn EnvCompleter {
        match self {
            Self::Bash => &Bash,
            Self::Elvish => &Elvish,
            Self::Fish => &Fish,
            Self::Nushell => &Nushell,
            Self::Powershell => &Powershell,
            Self::Zsh => &Zsh,
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Outcome {
    let mut script = Vec::new();
    arguments
        .shell
        .adapter()
        .write_registration(paths::COMPLETE, "devenv", "devenv", "devenv", &mut script)
        .map_err(|error| internal("cannot write the completion script", error))?;
    Printer::raw_output(&script)?;
    Ok(ExitStatus::SUCCESS)
}

/// Candidates for the word at the cursor, if a completion script asks for them.
pub(super) fn answer_if_asked(arguments: &[OsString]) -> Option<ExitCode> {
    std::env::var_os(paths::COMPLETE).filter(|shell| !shell.is_empty())?;
    let words: Vec<OsString> = arguments.iter().skip_while(|word| *word != "--").skip(1).cloned().collect();
    let shells: &[&dyn EnvCompleter] = &[&Bash, &Elvish, &Fish, &Nushell, &Powershell, &Zsh];
    let environment = CompleteEnv::with_factory(|| values::with_candidates(args::command(), &words))
        .var(paths::COMPLETE)
        .bin("devenv")
        .completer("devenv")
        .shells(Shells(shells));
    let here = std::env::current_dir().ok();
    match environment.try_complete(arguments.iter().cloned(), here.as_deref()) {
        Ok(true) => Some(ExitCode::SUCCESS),
        Ok(false) => None,
        // A message would end up in the line that is being typed.
        Err(_) => Some(ExitCode::FAILURE),
    }
}
