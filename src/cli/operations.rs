//! `devenv operations`: the daemon's operations.

use devenv_api::{Operation, OperationState};
use futures_util::StreamExt;

use super::{Outcome, exit::ExitStatus, session::Session, table};

/// List the operations in progress, and the last 50 that have ended.
///
/// An operation is a command that changes an environment, such as `up`, `snapshot save` or `reset`. It continues when its command ends.
/// For each operation, the list shows who started it, how long it took, and its result.
///
/// Example: devenv operations
///
/// Example: devenv operations --follow
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Keep running, and print each operation whenever its state changes.
    #[arg(long, short)]
    follow: bool,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let client = session.client().await?;
    if !arguments.follow {
        let operations = client.operations().await?;
        session.printer.result(&operations, || table_of(&operations.operations))?;
        return Ok(ExitStatus::SUCCESS);
    }
    let mut changes = client.follow_operations().await?;
    while let Some(operation) = changes.next().await {
        let operation = operation?;
        session.printer.result(&operation, || line(&operation))?;
        session.printer.flush()?;
    }
    Ok(ExitStatus::SUCCESS)
}

/// One operation in a line.
pub(super) fn line(operation: &Operation) -> String {
    let took = operation.duration_ms.map(|took| format!(" {}", table::duration(took))).unwrap_or_default();
    let detail = detail(operation);
    let detail = if detail.is_empty() { detail } else { format!(": {detail}") };
    format!("{} {}{took} ({}){detail}", operation.id, table::operation_state(operation.state), operation.asked_by.command)
}

fn table_of(operations: &[Operation]) -> String {
    if operations.is_empty() {
        return "no operations".to_owned();
    }
    let rows = operations.iter().map(|operation| {
        [
            operation.id.clone(),
            operation.state.to_string(),
            operation.environment.clone().unwrap_or_default(),
            operation.asked_at.clone(),
            operation.duration_ms.map(table::duration).unwrap_or_default(),
            operation.asked_by.command.clone(),
            detail(operation),
        ]
    });
    table::columns(["OPERATION", "STATE", "ENVIRONMENT", "ASKED AT", "TOOK", "ASKED BY", "DETAIL"], rows)
}

/// In one line: the progress, or the result.
fn detail(operation: &Operation) -> String {
    let progress =
        operation.progress.as_ref().filter(|_| operation.state == OperationState::Running).map(|progress| match progress.total {
            Some(total) => format!("{}/{total} {}", progress.done, progress.unit),
            None => format!("{} {}", progress.done, progress.unit),
        });
    let message = operation.message.as_deref().and_then(|message| message.lines().next()).map(str::to_owned);
    [progress, message].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use devenv_api::{AskedBy, OperationKind, OperationProgress};

    use super::*;

    #[test]
    fn a_list_shows_the_requester_the_duration_and_the_outcome() {
        let mut saved = Operation {
            id: "snapshot-save-1".to_owned(),
            kind: OperationKind::SnapshotSave,
            environment: Some("shop-default-1".to_owned()),
            state: OperationState::Running,
            asked_by: AskedBy { command: "devenv snapshot save one".to_owned(), pid: Some(7), user: Some(0) },
            asked_at: "2026-11-28T10:00:00.000000Z".to_owned(),
            started_at: None,
            duration_ms: Some(812),
            progress: Some(OperationProgress { done: 1, total: Some(2), unit: "volumes".to_owned() }),
            message: None,
        };
        let running = saved.clone();
        saved.state = OperationState::Failed;
        saved.message = Some("the disk is full\nand more".to_owned());
        let text = table_of(&[running, saved]);
        insta::assert_snapshot!(anstream::adapter::strip_str(&text).to_string(), @r"
        OPERATION        STATE    ENVIRONMENT     ASKED AT                     TOOK    ASKED BY                  DETAIL
        snapshot-save-1  running  shop-default-1  2026-11-28T10:00:00.000000Z  812 ms  devenv snapshot save one  1/2 volumes
        snapshot-save-1  failed   shop-default-1  2026-11-28T10:00:00.000000Z  812 ms  devenv snapshot save one  the disk is full
        ");
    }
}
