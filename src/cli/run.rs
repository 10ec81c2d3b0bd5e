//! `devenv run`: runs a command on the host with the environment's variables, or once in a service's image.

use std::{io, os::unix::process::CommandExt, process::Command};

use devenv_api::{ApiError, ErrorCode, ExecRequest, VariablesFor, VariablesRequest};

use super::{Outcome, exec, exit::ExitStatus, session::Session};

/// Run a command on the host with the environment's variables, or once in a service's image.
///
/// `devenv run SERVICE -- COMMAND` runs the command in a container of its own, made from the service's image with its settings, files,
/// volumes and networks, and removes it afterwards. Otherwise the command runs on the host: devenv replaces this process with the command, so that signals, terminal and exit code are the command's. Exits with 125 if devenv fails,
/// 126 if the command cannot be run, 127 if it is not found.
///
/// Example: devenv run -- cargo test
///
/// Example: devenv run web -- bin/rails db:migrate
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Whether to remove the container of `devenv run SERVICE` afterwards.
    #[arg(long, value_name = "BOOLEAN", default_value_t = true, action = clap::ArgAction::Set)]
    rm: bool,
    /// The command and its arguments; before them a service and `--` to run it in the service's image.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    if let [service, dashes, command @ ..] = arguments.command.as_slice()
        && dashes == "--"
        && !command.is_empty()
    {
        let request = ExecRequest {
            tty: true,
            one_off: true,
            keep: !arguments.rm,
            ..ExecRequest::of(session.target()?, service.clone(), command.to_vec())
        };
        return exec::in_service(request, session).await;
    }
    let request = VariablesRequest { target: session.target()?, form: VariablesFor::Host, service: None };
    let variables = session.client().await?.variables(&request).await?.variables;
    let (program, rest) = arguments.command.split_first().expect("clap requires at least one word");
    let values = variables.into_iter().map(|(name, variable)| (name, variable.value));
    // Returns only if this process could not be replaced.
    let error = Command::new(program).args(rest).envs(values).exec();
    session.printer.failure(&ApiError::new(ErrorCode::Failed, format!("cannot run {program}: {error}")), None);
    Ok(not_run(&error))
}

fn not_run(error: &io::Error) -> ExitStatus {
    if error.kind() == io::ErrorKind::NotFound { ExitStatus::NOT_FOUND } else { ExitStatus::CANNOT_RUN }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_not_there_and_one_that_cannot_run_have_their_codes() {
        let error = |program: &str| Command::new(program).spawn().unwrap_err();
        assert_eq!(not_run(&error("/no/such/command")), ExitStatus::NOT_FOUND);
        assert_eq!(not_run(&error("/tmp")), ExitStatus::CANNOT_RUN);
    }
}
