//! `devenv openapi`: the description of the daemon's interface.

use super::{Outcome, exit::ExitStatus, session::Session};
use crate::openapi;

/// Print the daemon's interface as an OpenAPI 3.1 document.
///
/// The daemon serves the same document on its socket at `/v1/openapi.json`.
///
/// Example: devenv openapi > openapi.json
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(super) fn run(_: &Arguments, session: &Session) -> Outcome {
    session.printer.document(&openapi::document())?;
    Ok(ExitStatus::SUCCESS)
}
