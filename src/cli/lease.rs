//! `devenv lease`: private parts of running services, for as long as a command or this process lives.

use devenv_api::{ClientError, Holding, Lease, LeaseRequest};
use tokio::io::{AsyncReadExt, Stdin};

use super::{
    Outcome,
    environment::shell_quoted,
    exit::ExitStatus,
    failure::{Failure, Signals, internal},
    held::{self, Held},
    session::Session,
};

/// Lease a private database, key space and topic prefix, until the command ends.
///
/// The environment has to be up. PostgreSQL: a copy of the first database (or of `--database`), as it was seeded. Redis: a numbered database
/// with a user of its own. Kafka: a prefix for topics and groups. The command gets all of the environment's variables, with the lease's
/// values. Without a command the lease is printed and held until stdin closes. However the holder dies, nothing is left.
///
/// Example: devenv lease -- pytest -q
///
/// Example: devenv lease db --database orders --json
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The services. Default: all of which something can be leased.
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// The PostgreSQL database to copy. Default: each server's first.
    #[arg(long, value_name = "NAME")]
    database: Option<String>,
    /// The command and its arguments.
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    if let Err((status, error)) = held::find(&arguments.command) {
        session.printer.failure(&error, None);
        return Ok(status);
    }
    let mut signals = Signals::listen().map_err(|error| internal("cannot listen to signals", error))?;
    let request = LeaseRequest { target: session.target()?, services: arguments.services.clone(), database: arguments.database.clone() };
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

/// Runs a command on a lease and gives the lease back.
pub(super) async fn on_lease(command: &[String], lease: Lease, mut holding: Holding, signals: &mut Signals) -> Outcome {
    let held = Held { command, variables: lease.variables };
    let status = held.run(signals, async { lost(holding.lost().await) }).await?;
    // What could not be given back now, the daemon's next sweep finds; the command's result stands.
    let _ = holding.release().await;
    Ok(status)
}

pub(super) fn lost(error: ClientError) -> Failure {
    super::failure::told(error).hint("the command was ended, because what it ran on is not its own any more").into()
}

fn print(lease: &Lease, session: &Session) -> Result<(), Failure> {
    session.printer.result(lease, || {
        let lines = lease.variables.iter().map(|(name, value)| format!("export {name}={}", shell_quoted(value)));
        lines.collect::<Vec<_>>().join("\n")
    })?;
    Ok(session.printer.flush()?)
}

/// Until nobody writes to stdin any more.
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
            error = holding.lost() => return Err(super::failure::told(error).into()),
        }
    }
    holding.release().await?;
    Ok(ExitStatus::SUCCESS)
}
