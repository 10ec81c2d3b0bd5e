//! Breaks feedback loops, in which a service writes files that it watches. Pure: time is a parameter.
//!
//! A file that changes while a service is being built or started may be saved by the user or written by the build. The first
//! time it counts as a save, so that no save is lost. A path that changes during a build again, and was never seen to change at any
//! other time, is taken for generated, and from then on counts only while no operation of the service is in progress.
//!
//! A file that changes while the service runs is the service's own if one of its processes has it open for writing. If the writer
//! closes it at once, the timing decides (`rhythm.rs`): a program writes at the same time after each start, a person does not.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use super::rhythm::{Rhythm, Write};

/// This many reloads in a row that a reload caused are a loop, whatever the files.
const LIMIT: usize = 10;
const WINDOW: Duration = Duration::from_secs(30);
/// A larger batch comes from a tool (a checkout, a formatter), not from a person, and does not show who edits which file.
const BATCH: usize = 100;
/// A file that first changes this long after a start is edited by a person.
const EDITED_AFTER: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// A person was seen to edit these.
    edited: HashSet<PathBuf>,
    /// Changed once during a build or start.
    suspects: HashSet<PathBuf>,
    /// Written by the build or the start.
    products: HashSet<PathBuf>,
    /// The service's own processes had these open for writing.
    held: HashSet<PathBuf>,
    /// By path, for files that changed while the service ran.
    rhythms: HashMap<PathBuf, Rhythm>,
    /// The paths that caused the last reload.
    reported: HashSet<PathBuf>,
    caused: VecDeque<Instant>,
}

/// What the service was doing when files changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Activity {
    /// It was being built or started.
    Starting,
    /// It was running: `since` is the time since its build or start ended; `round` identifies that start.
    Running { round: Instant, since: Duration },
    /// No build or start of it is known.
    Unknown,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// These count as changes.
    pub(super) changed: Vec<PathBuf>,
    /// These have just been found to be part of a loop.
    pub(super) broken: Vec<PathBuf>,
}

impl Breaker {
    /// `is_held` returns whether one of the service's own processes has a file open for writing. It is called only for paths that
    /// would count otherwise, and never for a batch.
    pub(super) fn judge(&mut self, now: Instant, paths: Vec<PathBuf>, activity: Activity, is_held: impl Fn(&Path) -> bool) -> Verdict {
        let is_batch = paths.len() > BATCH;
        let mut verdict = Verdict::default();
        for path in paths {
            let before = (verdict.changed.len(), verdict.broken.len());
            if self.held.contains(&path) {
                continue;
            }
            match activity {
                Activity::Starting => self.changed_at_start(now, path.clone(), &mut verdict),
                Activity::Running { round, since } if !is_batch => {
                    self.changed_while_running(now, path.clone(), round, since, &mut verdict);
                }
                Activity::Running { .. } | Activity::Unknown => {
                    self.edited_by_hand(&path, is_batch);
                    verdict.changed.push(path.clone());
                }
            }
            if !is_batch && (verdict.changed.len(), verdict.broken.len()) != before && is_held(&path) {
                verdict.changed.truncate(before.0);
                verdict.broken.truncate(before.1);
                verdict.broken.push(path.clone());
                self.held.insert(path);
            }
        }
        if activity == Activity::Starting && !verdict.changed.is_empty() {
            self.caused.retain(|at| now.saturating_duration_since(*at) < WINDOW);
            self.caused.push_back(now);
            if self.caused.len() > LIMIT {
                self.caused.clear();
                self.products.extend(verdict.changed.iter().cloned());
                verdict.broken.append(&mut verdict.changed);
            }
        }
        if !verdict.changed.is_empty() {
            self.reported = verdict.changed.iter().cloned().collect();
        }
        verdict
    }

    fn changed_at_start(&mut self, now: Instant, path: PathBuf, verdict: &mut Verdict) {
        if let Some(rhythm) = self.rhythms.get_mut(&path).filter(|rhythm| rhythm.is_loop()) {
            rhythm.goes_on(now);
            return;
        }
        if self.products.contains(&path) {
            return;
        }
        if self.edited.contains(&path) || self.suspects.insert(path.clone()) {
            verdict.changed.push(path);
        } else {
            self.products.insert(path.clone());
            verdict.broken.push(path);
        }
    }

    fn changed_while_running(&mut self, now: Instant, path: PathBuf, round: Instant, since: Duration, verdict: &mut Verdict) {
        let is_answer = self.reported.contains(&path);
        match self.rhythms.entry(path.clone()).or_default().write(now, round, since, is_answer) {
            Write::Counts { irregular } => {
                // A file that the start writes too does not show that a person edits it.
                let is_new = !self.suspects.contains(&path) && !self.products.contains(&path);
                if irregular || (is_new && since >= EDITED_AFTER) {
                    self.edited_by_hand(&path, false);
                }
                verdict.changed.push(path);
            }
            Write::Loop => verdict.broken.push(path),
            Write::Ignored => {}
        }
    }

    fn edited_by_hand(&mut self, path: &Path, is_batch: bool) {
        self.products.remove(path);
        self.suspects.remove(path);
        if !is_batch {
            self.edited.insert(path.to_owned());
        }
    }

    /// When [`Self::doubted`] will return paths, if nothing changes until then.
    pub(super) fn due(&self) -> Option<Instant> {
        self.rhythms.values().filter_map(Rhythm::due).min()
    }

    /// Paths that were taken for part of a loop and have been quiet since: a person may have written them after all, so they count.
    pub(super) fn doubted(&mut self, now: Instant) -> Vec<PathBuf> {
        let mut doubted: Vec<PathBuf> =
            self.rhythms.iter_mut().filter_map(|(path, rhythm)| rhythm.doubt(now).then(|| path.clone())).collect();
        doubted.sort_unstable();
        if !doubted.is_empty() {
            self.reported = doubted.iter().cloned().collect();
        }
        doubted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(names: &[&str]) -> Vec<PathBuf> {
        names.iter().map(PathBuf::from).collect()
    }

    fn judge(breaker: &mut Breaker, now: Instant, names: &[&str], activity: Activity) -> Verdict {
        breaker.judge(now, paths(names), activity, |_| false)
    }

    #[test]
    fn a_build_that_writes_watched_files_settles_after_two_runs() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        let made = ["made.py"];
        assert_eq!(judge(&mut breaker, now, &["main.py"], Activity::Unknown).changed, paths(&["main.py"]), "the save: run 1");
        assert_eq!(judge(&mut breaker, now, &made, Activity::Starting).changed, paths(&made), "may be a save: run 2");
        let verdict = judge(&mut breaker, now, &made, Activity::Starting);
        assert_eq!((verdict.changed, verdict.broken), (paths(&[]), paths(&made)), "it is a product");
        assert_eq!(judge(&mut breaker, now, &made, Activity::Starting), Verdict::default(), "reported once");
        let running = Activity::Running { round: now, since: Duration::from_secs(20) };
        assert_eq!(judge(&mut breaker, now, &made, running).changed, paths(&made), "edited by hand");
    }

    #[test]
    fn a_file_that_a_person_edits_counts_however_often_it_is_saved_during_a_build() {
        for first in [Activity::Unknown, Activity::Running { round: Instant::now(), since: Duration::from_secs(20) }] {
            let (mut breaker, now) = (Breaker::default(), Instant::now());
            judge(&mut breaker, now, &["main.rs"], first);
            for _ in 0..5 {
                assert_eq!(judge(&mut breaker, now, &["main.rs"], Activity::Starting).changed, paths(&["main.rs"]));
            }
        }
    }

    #[test]
    fn a_long_chain_of_reloads_that_cause_one_another_ends() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        judge(&mut breaker, now, &["main.rs"], Activity::Unknown);
        let verdicts: Vec<_> = (0..20).map(|_| judge(&mut breaker, now, &["main.rs"], Activity::Starting)).collect();
        assert_eq!(verdicts.iter().filter(|verdict| !verdict.changed.is_empty()).count(), LIMIT);
        assert_eq!(verdicts.iter().filter(|verdict| !verdict.broken.is_empty()).count(), 1);
        let mut slow = Breaker::default();
        judge(&mut slow, now, &["main.rs"], Activity::Unknown);
        let saved =
            |hour: u64| judge(&mut slow, now + Duration::from_secs(3600 * hour), &["main.rs"], Activity::Starting).broken.is_empty();
        assert!((0..20).all(saved), "saves far apart are no loop");
    }

    #[test]
    fn a_file_that_the_service_has_open_for_writing_never_counts_and_is_reported_once() {
        let (mut breaker, now) = (Breaker::default(), Instant::now());
        let running = Activity::Running { round: now, since: Duration::from_secs(20) };
        let is_held = |path: &Path| path == Path::new("dev.db-wal");
        let verdict = breaker.judge(now, paths(&["dev.db-wal", "main.py"]), running, is_held);
        assert_eq!((verdict.changed, verdict.broken), (paths(&["main.py"]), paths(&["dev.db-wal"])));
        assert_eq!(breaker.judge(now, paths(&["dev.db-wal"]), running, is_held), Verdict::default());
        assert_eq!(judge(&mut breaker, now, &["dev.db-wal"], Activity::Starting), Verdict::default(), "nor later");
    }

    /// How often a service is restarted in 10 minutes, and how often a loop is reported, by a program that writes a file
    /// `first` after its first start and then at this interval after each start.
    fn restarts(first: Duration, interval: Option<Duration>, start: Duration) -> (usize, usize) {
        let (mut breaker, began) = (Breaker::default(), Instant::now());
        let end = began + Duration::from_mins(10);
        let (mut now, mut restarts, mut loops) = (began, 0, 0);
        'rounds: loop {
            let round = now;
            let ready = now + start;
            let mut next = Some(round + first);
            loop {
                let due = breaker.due();
                let Some(at) = next.into_iter().chain(due).min().filter(|at| *at < end) else { return (restarts, loops) };
                now = at;
                let counts = if Some(at) == next {
                    next = interval.map(|interval| at + interval);
                    let activity = if at < ready { Activity::Starting } else { Activity::Running { round, since: at - ready } };
                    let verdict = judge(&mut breaker, now, &["data/dev.db"], activity);
                    loops += verdict.broken.len();
                    !verdict.changed.is_empty()
                } else {
                    !breaker.doubted(now).is_empty()
                };
                if counts {
                    restarts += 1;
                    // The old process is stopped first.
                    now = at + Duration::from_millis(50);
                    continue 'rounds;
                }
            }
        }
    }

    #[test]
    fn a_program_that_writes_watched_files_while_it_runs_is_restarted_three_times_at_most() {
        let milliseconds = Duration::from_millis;
        for first in [0, 100, 300, 1000, 2500, 7000, 30_000] {
            for interval in [None, Some(200), Some(2000), Some(8000), Some(45_000)] {
                for start in [0, 150, 1500, 6000] {
                    let (restarts, loops) = restarts(milliseconds(first), interval.map(milliseconds), milliseconds(start));
                    let what = format!("first write {first} ms after the start, then every {interval:?}, start {start} ms");
                    assert!(restarts <= 4 && (1..=2).contains(&loops), "{what}: {restarts} restarts, reported {loops} times");
                    assert!(restarts <= 3 || first < start, "{what}: {restarts} restarts");
                }
            }
        }
    }

    #[test]
    fn a_file_of_a_loop_that_a_start_writes_is_not_quiet() {
        let (mut breaker, mut now) = (Breaker::default(), Instant::now());
        for _ in 0..3 {
            let round = now;
            now += Duration::from_secs(2);
            judge(&mut breaker, now, &["dev.db"], Activity::Running { round, since: Duration::from_secs(2) });
        }
        let due = breaker.due().unwrap();
        assert_eq!(
            judge(&mut breaker, due.checked_sub(Duration::from_secs(1)).unwrap(), &["dev.db"], Activity::Starting),
            Verdict::default()
        );
        assert_eq!((breaker.doubted(due), breaker.due()), (paths(&[]), Some(due + Duration::from_secs(4))));
    }

    #[test]
    fn a_person_who_saves_at_irregular_times_is_always_noticed() {
        let (mut breaker, began) = (Breaker::default(), Instant::now());
        let mut at = began;
        for pause in [3.0, 9.0, 4.5, 2.0, 20.0, 1.5, 3.5, 60.0, 300.0, 7.0, 2.5] {
            let round = at;
            let since = Duration::from_secs_f64(pause);
            at += since;
            assert_eq!(judge(&mut breaker, at, &["main.py"], Activity::Running { round, since }).changed, paths(&["main.py"]), "{pause}");
        }
        let (mut even, mut at) = (Breaker::default(), began);
        let mut counted = Vec::new();
        for _ in 0..3 {
            let round = at;
            at += Duration::from_secs(2);
            let activity = Activity::Running { round, since: Duration::from_secs(2) };
            counted.extend(judge(&mut even, at, &["main.py"], activity).changed);
        }
        assert_eq!(counted.len(), 2, "as even as a program");
        assert_eq!(even.doubted(even.due().unwrap()), paths(&["main.py"]), "but quiet since: it is not lost");
    }
}
