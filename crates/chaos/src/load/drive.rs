//! One client of a load test, free of coordinated omission: its latency counts from when an operation was due, not from when it was sent.
//!
//! A client that waits for a slow answer sends the next operations late. Measured from when they were sent they would be fast, and the
//! slow server would look fast; measured from when they were due, their waiting counts.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use devenv_kinds::capability::{self, Reply};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::{figures::Figures, ramp::Ramp};

const CONNECT: Duration = Duration::from_secs(5);
/// Between two attempts of a client without a rate.
const AGAIN: Duration = Duration::from_millis(100);
/// How often a client without a rate looks whether it is its turn.
const TURN: Duration = Duration::from_millis(50);

pub(super) struct Client {
    pub(super) number: u32,
    /// How many begin.
    pub(super) base: u32,
    /// Operations per second of this client; infinite for one that sends as soon as it is answered.
    pub(super) rate: f64,
    pub(super) ramp: Ramp,
    pub(super) began: Instant,
    pub(super) lasting: Duration,
}

/// Where operations are recorded. Cheap to clone.
#[derive(Clone)]
pub(super) struct Recorder {
    pub(super) began: Instant,
    pub(super) figures: Arc<Mutex<Figures>>,
}

impl Recorder {
    fn record(&self, took: Duration, reply: Result<(), String>) {
        let mut figures = self.figures.lock().expect("no code panics while it holds this lock");
        // The clock is read under the lock, so that the course is in order.
        figures.record(self.began.elapsed(), took, reply);
    }

    fn unsent(&self, count: u64) {
        self.figures.lock().expect("no code panics while it holds this lock").unsent(count);
    }
}

impl Client {
    /// Works until the time is over or `stop`.
    pub(super) async fn drive(self, mut client: Box<dyn capability::Client>, recorder: Recorder, stop: CancellationToken) {
        if self.rate <= 0.0 {
            return;
        }
        let period = if self.rate.is_finite() { Duration::from_secs_f64((1.0 / self.rate).min(86_400.0)) } else { Duration::ZERO };
        let end = self.began + self.lasting;
        // Clients begin evenly spread over the first period.
        let mut due = self.began + period.mul_f64(f64::from(self.number % self.base.max(1)) / f64::from(self.base.max(1)));
        let (mut connected, mut sequence) = (false, 0);
        while due < end {
            if Instant::now() >= end {
                if !period.is_zero() {
                    recorder.unsent(self.left(due, end, period));
                }
                return;
            }
            if !self.ramp.works(self.number, self.base, due - self.began) {
                due += period.max(TURN);
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep_until(due) => {}
            }
            let reply = tokio::select! {
                // Cancel-safe: nothing of this client is used again.
                () = stop.cancelled() => return,
                reply = operate(client.as_mut(), &mut connected, &mut sequence) => reply,
            };
            let failed = reply.is_err();
            recorder.record(due.elapsed(), reply);
            due = match (period.is_zero(), failed) {
                (false, _) => due + period,
                (true, false) => Instant::now(),
                (true, true) => Instant::now() + AGAIN,
            };
        }
    }

    /// How many operations are due until the end.
    fn left(&self, mut due: Instant, end: Instant, period: Duration) -> u64 {
        let mut left = 0;
        while due < end {
            left += u64::from(self.ramp.works(self.number, self.base, due - self.began));
            due += period;
        }
        left
    }
}

async fn operate(client: &mut dyn capability::Client, connected: &mut bool, sequence: &mut u64) -> Result<(), String> {
    if !*connected {
        match timeout(CONNECT, client.connect()).await {
            Ok(connection) => connection?,
            Err(_) => return Err(format!("no connection within {} s", CONNECT.as_secs())),
        }
        *connected = true;
    }
    *sequence += 1;
    let patience = client.patience();
    let reply = timeout(patience, client.operate(*sequence)).await;
    match reply.unwrap_or_else(|_| Reply::Unknown(format!("no answer within {patience:?}"))) {
        Reply::Acknowledged => Ok(()),
        Reply::Refused(trouble) => Err(trouble),
        Reply::Unknown(trouble) => {
            *connected = false;
            Err(trouble)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        load::ramp::Stage,
        scenario::{Task, Workload},
    };
    use async_trait::async_trait;

    /// Answers at once, but for one operation that takes long.
    struct Stalls {
        at: u64,
        for_: Duration,
    }

    #[async_trait]
    impl capability::Client for Stalls {
        async fn connect(&mut self) -> Result<(), String> {
            Ok(())
        }

        async fn operate(&mut self, sequence: u64) -> Reply {
            if sequence == self.at {
                tokio::time::sleep(self.for_).await;
            }
            if sequence.is_multiple_of(10) { Reply::Refused("no".to_owned()) } else { Reply::Acknowledged }
        }

        fn patience(&self) -> Duration {
            Duration::from_mins(1)
        }
    }

    fn reported(figures: &Arc<Mutex<Figures>>, lasting: Duration) -> devenv_api::LoadFigures {
        let workload = Workload { name: "w".to_owned(), service: None, clients: 1, rate: 1.0, task: Task::Command { command: Vec::new() } };
        figures.lock().unwrap().reported(&workload, lasting)
    }

    async fn driven(rate: f64, ramp: Ramp, stalls: Stalls, lasting: Duration) -> devenv_api::LoadFigures {
        let began = Instant::now();
        let recorder = Recorder { began, figures: Arc::default() };
        let figures = recorder.figures.clone();
        let client = Client { number: 0, base: 1, rate, ramp, began, lasting };
        client.drive(Box::new(stalls), recorder, CancellationToken::new()).await;
        reported(&figures, lasting)
    }

    #[tokio::test(start_paused = true)]
    async fn operations_that_a_slow_answer_delays_count_as_slow() {
        let stall = Duration::from_millis(400);
        let figures = driven(200.0, Ramp::default(), Stalls { at: 21, for_: stall }, Duration::from_secs(1)).await;
        assert_eq!(figures.count + figures.errors, 200, "{figures:?}");
        // Of 200 operations, about 80 were due during the stall: counted from when they were sent, all but one would be fast.
        assert!(figures.p95_ms.unwrap() > 250.0, "{figures:?}");
        assert!(figures.max_ms.unwrap() >= 400.0, "{figures:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn operations_that_are_due_and_never_sent_are_errors() {
        let figures = driven(100.0, Ramp::default(), Stalls { at: 1, for_: Duration::from_millis(700) }, Duration::from_millis(500)).await;
        assert_eq!((figures.count, figures.errors), (1, 49), "{figures:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_without_a_rate_sends_as_soon_as_it_is_answered_and_only_in_its_turn() {
        let lasting = Duration::from_millis(300);
        let nothing = Stalls { at: 0, for_: Duration::ZERO };
        // Every tenth is refused, after which it waits for a tenth of a second.
        let figures = driven(f64::INFINITY, Ramp::default(), nothing, lasting).await;
        assert_eq!((figures.count, figures.errors), (27, 3), "{figures:?}");
        let nobody = Ramp(vec![Stage { to: 0, over: Duration::ZERO }]);
        let figures = driven(f64::INFINITY, nobody, Stalls { at: 0, for_: Duration::ZERO }, lasting).await;
        assert_eq!((figures.count, figures.errors), (0, 0));
    }
}
