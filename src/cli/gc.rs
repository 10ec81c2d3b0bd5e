//! `devenv gc`: removes unneeded objects.

use devenv_api::{GcReport, GcRequest, OperationRequest};
use devenv_spec::Size;

use std::time::Duration;

use super::{Outcome, args::period, exit::ExitStatus, operation::carry_out, session::Session, table};

/// Remove resources that are orphaned, idle or over budget.
///
/// Orphaned: containers, networks and volumes without an environment, and records of environments that no longer exist. Idle: environments
/// of `devenv test --warm` that have not been used for a day, and checkouts of Git repositories that no environment is built from and that
/// have not been used for two weeks; with `--idle`, every environment that has not been used for that long is stopped and keeps its data. Over budget: trash older than a day, and golden volumes beyond 10 GiB; with `--budget`, the oldest trash and
/// then golden volumes until all volumes fit. Never removes the data of an environment or anything of another state directory.
///
/// Example: devenv gc --dry-run
///
/// Example: devenv gc --idle 7d --budget 20GiB
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Show what would be removed without removing it.
    #[arg(long)]
    dry_run: bool,
    /// Empty the trash, and remove all golden volumes and unused checkouts too.
    #[arg(long)]
    all: bool,
    /// Stop environments that have not been used for this long, such as `24h`.
    #[arg(long, value_name = "DURATION", value_parser = period)]
    idle: Option<Duration>,
    /// The disk space that all volumes together may use, such as `20GiB`.
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
    let report: GcReport = carry_out(session, &session.client().await?, OperationRequest::Gc(request)).await?;
    session.printer.result(&report, || {
        if report.removed.is_empty() {
            return "nothing to remove".to_owned();
        }
        let rows = report.removed.iter().map(|removed| [removed.kind.clone(), removed.name.clone(), removed.reason.clone()]);
        table::columns([if report.dry_run { "WOULD REMOVE" } else { "REMOVED" }, "NAME", "REASON"], rows)
    })?;
    Ok(ExitStatus::SUCCESS)
}
