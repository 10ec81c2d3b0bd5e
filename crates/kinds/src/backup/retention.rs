//! PURE: which backups make room.

use std::collections::HashSet;

/// Days of which the last backup is kept.
const DAYS: usize = 7;
/// Of the newest day, this many.
const LATEST: usize = 8;

/// The ids that go. An id begins with its time, `20261121T104500Z`, so that their order is that of time.
pub fn outdated(ids: &[String]) -> Vec<String> {
    let mut sorted: Vec<&String> = ids.iter().collect();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    let day = |id: &str| id.get(..8).unwrap_or(id).to_owned();
    let newest = sorted.first().map(|id| day(id));
    let mut days = HashSet::new();
    let mut of_newest = 0;
    let mut gone = Vec::new();
    for id in sorted {
        let today = Some(day(id)) == newest;
        of_newest += usize::from(today);
        let first_of_its_day = !days.contains(&day(id));
        if first_of_its_day && days.len() < DAYS {
            days.insert(day(id));
        } else if !today || of_newest > LATEST {
            gone.push(id.clone());
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_of_each_of_seven_days_stays_and_a_few_of_the_newest_day() {
        let mut ids: Vec<String> = (1..=9).flat_map(|day| [8, 20].map(|hour| format!("2026110{day}T{hour:02}0000Z"))).collect();
        ids.extend((0..9).map(|minute| format!("20261109T21{minute:02}00Z")));
        let gone = outdated(&ids);
        let kept: Vec<&String> = ids.iter().filter(|id| !gone.contains(id)).collect();
        let days: Vec<&str> = kept.iter().map(|id| &id[..8]).collect();
        assert_eq!(days.iter().filter(|day| **day == "20261109").count(), LATEST);
        assert_eq!(&days[..6], ["20261103", "20261104", "20261105", "20261106", "20261107", "20261108"]);
        assert!(kept.iter().any(|id| *id == "20261103T200000Z"));
        assert!(outdated(&[]).is_empty());
    }
}
