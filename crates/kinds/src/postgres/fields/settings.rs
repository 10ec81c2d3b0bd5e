//! The settings of a server: parameters, libraries of extensions, shared memory.

use std::collections::BTreeMap;

use devenv_spec::Size;

use super::{ACCESS, CERTIFICATE, Declared, IDENTITIES, KEY, Postgres};

/// Libraries that must be loaded at start: extension, library, whether `CREATE EXTENSION` is needed too. Citus must
/// be the first.
const PRELOADED: &[(&str, &str, Creation)] = &[
    ("citus", "citus", Creation::Everywhere),
    ("timescaledb", "timescaledb", Creation::Everywhere),
    ("pg_stat_statements", "pg_stat_statements", Creation::Everywhere),
    ("pg_stat_kcache", "pg_stat_kcache", Creation::Everywhere),
    ("pg_qualstats", "pg_qualstats", Creation::Everywhere),
    ("pg_wait_sampling", "pg_wait_sampling", Creation::Everywhere),
    ("auto_explain", "auto_explain", Creation::Nowhere),
    ("auth_delay", "auth_delay", Creation::Nowhere),
    ("pg_cron", "pg_cron", Creation::OneDatabase),
    ("pg_hint_plan", "pg_hint_plan", Creation::Everywhere),
    ("pg_net", "pg_net", Creation::Everywhere),
    ("pg_partman", "pg_partman_bgw", Creation::Everywhere),
    ("pg_prewarm", "pg_prewarm", Creation::Everywhere),
    ("pg_squeeze", "pg_squeeze", Creation::Everywhere),
    ("pg_tle", "pg_tle", Creation::Everywhere),
    ("pgaudit", "pgaudit", Creation::Everywhere),
    ("pglogical", "pglogical", Creation::Everywhere),
    ("set_user", "set_user", Creation::Everywhere),
];

/// Where `CREATE EXTENSION` is needed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Creation {
    Everywhere,
    /// Only in the database that its own setting names.
    OneDatabase,
    /// A library without SQL objects.
    Nowhere,
}

impl Postgres {
    /// In the order of their names, so that the order in a profile does not matter.
    pub(super) fn server_settings(&self, service: &str, memory: Option<Size>) -> BTreeMap<String, String> {
        let mut settings = BTreeMap::new();
        let mut set = |name: &str, value: String| settings.insert(name.to_owned(), value);
        // After a crash the server first syncs its whole directory, file by file unless this setting changes that.
        set("recovery_init_sync_method", "syncfs".to_owned());
        if let Some(memory) = memory {
            let megabytes = memory.bytes() >> 20;
            set("shared_buffers", format!("{}MB", (megabytes / 4).max(1)));
            set("effective_cache_size", format!("{}MB", (megabytes * 3 / 4).max(1)));
        }
        if self.tls {
            set("ssl", "on".to_owned());
            set("ssl_cert_file", CERTIFICATE.to_owned());
            set("ssl_key_file", KEY.to_owned());
        }
        set("hba_file", ACCESS.to_owned());
        set("ident_file", IDENTITIES.to_owned());
        let declared = self.declared(service);
        if let Some(database) = declared.iter().find(|database| database.extensions.contains(&"pg_cron")) {
            set("cron.database_name", database.name.to_owned());
        }
        settings.extend(self.settings.clone());
        let preloaded = self.preloaded(&declared);
        if !preloaded.is_empty() {
            settings.insert("shared_preload_libraries".to_owned(), preloaded.join(","));
        }
        settings
    }

    /// The settings that the extensions need, then those of the user.
    fn preloaded<'a>(&'a self, declared: &[Declared<'_>]) -> Vec<&'a str> {
        let wanted = |extension: &str| declared.iter().any(|database| database.extensions.contains(&extension));
        let mut libraries: Vec<&str> =
            PRELOADED.iter().filter(|(extension, ..)| wanted(extension)).map(|(_, library, _)| *library).collect();
        let asked = self.settings.get("shared_preload_libraries").map(String::as_str).unwrap_or_default();
        for library in asked.split(',').map(str::trim).filter(|library| !library.is_empty()) {
            if !libraries.contains(&library) {
                libraries.push(library);
            }
        }
        libraries
    }
}

pub(super) fn creation(extension: &str) -> Creation {
    PRELOADED.iter().find(|(name, ..)| *name == extension).map_or(Creation::Everywhere, |(.., creation)| *creation)
}

/// For parallel queries: the engine's default of 64 MiB is soon too small. A limit, not a reservation, and within the memory limit.
pub(super) fn shared_memory(limit: Option<Size>) -> Size {
    let usual = Size::mebibytes(256);
    limit.map_or(usual, |limit| usual.max(Size::mebibytes((limit.bytes() >> 20) / 4)).min(limit))
}
