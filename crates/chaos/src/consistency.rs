//! PURE: compares what was acknowledged with what is stored: lost, holes, duplicates, unexpected.
//!
//! Workloads write to logs only, so lost operations must be the last ones that a client wrote on one
//! connection. A *hole* is an acknowledged operation that is missing although a later one, sent before the fault,
//! is stored. A hole is a bug of the server, whatever durability it promises.

use devenv_kinds::capability::Observed;

use super::operation_log::{Operation, Outcome};

/// An operation that took longer may have been sent on two connections.
const STALL_US: u64 = 200_000;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Consistency {
    pub attempted: u64,
    pub acknowledged: u64,
    pub failed: u64,
    pub unknown: u64,
    /// Unknown operations that are stored.
    pub appeared: u64,
    pub lost: u64,
    /// The longest time from the newest survivor to the last operation that was lost after it.
    pub window_us: u64,
    pub holes: u64,
    pub duplicates: u64,
    pub unexpected: u64,
    /// The first lost operation, as `client/sequence`.
    pub first_lost: Option<(u32, u64)>,
}

impl Consistency {
    /// What is known without reading the service's data.
    pub(crate) fn of_operations(operations: &[Operation]) -> Self {
        let mut consistency = Self { attempted: operations.len() as u64, ..Self::default() };
        for operation in operations {
            match operation.outcome {
                Outcome::Acknowledged { .. } => consistency.acknowledged += 1,
                Outcome::Failed => consistency.failed += 1,
                Outcome::Unknown => consistency.unknown += 1,
            }
        }
        consistency
    }

    /// `operations` are ordered by client and sequence.
    pub(crate) fn judge(operations: &[Operation], observed: &Observed) -> Self {
        let mut consistency = Self::of_operations(operations);
        let mut known = 0;
        for client in operations.chunk_by(|one, next| one.client == next.client) {
            consistency.client(client, observed);
            known += client.iter().filter(|operation| observed.found.contains_key(&key(operation))).count() as u64;
            consistency.duplicates += client
                .iter()
                .filter_map(|operation| observed.found.get(&key(operation)))
                .map(|times| u64::from(times.saturating_sub(1)))
                .sum::<u64>();
        }
        consistency.unexpected = observed.strangers + observed.found.len() as u64 - known;
        // A refused operation must not be stored.
        consistency.unexpected += operations
            .iter()
            .filter(|operation| operation.outcome == Outcome::Failed && observed.found.contains_key(&key(operation)))
            .count() as u64;
        consistency
    }

    /// One client uses one connection at a time and sends one operation after the other.
    fn client(&mut self, operations: &[Operation], observed: &Observed) {
        let mut survivor_us = operations.first().map_or(0, |operation| operation.invoked_us);
        // Lost since the last survivor, on the same unbroken connection.
        let mut pending = 0;
        for operation in operations {
            let there = observed.found.contains_key(&key(operation));
            match operation.outcome {
                Outcome::Acknowledged { at_us } if there => {
                    // A newer operation on the same connection is stored, so what is missing before it is a hole. A client
                    // that reconnects internally shows that only by the duration of the operation.
                    let stalled = at_us.saturating_sub(operation.invoked_us) > STALL_US;
                    self.holes += if stalled { 0 } else { pending };
                    pending = 0;
                    survivor_us = at_us;
                }
                Outcome::Acknowledged { at_us } => {
                    self.lost += 1;
                    pending += 1;
                    self.first_lost.get_or_insert(key(operation));
                    self.window_us = self.window_us.max(at_us.saturating_sub(survivor_us));
                }
                Outcome::Unknown => {
                    self.appeared += u64::from(there);
                    // The connection broke here: later operations may be stored whatever was lost before.
                    pending = 0;
                }
                Outcome::Failed => {}
            }
        }
    }
}

fn key(operation: &Operation) -> (u32, u64) {
    (operation.client, operation.sequence)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a` acknowledged and stored, `l` acknowledged and lost, `u` unknown, `U` unknown and stored, `f` refused, `F` refused and stored,
    /// `2` acknowledged and stored twice. One per millisecond.
    fn judged(clients: &[&str]) -> Consistency {
        let mut operations = Vec::new();
        let mut observed = Observed::default();
        for (client, text) in clients.iter().enumerate() {
            for (at, letter) in text.chars().enumerate() {
                let (client, sequence, at_us) = (client as u32, at as u64, at as u64 * 1000);
                let outcome = match letter {
                    'a' | 'l' | '2' => Outcome::Acknowledged { at_us },
                    'f' | 'F' => Outcome::Failed,
                    _ => Outcome::Unknown,
                };
                let times = match letter {
                    'a' | 'U' | 'F' => 1,
                    '2' => 2,
                    _ => 0,
                };
                if times > 0 {
                    observed.found.insert((client, sequence), times);
                }
                operations.push(Operation { client, sequence, invoked_us: at_us, outcome, done: 0 });
            }
        }
        Consistency::judge(&operations, &observed)
    }

    #[test]
    fn unacknowledged_operations_are_never_lost() {
        let consistency = judged(&["aauUfa", "aaa"]);
        assert_eq!((consistency.acknowledged, consistency.unknown, consistency.appeared, consistency.failed), (6, 2, 1, 1));
        assert_eq!(
            (consistency.lost, consistency.holes, consistency.duplicates, consistency.unexpected, consistency.window_us),
            (0, 0, 0, 0, 0)
        );
    }

    #[test]
    fn a_suffix_before_a_broken_connection_is_lost_without_a_hole() {
        let consistency = judged(&["aaallluaaa"]);
        assert_eq!((consistency.lost, consistency.holes, consistency.window_us), (3, 0, 3000));
        assert_eq!(consistency.first_lost, Some((0, 3)));
    }

    #[test]
    fn a_missing_operation_between_stored_ones_is_a_hole() {
        let consistency = judged(&["aallaa", "aaaaa"]);
        assert_eq!((consistency.lost, consistency.holes), (2, 2));
    }

    #[test]
    fn the_window_is_that_of_the_worst_client() {
        let consistency = judged(&["aaalu", "allllu"]);
        assert_eq!((consistency.lost, consistency.window_us), (5, 4000));
        assert_eq!(judged(&["llll"]).window_us, 3000);
    }

    #[test]
    fn twice_is_a_duplicate_and_refused_or_never_tried_is_unexpected() {
        let consistency = judged(&["a2F"]);
        assert_eq!((consistency.duplicates, consistency.unexpected), (1, 1));
        let mut observed = Observed { strangers: 1, ..Observed::default() };
        observed.found.insert((9, 9), 1);
        assert_eq!(Consistency::judge(&[], &observed).unexpected, 2);
    }
}
