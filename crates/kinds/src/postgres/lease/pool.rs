//! Copies of one state of one database: made ahead, given to waiting callers, and never more than needed.
//!
//! Pure bookkeeping: it decides what to do, and [`super`] does it. A caller that finds no copy ready gets the next copy that
//! is finished, which usually has been started before.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
};

use tokio::sync::oneshot;

use crate::lease::LeaseError;

/// The number of copies made ahead, initially and at most: a lease that finds none doubles it. Limited by size.
const AHEAD: usize = 4;
const MOST_AHEAD: u64 = 8;
/// The disk space for copies made ahead.
const AHEAD_BYTES: u64 = 512 << 20;
/// Copies made at the same time.
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
}

impl DatabasePool {
    pub(super) fn new(key: String, started: String, strategy: &'static str, size: u64) -> Self {
        let most = (AHEAD_BYTES / size.max(1)).clamp(1, MOST_AHEAD) as usize;
        let state = PoolState { ready: Vec::new(), waiting: VecDeque::new(), making: 0, wanted: AHEAD.min(most) };
        let size = (size >> 20).clamp(1, u64::from(u32::MAX)) as u32;
        Self { key, started, strategy, size, most, state: Mutex::new(state) }
    }

    /// For a caller that takes a copy. Call [`Self::begin`] afterwards.
    pub(super) fn take(&self) -> Taken {
        let mut state = self.state();
        if let Some(name) = state.ready.pop() {
            return Taken::Ready(name);
        }
        state.wanted = (state.wanted * 2).min(self.most);
        let (waiter, copy) = oneshot::channel();
        state.waiting.push_back(waiter);
        Taken::Soon(copy)
    }

    /// How many copies to start now. Each must [`Self::arrive`].
    pub(super) fn begin(&self) -> usize {
        let mut state = self.state();
        state.waiting.retain(|waiter| !waiter.is_closed());
        let missing = (state.wanted + state.waiting.len()).saturating_sub(state.ready.len() + state.making);
        let begun = missing.min(MAKING.saturating_sub(state.making));
        state.making += begun;
        begun
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
        match pool.take() {
            Taken::Ready(name) => Some(name),
            Taken::Soon(_) => None,
        }
    }

    #[test]
    fn copies_are_made_until_enough_are_ahead_and_the_newest_is_given_first() {
        let pool = pool();
        assert_eq!((pool.begin(), pool.begin()), (MAKING, 0));
        for name in ["a", "b", "c"] {
            assert!(pool.arrive(Ok(name.into())).is_none());
        }
        assert_eq!(pool.begin(), 1);
        assert!(pool.arrive(Ok("d".into())).is_none());
        assert_eq!(pool.begin(), 0);
        assert_eq!((ready(&pool).as_deref(), ready(&pool).as_deref()), (Some("d"), Some("c")));
        assert_eq!(pool.begin(), 2);
    }

    #[test]
    fn a_client_that_finds_no_copy_gets_the_one_in_progress_and_more_are_made_ahead() {
        let pool = pool();
        assert_eq!(pool.begin(), MAKING);
        let Taken::Soon(mut first) = pool.take() else { panic!("nothing can be ready") };
        let Taken::Soon(second) = pool.take() else { panic!("nothing can be ready") };
        let Taken::Soon(mut third) = pool.take() else { panic!("nothing can be ready") };
        assert!(pool.arrive(Ok("a".into())).is_none());
        // A caller that does not wait any more is skipped.
        drop(second);
        assert!(pool.arrive(Ok("b".into())).is_none());
        assert_eq!((first.try_recv().unwrap().unwrap(), third.try_recv().unwrap().unwrap()), ("a".into(), "b".into()));
        assert_eq!(pool.begin(), 2);
        for name in ["c", "d", "e"] {
            pool.arrive(Ok(name.into()));
        }
        assert_eq!(pool.begin(), MAKING, "eight are wanted now");
    }

    #[test]
    fn an_error_goes_to_the_waiting_caller_or_is_returned() {
        let pool = pool();
        assert_eq!(pool.begin(), MAKING);
        let Taken::Soon(mut waiting) = pool.take() else { panic!("nothing can be ready") };
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
