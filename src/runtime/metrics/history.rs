//! PURE: the last hour of an environment's metrics, in memory.
//!
//! A ring of [`ROUNDS`] rounds. Each series keeps a number for each round since it appeared, so that at most [`MOST_SERIES`] of them
//! take less than a megabyte. A series without a value for an hour is forgotten.

use std::collections::{BTreeMap, VecDeque};

use devenv_api::{MetricSeries, Sample};

/// An hour, at one round in twenty seconds.
pub(crate) const ROUNDS: usize = 180;
/// Further ones are left out: those of containers come first.
pub(crate) const MOST_SERIES: usize = 500;

#[derive(Debug, Default)]
pub(crate) struct History {
    /// Seconds since 1970, oldest first.
    times: VecDeque<f64>,
    /// The number of the oldest round.
    first: u64,
    series: BTreeMap<Key, Kept>,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    service: String,
    name: String,
    labels: BTreeMap<String, String>,
}

/// The values of one series, in consecutive rounds; rounds without one hold NaN.
#[derive(Debug)]
struct Kept {
    first: u64,
    values: VecDeque<f64>,
}

impl History {
    /// Seconds since 1970, of the newest round.
    pub(crate) fn newest(&self) -> Option<f64> {
        self.times.back().copied()
    }

    pub(crate) fn add(&mut self, at: f64, samples: &[Sample]) {
        if self.newest().is_some_and(|newest| at <= newest) {
            // The clock was set back: what was kept seems to be of the future.
            *self = Self::default();
        }
        let round = self.first + self.times.len() as u64;
        self.times.push_back(at);
        for sample in samples {
            let key = Key { service: sample.service.clone(), name: sample.name.clone(), labels: sample.labels.clone() };
            if self.series.len() >= MOST_SERIES && !self.series.contains_key(&key) {
                continue;
            }
            let kept = self.series.entry(key).or_insert_with(|| Kept { first: round, values: VecDeque::new() });
            kept.set(round, sample.value);
        }
        while self.times.len() > ROUNDS {
            self.times.pop_front();
            self.first += 1;
        }
        let first = self.first;
        self.series.retain(|_, kept| kept.forget_before(first));
    }

    /// The values since a time of the metrics with these names, or of all.
    pub(crate) fn series(&self, names: &[String], since: f64) -> Vec<MetricSeries> {
        let is_wanted = |key: &Key| names.is_empty() || names.contains(&key.name);
        let of = |(key, kept): (&Key, &Kept)| {
            let before = usize::try_from(kept.first - self.first).unwrap_or(usize::MAX);
            let rounds = self.times.iter().skip(before).zip(&kept.values);
            let (times, values): (Vec<f64>, Vec<f64>) = rounds.filter(|(time, value)| **time >= since && value.is_finite()).unzip();
            let Key { service, name, labels } = key.clone();
            MetricSeries { service, name, labels, times, values }
        };
        let found = self.series.iter().filter(|(key, _)| is_wanted(key)).map(of);
        found.filter(|series| !series.times.is_empty()).collect()
    }
}

impl Kept {
    fn set(&mut self, round: u64, value: f64) {
        let at = usize::try_from(round - self.first).unwrap_or(usize::MAX);
        if at >= self.values.len() {
            self.values.resize(at, f64::NAN);
            self.values.push_back(value);
        }
    }

    /// Whether any value is left.
    fn forget_before(&mut self, round: u64) -> bool {
        while self.first < round && self.values.pop_front().is_some() {
            self.first += 1;
        }
        !self.values.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(service: &str, name: &str, value: f64) -> Sample {
        Sample { service: service.to_owned(), name: name.to_owned(), labels: BTreeMap::new(), value, unit: None }
    }

    #[test]
    fn a_series_has_the_values_of_the_rounds_in_which_it_was_measured() {
        let mut history = History::default();
        history.add(10.0, &[sample("db", "a", 1.0)]);
        history.add(30.0, &[sample("db", "b", 2.0)]);
        history.add(50.0, &[sample("db", "a", 3.0), sample("db", "b", 4.0)]);
        let found = history.series(&["a".to_owned()], 0.0);
        assert_eq!((found[0].times.as_slice(), found[0].values.as_slice()), ([10.0, 50.0].as_slice(), [1.0, 3.0].as_slice()));
        let found = history.series(&[], 40.0);
        assert_eq!(
            found.iter().map(|one| (one.name.as_str(), one.values.clone())).collect::<Vec<_>>(),
            [("a", vec![3.0]), ("b", vec![4.0])]
        );
        assert_eq!(history.series(&["c".to_owned()], 0.0), []);
    }

    #[test]
    fn an_hour_is_kept_and_what_is_not_measured_any_more_is_forgotten() {
        let mut history = History::default();
        history.add(0.0, &[sample("gone", "a", 1.0)]);
        for round in 1..=ROUNDS * 3 {
            history.add(round as f64 * 20.0, &[sample("db", "a", round as f64)]);
        }
        let found = history.series(&[], 0.0);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].values.len(), found[0].values[0]), (ROUNDS, (ROUNDS * 2 + 1) as f64));
        assert_eq!(found[0].times, found[0].values.iter().map(|round| round * 20.0).collect::<Vec<_>>());
    }

    #[test]
    fn the_number_of_series_is_bounded_and_a_clock_that_was_set_back_starts_anew() {
        let mut history = History::default();
        let many: Vec<Sample> = (0..MOST_SERIES + 50).map(|number| sample("db", &format!("a{number:05}"), 1.0)).collect();
        history.add(100.0, &many);
        assert_eq!(history.series(&[], 0.0).len(), MOST_SERIES);
        history.add(50.0, &[sample("db", "b", 1.0)]);
        assert_eq!(history.series(&[], 0.0).len(), 1);
    }
}
