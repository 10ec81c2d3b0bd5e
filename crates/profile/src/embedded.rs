//! What ships inside the binary: profiles, and the files that they name.

use devenv_shipped::FILES;

/// The shipped profiles, by name.
pub(super) const PROFILES: &[(&str, &str)] = &[
    ("default", include_str!("../../../profiles/default.yaml")),
    ("data", include_str!("../../../profiles/data.yaml")),
    ("observability", include_str!("../../../profiles/observability.yaml")),
    ("mariadb", include_str!("../../../profiles/mariadb.yaml")),
    ("rabbitmq", include_str!("../../../profiles/rabbitmq.yaml")),
    ("complianceflow", include_str!("../../../profiles/complianceflow.yaml")),
    ("invoice-api", include_str!("../../../profiles/invoice-api.yaml")),
    ("lawyers-hub", include_str!("../../../profiles/lawyers-hub.yaml")),
    ("legal-platform", include_str!("../../../profiles/legal-platform.yaml")),
    ("platform-wrapper", include_str!("../../../profiles/platform-wrapper.yaml")),
    ("power-cut-redis-always", include_str!("../../../profiles/power-cut-redis-always.yaml")),
    ("power-cut-redis-everysec", include_str!("../../../profiles/power-cut-redis-everysec.yaml")),
    ("power-cut-redis-no", include_str!("../../../profiles/power-cut-redis-no.yaml")),
    ("power-cut-redis-rdb", include_str!("../../../profiles/power-cut-redis-rdb.yaml")),
    ("power-cut-redis-never", include_str!("../../../profiles/power-cut-redis-never.yaml")),
    ("power-cut-postgres", include_str!("../../../profiles/power-cut-postgres.yaml")),
    ("power-cut-postgres-async", include_str!("../../../profiles/power-cut-postgres-async.yaml")),
    ("power-cut-postgres-no-fsync", include_str!("../../../profiles/power-cut-postgres-no-fsync.yaml")),
    ("power-cut-kafka", include_str!("../../../profiles/power-cut-kafka.yaml")),
    ("power-cut-mariadb", include_str!("../../../profiles/power-cut-mariadb.yaml")),
    ("power-cut-mariadb-relaxed", include_str!("../../../profiles/power-cut-mariadb-relaxed.yaml")),
];

/// The text of a shipped profile.
pub(super) fn profile(name: &str) -> Option<&'static str> {
    PROFILES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// The shipped files at a path, which may be a directory: their paths and texts, in path order.
pub(crate) fn files(path: &str) -> Vec<(&'static str, &'static str)> {
    let path = path.trim_end_matches('/');
    FILES
        .iter()
        .filter(|(known, _)| known.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
        .copied()
        .collect()
}
