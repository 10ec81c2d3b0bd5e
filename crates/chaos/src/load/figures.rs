//! What a workload measures while it runs, in memory that does not grow with the number of operations.

use std::time::Duration;

use devenv_api::LoadFigures;
use hdrhistogram::Histogram;

use super::Course;
use crate::scenario::Workload;

/// The longest latency that is told apart, in microseconds: an hour.
const LONGEST_US: u64 = 3_600_000_000;
/// Of a latency, so many digits are kept.
const DIGITS: u8 = 3;

/// The figures of one workload.
pub(super) struct Figures {
    /// Of operations that succeeded, in microseconds.
    latencies: Histogram<u64>,
    max: Duration,
    errors: u64,
    trouble: Option<String>,
    course: Course,
    /// The latencies of the current tenth of a second, in milliseconds.
    current: Vec<f64>,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            latencies: Histogram::new_with_max(LONGEST_US, DIGITS).expect("the bounds are valid"),
            max: Duration::ZERO,
            errors: 0,
            trouble: None,
            course: Course::default(),
            current: Vec::new(),
        }
    }
}

impl Figures {
    /// `at`: since the start, never less than in the call before.
    pub(super) fn record(&mut self, at: Duration, took: Duration, reply: Result<(), String>) {
        let tenth = (at.as_millis() / 100) as usize;
        if self.course.tenths.len() <= tenth {
            self.close();
            self.course.tenths.resize(tenth + 1, (0, 0));
            self.course.latency_ms.resize(tenth + 1, None);
        }
        let (good, bad) = &mut self.course.tenths[tenth];
        match reply {
            Ok(()) => {
                *good += 1;
                self.max = self.max.max(took);
                self.latencies.saturating_record(u64::try_from(took.as_micros()).unwrap_or(LONGEST_US).max(1));
                self.current.push(took.as_secs_f64() * 1000.0);
            }
            Err(trouble) => {
                *bad += 1;
                self.errors += 1;
                self.trouble = Some(trouble);
            }
        }
    }

    /// Operations that were due and could not be sent any more.
    pub(super) fn unsent(&mut self, count: u64) {
        self.errors += count;
        if count > 0 && self.trouble.is_none() {
            self.trouble = Some("operations were due that earlier ones delayed beyond the end".to_owned());
        }
    }

    /// Ends the current tenth of a second.
    fn close(&mut self) {
        if let (Some(last), false) = (self.course.latency_ms.last_mut(), self.current.is_empty()) {
            self.current.sort_by(f64::total_cmp);
            *last = Some((self.current[self.current.len() / 2], self.current[self.current.len() - 1]));
            self.current.clear();
        }
    }

    pub(super) fn course(&self) -> Course {
        let mut whole = Self {
            latencies: Histogram::clone(&self.latencies),
            trouble: None,
            course: self.course.clone(),
            current: self.current.clone(),
            ..*self
        };
        whole.close();
        whole.course
    }

    pub(super) fn reported(&self, workload: &Workload, lasting: Duration) -> LoadFigures {
        let count = self.latencies.len();
        let quantile = |share: f64| (count > 0).then(|| self.latencies.value_at_quantile(share) as f64 / 1000.0);
        LoadFigures {
            kind: workload.task.kind().to_owned(),
            service: workload.service.clone(),
            count,
            errors: self.errors,
            rate: count as f64 / lasting.as_secs_f64().max(0.001),
            p50_ms: quantile(0.5),
            p95_ms: quantile(0.95),
            p99_ms: quantile(0.99),
            max_ms: (count > 0).then_some(self.max.as_secs_f64() * 1000.0),
            trouble: self.trouble.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scenario::Task;

    #[test]
    fn figures_are_those_of_the_operations() {
        let ms = Duration::from_millis;
        let mut figures = Figures::default();
        for n in 1..=100 {
            figures.record(ms(n * 2), ms(n), Ok(()));
        }
        figures.record(ms(450), ms(1), Err("no".to_owned()));
        figures.unsent(2);
        let workload = Workload {
            name: "w".to_owned(),
            service: Some("db".to_owned()),
            clients: 1,
            rate: 1.0,
            task: Task::Command { command: Vec::new() },
        };
        let reported = figures.reported(&workload, Duration::from_secs(2));
        assert_eq!((reported.count, reported.errors, reported.rate), (100, 3, 50.0));
        let near = |figure: Option<f64>, wanted: f64| (figure.unwrap() - wanted).abs() < 0.2;
        assert!(near(reported.p50_ms, 50.0) && near(reported.p95_ms, 95.0) && near(reported.max_ms, 100.0), "{reported:?}");
        assert_eq!(reported.trouble.as_deref(), Some("no"));
        let course = figures.course();
        assert_eq!(course.tenths, [(49, 0), (50, 0), (1, 0), (0, 0), (0, 1)]);
        assert_eq!(course.latency_ms[0], Some((25.0, 49.0)));
        assert_eq!(course.latency_ms[4], None);
        let nothing = Figures::default().reported(&workload, Duration::from_secs(2));
        assert_eq!((nothing.count, nothing.p99_ms, nothing.max_ms), (0, None, None));
    }
}
