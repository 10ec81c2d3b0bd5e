//! `devenv exec`: runs a command in a service.
//!
//! If input and output are a terminal, the command gets one of its own, and this one is raw while it runs: Ctrl-C is then
//! an ordinary byte.

use std::io::IsTerminal;

use devenv_api::{ApiError, ErrorCode, ExecInput, ExecOutput, ExecRequest, ExecSession, TerminalSize};
use futures_util::{SinkExt, StreamExt};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::{
    io::{AsyncReadExt, Stdin},
    signal::unix::{Signal, SignalKind, signal},
};

use super::{
    Outcome,
    exit::ExitStatus,
    failure::{Failure, internal},
    printer::Printer,
    session::Session,
};

/// Run a command in a service's container.
///
/// Exits with the command's exit code, or with 125 if devenv fails, 126 if the command cannot be run, 127 if it is not found.
///
/// Example: devenv exec db -- psql -U postgres
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Do not allocate a terminal for the command.
    #[arg(long, short = 'T')]
    no_tty: bool,
    /// Run as this user. Default: the container's user.
    #[arg(long, short, value_name = "USER")]
    user: Option<String>,
    /// Run in this directory. Default: the container's working directory.
    #[arg(long, short, value_name = "DIR")]
    directory: Option<String>,
    /// The service to run the command in.
    service: String,
    /// The command and its arguments.
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
}

/// An event of the session.
enum Step {
    Output(Option<std::io::Result<ExecOutput>>),
    Input(std::io::Result<usize>),
    Resized,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let request = ExecRequest {
        tty: !arguments.no_tty,
        user: arguments.user.clone(),
        directory: arguments.directory.clone(),
        ..ExecRequest::of(session.target()?, arguments.service.clone(), arguments.command.clone())
    };
    in_service(request, session).await
}

/// Runs a command in a service, with a terminal if `tty` says so and there is one.
pub(super) async fn in_service(request: ExecRequest, session: &Session) -> Outcome {
    let tty = request.tty && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    // Before the size is read, so that no change is missed.
    let resized = signal(SignalKind::window_change()).map_err(|error| internal("cannot listen for signals", error))?;
    let request = ExecRequest { tty, size: if tty { window_size() } else { None }, ..request };
    let exec = session.client().await?.exec(&request).await?;
    let _raw = if tty { Some(RawTerminal::enter()?) } else { None };
    converse(exec, tokio::io::stdin(), resized).await
}

/// Forwards input and output until the command ends.
async fn converse(mut exec: ExecSession, mut stdin: Stdin, mut resized: Signal) -> Outcome {
    let mut buffer = vec![0; 32 * 1024];
    let mut input_open = true;
    loop {
        // All three are cancel-safe: a frame, a read and a signal that are not taken stay where they are.
        let step = tokio::select! {
            output = exec.next() => Step::Output(output),
            read = stdin.read(&mut buffer), if input_open => Step::Input(read),
            _ = resized.recv() => Step::Resized,
        };
        match step {
            Step::Output(Some(Ok(ExecOutput::Stdout(bytes)))) => Printer::raw_output(&bytes)?,
            Step::Output(Some(Ok(ExecOutput::Stderr(bytes)))) => Printer::raw_error(&bytes)?,
            Step::Output(Some(Ok(ExecOutput::Exited(code)))) => return Ok(ExitStatus::of_command(code)),
            Step::Output(Some(Ok(ExecOutput::Failed(error)))) => return Err(error.into()),
            Step::Output(Some(Err(_)) | None) => return Err(lost()),
            // The command has ended and its last frames are on their way: a failed write is expected.
            Step::Input(Ok(0) | Err(_)) => {
                input_open = false;
                let _ = exec.send(ExecInput::StdinEnd).await;
            }
            Step::Input(Ok(count)) => {
                let bytes = bytes::Bytes::copy_from_slice(&buffer[..count]);
                input_open = exec.send(ExecInput::Stdin(bytes)).await.is_ok();
            }
            Step::Resized => {
                if let Some(size) = window_size() {
                    let _ = exec.send(ExecInput::Resize(size)).await;
                }
            }
        }
    }
}

fn lost() -> Failure {
    ApiError::new(ErrorCode::Failed, "the daemon stopped while the command was running")
        .hint("the command may still be running in the service")
        .into()
}

fn window_size() -> Option<TerminalSize> {
    let size = tcgetwinsize(rustix::stdio::stdout()).ok()?;
    // Some terminals do not report a size.
    (size.ws_col > 0 && size.ws_row > 0).then_some(TerminalSize { columns: size.ws_col, rows: size.ws_row })
}

/// Puts the terminal into raw mode until it is dropped.
struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    fn enter() -> Result<Self, ApiError> {
        let failed = |error| internal("cannot set up the terminal", error);
        let before = tcgetattr(rustix::stdio::stdin()).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self { before })
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        // A terminal that is gone cannot be restored.
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before);
    }
}
