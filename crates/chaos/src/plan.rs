//! PURE: the plan of a scenario, with every random choice made.
//!
//! Each draw is a hash of the seed and of what it is for, so that an entry's time does not depend on the entries around
//! it (a shrunk timeline keeps the times of what is left), nor on the version of a library.

use std::time::Duration;

use devenv_api::{ChaosPlan, PlannedFault};
use sha2::{Digest, Sha256};

use super::scenario::{Entry, Scenario, Start};

pub fn plan(scenario: &Scenario, seed: u64) -> ChaosPlan {
    ChaosPlan { scenario: scenario.name.clone(), seed, plan: scenario.timeline.iter().map(|entry| planned(entry, seed)).collect() }
}

fn planned(entry: &Entry, seed: u64) -> PlannedFault {
    let later = later(entry, seed);
    let mut planned = PlannedFault {
        id: entry.id.clone(),
        at_ms: None,
        after: None,
        when: None,
        for_ms: entry.lasting.map(milliseconds),
        fault: entry.fault.clone(),
        on: entry.on.clone(),
        parameters: entry.parameters.iter().map(|(name, value)| (name.clone(), value.clone().into())).collect(),
        // JSON numbers beyond 2^53 lose precision in some readers.
        seed: draw(seed, &entry.id, "fault") >> 11,
    };
    match &entry.start {
        Start::At(at) => planned.at_ms = Some(milliseconds(*at + later)),
        Start::After { id, moment, delay } => {
            planned.after = Some(format!("{id}.{} + {}ms", moment.as_str(), milliseconds(*delay + later)));
        }
        Start::When(condition) => planned.when = Some(condition.text.clone()),
    }
    planned
}

/// The time of an entry as the plan has it: from the start of the timeline, or from the event that it waits for. Only the plan counts,
/// so a stored plan is replayed without new random choices.
pub fn delay(planned: &PlannedFault) -> Duration {
    let after = planned.after.as_deref().and_then(|after| after.rsplit_once("+ ")?.1.strip_suffix("ms")?.parse().ok());
    Duration::from_millis(planned.at_ms.or(after).unwrap_or_default())
}

/// The delay drawn for an entry: between zero and its spread.
fn later(entry: &Entry, seed: u64) -> Duration {
    let most = milliseconds(entry.spread);
    Duration::from_millis(if most == 0 { 0 } else { draw(seed, &entry.id, "spread") % (most + 1) })
}

fn draw(seed: u64, id: &str, purpose: &str) -> u64 {
    let digest = Sha256::new().chain_update(seed.to_be_bytes()).chain_update(purpose).chain_update([0]).chain_update(id).finalize();
    u64::from_be_bytes(digest[..8].try_into().expect("a digest has more than eight bytes"))
}

fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::read;

    const TEXT: &str = "\
workload: { keys: { redis-keys: { service: cache } } }
timeline:
  - { id: one, at: 2s, spread: 900ms, fault: kill, on: cache }
  - { id: two, after: one.recovered + 1s, spread: 1s, for: 3s, fault: pause, on: cache }
";

    fn scenario(text: &str) -> Scenario {
        read("s", "chaos/s.yaml", text.as_bytes(), None).unwrap_or_else(|report| panic!("{}", report.render()))
    }

    #[test]
    fn the_same_seed_gives_the_same_plan_byte_for_byte_and_another_another() {
        let scenario = scenario(TEXT);
        let text = |seed| serde_json::to_string(&plan(&scenario, seed)).unwrap();
        assert_eq!(text(1), text(1));
        assert_ne!(text(1), text(2));
        // A plan of a released version: the same seed must give the same plan.
        let one = &plan(&scenario, 7).plan;
        assert_eq!((one[0].at_ms, one[1].for_ms), (Some(2000 + milliseconds(later(&scenario.timeline[0], 7))), Some(3000)));
        assert_eq!(delay(&one[0]), Duration::from_secs(2) + later(&scenario.timeline[0], 7));
        assert_eq!(delay(&one[1]), Duration::from_secs(1) + later(&scenario.timeline[1], 7));
    }

    #[test]
    fn a_spread_stays_within_its_bounds_and_uses_them() {
        let scenario = scenario(TEXT);
        let drawn: Vec<u64> = (0..400).map(|seed| milliseconds(later(&scenario.timeline[0], seed))).collect();
        assert!(drawn.iter().all(|later| *later <= 900));
        assert!(drawn.iter().any(|later| *later < 100) && drawn.iter().any(|later| *later > 800));
    }

    #[test]
    fn an_entry_keeps_its_time_when_others_are_left_out() {
        let whole = plan(&scenario(TEXT), 3);
        let alone = plan(&scenario(&TEXT.lines().take(3).collect::<Vec<_>>().join("\n")), 3);
        assert_eq!(whole.plan[0], alone.plan[0]);
    }
}
