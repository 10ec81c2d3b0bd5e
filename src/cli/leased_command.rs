//! A command that runs on a lease: it gets the lease's variables, and does not outlive it.
//!
//! It has its own process group, so that a signal reaches all of it, unless this process belongs to a terminal session: then it
//! stays in the terminal's group, reads the keyboard, and gets Ctrl-C from the terminal itself.

use std::{
    io::{self, IsTerminal},
    os::unix::process::ExitStatusExt,
    process::ExitStatus as ProcessStatus,
};

use devenv_api::{ApiError, ErrorCode};
use devenv_processes::{LaunchError, parent_death::DIE_WITH_PARENT};
use indexmap::IndexMap;
use rustix::process::{Pid, Signal as RawSignal, kill_process, kill_process_group};
use tokio::process::{Child, Command};

use super::{
    exit::ExitStatus,
    failure::{Failure, Signal, Signals, internal},
};

/// A command with everything it is started with.
pub(super) struct LeasedCommand<'a> {
    pub(super) command: &'a [String],
    pub(super) variables: IndexMap<String, String>,
}

/// The program is looked up before anything is made for it.
pub(super) fn find(command: &[String]) -> Result<(), (ExitStatus, ApiError)> {
    let Some(program) = command.first() else { return Ok(()) };
    let here = std::env::current_dir().unwrap_or_default();
    let path = std::env::var("PATH").ok();
    let Err(error) = devenv_processes::find_program(program, &here, path.as_deref()) else { return Ok(()) };
    let status = match &error {
        LaunchError::NotInPath { .. } | LaunchError::NoProgram(_) => ExitStatus::NOT_FOUND,
        LaunchError::EmptyCommand
        | LaunchError::NoDirectory(_)
        | LaunchError::NotExecutable { .. }
        | LaunchError::NotLimited(_)
        | LaunchError::Shim(_) => ExitStatus::CANNOT_RUN,
    };
    Err((status, ApiError::new(ErrorCode::Failed, error.to_string())))
}

impl LeasedCommand<'_> {
    /// Runs it to its end, and forwards signals. Ends it when `lost` reports that the lease is gone.
    pub(super) async fn run(self, signals: &mut Signals, lost: impl Future<Output = Failure>) -> Result<ExitStatus, Failure> {
        let alone = !io::stdin().is_terminal();
        let marker = self.variables.get(devenv_processes::MARKER).cloned();
        let mut child = self.spawn(alone)?;
        let mut lost = std::pin::pin!(lost);
        loop {
            // All are cancel-safe: a wait, a signal and a connection can be asked again.
            tokio::select! {
                ended = child.wait() => return Ok(status(ended.map_err(|error| internal("cannot wait for the command", error))?)),
                signal = signals.next() => forward(&child, signal, alone),
                failure = &mut lost => {
                    forward_raw(&child, RawSignal::KILL, alone);
                    if let Some(marker) = marker {
                        devenv_processes::sweep(&marker);
                    }
                    let _ = child.wait().await;
                    return Err(failure);
                }
            }
        }
    }

    fn spawn(self, alone: bool) -> Result<Child, ApiError> {
        let own = std::env::current_exe().map_err(|error| internal("cannot find devenv's own executable", error))?;
        let mut command = Command::new(own);
        command.arg(DIE_WITH_PARENT).arg(std::process::id().to_string()).args(self.command).envs(self.variables).kill_on_drop(true);
        if alone {
            command.process_group(0);
        }
        command.spawn().map_err(|error| internal("cannot start the command", error))
    }
}

fn forward(child: &Child, signal: Signal, alone: bool) {
    match signal {
        // The terminal has signalled the whole group.
        Signal::Interrupt if !alone => {}
        Signal::Interrupt => forward_raw(child, RawSignal::INT, alone),
        Signal::Terminate => forward_raw(child, RawSignal::TERM, alone),
    }
}

/// A process that has just ended needs no signal.
fn forward_raw(child: &Child, signal: RawSignal, alone: bool) {
    let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) else { return };
    let _ = if alone { kill_process_group(pid, signal) } else { kill_process(pid, signal) };
}

/// The shell's convention: 128 plus the signal's number.
fn status(ended: ProcessStatus) -> ExitStatus {
    ExitStatus::of_command(ended.code().unwrap_or_else(|| 128 + ended.signal().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(command: &str) -> u8 {
        find(&[command.to_owned()]).map_or_else(|(status, _)| status.code(), |()| 0)
    }

    #[test]
    fn a_command_that_cannot_run_is_known_before_anything_is_made_for_it() {
        assert_eq!(code("sh"), 0);
        assert_eq!(code("/no/such/command"), 127);
        assert_eq!(code("no-such-command-anywhere"), 127);
        assert_eq!(code("/tmp"), 126);
    }

    #[test]
    fn a_command_that_a_signal_ended_has_the_shells_code() {
        assert_eq!(status(ProcessStatus::from_raw(15)).code(), 143);
        assert_eq!(status(ProcessStatus::from_raw(7 << 8)).code(), 7);
    }
}
