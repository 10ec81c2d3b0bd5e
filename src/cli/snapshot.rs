//! `devenv snapshot`: named copies of an environment's data.

use devenv_api::{NamedRequest, Snapshot};

use super::{Outcome, exit::ExitStatus, progress, session::Session, table};

/// Keep, bring back, list and remove named copies of the environment's data.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Copy the data of all services at one moment.
    ///
    /// They are paused for as long as the copy takes.
    ///
    /// Example: devenv snapshot save before-migration
    Save {
        /// A name of letters, digits, `-`, `_` and `.`.
        #[arg(value_parser = name)]
        name: String,
    },
    /// Bring the data of a snapshot back; what there is now goes to the trash.
    ///
    /// Example: devenv snapshot restore before-migration
    Restore { name: String },
    /// List the snapshots.
    ///
    /// Example: devenv snapshot list
    List,
    /// Remove a snapshot.
    ///
    /// Example: devenv snapshot remove before-migration
    Remove { name: String },
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let (client, target) = (session.client().await?, session.target()?);
    let named = |name: &str| NamedRequest { target: target.clone(), name: name.to_owned() };
    match &arguments.action {
        Action::Save { name } => {
            let snapshot = client.save_snapshot(&named(name)).await?;
            session.printer.result(&snapshot, || table_of(std::slice::from_ref(&snapshot)))?;
        }
        Action::Restore { name } => {
            let status = progress::follow(&session.printer, client.restore_snapshot(&named(name)).await?).await?;
            session.printer.result(&status, || table::status(&status))?;
        }
        Action::List => {
            let snapshots = client.snapshots(&target).await?;
            session.printer.result(&snapshots, || table_of(&snapshots.snapshots))?;
        }
        Action::Remove { name } => {
            client.remove_snapshot(&named(name)).await?;
            session.printer.result(&serde_json::json!({ "removed": name }), || format!("the snapshot `{name}` is removed"))?;
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

/// Stands in names of volumes.
fn name(text: &str) -> Result<String, String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric()) && text.len() <= 60 && text.chars().all(good) {
        Ok(text.to_owned())
    } else {
        Err("a snapshot's name begins with a letter or digit and holds up to 60 of a-z, A-Z, 0-9, -, _ and .".to_owned())
    }
}
