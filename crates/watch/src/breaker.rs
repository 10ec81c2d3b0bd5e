//! Breaks feedback loops: pure, time is given.
//!
//! What is written while a service is being built or started may be its user's next save or its own product. The first
//! time it counts as a save, so that none is ever lost. A path that does it again, and was never seen to change at any
//! other time, is generated, and from then on counts only when no operation of the service is in progress.

use std::{
    collections::{HashSet, VecDeque},
    path::PathBuf,
    time::{Duration, Instant},
};

/// So many reloads in a row that a reload caused, whatever the files, are a loop.
const LIMIT: usize = 10;
const WINDOW: Duration = Duration::from_secs(30);
/// A batch of more files is no save of a person's (a checkout, a formatter), and teaches nothing about who edits what.
const BATCH: usize = 100;

#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Seen to change while no operation was in progress.
    edited: HashSet<PathBuf>,
    /// Seen to change once during a build or start.
    suspects: HashSet<PathBuf>,
    products: HashSet<PathBuf>,
    caused: VecDeque<Instant>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// These count.
    pub(super) changed: Vec<PathBuf>,
    /// These have just been found to be a loop's.
    pub(super) broken: Vec<PathBuf>,
}

impl Breaker {
    /// `own` is whether they changed during a build or start, or by the hand of the service's own processes.
    pub(super) fn judge(&mut self, now: Instant, paths: Vec<PathBuf>, own: bool) -> Verdict {
        if !own {
            for path in &paths {
                self.products.remove(path);
                self.suspects.remove(path);
            }
            if paths.len() <= BATCH {
                self.edited.extend(paths.iter().cloned());
            }
            return Verdict { changed: paths, broken: Vec::new() };
        }
        let mut verdict = Verdict::default();
        for path in paths {
            if self.products.contains(&path) {
                continue;
            }
            if self.edited.contains(&path) || self.suspects.insert(path.clone()) {
                verdict.changed.push(path);
            } else {
                self.products.insert(path.clone());
                verdict.broken.push(path);
            }
        }
        if !verdict.changed.is_empty() {
            self.caused.retain(|at| now.saturating_duration_since(*at) < WINDOW);
            self.caused.push_back(now);
            if self.caused.len() > LIMIT {
                self.caused.clear();
                self.products.extend(verdict.changed.iter().cloned());
                verdict.broken.append(&mut verdict.changed);
            }
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn a_build_that_writes_into_what_it_watches_settles_after_two_runs() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        assert_eq!(breaker.judge(now, paths(&["main.py"]), false).changed, paths(&["main.py"]), "the save: run 1");
        assert_eq!(breaker.judge(now, paths(&["made.py"]), true).changed, paths(&["made.py"]), "may be a save: run 2");
        let verdict = breaker.judge(now, paths(&["made.py"]), true);
        assert_eq!((verdict.changed, verdict.broken), (paths(&[]), paths(&["made.py"])), "it is a product");
        assert_eq!(breaker.judge(now, paths(&["made.py"]), true), Verdict::default(), "told once");
        assert_eq!(breaker.judge(now, paths(&["made.py"]), false).changed, paths(&["made.py"]), "edited by hand");
    }

    #[test]
    fn a_file_that_a_person_edits_counts_however_often_it_is_saved_during_a_build() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        breaker.judge(now, paths(&["main.rs"]), false);
        for _ in 0..5 {
            assert_eq!(breaker.judge(now, paths(&["main.rs"]), true).changed, paths(&["main.rs"]));
        }
    }

    #[test]
    fn a_long_chain_of_reloads_that_cause_one_another_ends() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        breaker.judge(now, paths(&["main.rs"]), false);
        let verdicts: Vec<_> = (0..20).map(|_| breaker.judge(now, paths(&["main.rs"]), true)).collect();
        assert_eq!(verdicts.iter().filter(|verdict| !verdict.changed.is_empty()).count(), LIMIT);
        assert_eq!(verdicts.iter().filter(|verdict| !verdict.broken.is_empty()).count(), 1);
        let mut slow = Breaker::default();
        slow.judge(now, paths(&["main.rs"]), false);
        let hourly = (0..20).all(|hour| slow.judge(now + Duration::from_secs(3600 * hour), paths(&["main.rs"]), true).broken.is_empty());
        assert!(hourly, "saves far apart are no loop");
    }
}
