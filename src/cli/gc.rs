//! `devenv gc`: remove what nobody needs.

use devenv_api::GcRequest;

use std::time::Duration;

use super::{Outcome, args::period, exit::ExitStatus, session::Session, table};
use crate::spec::Size;

/// Remove what is nobody's, idle or over budget.
///
/// What is nobody's: containers, networks and volumes of no environment, records of environments of which nothing is left. Idle: what
/// `devenv test --warm` left and nobody has used for a day; with `--idle`, every environment that is up and has not been used for so long is
/// taken down, and keeps its data. Over budget: trash after a day, golden volumes beyond 10 GiB; with `--budget`, the oldest trash and then
/// golden volumes, until all volumes together fit. Never touches the data of an environment, nor anything of another state directory.
///
/// Example: devenv gc --dry-run
///
/// Example: devenv gc --idle 7d --budget 20GiB
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only tell what would be removed.
    #[arg(long)]
    dry_run: bool,
    /// Empty the trash and remove golden volumes too.
    #[arg(long)]
    all: bool,
    /// Take down environments that nobody has used for so long, such as `24h`.
    #[arg(long, value_name = "DURATION", value_parser = period)]
    idle: Option<Duration>,
    /// What all volumes together may take on the disk, such as `20GiB`.
    #[arg(long, value_name = "SIZE")]
    budget: Option<Size>,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let request = GcRequest {
        dry_run: arguments.dry_run,
        all: arguments.all,
        idle_ms: arguments.idle.map(|idle| idle.as_millis() as u64),
        budget: arguments.budget.map(Size::bytes),
    };
    let report = session.client().await?.gc(&request).await?;
    session.printer.result(&report, || {
        if report.removed.is_empty() {
            return "nothing to remove".to_owned();
        }
        let rows = report.removed.iter().map(|removed| [removed.kind.clone(), removed.name.clone(), removed.reason.clone()]);
        table::columns([if report.dry_run { "WOULD REMOVE" } else { "REMOVED" }, "NAME", "REASON"], rows)
    })?;
    Ok(ExitStatus::SUCCESS)
}
