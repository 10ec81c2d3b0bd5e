//! What one service did since the last `up`, and when: written by the environment's task, read by nobody but the event that ends a
//! start, which carries it to `up --timings`. Pure: the caller passes the time.

use std::time::Instant;

use devenv_api::{PhaseTiming, StartPhase};

/// A service that restarts again and again without becoming ready keeps the latest.
const KEPT: usize = 48;

#[derive(Debug, Default)]
pub(crate) struct Timeline {
    /// Times count from here: the last `up`, or what came first without one.
    origin: Option<Instant>,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    phase: StartPhase,
    began: Instant,
    ended: Option<Instant>,
}

impl Timeline {
    /// Forgets everything, except what is in progress.
    pub(crate) fn start_over(&mut self, now: Instant) {
        self.origin = Some(now);
        self.parts.retain(|part| part.ended.is_none());
        self.parts.iter_mut().for_each(|part| part.began = now);
    }

    /// Something begins, and with it what went before ends.
    pub(crate) fn begin(&mut self, phase: StartPhase, now: Instant) {
        self.end(now);
        self.origin.get_or_insert(now);
        if self.parts.len() == KEPT {
            self.parts.remove(0);
        }
        self.parts.push(Part { phase, began: now, ended: None });
    }

    pub(crate) fn end(&mut self, now: Instant) {
        if let Some(last) = self.parts.last_mut() {
            last.ended.get_or_insert(now);
        }
    }

    /// It ended with success: the time in which it ran was its work, not the wait for an answer.
    pub(crate) fn ran(&mut self) {
        if let Some(last) = self.parts.last_mut() {
            last.phase = StartPhase::Ran;
        }
    }

    /// Everything so far, which is forgotten.
    pub(crate) fn take(&mut self) -> Vec<PhaseTiming> {
        let Some(origin) = self.origin else { return Vec::new() };
        let since = |time: Instant| time.saturating_duration_since(origin).as_millis() as u64;
        let timing = |part: Part| Some(PhaseTiming { phase: part.phase, from_ms: since(part.began), to_ms: since(part.ended?) });
        let parts = std::mem::take(&mut self.parts);
        // What a service waited for is known by its start.
        parts.into_iter().filter_map(timing).filter(|part| part.to_ms > part.from_ms || part.phase == StartPhase::Started).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_part_ends_where_the_next_begins_and_short_ones_are_left_out() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut timeline = Timeline::default();
        timeline.start_over(at(0));
        timeline.begin(StartPhase::Pulled, at(0));
        timeline.end(at(0));
        timeline.begin(StartPhase::Created, at(5));
        timeline.end(at(20));
        timeline.begin(StartPhase::Answered, at(100));
        timeline.begin(StartPhase::Provisioned, at(300));
        timeline.end(at(310));
        let part = |phase, from_ms, to_ms| PhaseTiming { phase, from_ms, to_ms };
        assert_eq!(
            timeline.take(),
            [part(StartPhase::Created, 5, 20), part(StartPhase::Answered, 100, 300), part(StartPhase::Provisioned, 300, 310)]
        );
        assert_eq!(timeline.take(), []);
    }

    #[test]
    fn what_is_in_progress_at_an_up_counts_from_there() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut timeline = Timeline::default();
        timeline.begin(StartPhase::Created, at(0));
        timeline.begin(StartPhase::Answered, at(10));
        timeline.start_over(at(50));
        timeline.end(at(80));
        timeline.ran();
        assert_eq!(timeline.take(), [PhaseTiming { phase: StartPhase::Ran, from_ms: 0, to_ms: 30 }]);
    }

    #[test]
    fn a_service_that_never_becomes_ready_keeps_a_bounded_timeline() {
        let now = Instant::now();
        let mut timeline = Timeline::default();
        for step in 0..1000 {
            timeline.begin(StartPhase::Started, now + Duration::from_millis(step));
        }
        assert!(timeline.take().len() < KEPT);
    }
}
