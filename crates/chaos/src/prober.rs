//! Asks a service every 20 ms, in its own protocol, whether it answers.
//!
//! While it answers, the prober keeps one connection. When it does not, a new attempt starts every 20 ms whether or not the earlier
//! ones have ended, so that neither a lost packet nor a time-out makes the recovery seem later than it is.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use devenv_kinds::capability::{Asker, Line, Silent};
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

use super::recovery::Answers;

pub(crate) const PERIOD: Duration = Duration::from_millis(20);
/// The time limit of one answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Concurrent attempts: as many as start within the time-out of one.
const AT_ONCE: usize = 50;

/// The observations of one prober. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    shared: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    answers: Answers,
    /// When the latest answered question was sent.
    asked_us: Option<u64>,
}

impl Seen {
    pub(crate) fn answers(&self) -> Answers {
        self.state(|state| state.answers.clone())
    }

    /// Whether it answers, by a question that was sent after this time.
    pub(crate) fn answers_since(&self, at_us: u64) -> bool {
        self.state(|state| state.answers.answers() && state.asked_us.is_some_and(|asked| asked >= at_us))
    }

    fn state<T>(&self, read: impl FnOnce(&mut State) -> T) -> T {
        read(&mut self.shared.lock().expect("no code panics while it holds this lock"))
    }

    fn answered(&self, asked_us: u64, now_us: u64) {
        self.state(|state| {
            state.answers.change(now_us, true);
            state.asked_us = state.asked_us.max(Some(asked_us));
        });
    }

    /// An outage begins when the first unanswered question was sent.
    fn silent(&self, asked_us: u64) {
        self.state(|state| {
            let last = state.answers.changes.last().map_or(0, |(at, _)| *at);
            state.answers.change(asked_us.max(last), false);
        });
    }
}

/// Runs until cancelled.
pub(crate) async fn probe(asker: Arc<dyn Asker>, seen: Seen, began: Instant, stop: CancellationToken) {
    tokio::select! {
        // A question that is not waited for leaves nothing behind.
        () = stop.cancelled() => {}
        () = forever(&asker, &seen, began) => {}
    }
}

async fn forever(asker: &Arc<dyn Asker>, seen: &Seen, began: Instant) {
    let now = || began.elapsed().as_micros() as u64;
    loop {
        let (mut line, asked) = until_answered(asker, began).await;
        seen.answered(asked, now());
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let asked = now();
            if !matches!(timeout(PATIENCE, line.ask()).await, Ok(Ok(()))) {
                seen.silent(asked);
                break;
            }
            seen.answered(asked, now());
        }
    }
}

/// Starts one attempt per period until one is answered. Returns its connection, and when the question was sent.
async fn until_answered(asker: &Arc<dyn Asker>, began: Instant) -> (Box<dyn Line>, u64) {
    let mut attempts = JoinSet::new();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            // Both are cancel-safe.
            _ = ticks.tick() => {
                if attempts.len() < AT_ONCE {
                    let (asker, asked) = (asker.clone(), began.elapsed().as_micros() as u64);
                    attempts.spawn(async move {
                        let attempt = async {
                            let mut line = asker.open().await?;
                            line.ask().await?;
                            Ok::<_, Silent>(line)
                        };
                        timeout(PATIENCE, attempt).await.ok()?.ok().map(|line| (line, asked))
                    });
                }
            }
            Some(ended) = attempts.join_next() => {
                if let Ok(Some(answered)) = ended {
                    return answered;
                }
            }
        }
    }
}
