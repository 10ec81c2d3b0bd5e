//! `devenv daemon`: runs, starts, stops and shows the daemon. The only command that runs it in its own process.

use std::{fmt::Write, os::fd::OwnedFd, time::Duration};

use devenv_api::{Announcement, ApiError, Client, DaemonStatus, ErrorCode};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};

use super::{
    Outcome,
    args::Command,
    exit::ExitStatus,
    failure::{Failure, internal, misplaced},
    printer::Printer,
    session::Session,
    table,
};
use crate::{
    daemon as supervisor, faults,
    paths::{self, Paths},
};

/// Manage the daemon. Other commands start it when they need it.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Subcommand)]
enum Action {
    /// Run the daemon in the foreground.
    ///
    /// Meant for service managers. Prints one line of JSON when it accepts connections, and logs to stderr. `DEVENV_LOG` sets the log filter.
    ///
    /// Example: devenv daemon run
    Run,
    /// Start the daemon in the background, unless it is running.
    ///
    /// Example: devenv daemon start
    Start,
    /// Stop the daemon. Environments keep running, and the next daemon takes them over.
    ///
    /// Example: devenv daemon stop
    Stop,
    /// Show whether the daemon is running and which container engine it uses. Does not start it.
    ///
    /// Example: devenv daemon status --json
    Status,
}

/// How long a stopping daemon may take: it only has state files to write.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// `daemon run` has a runtime of its own, with more than one thread, and reads its signals itself.
pub(super) fn run_in_foreground(command: &Command, session: &Session) -> Option<Outcome> {
    match command {
        Command::Daemon(Arguments { action: Action::Run }) => Some(supervise(session)),
        _ => None,
    }
}

fn supervise(session: &Session) -> Outcome {
    let paths = Paths::resolve().and_then(|paths| paths.create().map(|()| paths)).map_err(|error| {
        let error = misplaced(error);
        announce(&Announcement::Error(error.clone()));
        error
    })?;
    let filter = tracing_subscriber::EnvFilter::try_from_env(paths::LOG).unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| internal("cannot start the runtime", error))?;
    let options = supervisor::Options { paths, context: session.global.context.clone(), engine: None, steady: supervisor::STEADY };
    let mut said = false;
    let outcome = runtime.block_on(supervisor::run(options, |announcement| {
        said = true;
        announce(&announcement);
    }));
    if let (Err(error), false) = (&outcome, said) {
        announce(&Announcement::Error(error.clone()));
    }
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(match outcome {
        Ok(()) => ExitStatus::SUCCESS,
        Err(error) => {
            // The announcement was printed already; this line is for the log.
            tracing::error!(code = ?error.code, "The daemon stops: {}", error.message);
            error.code.into()
        }
    })
}

/// Prints one line for the process that started this one. Nothing is written to stdout after it, so the reader sees the end of the stream.
fn announce(announcement: &Announcement) {
    if let Ok(mut line) = serde_json::to_vec(announcement) {
        line.push(b'\n');
        // A daemon serves even if its starter is gone.
        let _ = Printer::raw_output(&line);
    }
    if let Ok(nothing) = std::fs::File::options().write(true).open("/dev/null") {
        let _ = rustix::stdio::dup2_stdout(nothing);
    }
}

/// Undoes the faults that the engine alone can undo, if no daemon can be started.
pub(super) async fn heal_without_daemon(session: &Session) -> Result<(Vec<devenv_api::Fault>, Vec<devenv_api::Fault>), Failure> {
    Ok(faults::rescue(&Paths::resolve()?, session.global.context.clone(), &session.target()?).await?)
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    match arguments.action {
        Action::Start => {
            let status = session.client().await?.daemon().await?;
            show(&status, session)
        }
        Action::Stop => {
            let running = session.running_daemon().await?;
            if let Some(client) = &running {
                stop(client).await?;
            }
            let status = absent()?;
            session.printer.result(&status, || if running.is_some() { "the daemon has stopped".to_owned() } else { words(&status) })?;
            Ok(ExitStatus::SUCCESS)
        }
        Action::Status => {
            let status = match session.running_daemon().await? {
                Some(client) => client.daemon().await?,
                None => absent()?,
            };
            show(&status, session)
        }
        // Must come before a client's runtime exists.
        Action::Run => supervise(session),
    }
}

fn absent() -> Result<DaemonStatus, Failure> {
    let socket = Paths::resolve()?.socket().display().to_string();
    Ok(DaemonStatus { running: false, pid: None, version: None, socket, uptime_ms: None, engine: None, environments: Vec::new() })
}

/// Returns when its process has ended, so that the next one does not conflict with it.
async fn stop(client: &Client) -> Result<(), Failure> {
    let pid = client.daemon().await?.pid.and_then(|pid| Pid::from_raw(pid as i32));
    // Read before it is asked to stop: afterwards another process may have its id.
    let process = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    client.stop_daemon().await?;
    let Some(process) = process else { return Ok(()) };
    if ended(process).await? {
        return Ok(());
    }
    let words = format!("the daemon did not stop within {} s", STOP_DEADLINE.as_secs());
    Err(ApiError::new(ErrorCode::Failed, words).hint("see its log, `daemon.log` in the state directory").into())
}

/// Whether the process ended before the deadline.
async fn ended(process: OwnedFd) -> Result<bool, ApiError> {
    let failed = |error: &dyn std::fmt::Display| internal("cannot wait for the daemon to stop", error);
    let deadline = Timespec::try_from(STOP_DEADLINE).map_err(|error| failed(&error))?;
    let poll = tokio::task::spawn_blocking(move || poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&deadline)));
    let ready = poll.await.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    Ok(ready > 0)
}

fn show(status: &DaemonStatus, session: &Session) -> Outcome {
    session.printer.result(status, || words(status))?;
    Ok(ExitStatus::SUCCESS)
}

fn words(status: &DaemonStatus) -> String {
    if !status.running {
        return format!("no daemon is running at {}", status.socket);
    }
    let pid = status.pid.map(|pid| format!(", process {pid}")).unwrap_or_default();
    let uptime = status.uptime_ms.map(|uptime| format!(", for {}", table::duration(uptime))).unwrap_or_default();
    let mut text = format!("the daemon {} is running at {}{pid}{uptime}", status.version.as_deref().unwrap_or_default(), status.socket);
    if let Some(engine) = &status.engine {
        let _ = write!(text, "\nengine: {} {} (API {}) at {}", engine.kind, engine.version, engine.api, engine.endpoint);
    }
    if !status.environments.is_empty() {
        text.push('\n');
        text.push_str(&table::environments(&status.environments));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_are_the_documented_lines() {
        let error = ApiError::new(ErrorCode::NoEngine, "none");
        let cases = [
            (Announcement::Ready, r#"{"ready":true}"#),
            (Announcement::Running, r#"{"running":true}"#),
            (Announcement::Error(error), r#"{"error":{"code":"no-engine","message":"none"}}"#),
        ];
        for (announcement, line) in cases {
            assert_eq!(serde_json::to_string(&announcement).unwrap(), line);
            assert_eq!(serde_json::from_str::<Announcement>(line).unwrap(), announcement);
        }
    }
}
