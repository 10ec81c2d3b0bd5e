//! How many databases may wait to be dropped, and which leases wait because there are more.
//!
//! A drop waits for a checkpoint, which syncs several hundred files for each database that a test uses at that moment, however few are
//! dropped: with four tests at once that takes longer than the tests. So the fewer checkpoints, the longer tests run undisturbed. Tests
//! that run one after another keep few databases; the more run at the same time, the more databases may wait, up to a limit.

use std::sync::Arc;

use tokio::sync::watch;

/// In mebibytes: how much may wait while leases are taken one after another, and how much more for each further one at the same time.
const ALONE: u64 = 112;
const EACH: u64 = 224;
/// In mebibytes: beyond that, leases wait however many there are, because disks fill faster than they empty.
const MOST: u64 = 1024;
/// In mebibytes: less is not worth a checkpoint while tests run.
const WORTH: u64 = 64;

pub(super) struct Backlog {
    amounts: watch::Sender<Amounts>,
}

#[derive(Clone, Copy, Default)]
struct Amounts {
    /// Leases that are held or asked for.
    users: u64,
    /// Mebibytes of databases that wait to be dropped or are being dropped.
    size: u64,
}

impl Amounts {
    fn limit(self) -> u64 {
        (ALONE + EACH * self.users.saturating_sub(1)).min(MOST)
    }
}

impl Backlog {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { amounts: watch::Sender::new(Amounts::default()) })
    }

    /// A lease, from its request to its end.
    pub(super) fn enter(self: &Arc<Self>) -> User {
        self.amounts.send_modify(|amounts| amounts.users += 1);
        User(self.clone())
    }

    /// A database that is to be dropped, until it is.
    pub(super) fn add(self: &Arc<Self>, size: u32) -> Share {
        let size = u64::from(size);
        self.amounts.send_modify(|amounts| amounts.size += size);
        Share { backlog: self.clone(), size }
    }

    /// Waits while more is left than the leases of now allow. Cancel-safe.
    pub(super) async fn admits(&self) {
        // The sender is `self`, so it does not close.
        let _ = self.amounts.subscribe().wait_for(|amounts| amounts.size < amounts.limit()).await;
    }

    /// Whether these mebibytes are dropped at once, though tests run.
    pub(super) fn is_worth_dropping(&self, size: u64) -> bool {
        size >= (self.amounts.borrow().limit() / 2).max(WORTH)
    }
}

pub(super) struct User(Arc<Backlog>);

impl Drop for User {
    fn drop(&mut self) {
        self.0.amounts.send_modify(|amounts| amounts.users -= 1);
    }
}

pub(super) struct Share {
    backlog: Arc<Backlog>,
    size: u64,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.backlog.amounts.send_modify(|amounts| amounts.size -= self.size);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    /// How many databases of this size are left when a lease has to wait.
    fn left(users: usize, size: u32) -> usize {
        let backlog = Backlog::new();
        let _users: Vec<User> = (0..users).map(|_| backlog.enter()).collect();
        let mut shares = Vec::new();
        while backlog.admits().now_or_never().is_some() {
            shares.push(backlog.add(size));
        }
        shares.len()
    }

    #[test]
    fn tests_one_after_another_leave_few_databases_and_tests_at_once_more() {
        assert_eq!((left(0, 9), left(1, 9)), (13, 13));
        assert_eq!(left(4, 9), 88);
        assert_eq!((left(40, 9), left(400, 9)), (114, 114));
        // A size that does not divide the limit makes leases wait all the same.
        assert_eq!(left(1, 1000), 1);
    }

    #[test]
    fn a_lease_that_waited_goes_on_when_databases_are_dropped_or_more_leases_are_asked_for() {
        let backlog = Backlog::new();
        let one = backlog.enter();
        let shares: Vec<Share> = (0..2).map(|_| backlog.add(100)).collect();
        assert!(backlog.admits().now_or_never().is_none());
        let other = backlog.enter();
        assert!(backlog.admits().now_or_never().is_some());
        drop(other);
        assert!(backlog.admits().now_or_never().is_none());
        drop(shares);
        assert!(backlog.admits().now_or_never().is_some());
        drop(one);
    }

    #[test]
    fn databases_are_dropped_while_tests_run_before_any_of_these_has_to_wait() {
        let backlog = Backlog::new();
        let _one = backlog.enter();
        assert!(!backlog.is_worth_dropping(WORTH - 1));
        assert!(backlog.is_worth_dropping(WORTH));
        let _three: Vec<User> = (0..3).map(|_| backlog.enter()).collect();
        assert!(!backlog.is_worth_dropping(WORTH));
        assert!(backlog.is_worth_dropping(u64::midpoint(ALONE, 3 * EACH)));
    }
}
