//! PURE: which backups are removed to make room.
//!
//! Called after each backup with all existing ones. Backups of everything and backups of some services are counted
//! separately, and the latter by the services that they contain: a backup of a single service, made before an import, replaces
//! only others of the same service.

use std::collections::{BTreeMap, HashSet};

use devenv_api::Backup;

/// The number of days of which the last backup is kept.
const DAYS: usize = 7;
/// The number that is kept of the newest day.
const LATEST: usize = 8;

/// The ids to remove. An id begins with its time, `20261121T104500Z`, so ids sort by time.
pub fn outdated(backups: &[Backup]) -> Vec<String> {
    let mut by_scope: BTreeMap<Option<Vec<&str>>, Vec<&str>> = BTreeMap::new();
    for backup in backups {
        by_scope.entry(scope(backup)).or_default().push(&backup.id);
    }
    by_scope.into_values().flat_map(outdated_of_one_scope).collect()
}

/// The services of a partial backup; empty for a full one, which all backups were before the two were distinguished.
fn scope(backup: &Backup) -> Option<Vec<&str>> {
    backup.partial.then(|| {
        let mut services: Vec<&str> =
            backup.services.iter().filter(|part| part.skipped.is_none()).map(|part| part.service.as_str()).collect();
        services.sort_unstable();
        services
    })
}

fn outdated_of_one_scope(mut ids: Vec<&str>) -> Vec<String> {
    ids.sort_unstable_by(|a, b| b.cmp(a));
    let day = |id: &str| id.get(..8).unwrap_or(id).to_owned();
    let newest = ids.first().map(|id| day(id));
    let mut days = HashSet::new();
    let mut of_newest = 0;
    let mut gone = Vec::new();
    for id in ids {
        let today = Some(day(id)) == newest;
        of_newest += usize::from(today);
        let first_of_its_day = !days.contains(&day(id));
        if first_of_its_day && days.len() < DAYS {
            days.insert(day(id));
        } else if !today || of_newest > LATEST {
            gone.push(id.to_owned());
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup(id: &str, services: &[&str], partial: bool) -> Backup {
        let part = |service: &&str| serde_json::json!({ "service": service, "kind": "postgres", "files": [], "contents": [] });
        let services: Vec<serde_json::Value> = services.iter().map(part).collect();
        serde_json::from_value(serde_json::json!({ "id": id, "created_at": "", "services": services, "size": 0, "partial": partial }))
            .unwrap()
    }

    #[test]
    fn the_last_of_each_of_seven_days_stays_and_a_few_of_the_newest_day() {
        let mut ids: Vec<String> = (1..=9).flat_map(|day| [8, 20].map(|hour| format!("2026110{day}T{hour:02}0000Z"))).collect();
        ids.extend((0..9).map(|minute| format!("20261109T21{minute:02}00Z")));
        let gone = outdated(&ids.iter().map(|id| backup(id, &["db"], false)).collect::<Vec<_>>());
        let kept: Vec<&String> = ids.iter().filter(|id| !gone.contains(id)).collect();
        let days: Vec<&str> = kept.iter().map(|id| &id[..8]).collect();
        assert_eq!(days.iter().filter(|day| **day == "20261109").count(), LATEST);
        assert_eq!(&days[..6], ["20261103", "20261104", "20261105", "20261106", "20261107", "20261108"]);
        assert!(kept.iter().any(|id| *id == "20261103T200000Z"));
        assert!(outdated(&[]).is_empty());
    }

    #[test]
    fn a_backup_of_one_service_takes_the_place_of_no_other_backup() {
        let minutes = |hour: u32| (0..10).map(move |minute| format!("20261109T{hour:02}{minute:02}00Z"));
        let full = ["20261107T080000Z", "20261108T080000Z", "20261109T080000Z"].map(|id| backup(id, &["cache", "db"], false));
        let of_db: Vec<Backup> = minutes(9).map(|id| backup(&id, &["db"], true)).collect();
        let of_cache = backup("20261109T085900Z", &["cache"], true);
        for (there, gone) in [
            // Those before imports, after the day's full one and after that of another service.
            ([full.as_slice(), &of_db, std::slice::from_ref(&of_cache)].concat(), vec!["20261109T090000Z", "20261109T090100Z"]),
            // Later full ones do not affect them either.
            ([full.as_slice(), &[of_cache], &[backup("20261110T080000Z", &["cache", "db"], false)]].concat(), vec![]),
            // Each has its own seven days.
            (
                (1..=9)
                    .flat_map(|day| {
                        [
                            backup(&format!("2026110{day}T080000Z"), &["cache", "db"], false),
                            backup(&format!("2026110{day}T090000Z"), &["db"], true),
                        ]
                    })
                    .collect(),
                vec!["20261101T080000Z", "20261101T090000Z", "20261102T080000Z", "20261102T090000Z"],
            ),
        ] {
            let mut found = outdated(&there);
            found.sort_unstable();
            assert_eq!(found, gone);
        }
    }

    #[test]
    fn a_manifest_that_does_not_say_what_it_leaves_out_counts_as_a_full_backup() {
        let text = r#"{"id":"20261109T080000Z","created_at":"","services":[],"size":0}"#;
        assert_eq!(scope(&serde_json::from_str(text).unwrap()), None);
    }
}
