//! PURE: finds the smallest timeline that still fails: leaves entries out one by one, and keeps them out if the rest still fails.

use super::scenario::{Claim, Scenario, Start};

/// A timeline with fewer entries, by their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub left_out: Vec<String>,
}

/// The next timeline to try, after `tried` others did not fail. `None` once every entry has been tried.
///
/// `scenario` is the smallest that failed so far. Later entries are tried first: the cause of a failure is more often early.
pub fn shrunk(scenario: &Scenario, tried: &[Candidate]) -> Option<Candidate> {
    let candidates = scenario.timeline.iter().rev().map(|entry| Candidate { left_out: dependants(scenario, &entry.id) });
    let sensible = |candidate: &Candidate| candidate.left_out.len() < scenario.timeline.len() && !tried.contains(candidate);
    candidates.into_iter().find(|candidate| sensible(candidate))
}

/// The scenario without these entries, and without the checks that concern them.
pub fn without(scenario: &Scenario, candidate: &Candidate) -> Scenario {
    let out = |id: &String| candidate.left_out.contains(id);
    let mut smaller = scenario.clone();
    smaller.timeline.retain(|entry| !out(&entry.id));
    smaller.checks.retain(|check| !matches!(&check.claim, Claim::Recovery { id, .. } if out(id)));
    for check in &mut smaller.checks {
        if let Claim::Available { except, .. } = &mut check.claim {
            except.retain(|id| !out(id));
        }
    }
    smaller
}

/// An entry and all that wait for it, in the order of the timeline.
fn dependants(scenario: &Scenario, id: &str) -> Vec<String> {
    let mut found = vec![id.to_owned()];
    let waits = |entry: &super::scenario::Entry, found: &[String]| matches!(&entry.start, Start::After { id, .. } if found.contains(id));
    while let Some(next) = scenario.timeline.iter().find(|entry| !found.contains(&entry.id) && waits(entry, &found)) {
        found.push(next.id.clone());
    }
    scenario.timeline.iter().map(|entry| entry.id.clone()).filter(|id| found.contains(id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::read;

    #[test]
    fn entries_leave_with_all_that_wait_for_them_until_none_can() {
        let text = "\
workload: { keys: { redis-keys: { service: cache } } }
timeline:
  - { id: a, at: 1s, fault: kill, on: cache }
  - { id: b, after: a.recovered, fault: kill, on: cache }
  - { id: c, at: 9s, fault: kill, on: cache }
checks: { a.recovery: { max: 1s }, c.recovery: { max: 1s } }
";
        let scenario = read("s", "s", text.as_bytes(), None).unwrap_or_else(|_| panic!());
        let ids = |scenario: &Scenario| scenario.timeline.iter().map(|entry| entry.id.clone()).collect::<Vec<_>>();
        // Without `c` it does not fail, without `b` it does, and then only `a` is left to try.
        let first = shrunk(&scenario, &[]).unwrap();
        assert_eq!(first.left_out, ["c"]);
        let second = shrunk(&scenario, std::slice::from_ref(&first)).unwrap();
        assert_eq!(second.left_out, ["b"]);
        let smaller = without(&scenario, &second);
        assert_eq!(ids(&smaller), ["a", "c"]);
        let third = shrunk(&smaller, std::slice::from_ref(&first)).unwrap();
        assert_eq!(third.left_out, ["a"]);
        assert_eq!(without(&smaller, &third).checks.len(), 1);
        assert_eq!(shrunk(&smaller, &[first, third]), None);
        assert_eq!(dependants(&scenario, "a"), ["a", "b"]);
    }
}
