//! PURE: the recovery from a fault, computed from what the prober and the workloads observed.

use super::stats::Sample;

/// When a service began and stopped to answer, as a prober saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Answers {
    /// Each change: the time in microseconds, and whether it answers from then on.
    pub changes: Vec<(u64, bool)>,
}

/// Times in microseconds of the run's clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct RecoveryTimes {
    pub first_error: Option<u64>,
    pub ok: Option<u64>,
    pub baseline: Option<u64>,
}

/// This many successes in a row are no coincidence.
const IN_A_ROW: usize = 5;
const SECOND: u64 = 1_000_000;

impl Answers {
    pub(crate) fn change(&mut self, at: u64, answers: bool) {
        if self.changes.last().is_none_or(|(_, last)| *last != answers) {
            self.changes.push((at, answers));
        }
    }

    pub(crate) fn answers(&self) -> bool {
        self.changes.last().is_some_and(|(_, answers)| *answers)
    }

    /// When it first stopped answering, between the two times.
    pub(crate) fn silent_after(&self, from: u64, to: u64) -> Option<u64> {
        self.changes.iter().find(|(at, answers)| !answers && (from..=to).contains(at)).map(|(at, _)| *at)
    }

    /// When it answered again after an outage; `None` if there was no outage, or it has not ended.
    pub(crate) fn back_after(&self, silent: u64) -> Option<u64> {
        self.changes.iter().find(|(at, answers)| *answers && *at >= silent).map(|(at, _)| *at)
    }

    /// The fraction of the time in which it answered, apart from these spans.
    pub(crate) fn share(&self, from: u64, to: u64, except: &[(u64, u64)]) -> f64 {
        let (mut answered, mut all) = (0, 0);
        let ends = self.changes.iter().skip(1).map(|(at, _)| *at).chain([to]);
        for ((begin, answers), end) in self.changes.iter().copied().zip(ends) {
            let (begin, end) = (begin.max(from), end.min(to));
            if begin >= end {
                continue;
            }
            let outside = (end - begin).saturating_sub(covered(begin, end, except));
            all += outside;
            answered += if answers { outside } else { 0 };
        }
        if all == 0 { 1.0 } else { answered as f64 / all as f64 }
    }
}

/// How much of a span others cover; overlapping spans count once.
fn covered(begin: u64, end: u64, spans: &[(u64, u64)]) -> u64 {
    let mut spans: Vec<(u64, u64)> =
        spans.iter().map(|(from, to)| ((*from).max(begin), (*to).min(end))).filter(|(from, to)| from < to).collect();
    spans.sort_unstable();
    let (mut total, mut reached) = (0, begin);
    for (from, to) in spans {
        total += to.saturating_sub(from.max(reached));
        reached = reached.max(to);
    }
    total
}

/// What the workloads of a service saw of a fault at `fault_at`, up to `until` (the next fault on it, or the end).
pub(crate) fn way(workloads: &[Vec<Sample>], fault_at: u64, until: u64) -> RecoveryTimes {
    let mut way = RecoveryTimes::default();
    let mut backs = Vec::new();
    for samples in workloads {
        let begin = samples.partition_point(|sample| sample.at_us < fault_at);
        let end = samples.partition_point(|sample| sample.at_us < until);
        let (before, during) = (&samples[..begin], &samples[begin..end]);
        let (Some(first), Some(last)) = (during.iter().position(|sample| !sample.ok), during.iter().rposition(|sample| !sample.ok)) else {
            continue;
        };
        let at = during[first].at_us;
        way.first_error = Some(way.first_error.map_or(at, |known| known.min(at)));
        let back = during[last + 1..].get(IN_A_ROW - 1).map(|sample| sample.at_us);
        way.baseline = back.and_then(|back| baseline(before, during, fault_at, back, until)).max(way.baseline);
        backs.push(back);
    }
    // A workload that had no error need not recover; all others must.
    way.ok = backs.into_iter().collect::<Option<Vec<u64>>>().and_then(|backs| backs.into_iter().max());
    way
}

/// The start of the first two seconds with at least 95 % of the operations in the second before the fault.
fn baseline(before: &[Sample], during: &[Sample], fault_at: u64, back: u64, until: u64) -> Option<u64> {
    let begin = fault_at.saturating_sub(3 * SECOND).max(before.first()?.at_us);
    let usual = before.iter().filter(|sample| sample.ok && sample.at_us >= begin).count() as f64 / (fault_at - begin).max(1) as f64;
    let mut from = back;
    while from + 2 * SECOND <= until {
        let done = during.iter().filter(|sample| sample.ok && (from..from + 2 * SECOND).contains(&sample.at_us)).count() as f64;
        if done / (2 * SECOND) as f64 >= 0.95 * usual {
            return Some(from);
        }
        from += SECOND / 10;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_10_ms(from: u64, to: u64, bad: std::ops::Range<u64>) -> Vec<Sample> {
        (from / 10_000..to / 10_000).map(|n| n * 10_000).map(|at_us| Sample { at_us, took_us: 1000, ok: !bad.contains(&at_us) }).collect()
    }

    #[test]
    fn the_way_back_has_its_first_error_and_five_good_ones_in_a_row() {
        let samples = every_10_ms(0, 10 * SECOND, 4_000_000..4_500_000);
        let way = way(&[samples, every_10_ms(0, 10 * SECOND, 0..0)], 3_995_000, 10 * SECOND);
        assert_eq!(way, RecoveryTimes { first_error: Some(4_000_000), ok: Some(4_540_000), baseline: Some(4_540_000) });
    }

    #[test]
    fn a_workload_that_saw_nothing_has_no_way_and_one_that_never_came_back_none_either() {
        assert_eq!(way(&[every_10_ms(0, SECOND * 5, 0..0)], SECOND, 5 * SECOND), RecoveryTimes::default());
        let gone = way(&[every_10_ms(0, 5 * SECOND, 2 * SECOND..9 * SECOND)], SECOND, 5 * SECOND);
        assert_eq!((gone.first_error, gone.ok), (Some(2 * SECOND), None));
    }

    #[test]
    fn silence_and_return_are_found_within_their_time() {
        let mut answers = Answers::default();
        for (at, up) in [(10, true), (20, true), (100, false), (160, true), (300, false)] {
            answers.change(at, up);
        }
        assert_eq!(answers.silent_after(50, 200), Some(100));
        assert_eq!(answers.back_after(100), Some(160));
        assert_eq!(answers.silent_after(150, 200), None);
        assert_eq!(answers.back_after(300), None);
        assert!(!answers.answers());
        assert!((answers.share(10, 310, &[]) * 300.0 - 230.0).abs() < 1e-9);
        assert!((answers.share(10, 310, &[(90, 170), (150, 200)]) * 190.0 - 180.0).abs() < 1e-9);
    }
}
