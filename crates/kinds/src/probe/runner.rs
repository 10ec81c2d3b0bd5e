//! When to probe: at once and often while a service starts, seldom afterwards.
//!
//! Both functions are plain futures. Dropping one at any time ends its request and leaves nothing behind.

use std::{fmt, time::Duration};

use tokio::time::{Instant, sleep, timeout_at};

use super::{ATTEMPT, ProbeContext, ProbeFailure, ProbeSuccess, ask_within};
use devenv_spec::Probe;

/// How often to probe, how long to wait for an answer, and when to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    pub deadline: Duration,
    /// Between a failure and the next request, at first and at most.
    pub pause: (Duration, Duration),
    /// For one answer, at first and at most: doubled after a time-out, because the machine may be busy.
    pub attempt: (Duration, Duration),
}

/// The deadline has passed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct NotReady {
    pub after: Duration,
    /// The last three different failures, each with the milliseconds at which it was last seen.
    pub last: Vec<(u64, ProbeFailure)>,
}

const KEPT: usize = 3;
const BETWEEN_LIVENESS: Duration = Duration::from_secs(30);
const BETWEEN_DOUBTS: Duration = Duration::from_secs(2);
const DOUBTS: usize = 3;

impl Schedule {
    pub fn until(deadline: Duration) -> Self {
        Self { deadline, pause: (Duration::from_millis(10), Duration::from_millis(250)), attempt: (ATTEMPT, ATTEMPT * 5) }
    }

    /// The pause grows with the elapsed time, a quarter of a percent of it, so that a service that was slow to start is not also
    /// noticed late; and it is at least as long as the request took, so that a busy server is left alone half of the time.
    /// A service that has started to answer is almost ready: it is probed as often as at first.
    fn pause(&self, passed: Duration, cost: Duration, answered: bool) -> Duration {
        if answered {
            return self.pause.0;
        }
        (passed / 400).max(cost).clamp(self.pause.0, self.pause.1)
    }
}

impl fmt::Display for NotReady {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not ready after {:?}", self.after)?;
        match self.last.last() {
            Some((_, failure)) => write!(f, ": {failure}"),
            None => Ok(()),
        }
    }
}

/// Probes until there is a receipt. `on_failure` gets every failure that differs from the one before.
pub async fn until_ready(
    probe: &Probe,
    cx: &ProbeContext,
    schedule: Schedule,
    on_failure: impl FnMut(&ProbeFailure),
) -> Result<ProbeSuccess, NotReady> {
    until(|limit| ask_within(probe, cx, limit), schedule, on_failure).await
}

/// Probes a ready service now and then; returns the failure once it has failed three times in a row.
pub async fn watchful(probe: &Probe, cx: &ProbeContext) -> ProbeFailure {
    match probe {
        // Only running can be checked, and a logged line stays logged.
        Probe::None | Probe::Log { .. } => std::future::pending().await,
        _ => watch(|limit| ask_within(probe, cx, limit)).await,
    }
}

async fn until<F>(
    mut ask: impl FnMut(Duration) -> F,
    schedule: Schedule,
    mut on_failure: impl FnMut(&ProbeFailure),
) -> Result<ProbeSuccess, NotReady>
where
    F: Future<Output = Result<ProbeSuccess, ProbeFailure>>,
{
    let started = Instant::now();
    let deadline = started + schedule.deadline;
    let mut limit = schedule.attempt.0;
    let mut last: Vec<(u64, ProbeFailure)> = Vec::new();
    loop {
        let asked = Instant::now();
        let failure = match timeout_at(deadline, ask(limit)).await {
            Ok(Ok(success)) => return Ok(success),
            Ok(Err(failure)) => Some(failure),
            Err(_) => None,
        };
        let cost = asked.elapsed();
        let answered = failure.as_ref().is_some_and(|failure| failure.answered);
        if let Some(failure) = failure {
            note(&mut last, started.elapsed(), failure, &mut on_failure);
        }
        if cost >= limit {
            limit = (limit * 2).min(schedule.attempt.1);
        }
        let pause = schedule.pause(started.elapsed(), cost, answered);
        if Instant::now() + pause >= deadline {
            return Err(NotReady { after: started.elapsed().max(schedule.deadline), last });
        }
        sleep(pause).await;
    }
}

async fn watch<F>(mut ask: impl FnMut(Duration) -> F) -> ProbeFailure
where
    F: Future<Output = Result<ProbeSuccess, ProbeFailure>>,
{
    let mut doubts = 0;
    loop {
        sleep(if doubts == 0 { BETWEEN_LIVENESS } else { BETWEEN_DOUBTS }).await;
        match ask(ATTEMPT * 5).await {
            Ok(_) => doubts = 0,
            Err(failure) => {
                doubts += 1;
                if doubts == DOUBTS {
                    return failure;
                }
            }
        }
    }
}

fn note(last: &mut Vec<(u64, ProbeFailure)>, passed: Duration, failure: ProbeFailure, on_failure: &mut impl FnMut(&ProbeFailure)) {
    let at = passed.as_millis() as u64;
    match last.last_mut() {
        Some((when, same)) if *same == failure => *when = at,
        _ => {
            on_failure(&failure);
            if last.len() == KEPT {
                last.remove(0);
            }
            last.push((at, failure));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    type Answer = Result<ProbeSuccess, ProbeFailure>;

    #[expect(clippy::unnecessary_wraps, reason = "it stands beside `no`, as one of two answers")]
    fn success() -> Answer {
        Ok(ProbeSuccess::of("fine"))
    }

    fn no(what: &str) -> Answer {
        Err(ProbeFailure::silent(what))
    }

    #[test]
    fn a_probe_can_be_asked_from_any_thread() {
        fn movable<F: Send>(_: impl Fn(Probe, ProbeContext) -> F) {}
        movable(|probe, cx| async move { until_ready(&probe, &cx, Schedule::until(ATTEMPT), |_| {}).await });
        movable(|probe, cx| async move { watchful(&probe, &cx).await });
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_is_ready_is_seen_at_once() {
        let started = Instant::now();
        let schedule = Schedule::until(Duration::from_secs(1));
        let found = until(|_| ready(success()), schedule, |_| panic!("it did not fail")).await;
        assert_eq!(found.unwrap().evidence, "fine");
        assert_eq!(started.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn readiness_is_noticed_within_a_quarter_of_a_percent_of_the_time_it_took() {
        for after in [3, 95, 700, 2_500, 20_000, 55_000].map(Duration::from_millis) {
            let started = Instant::now();
            let schedule = Schedule::until(Duration::from_mins(1));
            until(|_| ready(if started.elapsed() >= after { success() } else { no("not yet") }), schedule, |_| {}).await.unwrap();
            let delay = started.elapsed().checked_sub(after).unwrap();
            let most = (after / 400).clamp(Duration::from_millis(10), Duration::from_millis(250));
            assert!(delay <= most + Duration::from_millis(2), "{after:?}: {delay:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_that_has_started_to_answer_is_probed_often_however_long_that_took() {
        let started = Instant::now();
        let after = Duration::from_secs(50);
        let ask = |_| async {
            sleep(Duration::from_millis(40)).await;
            match started.elapsed() {
                passed if passed >= after => success(),
                passed if passed >= Duration::from_secs(40) => Err(ProbeFailure::said("starting up")),
                _ => no("not yet"),
            }
        };
        until(ask, Schedule::until(Duration::from_mins(1)), |_| {}).await.unwrap();
        assert!(started.elapsed() <= after + Duration::from_millis(100), "{:?}", started.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_costly_question_is_asked_less_often() {
        let started = Instant::now();
        let mut asked = 0;
        let schedule = Schedule::until(Duration::from_secs(1));
        let ask = |_| {
            asked += 1;
            async {
                sleep(Duration::from_millis(40)).await;
                no("busy")
            }
        };
        until(ask, schedule, |_| {}).await.unwrap_err();
        assert_eq!(asked, 13);
        assert!(started.elapsed() <= Duration::from_secs(1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_reports_the_last_three_different_failures_and_each_was_passed_on_once() {
        let started = Instant::now();
        let ask = |_| {
            ready(match started.elapsed().as_millis() {
                0..100 => no("a"),
                100..200 => no("b"),
                200..300 => no("c"),
                _ => no("d"),
            })
        };
        let mut heard = Vec::new();
        let schedule = Schedule::until(Duration::from_millis(500));
        let error = until(ask, schedule, |failure| heard.push(failure.what.clone())).await.unwrap_err();
        assert_eq!(heard, ["a", "b", "c", "d"]);
        let last: Vec<_> = error.last.iter().map(|(_, failure)| failure.what.as_str()).collect();
        assert_eq!(last, ["b", "c", "d"]);
        assert!(error.last[2].0 >= 480, "{error:?}");
        assert_eq!(error.to_string(), "not ready after 500ms: d");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_never_comes_ends_at_the_deadline_and_gets_more_time_before() {
        let started = Instant::now();
        let mut limits = Vec::new();
        let schedule = Schedule::until(Duration::from_secs(30));
        let ask = |limit| {
            limits.push(limit);
            async move {
                sleep(limit).await;
                no("no answer")
            }
        };
        until(ask, schedule, |_| {}).await.unwrap_err();
        assert_eq!(limits.iter().map(Duration::as_secs).collect::<Vec<_>>(), [2, 4, 8, 10, 10]);
        assert_eq!(started.elapsed(), Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn liveness_is_asked_twice_a_minute_and_doubted_three_times_before_it_is_denied() {
        let started = Instant::now();
        let mut asked = Vec::new();
        let failure = watch(|_| {
            asked.push(started.elapsed().as_secs());
            // One lost answer is tolerated.
            ready(if asked.len() == 2 || started.elapsed() > Duration::from_secs(100) { no("gone") } else { success() })
        })
        .await;
        assert_eq!(failure.what, "gone");
        assert_eq!(asked, [30, 60, 62, 92, 122, 124, 126]);
    }
}
