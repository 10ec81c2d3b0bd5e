//! Copies of one state of one database: made ahead, given to waiting callers, and never more than needed.
//!
//! Pure bookkeeping: it decides what to do, and [`super`] does it. As many copies are ahead as callers took lately, so that a
//! test suite finds what it needs; a pool that nobody uses shrinks. While copies are ready they are made one at a time, because
//! the test that uses one needs the processor. A caller that finds no copy ready gets the next one that is finished, which usually has
//! been started before.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::lease::LeaseError;

/// The number of copies made ahead: at least, and at most. Limited by size.
const AHEAD: usize = 4;
const MOST_AHEAD: u64 = 8;
/// As many copies are wanted ahead as were taken in this time.
const LATELY: Duration = Duration::from_secs(10);
/// A pool that was not used for this long keeps only [`AHEAD`] copies.
pub(super) const UNUSED: Duration = Duration::from_mins(2);
/// The disk space for copies made ahead.
const AHEAD_BYTES: u64 = 512 << 20;
/// Copies made at the same time while fewer than [`AHEAD`] are ready.
pub(super) const MAKING: usize = 3;

type Waiter = oneshot::Sender<Result<String, LeaseError>>;

/// A copy, now or soon.
pub(super) enum Taken {
    Ready(String),
    Soon(oneshot::Receiver<Result<String, LeaseError>>),
}

pub(super) struct DatabasePool {
    /// What the template was made from.
    pub(super) key: String,
    /// When the server was started: after a restart it may have other data.
    pub(super) started: String,
    /// The fastest way to copy a database of this size.
    pub(super) strategy: &'static str,
    /// The size of a copy, in mebibytes.
    pub(super) size: u32,
    most: usize,
    state: Mutex<PoolState>,
}

struct PoolState {
    /// The newest is granted first.
    ready: Vec<String>,
    waiting: VecDeque<Waiter>,
    making: usize,
    /// The number of copies to have ahead; zero for an outdated pool.
    wanted: usize,
    /// When the last copies were taken: as many as may be ahead.
    taken: VecDeque<Instant>,
    /// A task shrinks the pool once it is unused.
    is_watched: bool,
}

impl DatabasePool {
    pub(super) fn new(key: String, started: String, strategy: &'static str, size: u64) -> Self {
        let most = (AHEAD_BYTES / size.max(1)).clamp(1, MOST_AHEAD) as usize;
        let state = PoolState {
            ready: Vec::new(),
            waiting: VecDeque::new(),
            making: 0,
            wanted: AHEAD.min(most),
            taken: VecDeque::new(),
            is_watched: false,
        };
        let size = (size >> 20).clamp(1, u64::from(u32::MAX)) as u32;
        Self { key, started, strategy, size, most, state: Mutex::new(state) }
    }

    /// For a caller that takes a copy. Call [`Self::begin`] afterwards.
    pub(super) fn take(&self, now: Instant) -> Taken {
        let mut state = self.state();
        state.taken.retain(|taken| now.saturating_duration_since(*taken) < LATELY);
        if state.taken.len() >= self.most {
            state.taken.pop_front();
        }
        state.taken.push_back(now);
        if state.wanted > 0 {
            state.wanted = state.wanted.max(state.taken.len());
        }
        if let Some(name) = state.ready.pop() {
            return Taken::Ready(name);
        }
        let (waiter, copy) = oneshot::channel();
        state.waiting.push_back(waiter);
        Taken::Soon(copy)
    }

    /// How many copies to start now. Each must [`Self::arrive`].
    pub(super) fn begin(&self) -> usize {
        let mut state = self.state();
        state.waiting.retain(|waiter| !waiter.is_closed());
        let missing = (state.wanted + state.waiting.len()).saturating_sub(state.ready.len() + state.making);
        let at_once = if state.ready.len() < AHEAD { MAKING } else { 1 };
        let begun = missing.min(at_once.saturating_sub(state.making));
        state.making += begun;
        begun
    }

    /// Whether all copies that are wanted are ready.
    pub(super) fn is_full(&self) -> bool {
        let state = self.state();
        state.making == 0 && state.waiting.is_empty() && state.ready.len() >= state.wanted
    }

    /// Whether the caller has to start a task that calls [`Self::shrink`] until it returns copies.
    pub(super) fn needs_watch(&self) -> bool {
        let mut state = self.state();
        let needs = !state.is_watched && state.wanted > AHEAD;
        state.is_watched |= needs;
        needs
    }

    /// Returns the copies that an unused pool does not need; `None` while it is in use.
    pub(super) fn shrink(&self, now: Instant) -> Option<Vec<String>> {
        let mut state = self.state();
        if state.taken.back().is_some_and(|taken| now.saturating_duration_since(*taken) < UNUSED) {
            return None;
        }
        state.is_watched = false;
        state.wanted = state.wanted.min(AHEAD);
        let surplus = state.ready.len().saturating_sub(state.wanted);
        Some(state.ready.drain(..surplus).collect())
    }

    /// A copy is complete, or could not be made. Returns what nobody waits for: a copy to drop, or an
    /// error.
    pub(super) fn arrive(&self, made: Result<String, LeaseError>) -> Option<Result<String, LeaseError>> {
        let mut state = self.state();
        state.making -= 1;
        let mut made = made;
        while let Some(waiter) = state.waiting.pop_front() {
            match waiter.send(made) {
                Ok(()) => return None,
                Err(unheard) => made = unheard,
            }
        }
        match made {
            Ok(name) if state.wanted > 0 => {
                state.ready.push(name);
                None
            }
            made => Some(made),
        }
    }

    /// Ends the pool. Returns the copies that were ready. Unfinished ones go to waiting callers, or are returned later.
    pub(super) fn close(&self) -> Vec<String> {
        let mut state = self.state();
        state.wanted = 0;
        std::mem::take(&mut state.ready)
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().expect("no code panics while it holds this lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> DatabasePool {
        DatabasePool::new("key".into(), "now".into(), "", 8 << 20)
    }

    fn ready(pool: &DatabasePool) -> Option<String> {
        match pool.take(Instant::now()) {
            Taken::Ready(name) => Some(name),
            Taken::Soon(_) => None,
        }
    }

    fn soon(pool: &DatabasePool) -> oneshot::Receiver<Result<String, LeaseError>> {
        let Taken::Soon(copy) = pool.take(Instant::now()) else { panic!("nothing can be ready") };
        copy
    }

    /// Makes copies until no more are wanted. Returns how many.
    fn fill(pool: &DatabasePool) -> usize {
        let mut made = 0;
        loop {
            let begun = pool.begin();
            if begun == 0 {
                return made;
            }
            for _ in 0..begun {
                pool.arrive(Ok(format!("{made}")));
                made += 1;
            }
        }
    }

    #[test]
    fn copies_are_made_until_enough_are_ahead_and_the_newest_is_given_first() {
        let pool = pool();
        assert_eq!((pool.begin(), pool.begin()), (MAKING, 0));
        for name in ["a", "b", "c"] {
            assert!(pool.arrive(Ok(name.into())).is_none());
        }
        assert!(!pool.is_full());
        assert_eq!(pool.begin(), 1);
        assert!(pool.arrive(Ok("d".into())).is_none());
        assert_eq!(pool.begin(), 0);
        assert!(pool.is_full());
        assert_eq!((ready(&pool).as_deref(), ready(&pool).as_deref()), (Some("d"), Some("c")));
        assert_eq!(pool.begin(), 2);
    }

    #[test]
    fn a_client_that_finds_no_copy_gets_the_one_in_progress() {
        let pool = pool();
        assert_eq!(pool.begin(), MAKING);
        let (mut first, second, mut third) = (soon(&pool), soon(&pool), soon(&pool));
        assert!(pool.arrive(Ok("a".into())).is_none());
        // A caller that does not wait any more is skipped.
        drop(second);
        assert!(pool.arrive(Ok("b".into())).is_none());
        assert_eq!((first.try_recv().unwrap().unwrap(), third.try_recv().unwrap().unwrap()), ("a".into(), "b".into()));
    }

    #[test]
    fn as_many_copies_are_ahead_as_were_taken_lately_until_nobody_takes_any() {
        let pool = pool();
        let began = Instant::now();
        assert_eq!(fill(&pool), AHEAD);
        assert!(!pool.needs_watch());
        for taken in 0..100 {
            assert!(matches!(pool.take(began), Taken::Ready(_)), "{taken}");
            fill(&pool);
        }
        assert!(pool.needs_watch() && !pool.needs_watch(), "one task is enough");
        assert_eq!(pool.shrink(began + UNUSED / 2), None);
        let surplus = pool.shrink(began + UNUSED).unwrap();
        assert_eq!(surplus.len(), MOST_AHEAD as usize - AHEAD);
        assert_eq!((pool.begin(), pool.is_full()), (0, true));
        pool.take(began + UNUSED);
        assert_eq!(pool.begin(), 1, "what was taken long ago does not count");
    }

    #[test]
    fn copies_are_made_one_at_a_time_while_some_are_ready() {
        let pool = pool();
        fill(&pool);
        for _ in 0..8 {
            pool.take(Instant::now());
            fill(&pool);
        }
        for _ in 0..3 {
            pool.take(Instant::now());
        }
        assert_eq!((pool.begin(), pool.begin()), (1, 0));
        while ready(&pool).is_some() {}
        assert_eq!(pool.begin(), MAKING - 1, "a client waits");
    }

    #[test]
    fn an_error_goes_to_the_waiting_caller_or_is_returned() {
        let pool = pool();
        assert_eq!(pool.begin(), MAKING);
        let mut waiting = soon(&pool);
        assert!(pool.arrive(Err(LeaseError::Nothing(String::new()))).is_none());
        assert!(waiting.try_recv().unwrap().is_err());
        assert!(matches!(pool.arrive(Err(LeaseError::Nothing(String::new()))), Some(Err(_))));
    }

    #[test]
    fn an_outdated_copy_is_not_completed_and_its_request_is_returned() {
        let pool = pool();
        pool.begin();
        pool.arrive(Ok("a".into()));
        assert_eq!(pool.close(), ["a"]);
        assert!(matches!(pool.arrive(Ok("b".into())), Some(Ok(name)) if name == "b"));
        assert_eq!(pool.begin(), 0);
    }

    #[test]
    fn a_large_database_is_copied_ahead_once() {
        let pool = DatabasePool::new(String::new(), String::new(), "", 1 << 30);
        assert_eq!(pool.begin(), 1);
    }
}
