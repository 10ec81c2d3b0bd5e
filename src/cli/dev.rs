//! `devenv dev`: starts an environment, and follows it while its services are developed.

use super::{Outcome, session::Session, up};

/// Start the environment, watch files, and stream the logs until Ctrl-C.
///
/// Saving a file that a service watches reloads that service. Reloads are reported between the log lines. The environment keeps
/// running and watching after Ctrl-C.
///
/// Example: devenv dev shop
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(super) options: up::Options,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    up::and_attach(&arguments.options, session).await
}
