//! `devenv ledger`: which scripts have been applied to the data.

use devenv_api::AcceptRequest;

use super::{Outcome, exit::ExitStatus, session::Session, table};

/// Show which init scripts and seeds have been applied, and which have changed since.
///
/// Example: devenv ledger
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Accept a changed script as already applied, without running it.
    ///
    /// Example: devenv ledger accept seed-data/demo/postgres/item.csv
    Accept {
        /// The script's path as shown by `devenv ledger`.
        path: String,
    },
    /// Apply a script again from its beginning, whatever has become of it.
    ///
    /// For a script that was interrupted, and whose first part does no harm when it is applied again.
    ///
    /// Example: devenv ledger run db/init/02-index.sql
    Run {
        /// The script's path as shown by `devenv ledger`.
        path: String,
    },
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let (client, target) = (session.client().await?, session.target()?);
    let ledger = match &arguments.action {
        None => client.ledger(&target).await?,
        Some(Action::Accept { path }) => client.accept(&AcceptRequest { target, path: path.clone() }).await?,
        Some(Action::Run { path }) => client.run_again(&AcceptRequest { target, path: path.clone() }).await?,
    };
    session.printer.result(&ledger, || table::ledger(&ledger.entries))?;
    Ok(ExitStatus::SUCCESS)
}
