//! What a workload does, as it happens: samples for conditions, recovery times and the report.
//!
//! The workload's clients write them, the runner reads them. Whether data was lost is decided from the operation log, not here.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// The samples of one workload. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct WorkloadStats {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    began: Instant,
    samples: Mutex<Vec<Sample>>,
    /// The last error, for people.
    trouble: Mutex<Option<String>>,
}

/// One operation that ended, or one attempt to connect that failed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Sample {
    /// When it ended.
    pub at_us: u64,
    pub took_us: u32,
    pub ok: bool,
}

impl WorkloadStats {
    pub(crate) fn new(began: Instant) -> Self {
        Self { shared: Arc::new(Shared { began, samples: Mutex::default(), trouble: Mutex::default() }) }
    }

    pub(crate) fn succeeded(&self, took: Duration) {
        self.push(took, true);
    }

    pub(crate) fn failed(&self, took: Duration, trouble: &str) {
        *self.shared.trouble.lock().expect("no code panics while it holds this lock") = Some(trouble.to_owned());
        self.push(took, false);
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        self.shared.trouble.lock().expect("no code panics while it holds this lock").clone()
    }

    pub(crate) fn now_us(&self) -> u64 {
        self.shared.began.elapsed().as_micros() as u64
    }

    /// The samples of the window `over`, oldest first.
    pub(crate) fn last(&self, over: Duration) -> Vec<Sample> {
        let from = self.now_us().saturating_sub(over.as_micros() as u64);
        let samples = self.shared.samples.lock().expect("no code panics while it holds this lock");
        let start = samples.partition_point(|sample| sample.at_us < from);
        samples[start..].to_vec()
    }

    pub(crate) fn all(&self) -> Vec<Sample> {
        self.shared.samples.lock().expect("no code panics while it holds this lock").clone()
    }

    fn push(&self, took: Duration, ok: bool) {
        let took_us = u32::try_from(took.as_micros()).unwrap_or(u32::MAX);
        let mut samples = self.shared.samples.lock().expect("no code panics while it holds this lock");
        // The clock is read under the lock, so that the list is ordered.
        samples.push(Sample { at_us: self.shared.began.elapsed().as_micros() as u64, took_us, ok });
    }
}

/// The fraction of the operations that ended which succeeded; `None` if none ended.
pub(crate) fn ok_ratio(samples: &[Sample]) -> Option<f64> {
    let good = samples.iter().filter(|sample| sample.ok).count();
    (!samples.is_empty()).then(|| good as f64 / samples.len() as f64)
}

/// The latency below which this fraction of the successful ones stayed, in milliseconds.
pub(crate) fn percentile(samples: &[Sample], share: f64) -> Option<f64> {
    let mut times: Vec<u32> = samples.iter().filter(|sample| sample.ok).map(|sample| sample.took_us).collect();
    if times.is_empty() {
        return None;
    }
    let index = ((times.len() - 1) as f64 * share).round() as usize;
    let (_, time, _) = times.select_nth_unstable(index);
    Some(f64::from(*time) / 1000.0)
}

/// Successes and failures in each tenth of a second.
pub(crate) fn tenths(samples: &[Sample]) -> Vec<(u32, u32)> {
    let mut tenths: Vec<(u32, u32)> = Vec::new();
    for sample in samples {
        let at = (sample.at_us / 100_000) as usize;
        if tenths.len() <= at {
            tenths.resize(at + 1, (0, 0));
        }
        let (good, bad) = &mut tenths[at];
        *(if sample.ok { good } else { bad }) += 1;
    }
    tenths
}

/// The median and the slowest of the successes in each tenth of a second, in milliseconds.
pub(crate) fn latency_ms(samples: &[Sample]) -> Vec<Option<(f64, f64)>> {
    let tenth = |sample: &Sample| sample.at_us / 100_000;
    let mut latency = Vec::new();
    for samples in samples.chunk_by(|one, next| tenth(one) == tenth(next)) {
        let at = tenth(&samples[0]) as usize;
        if latency.len() <= at {
            latency.resize(at + 1, None);
        }
        latency[at] = percentile(samples, 0.5).zip(percentile(samples, 1.0));
    }
    latency
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_statistics_are_those_of_the_samples() {
        let samples: Vec<Sample> =
            (0..100).map(|n| Sample { at_us: n * 10_000, took_us: (n as u32 + 1) * 1000, ok: n % 10 != 9 }).collect();
        assert_eq!(ok_ratio(&samples), Some(0.9));
        assert_eq!(percentile(&samples, 0.0), Some(1.0));
        assert_eq!(percentile(&samples, 1.0), Some(99.0));
        assert_eq!(tenths(&samples)[..2], [(9, 1), (9, 1)]);
        assert_eq!(latency_ms(&samples)[..2], [Some((5.0, 9.0)), Some((15.0, 19.0))]);
        let late = [Sample { at_us: 210_000, took_us: 1000, ok: true }, Sample { at_us: 310_000, took_us: 1, ok: false }];
        assert_eq!(latency_ms(&late), [None, None, Some((1.0, 1.0)), None]);
        assert_eq!((ok_ratio(&[]), percentile(&[], 0.5)), (None, None));
    }
}
