//! `devenv ledger`: which scripts have been applied to the data.

use devenv_api::{AcceptRequest, LineChange, ScriptChange};

use super::{Outcome, exit::ExitStatus, session::Session, table, terminal::visible};

/// Show which init scripts and seeds have been applied, and which have changed since.
///
/// Example: devenv ledger
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Accept a changed script as already applied, without running it.
    ///
    /// Example: devenv ledger accept seed-data/demo/postgres/item.csv
    Accept {
        /// The script's path as shown by `devenv ledger`.
        path: String,
    },
    /// Show the lines of a changed script that differ from what was applied.
    ///
    /// Example: devenv ledger diff db/init/01-schema.sql
    Diff {
        /// The script's path as shown by `devenv ledger`.
        path: String,
    },
    /// Apply a script again from its beginning, whatever has become of it.
    ///
    /// For a script that was interrupted, and whose first part does no harm when it is applied again.
    ///
    /// Example: devenv ledger run db/init/02-index.sql
    Run {
        /// The script's path as shown by `devenv ledger`.
        path: String,
    },
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let (client, target) = (session.client().await?, session.target()?);
    let ledger = match &arguments.action {
        Some(Action::Diff { path }) => {
            let changes = client.ledger_changes(&AcceptRequest { target, path: path.clone() }).await?;
            session.printer.result(&changes, || changes.scripts.iter().map(differences).collect::<Vec<_>>().join("\n"))?;
            return Ok(ExitStatus::SUCCESS);
        }
        None => client.ledger(&target).await?,
        Some(Action::Accept { path }) => client.accept(&AcceptRequest { target, path: path.clone() }).await?,
        Some(Action::Run { path }) => client.run_again(&AcceptRequest { target, path: path.clone() }).await?,
    };
    session.printer.result(&ledger, || table::ledger(&ledger.entries))?;
    Ok(ExitStatus::SUCCESS)
}

/// Like a patch, without colours: the signs tell added from removed lines.
fn differences(script: &ScriptChange) -> String {
    let place = script.database.as_ref().map_or_else(|| script.service.clone(), |database| format!("{}/{database}", script.service));
    let mut lines = vec![format!("{} ({place})", script.path)];
    // The numbers that follow, in both files.
    let mut next: Option<(Option<u64>, Option<u64>)> = None;
    let differs = |number: Option<u64>, next: Option<u64>| number.zip(next).is_some_and(|(number, next)| number != next);
    for line in &script.lines {
        if next.is_none_or(|(applied, present)| differs(line.applied, applied) || differs(line.present, present)) {
            let number = line.present.or(line.applied).unwrap_or_default();
            lines.push(format!("@@ line {number} @@"));
        }
        let (applied, present) = next.unwrap_or_default();
        next = Some((line.applied.map(|at| at + 1).or(applied), line.present.map(|at| at + 1).or(present)));
        let sign = match line.change {
            LineChange::Same => ' ',
            LineChange::Removed => '-',
            LineChange::Added => '+',
        };
        lines.push(format!("{sign}{}", visible(&line.text)));
    }
    match &script.incomplete {
        Some(reason) => lines.push(reason.clone()),
        None if script.lines.is_empty() => lines.push("the file is what was applied".to_owned()),
        None => {}
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use devenv_api::ChangedLine;

    use super::*;

    #[test]
    fn changed_lines_look_like_a_patch() {
        let line = |change, applied: Option<u64>, present: Option<u64>, text: &str| ChangedLine {
            change,
            applied,
            present,
            text: text.to_owned(),
        };
        let script = ScriptChange {
            service: "db".to_owned(),
            database: Some("app".to_owned()),
            path: "a.sql".to_owned(),
            checksum: String::new(),
            lines: vec![
                line(LineChange::Same, Some(4), Some(4), "four"),
                line(LineChange::Removed, Some(5), None, "five"),
                line(LineChange::Added, None, Some(5), "FIVE"),
                line(LineChange::Same, Some(6), Some(6), "six\u{1b}[2J"),
                line(LineChange::Added, None, Some(90), "last"),
            ],
            incomplete: None,
        };
        let text = differences(&script);
        assert!(
            text.starts_with("a.sql (db/app)\n@@ line 4 @@\n four\n-five\n+FIVE\n six") && text.ends_with("\n@@ line 90 @@\n+last"),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "{text}");
        let same = ScriptChange { lines: Vec::new(), ..script };
        assert!(differences(&same).ends_with("the file is what was applied"));
    }
}
