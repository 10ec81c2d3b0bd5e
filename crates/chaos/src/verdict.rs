//! PURE: decides the verdict from the observations.
//!
//! *Unknown* takes precedence over *fail*: a run in which a fault had no effect or a workload did nothing proves nothing, whatever
//! its checks say.

use devenv_api::{CheckResult, Verdict};

/// The outcome of one fault of the timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntryOutcome {
    /// It was never due.
    NeverBegan,
    /// It could not be injected.
    Refused(String),
    /// Injected, but its effect was not observed.
    NotWitnessed(String),
    /// It took effect, and its service did not recover in time.
    NotRecovered,
    Recovered,
}

/// Everything that the verdict depends on.
#[derive(Debug, Default)]
pub(crate) struct Facts<'a> {
    pub entry_outcomes: Vec<(&'a str, EntryOutcome)>,
    /// The number of operations that each workload had acknowledged, and its last error.
    pub workloads: Vec<(&'a str, u64, Option<String>)>,
    pub checks: &'a [CheckResult],
    /// Why the run was aborted or could not be judged.
    pub doubts: Vec<String>,
    /// Failures of the scenario as a whole.
    pub failures: Vec<String>,
    /// Faults that are still active.
    pub not_healed: Vec<String>,
}

/// The verdict, and why it is not `pass`.
pub(crate) fn verdict(facts: &Facts<'_>) -> (Verdict, Option<String>) {
    let mut unknown = facts.doubts.clone();
    let mut failed = facts.failures.clone();
    unknown.extend(facts.not_healed.iter().map(|id| format!("`{id}` cannot be undone")));
    for (id, entry_outcome) in &facts.entry_outcomes {
        match entry_outcome {
            EntryOutcome::Recovered => {}
            EntryOutcome::NeverBegan => unknown.push(format!("`{id}` was not injected")),
            EntryOutcome::Refused(why) => unknown.push(format!("`{id}` cannot be injected: {why}")),
            EntryOutcome::NotWitnessed(why) => unknown.push(format!("the effect of `{id}` was not observed: {why}")),
            EntryOutcome::NotRecovered => failed.push(format!("the service did not recover from `{id}` in time")),
        }
    }
    for (name, acknowledged, trouble) in &facts.workloads {
        if *acknowledged == 0 {
            let why = trouble.as_ref().map(|trouble| format!(" ({trouble})")).unwrap_or_default();
            unknown.push(format!("no operation of the workload `{name}` was acknowledged{why}"));
        }
    }
    // Data that cannot be read because its service never recovered is a failure, not a doubt.
    let away = facts.entry_outcomes.iter().any(|(_, entry_outcome)| *entry_outcome == EntryOutcome::NotRecovered);
    for check in facts.checks {
        match check.verdict {
            Verdict::Pass => {}
            Verdict::Unknown if away => failed.push(format!("{}: {}", check.name, check.detail)),
            Verdict::Fail => failed.push(format!("{}: {}", check.name, check.detail)),
            Verdict::Unknown => unknown.push(format!("{}: {}", check.name, check.detail)),
        }
    }
    let verdict = match (unknown.is_empty(), failed.is_empty()) {
        (true, true) => Verdict::Pass,
        (true, false) => Verdict::Fail,
        (false, _) => Verdict::Unknown,
    };
    unknown.append(&mut failed);
    (verdict, (!unknown.is_empty()).then(|| unknown.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(verdict: Verdict) -> CheckResult {
        CheckResult { name: "keys.lost".to_owned(), verdict, detail: "3 of 9".to_owned(), figures: serde_json::Map::new() }
    }

    #[test]
    fn a_pass_needs_every_fault_seen_every_workload_at_work_and_every_check_held() {
        let passing = [check(Verdict::Pass)];
        let good = || Facts {
            entry_outcomes: vec![("cut", EntryOutcome::Recovered)],
            workloads: vec![("keys", 9, None)],
            checks: &passing,
            ..Facts::default()
        };
        assert_eq!(verdict(&good()), (Verdict::Pass, None));
        let cases: [(Facts<'_>, Verdict, &str); 8] = [
            (Facts { entry_outcomes: vec![("cut", EntryOutcome::NeverBegan)], ..good() }, Verdict::Unknown, "`cut` was not injected"),
            (
                Facts { entry_outcomes: vec![("cut", EntryOutcome::NotWitnessed("it still answers".to_owned()))], ..good() },
                Verdict::Unknown,
                "the effect of `cut` was not observed: it still answers",
            ),
            (
                Facts { entry_outcomes: vec![("cut", EntryOutcome::Refused("no".to_owned()))], ..good() },
                Verdict::Unknown,
                "`cut` cannot be injected: no",
            ),
            (
                Facts { entry_outcomes: vec![("cut", EntryOutcome::NotRecovered)], ..good() },
                Verdict::Fail,
                "the service did not recover from `cut` in time",
            ),
            (
                Facts { entry_outcomes: vec![("cut", EntryOutcome::NotRecovered)], checks: &[check(Verdict::Unknown)], ..good() },
                Verdict::Fail,
                "the service did not recover from `cut` in time; keys.lost: 3 of 9",
            ),
            (
                Facts { workloads: vec![("keys", 0, None)], ..good() },
                Verdict::Unknown,
                "no operation of the workload `keys` was acknowledged",
            ),
            (Facts { checks: &[check(Verdict::Fail)], ..good() }, Verdict::Fail, "keys.lost: 3 of 9"),
            (
                Facts { checks: &[check(Verdict::Fail)], workloads: vec![("keys", 0, Some("refused".to_owned()))], ..good() },
                Verdict::Unknown,
                "no operation of the workload `keys` was acknowledged (refused); keys.lost: 3 of 9",
            ),
        ];
        for (facts, expected, reason) in cases {
            assert_eq!(verdict(&facts), (expected, Some(reason.to_owned())));
        }
    }
}
