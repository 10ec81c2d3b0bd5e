//! Decides whether the service itself writes a file that changes while it runs. Pure: time is a parameter.
//!
//! Each change of the file restarts the service, and each start leads to the next change: a round. A program writes at the same
//! time after each start, so after three such rounds the file is taken for part of a loop. A person may be as regular by chance.
//! So a file that then stays quiet counts one more time; if the next round is like those before, a program writes it.

use std::time::{Duration, Instant};

/// This many equal rounds come from a program.
const ROUNDS: usize = 3;
/// Rounds that differ by less are equal; for long rounds the limit is a tenth.
const TOLERANCE: Duration = Duration::from_millis(700);
/// A file that was taken for part of a loop and then stays quiet for this long may have been written by a person.
const QUIET: Duration = Duration::from_secs(5);
/// A change after such a pause counts, even for a file that a program wrote.
const LONG_QUIET: Duration = Duration::from_mins(10);

/// The rounds of one path.
#[derive(Debug, Default)]
pub(super) struct Rhythm {
    /// The time from start to change, of the last consecutive rounds.
    gaps: Vec<Duration>,
    /// The start after which it last changed.
    round: Option<Instant>,
    last: Option<Instant>,
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Counts,
    /// It does not count until the verdict is doubted.
    Loop,
    /// It counted once more after a quiet period.
    Doubted,
    /// It does not count.
    Certain,
}

/// The meaning of one change.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// `irregular`: no program writes at such times.
    Counts {
        irregular: bool,
    },
    /// It has just been found to be part of a loop.
    Loop,
    Ignored,
}

impl Rhythm {
    pub(super) fn is_loop(&self) -> bool {
        matches!(self.state, State::Loop | State::Certain)
    }

    /// It changed `since` after the start `round`. `is_answer`: this file caused that start.
    pub(super) fn write(&mut self, now: Instant, round: Instant, since: Duration, is_answer: bool) -> Write {
        let pause = self.last.replace(now).map(|last| now.saturating_duration_since(last));
        if self.is_loop() {
            if pause.is_some_and(|pause| pause >= LONG_QUIET) {
                return Write::Counts { irregular: false };
            }
            return Write::Ignored;
        }
        if self.round.replace(round) == Some(round) {
            // The reload that it caused has not begun yet.
            return Write::Counts { irregular: false };
        }
        if !is_answer {
            self.gaps.clear();
        }
        self.gaps.push(since);
        let irregular = !self.is_even();
        if irregular {
            self.gaps = vec![since];
            self.state = State::Counts;
        }
        if self.gaps.len() < ROUNDS {
            return Write::Counts { irregular };
        }
        self.gaps.remove(0);
        if self.state == State::Doubted {
            self.state = State::Certain;
            return Write::Ignored;
        }
        self.state = State::Loop;
        Write::Loop
    }

    /// It changed during a start, which shows that it is not quiet.
    pub(super) fn goes_on(&mut self, now: Instant) {
        self.last = Some(now);
    }

    fn is_even(&self) -> bool {
        let (least, most) = (self.gaps.iter().min(), self.gaps.iter().max());
        least.zip(most).is_none_or(|(least, most)| most.saturating_sub(*least) <= TOLERANCE.max(*most / 10))
    }

    /// When the verdict will be doubted, if the file stays quiet.
    pub(super) fn due(&self) -> Option<Instant> {
        self.last.filter(|_| self.state == State::Loop).map(|last| last + QUIET)
    }

    /// Whether the file has been quiet long enough to count once more.
    pub(super) fn doubt(&mut self, now: Instant) -> bool {
        let is_due = self.due().is_some_and(|due| due <= now);
        if is_due {
            self.state = State::Doubted;
        }
        is_due
    }
}
