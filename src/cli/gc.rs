//! `devenv gc`: remove what nobody needs.

use devenv_api::GcRequest;

use super::{Outcome, exit::ExitStatus, session::Session, table};

/// Remove what is nobody's, idle or over budget.
///
/// Never touches what an environment that is up uses, nor anything of another state directory.
///
/// Example: devenv gc --dry-run
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only tell what would be removed.
    #[arg(long)]
    dry_run: bool,
    /// Empty the trash and remove golden volumes too.
    #[arg(long)]
    all: bool,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let request = GcRequest { dry_run: arguments.dry_run, all: arguments.all };
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
