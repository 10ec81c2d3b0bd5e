//! `devenv snapshot`: named copies of an environment's data.

use devenv_api::{NamedRequest, OperationRequest, Snapshot, Status};

use super::{Outcome, exit::ExitStatus, operation::carry_out, session::Session, table};

/// Save and restore named copies of the environment's data.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Save the data of all services at one point in time.
    ///
    /// Pauses the services while it copies.
    ///
    /// Example: devenv snapshot save before-migration
    Save {
        /// The snapshot's name: letters, digits, `-`, `_` and `.`.
        #[arg(value_parser = name)]
        name: String,
    },
    /// Replace the current data with a snapshot. The current data goes to the trash.
    ///
    /// Example: devenv snapshot restore before-migration
    Restore {
        /// The snapshot's name.
        name: String,
    },
    /// List the snapshots.
    ///
    /// Example: devenv snapshot list
    List,
    /// Remove a snapshot.
    ///
    /// Example: devenv snapshot remove before-migration
    Remove {
        /// The snapshot's name.
        name: String,
    },
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let (client, target) = (session.client().await?, session.target()?);
    let named = |name: &str| NamedRequest { target: target.clone(), name: name.to_owned() };
    match &arguments.action {
        Action::Save { name } => {
            let snapshot: Snapshot = carry_out(session, &client, OperationRequest::SnapshotSave(named(name))).await?;
            session.printer.result(&snapshot, || table_of(std::slice::from_ref(&snapshot)))?;
        }
        Action::Restore { name } => {
            let status: Status = carry_out(session, &client, OperationRequest::SnapshotRestore(named(name))).await?;
            session.printer.result(&status, || table::status(&status))?;
        }
        Action::List => {
            let snapshots = client.snapshots(&target).await?;
            session.printer.result(&snapshots, || table_of(&snapshots.snapshots))?;
        }
        Action::Remove { name } => {
            let _: serde_json::Value = carry_out(session, &client, OperationRequest::SnapshotRemove(named(name))).await?;
            session.printer.result(&serde_json::json!({ "removed": name }), || format!("removed the snapshot `{name}`"))?;
        }
    }
    Ok(ExitStatus::SUCCESS)
}

fn table_of(snapshots: &[Snapshot]) -> String {
    if snapshots.is_empty() {
        return "no snapshots".to_owned();
    }
    let rows = snapshots.iter().map(|snapshot| {
        let services: Vec<&str> = snapshot.services.iter().map(|part| part.name.as_str()).collect();
        [snapshot.name.clone(), snapshot.created_at.clone(), bytesize::ByteSize(snapshot.size).to_string(), services.join(", ")]
    });
    table::columns(["SNAPSHOT", "CREATED", "SIZE", "SERVICES"], rows)
}

/// Parses a snapshot name, which becomes part of volume names.
fn name(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric()) && text.len() <= 60 && text.chars().all(good) {
        Ok(text.to_owned())
    } else {
        Err("a snapshot name starts with a letter or digit and has at most 60 characters from a-z, A-Z, 0-9, `-`, `_` and `.`".to_owned())
    }
}
