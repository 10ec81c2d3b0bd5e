//! PURE: what must be applied, what has changed since it was, and the ledger as users see it.

use devenv_api::{LedgerEntry, LedgerMode, LedgerState};

use crate::capability::Script;
pub use crate::capability::{Recorded, RecordedState};

/// The decision for one script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Apply,
    /// The current file was applied.
    Keep,
    /// A former version of it was applied: drift, for the user to resolve.
    Changed,
    /// It was interrupted half-way without a transaction: the user must resolve it.
    Interrupted,
}

pub fn decide(script: &Script, recorded: Option<&Recorded>) -> Verdict {
    let Some(recorded) = recorded else { return Verdict::Apply };
    let same = recorded.checksum == script.checksum;
    match (recorded.state, script.mode) {
        (RecordedState::Running | RecordedState::Interrupted, _) if same => Verdict::Interrupted,
        (RecordedState::Applied, LedgerMode::Once | LedgerMode::OnChange) if same => Verdict::Keep,
        (RecordedState::Applied, LedgerMode::Once) => Verdict::Changed,
        // The user has edited the interrupted file since, which resolves the interruption.
        (RecordedState::Running | RecordedState::Interrupted | RecordedState::Failed, _)
        | (RecordedState::Applied, LedgerMode::OnChange | LedgerMode::Always) => Verdict::Apply,
    }
}

/// The ledger as users see it: every declared script in order, then applied ones without a file.
pub fn view(service: &str, database: Option<&str>, scripts: &[&Script], recorded: &[Recorded]) -> Vec<LedgerEntry> {
    let entry = |path: &str, checksum: &str, mode, state, found: Option<&Recorded>| LedgerEntry {
        service: service.to_owned(),
        database: database.map(str::to_owned),
        path: path.to_owned(),
        checksum: checksum.to_owned(),
        mode,
        state,
        applied_at: found.and_then(|found| found.applied_at.clone()),
        duration_ms: found.and_then(|found| found.duration_ms),
        rows: found.and_then(|found| found.rows),
        error: found.and_then(|found| found.error.clone()),
    };
    let mut entries: Vec<LedgerEntry> = scripts
        .iter()
        .map(|script| {
            let found = recorded.iter().find(|found| found.path == script.path);
            let state = match (decide(script, found), found.map(|found| found.state)) {
                (Verdict::Keep, _) | (Verdict::Apply, Some(RecordedState::Applied))
                    if found.is_some_and(|found| found.checksum == script.checksum) =>
                {
                    LedgerState::Applied
                }
                (Verdict::Changed, _) => LedgerState::Changed,
                (Verdict::Interrupted, Some(RecordedState::Interrupted)) => LedgerState::Interrupted,
                (_, Some(RecordedState::Failed)) => LedgerState::Failed,
                _ => LedgerState::Pending,
            };
            let checksum = found.filter(|_| state != LedgerState::Pending).map_or(&script.checksum, |found| &found.checksum);
            entry(&script.path, checksum, script.mode, state, found)
        })
        .collect();
    // A failed script without a file is left out: it changed no data.
    let gone =
        recorded.iter().filter(|found| found.state != RecordedState::Failed && scripts.iter().all(|script| script.path != found.path));
    entries.extend(gone.map(|found| {
        let state = match found.state {
            RecordedState::Applied => LedgerState::Applied,
            RecordedState::Running => LedgerState::Pending,
            RecordedState::Interrupted => LedgerState::Interrupted,
            RecordedState::Failed => LedgerState::Failed,
        };
        entry(&found.path, &found.checksum, found.mode, state, Some(found))
    }));
    entries
}

pub const INTERRUPTED: &str = "it was interrupted, and it does not run in a single transaction, so its first part stays applied";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::files::{Content, ScriptFormat};

    fn script(path: &str, checksum: &str, mode: LedgerMode) -> Script {
        Script {
            path: path.into(),
            content: Content::Shipped(b""),
            format: ScriptFormat("sql"),
            mode,
            checksum: checksum.into(),
            seed: false,
            size: 0,
            only_up: false,
        }
    }

    fn recorded(path: &str, checksum: &str, state: RecordedState) -> Recorded {
        Recorded {
            path: path.into(),
            checksum: checksum.into(),
            mode: LedgerMode::Once,
            state,
            applied_at: Some("2026-01-01T00:00:00.000000Z".into()),
            duration_ms: Some(3),
            rows: Some(2),
            error: None,
        }
    }

    #[test]
    fn the_decision_depends_on_the_mode_and_the_ledger() {
        use LedgerMode::{Always, OnChange, Once};
        use RecordedState::{Applied, Failed, Interrupted as CutOff, Running};
        use Verdict::{Apply, Changed, Interrupted, Keep};
        for (mode, state, same, wanted) in [
            (Once, Applied, true, Keep),
            (Once, Applied, false, Changed),
            (OnChange, Applied, true, Keep),
            (OnChange, Applied, false, Apply),
            (Always, Applied, true, Apply),
            (Always, Applied, false, Apply),
            (Once, Failed, true, Apply),
            (Once, Failed, false, Apply),
            (Once, Running, true, Interrupted),
            (Once, Running, false, Apply),
            (Once, CutOff, true, Interrupted),
            (OnChange, CutOff, false, Apply),
        ] {
            let script = script("a.sql", "new", mode);
            let found = recorded("a.sql", if same { "new" } else { "old" }, state);
            assert_eq!(decide(&script, Some(&found)), wanted, "{mode:?} {state:?} same={same}");
        }
        assert_eq!(decide(&script("a.sql", "new", Once), None), Apply);
    }

    #[test]
    fn the_ledger_shows_declared_scripts_first_and_then_what_has_no_file_any_more() {
        let scripts = [
            script("1.sql", "a", LedgerMode::Once),
            script("2.sql", "b", LedgerMode::Once),
            script("3.sql", "c", LedgerMode::Once),
            script("4.sql", "d", LedgerMode::OnChange),
            script("5.sql", "e", LedgerMode::Once),
        ];
        let found = [
            recorded("0.sql", "z", RecordedState::Applied),
            recorded("0-bad.sql", "z", RecordedState::Failed),
            recorded("1.sql", "a", RecordedState::Applied),
            recorded("2.sql", "other", RecordedState::Applied),
            recorded("3.sql", "c", RecordedState::Failed),
            recorded("4.sql", "other", RecordedState::Applied),
        ];
        let shown: Vec<String> = view("db", Some("app"), &scripts.iter().collect::<Vec<_>>(), &found)
            .into_iter()
            .map(|entry| format!("{} {:?} {}", entry.path, entry.state, entry.checksum))
            .collect();
        assert_eq!(
            shown,
            ["1.sql Applied a", "2.sql Changed other", "3.sql Failed c", "4.sql Pending d", "5.sql Pending e", "0.sql Applied z"]
        );
    }
}
