//! Which operation may run: which operations exclude one another, and which one ends another. Pure.
//!
//! An operation waits for earlier ones that conflict with it, whether they run or wait themselves.
//! Operations on different environments never wait for one another.

use devenv_api::OperationKind;
use devenv_spec::{EnvironmentId, ServiceName};

/// What an operation does in an environment, as far as others are concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Work {
    /// Brings it up. Several may run at a time: they have the same goal.
    Up,
    /// Takes it down. It ends operations that bring it up instead of waiting for them.
    Down,
    /// Starts or restarts these services; all, if none is named.
    Start(Vec<ServiceName>),
    /// Stops these services. It ends operations that start them.
    Stop(Vec<ServiceName>),
    /// Puts services to sleep. It ends nothing: whatever is in progress uses them.
    Sleep,
    /// Copies data, or runs scripts on it: nothing may start, stop or move meanwhile.
    Read,
    /// Replaces the data.
    Replace,
    /// Makes or removes the parts of a lease.
    Lease,
    /// Makes an environment for its holder.
    Hold,
    /// Removes it for good, and ends every operation in it.
    Dissolve,
    /// Removes unneeded objects, in all environments.
    Collect,
}

/// One operation's part in one environment; `None` means all environments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) environment: Option<EnvironmentId>,
    pub(crate) work: Work,
}

#[derive(Debug, Clone)]
struct Entry {
    id: String,
    kind: OperationKind,
    claims: Vec<Claim>,
    running: bool,
}

/// Operations that have not ended, in the order of submission.
#[derive(Debug, Default)]
pub(super) struct Queue {
    entries: Vec<Entry>,
}

impl Queue {
    /// The ids of those that it ends.
    pub(super) fn add(&mut self, id: &str, kind: OperationKind, claims: Vec<Claim>) -> Vec<String> {
        let superseded = self.entries.iter().filter(|earlier| pairs(&claims, &earlier.claims).any(|(new, old)| new.supersedes(old)));
        let superseded = superseded.map(|earlier| earlier.id.clone()).collect();
        self.entries.push(Entry { id: id.to_owned(), kind, claims, running: false });
        superseded
    }

    /// Lets it run if it is its turn; otherwise returns what it waits for.
    pub(super) fn start(&mut self, id: &str) -> Result<(), Vec<(String, OperationKind)>> {
        let Some(place) = self.entries.iter().position(|entry| entry.id == id) else { return Ok(()) };
        let (before, rest) = self.entries.split_at_mut(place);
        let own = &mut rest[0];
        let blocking: Vec<(String, OperationKind)> = before
            .iter()
            .filter(|earlier| pairs(&own.claims, &earlier.claims).any(|(new, old)| new.waits_for(old, earlier.running)))
            .map(|earlier| (earlier.id.clone(), earlier.kind))
            .collect();
        if blocking.is_empty() {
            own.running = true;
            return Ok(());
        }
        Err(blocking)
    }

    pub(super) fn remove(&mut self, id: &str) {
        self.entries.retain(|entry| entry.id != id);
    }

    /// Whether another operation brings the environment up.
    pub(super) fn comes_up_otherwise(&self, id: &str, environment: &EnvironmentId) -> bool {
        let up = |claim: &Claim| claim.work == Work::Up && claim.environment.as_ref() == Some(environment);
        self.entries.iter().any(|entry| entry.id != id && entry.claims.iter().any(up))
    }
}

/// The parts of two operations that concern the same environment.
fn pairs<'a>(new: &'a [Claim], earlier: &'a [Claim]) -> impl Iterator<Item = (&'a Work, &'a Work)> {
    new.iter().flat_map(move |new| {
        let same = move |old: &&Claim| old.environment == new.environment;
        earlier.iter().filter(same).map(move |old| (&new.work, &old.work))
    })
}

fn overlap(a: &[ServiceName], b: &[ServiceName]) -> bool {
    a.is_empty() || b.is_empty() || a.iter().any(|name| b.contains(name))
}

impl Work {
    fn waits_for(&self, earlier: &Self, earlier_runs: bool) -> bool {
        match (self, earlier) {
            // They concern no common environment; for operations that concern all of them.
            (Self::Collect, other) | (other, Self::Collect) => *other == Self::Collect,
            // A lease takes milliseconds and must not wait in the queue.
            (Self::Lease, Self::Replace) => earlier_runs,
            (Self::Lease, _) => false,
            (Self::Replace, Self::Lease) => true,
            (_, Self::Lease) => false,
            (Self::Up, Self::Up | Self::Start(_) | Self::Stop(_)) | (Self::Start(_) | Self::Stop(_), Self::Up) => false,
            (Self::Start(new) | Self::Stop(new), Self::Start(old) | Self::Stop(old)) => overlap(new, old),
            (
                Self::Up
                | Self::Down
                | Self::Start(_)
                | Self::Stop(_)
                | Self::Sleep
                | Self::Read
                | Self::Replace
                | Self::Hold
                | Self::Dissolve,
                Self::Up
                | Self::Down
                | Self::Start(_)
                | Self::Stop(_)
                | Self::Sleep
                | Self::Read
                | Self::Replace
                | Self::Hold
                | Self::Dissolve,
            ) => true,
        }
    }

    /// Whether the environment must be awake for it.
    pub(super) fn uses_servers(&self) -> bool {
        matches!(self, Self::Read | Self::Replace | Self::Lease)
    }

    fn supersedes(&self, earlier: &Self) -> bool {
        match (self, earlier) {
            (Self::Down, Self::Up | Self::Start(_) | Self::Stop(_) | Self::Sleep) => true,
            (Self::Stop(new), Self::Start(old)) => overlap(new, old),
            (Self::Dissolve, other) => !matches!(other, Self::Lease | Self::Dissolve | Self::Hold),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(environment: &str, work: Work) -> Vec<Claim> {
        vec![Claim { environment: Some(EnvironmentId::recorded(environment)), work }]
    }

    fn names(names: &[&str]) -> Vec<ServiceName> {
        names.iter().map(|name| name.parse().unwrap()).collect()
    }

    /// Whether the second waits while the first runs, and whether it ends it.
    fn meet(first: Work, second: Work) -> (bool, bool) {
        let mut queue = Queue::default();
        queue.add("1", OperationKind::Up, claims("e", first));
        queue.start("1").unwrap();
        let ended = queue.add("2", OperationKind::Up, claims("e", second));
        (queue.start("2").is_err(), !ended.is_empty())
    }

    #[test]
    fn operations_wait_for_those_that_they_cannot_run_beside() {
        let (run, wait, end) = ((false, false), (true, false), (true, true));
        let (db, api) = (|| names(&["db"]), || names(&["api"]));
        let cases = [
            (Work::Up, Work::Up, run),
            (Work::Up, Work::Start(db()), run),
            (Work::Up, Work::Stop(db()), run),
            (Work::Start(db()), Work::Up, run),
            (Work::Start(db()), Work::Start(api()), run),
            (Work::Start(db()), Work::Start(db()), wait),
            (Work::Start(Vec::new()), Work::Start(db()), wait),
            (Work::Start(db()), Work::Stop(db()), end),
            (Work::Start(db()), Work::Stop(api()), run),
            (Work::Up, Work::Down, end),
            (Work::Start(db()), Work::Down, end),
            (Work::Down, Work::Up, wait),
            (Work::Down, Work::Down, wait),
            (Work::Start(db()), Work::Sleep, wait),
            (Work::Read, Work::Sleep, wait),
            (Work::Sleep, Work::Start(db()), wait),
            (Work::Sleep, Work::Lease, run),
            (Work::Sleep, Work::Down, end),
            (Work::Read, Work::Down, wait),
            (Work::Read, Work::Up, wait),
            (Work::Read, Work::Start(db()), wait),
            (Work::Read, Work::Read, wait),
            (Work::Replace, Work::Read, wait),
            (Work::Up, Work::Read, wait),
            (Work::Read, Work::Lease, run),
            (Work::Up, Work::Lease, run),
            (Work::Replace, Work::Lease, wait),
            (Work::Lease, Work::Replace, wait),
            (Work::Lease, Work::Down, run),
            (Work::Up, Work::Dissolve, end),
            (Work::Read, Work::Dissolve, end),
            (Work::Lease, Work::Dissolve, run),
            (Work::Read, Work::Collect, run),
            (Work::Collect, Work::Replace, run),
        ];
        for (first, second, expected) in cases {
            assert_eq!(meet(first.clone(), second.clone()), expected, "{second:?} after {first:?}");
        }
    }

    #[test]
    fn operations_on_different_environments_never_wait_for_one_another() {
        let mut queue = Queue::default();
        queue.add("1", OperationKind::Reset, claims("a", Work::Replace));
        queue.start("1").unwrap();
        assert!(queue.add("2", OperationKind::Down, claims("b", Work::Down)).is_empty());
        queue.start("2").unwrap();
    }

    #[test]
    fn one_garbage_collection_waits_for_another() {
        let collect = || vec![Claim { environment: None, work: Work::Collect }];
        let mut queue = Queue::default();
        queue.add("1", OperationKind::Gc, collect());
        queue.start("1").unwrap();
        queue.add("2", OperationKind::Gc, collect());
        assert_eq!(queue.start("2").unwrap_err(), [("1".to_owned(), OperationKind::Gc)]);
        queue.remove("1");
        queue.start("2").unwrap();
    }

    #[test]
    fn a_waiting_operation_is_not_overtaken_and_a_lease_does_not_wait_for_it() {
        let mut queue = Queue::default();
        queue.add("1", OperationKind::Backup, claims("e", Work::Read));
        queue.start("1").unwrap();
        queue.add("2", OperationKind::Reset, claims("e", Work::Replace));
        queue.start("2").unwrap_err();
        queue.add("3", OperationKind::Lease, claims("e", Work::Lease));
        queue.start("3").unwrap();
        queue.remove("3");
        queue.add("4", OperationKind::Up, claims("e", Work::Up));
        queue.remove("1");
        assert_eq!(queue.start("4").unwrap_err(), [("2".to_owned(), OperationKind::Reset)]);
    }
}
