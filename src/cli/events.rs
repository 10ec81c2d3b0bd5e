//! `devenv events`: the environment's events.

use devenv_api::{Event, EventsRequest};
use futures_util::StreamExt;

use super::{
    Outcome,
    exit::ExitStatus,
    printer::{DIM, paint},
    session::Session,
};

/// Show the environment's events, oldest first.
///
/// Example: devenv events -f
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Keep running, and print new events as they happen.
    #[arg(long, short)]
    follow: bool,
}

/// Lines that have already arrived are printed together.
const AT_ONCE: usize = 512;

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let request = EventsRequest { target: session.target()?, follow: arguments.follow };
    let mut events = session.client().await?.events(&request).await?.ready_chunks(AT_ONCE);
    while let Some(chunk) = events.next().await {
        for event in chunk {
            let event = event?;
            session.printer.result(&event, || line(&event))?;
        }
        session.printer.flush()?;
    }
    Ok(ExitStatus::SUCCESS)
}

/// An event as text; also used by `why`.
pub(super) fn line(event: &Event) -> String {
    format!("{} {}", paint(DIM, &event.time), event.message)
}
