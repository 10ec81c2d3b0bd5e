//! `devenv dev`: bring an environment up, and stay while its services are developed.

use super::{Outcome, session::Session, up};

/// Bring the environment up, watch files, and stream the logs until Ctrl-C.
///
/// Saving a file that a service watches reloads that service; what happens is told between the lines of the logs.
/// The environment goes on running, and watching, after it.
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
