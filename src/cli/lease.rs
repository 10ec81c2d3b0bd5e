//! `devenv lease`: private parts of running services, as long as a command or this process runs.

use devenv_api::{ClientError, Holding, Lease, LeaseRequest};
use tokio::io::{AsyncReadExt, Stdin};

use super::{
    Outcome,
    environment::shell_quoted,
    exit::ExitStatus,
    failure::{Failure, Signals, internal},
    leased_command::{self, LeasedCommand},
    session::Session,
};

/// Run a command with a private database, key space and topic prefix.
///
/// The environment must be running. PostgreSQL: a copy of the first database (or of `--database`) as it was seeded. Redis: a numbered
/// database with its own user. Kafka: a prefix for topics and groups. The command gets all variables of the environment, with the values
/// of the lease. Without a command, prints the lease and holds it until stdin closes. The lease is cleaned up when the command or this
/// process ends, even after SIGKILL.
///
/// Example: devenv lease -- pytest -q
///
/// Example: devenv lease db --database orders --json
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The services to lease from. Default: all that support leases.
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// The PostgreSQL database to copy. Default: the first one of each server.
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// The command and its arguments.
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    if let Err((status, error)) = leased_command::find(&arguments.command) {
        session.printer.failure(&error, None);
        return Ok(status);
    }
    let mut signals = Signals::listen().map_err(|error| internal("cannot listen for signals", error))?;
    let request = LeaseRequest {
        target: session.target()?,
        services: arguments.services.clone(),
        database: arguments.database.clone(),
        optional: false,
    };
    let client = session.client().await?;
    let (lease, holding) = tokio::select! {
        granted = client.lease(&request) => granted?,
        signal = signals.next() => return Err(Failure::Signal(signal)),
    };
    if arguments.command.is_empty() {
        print(&lease, session)?;
        return hold(holding, tokio::io::stdin(), signals).await;
    }
    on_lease(&arguments.command, lease, holding, &mut signals).await
}

/// Runs a command on a lease and releases the lease.
pub(super) async fn on_lease(command: &[String], lease: Lease, mut holding: Holding, signals: &mut Signals) -> Outcome {
    let held = LeasedCommand { command, variables: lease.variables };
    let status = held.run(signals, async { lost(holding.lost().await) }).await?;
    // The daemon's next sweep removes what could not be released now; the command's result counts.
    let _ = holding.release().await;
    Ok(status)
}

pub(super) fn lost(error: ClientError) -> Failure {
    super::failure::api_error(error).hint("stopped the command, because the lease has ended").into()
}

fn print(lease: &Lease, session: &Session) -> Result<(), Failure> {
    session.printer.result(lease, || {
        let lines = lease.variables.iter().map(|(name, value)| format!("export {name}={}", shell_quoted(value)));
        lines.collect::<Vec<_>>().join("\n")
    })?;
    Ok(session.printer.flush()?)
}

/// Waits until stdin is closed.
async fn hold(mut holding: Holding, mut stdin: Stdin, mut signals: Signals) -> Outcome {
    let mut buffer = [0; 1024];
    loop {
        // All are cancel-safe.
        tokio::select! {
            read = stdin.read(&mut buffer) => if matches!(read, Ok(0) | Err(_)) { break },
            signal = signals.next() => {
                let _ = holding.release().await;
                return Err(Failure::Signal(signal));
            }
            error = holding.lost() => return Err(super::failure::api_error(error).into()),
        }
    }
    holding.release().await?;
    Ok(ExitStatus::SUCCESS)
}
