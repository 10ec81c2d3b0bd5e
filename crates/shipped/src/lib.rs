//! Files that travel in the binary, so that a shipped profile works in an empty directory: its scripts, data sets, rules.

macro_rules! shipped {
    ($($path:literal)*) => {
        &[$(($path, include_str!(concat!("../../../", $path)))),*]
    };
}

/// The text of every shipped file by its path in a project, sorted.
#[rustfmt::skip]
pub const FILES: &[(&str, &str)] = shipped! {
    "init-scripts/complianceflow/postgres/00-tenants.sql"
    "init-scripts/complianceflow/postgres/analytics.sql"
    "init-scripts/complianceflow/postgres/case.sql"
    "init-scripts/complianceflow/postgres/declaration.sql"
    "init-scripts/complianceflow/postgres/form.sql"
    "init-scripts/complianceflow/postgres/notification.sql"
    "init-scripts/complianceflow/postgres/review.sql"
    "init-scripts/complianceflow/postgres/ruleengine.sql"
    "init-scripts/complianceflow/postgres/user.sql"
    "init-scripts/invoice-api/postgres/01-schema.sql"
    "init-scripts/lawyers-hub/postgres/01-schema.sql"
    "init-scripts/lawyers-hub/prometheus/alerts.yaml"
    "init-scripts/legal-platform/postgres/01-schema.sql"
    "init-scripts/legal-platform/postgres/02-vector-index.sql"
    "init-scripts/legal-platform/prometheus/alerts.yaml"
    "init-scripts/platform-wrapper/postgres/01-schema.sql"
    "seed-data/complianceflow/kafka/events.jsonl"
    "seed-data/complianceflow/postgres/analytics.sql"
    "seed-data/complianceflow/postgres/case.sql"
    "seed-data/complianceflow/postgres/declaration.sql"
    "seed-data/complianceflow/postgres/form.sql"
    "seed-data/complianceflow/postgres/notification.sql"
    "seed-data/complianceflow/postgres/review.sql"
    "seed-data/complianceflow/postgres/ruleengine.sql"
    "seed-data/complianceflow/postgres/user.sql"
    "seed-data/invoice-api/postgres/01-jobs.sql"
    "seed-data/lawyers-hub/postgres/01-lawyers.csv"
    "seed-data/lawyers-hub/postgres/02-consultations.sql"
    "seed-data/lawyers-hub/redis/01-jobs.jsonl"
    "seed-data/legal-platform/postgres/01-users.csv"
    "seed-data/legal-platform/postgres/02-cases.csv"
    "seed-data/legal-platform/postgres/03-documents.sql"
    "seed-data/legal-platform/redis/01-sessions.jsonl"
    "seed-data/platform-wrapper/postgres/01-accounts.csv"
    "seed-data/platform-wrapper/postgres/02-api_calls.sql"
    "seed-data/platform-wrapper/redis/01-databases.redis"
};

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn collect(root: &Path, directory: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(root, &path, found);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
            }
        }
    }

    #[test]
    fn every_file_of_the_shipped_profiles_is_in_the_binary() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        let mut found = Vec::new();
        for directory in ["init-scripts", "seed-data"] {
            collect(root, &root.join(directory), &mut found);
        }
        found.sort();
        assert_eq!(FILES.iter().map(|(path, _)| (*path).to_owned()).collect::<Vec<_>>(), found);
    }
}
