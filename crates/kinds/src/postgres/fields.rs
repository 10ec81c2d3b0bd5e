//! PostgreSQL: a server with its roles, databases and extensions.
//!
//! The layout of the volume is ours: the data directory is `pgdata` in it whatever the major version, so that a server of
//! another major refuses the data instead of beginning an empty directory beside it, and `lost+found` does not disturb.

use std::collections::BTreeMap;

use devenv_spec::{ContainerSpec, FileSpec, Mount, ScriptPlace, ScriptSource, SecretRef, Size, Stop, Template, Variable};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spec::{ExtensionSpec, PostgresDatabase, PostgresProbe, PostgresProvision, PostgresRole, PostgresTarget};
use crate::describe::{
    Connection, Context, DatabaseFacts, DeclaredScripts, Describe, Description, Facts, Metrics, PortNeed, authority, in_url,
};

/// PostgreSQL: a server with its roles, databases and extensions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// The major version: 14 to 18.
    #[serde(default = "default_version")]
    pub version: String,
    /// Server settings, as in `postgresql.conf`.
    #[serde(default)]
    pub settings: IndexMap<String, String>,
    /// Extensions to create in every database. `shared_preload_libraries` is set as needed.
    #[serde(default)]
    pub extensions: Vec<String>,
    /// Databases by name. Default: one database and role named after the service.
    #[serde(default)]
    pub databases: IndexMap<String, Database>,
    /// Accept only TLS connections, with a certificate that clients can verify.
    #[serde(default)]
    pub tls: bool,
    /// Scripts to run once as superuser in the first database, before all others.
    #[serde(default)]
    pub admin_init: Vec<String>,
    /// Scripts to run once in the first database, as its owner.
    #[serde(default)]
    pub init: Vec<String>,
    /// Seed data for the first database, loaded as its owner.
    #[serde(default)]
    pub seed: Vec<String>,
}

/// One database of the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// The role that owns the database. It gets a generated password and cannot connect to other databases. Default: the database's name.
    #[serde(default)]
    pub owner: Option<String>,
    /// Additional extensions for this database.
    #[serde(default)]
    pub extensions: Vec<String>,
    /// Settings of this database, as in `ALTER DATABASE … SET`.
    #[serde(default)]
    pub settings: IndexMap<String, String>,
    /// Scripts to run once, as the owner.
    #[serde(default)]
    pub init: Vec<String>,
    /// Seed data, loaded as the owner.
    #[serde(default)]
    pub seed: Vec<String>,
}

fn default_version() -> String {
    "17".to_owned()
}

const PORT: u16 = 5432;
/// The image's user. An image of another make may have another, but its entrypoint reads the file as root.
const USER: u32 = 999;
const SUPERUSER: &str = "postgres";
const PASSWORD_FILE: &str = "/run/devenv/postgres-password";
const CERTIFICATE: &str = "/run/devenv/tls/server.crt";
const KEY: &str = "/run/devenv/tls/server.key";
const ACCESS: &str = "/run/devenv/pg_hba.conf";

/// Who may connect where only encrypted connections are taken. The socket is for our own work inside the container.
const ENCRYPTED_ONLY: &str = "local all all trust\nlocal replication all trust\nhostssl all all all scram-sha-256\n";

/// Passwords over TCP, loopback included; the socket in the container is ours, so that a kept volume whose password is
/// lost can be repaired. `--no-sync` is deliberately not among them: a power cut in the first half minute would leave a
/// catalogue that was never written.
const INITDB: &str = "--auth-host=scram-sha-256 --auth-local=trust";

/// What must be loaded at start: extension, its library, whether there is also something to create. Citus insists on
/// being the first.
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

/// Where `CREATE EXTENSION` has something to do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Creation {
    Everywhere,
    /// In the database that its own setting names, and in no other.
    OneDatabase,
    /// A library without SQL objects.
    Nowhere,
}

/// A database with everything said about it, defaults included.
struct Declared<'a> {
    name: &'a str,
    owner: &'a str,
    extensions: Vec<&'a str>,
    settings: IndexMap<String, String>,
}

impl Describe for Postgres {
    fn ports(&self) -> Vec<PortNeed> {
        vec![PortNeed::any(PORT)]
    }

    fn encrypts(&self) -> bool {
        self.tls
    }

    fn secrets(&self, service: &str) -> Vec<SecretRef> {
        let mut names = vec![SUPERUSER];
        for database in self.declared(service) {
            if !names.contains(&database.owner) {
                names.push(database.owner);
            }
        }
        names.into_iter().map(|name| SecretRef::new(service, name)).collect()
    }

    fn databases(&self, service: &str) -> Vec<String> {
        self.declared(service).into_iter().map(|database| database.name.to_owned()).collect()
    }

    fn describe(&self, cx: &Context<'_>) -> Description {
        let mut container = ContainerSpec::new(self.image());
        let (mount, data) = self.layout();
        container.mounts.push(Mount::volume("data", mount));
        container.environment.insert("PGDATA".into(), Template::text(data));
        container.environment.insert("POSTGRES_PASSWORD_FILE".into(), Template::text(PASSWORD_FILE));
        container.environment.insert("POSTGRES_INITDB_ARGS".into(), Template::text(INITDB));
        container.files.push(FileSpec::private(PASSWORD_FILE, USER, Template::secret(cx.secret(SUPERUSER))));
        if self.tls {
            container.files.push(FileSpec::private(CERTIFICATE, USER, Template::secret(cx.secret("tls.crt"))));
            container.files.push(FileSpec::private(KEY, USER, Template::secret(cx.secret("tls.key"))));
            container.files.push(FileSpec::private(ACCESS, USER, ENCRYPTED_ONLY));
        }
        let memory = cx.declared.memory;
        container.shared_memory = Some(shared_memory(memory));
        let mut command = vec!["postgres".to_owned()];
        for (name, value) in self.server_settings(cx.name.as_str(), memory) {
            command.extend(["-c".to_owned(), format!("{name}={value}")]);
        }
        container.command = Some(command);

        let login = |user: &str, database: &str| {
            let probe = PostgresProbe {
                port: cx.port(PORT),
                user: user.to_owned(),
                password: cx.secret(user),
                database: database.to_owned(),
                tls: self.tls,
            };
            probe.into_probe()
        };
        let declared = self.declared(cx.name.as_str());
        let proof = declared.first().map(|database| login(database.owner, database.name));
        Description {
            scripts: Some(self.scripts(cx)),
            provision: vec![self.provision(cx).into_provision()],
            proof,
            // SIGINT is PostgreSQL's fast shutdown: sessions are ended, and the checkpoint is what takes its time.
            ..Description::server(container, login(SUPERUSER, SUPERUSER), Stop::new("SIGINT", 30))
        }
    }

    fn connection(&self, cx: &Context<'_>) -> Connection {
        let mut connection = Connection::default();
        let declared = self.declared(cx.name.as_str());
        let first = &declared[0];
        let url = |database: &Declared<'_>| self.url(cx, database);

        connection.variable(cx, "URL", url(first));
        connection.host_and_port(cx, PORT);
        for database in &declared {
            let own = |what: &str| format!("{}_{what}", database.name);
            connection.variable(cx, &own("URL"), url(database));
            connection.variable(cx, &own("USER"), Variable::same(Template::text(database.owner)));
            connection.variable(cx, &own("PASSWORD"), Variable::same(Template::secret(cx.secret(database.owner))));
            connection.variable(cx, &own("DATABASE"), Variable::same(Template::text(database.name)));
        }

        connection.short_form("DATABASE_URL", url(first));
        connection.short_form("PGHOST", cx.address(PORT, |host, _| Template::text(host)));
        connection.short_form("PGPORT", cx.address(PORT, |_, port| Template::text(port.to_string())));
        connection.short_form("PGUSER", Variable::same(Template::text(first.owner)));
        connection.short_form("PGPASSWORD", Variable::same(Template::secret(cx.secret(first.owner))));
        connection.short_form("PGDATABASE", Variable::same(Template::text(first.name)));
        if self.tls {
            connection.authority(cx);
            connection.short_form("PGSSLMODE", Variable::same(Template::text("verify-full")));
            connection.short_form("PGSSLROOTCERT", authority(cx));
        }
        connection.url("postgres", format!("{}/{}", cx.url("postgres", PORT), in_url(first.name)));
        connection
    }

    fn facts(&self, cx: &Context<'_>) -> Facts {
        let databases = self.declared(cx.name.as_str()).into_iter().map(|database| DatabaseFacts {
            database: database.name.to_owned(),
            owner: database.owner.to_owned(),
            password: cx.secret(database.owner),
        });
        Facts {
            kind: "postgres",
            databases: databases.collect(),
            metrics: Metrics::Asked,
            address: Some((cx.name.to_string(), PORT)),
            superuser: Some(cx.secret(SUPERUSER)),
            tls: self.tls,
        }
    }
}

impl Postgres {
    /// The major version of whatever is written: `17` of `17.6` too.
    fn major(&self) -> &str {
        self.version.split('.').next().unwrap_or(&self.version)
    }

    fn image(&self) -> String {
        let major = self.major();
        let own = self.databases.values().flat_map(|database| &database.extensions);
        if self.extensions.iter().chain(own).any(|extension| extension == "vector") {
            format!("pgvector/pgvector:pg{major}")
        } else {
            format!("postgres:{major}")
        }
    }

    /// Where the volume is mounted, which is where the image declares one, and the data directory in it.
    fn layout(&self) -> (&'static str, &'static str) {
        if self.major().parse::<u32>().is_ok_and(|major| major < 18) {
            ("/var/lib/postgresql/data", "/var/lib/postgresql/data/pgdata")
        } else {
            ("/var/lib/postgresql", "/var/lib/postgresql/pgdata")
        }
    }

    /// At least one.
    fn declared<'a>(&'a self, service: &'a str) -> Vec<Declared<'a>> {
        if self.databases.is_empty() {
            let extensions = self.extensions.iter().map(String::as_str).collect();
            return vec![Declared { name: service, owner: service, extensions, settings: IndexMap::new() }];
        }
        let declare = |(name, database): (&'a String, &'a Database)| {
            let mut extensions: Vec<&str> = Vec::new();
            for extension in self.extensions.iter().chain(&database.extensions) {
                if !extensions.contains(&extension.as_str()) {
                    extensions.push(extension);
                }
            }
            let owner = database.owner.as_deref().unwrap_or(name);
            Declared { name, owner, extensions, settings: database.settings.clone() }
        };
        self.databases.iter().map(declare).collect()
    }

    /// In the order of their names, so that the order in a profile does not matter.
    fn server_settings(&self, service: &str, memory: Option<Size>) -> BTreeMap<String, String> {
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
            set("hba_file", ACCESS.to_owned());
        }
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

    /// What the extensions need, then what the user asked for besides.
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

    fn provision(&self, cx: &Context<'_>) -> PostgresProvision {
        let declared = self.declared(cx.name.as_str());
        let mut roles: Vec<PostgresRole> = Vec::new();
        for database in &declared {
            if database.owner != SUPERUSER && !roles.iter().any(|role| role.name == database.owner) {
                roles.push(PostgresRole { name: database.owner.to_owned(), password: cx.secret(database.owner) });
            }
        }
        let mut single = Vec::new();
        let databases = declared.into_iter().map(|database| {
            let created = database.extensions.into_iter().filter(|extension| match creation(extension) {
                Creation::Everywhere => true,
                Creation::Nowhere => false,
                Creation::OneDatabase if single.contains(extension) => false,
                Creation::OneDatabase => {
                    single.push(extension);
                    true
                }
            });
            PostgresDatabase {
                extensions: created.map(|name| ExtensionSpec { name: name.to_owned() }).collect(),
                name: database.name.to_owned(),
                owner: database.owner.to_owned(),
                settings: database.settings,
            }
        });
        let databases = databases.collect();
        PostgresProvision { port: cx.port(PORT), tls: self.tls, password: cx.secret(SUPERUSER), roles, databases }
    }

    /// Those of the server first, then those of each database; data sets after all scripts.
    fn scripts(&self, cx: &Context<'_>) -> DeclaredScripts {
        let declared = self.declared(cx.name.as_str());
        let source = |database: &Declared<'_>, role: &str, paths: &[String], seed: bool| ScriptSource {
            place: ScriptPlace::Database { name: database.name.to_owned(), role: role.to_owned(), password: cx.secret(role) },
            paths: paths.to_vec(),
            seed,
        };
        let first = &declared[0];
        let mut sources = vec![source(first, SUPERUSER, &self.admin_init, false), source(first, first.owner, &self.init, false)];
        let own = || declared.iter().filter_map(|database| Some((database, self.databases.get(database.name)?)));
        sources.extend(own().map(|(database, fields)| source(database, database.owner, &fields.init, false)));
        sources.push(source(first, first.owner, &self.seed, true));
        sources.extend(own().map(|(database, fields)| source(database, database.owner, &fields.seed, true)));
        let target = PostgresTarget { port: cx.port(PORT), tls: self.tls, superuser: cx.secret(SUPERUSER) };
        DeclaredScripts::of(target.into_target(), sources)
    }

    fn url(&self, cx: &Context<'_>, database: &Declared<'_>) -> Variable {
        let certificate = authority(cx);
        let plain = cx.address(PORT, |host, port| {
            Template::text(format!("postgres://{}:", in_url(database.owner)))
                .then_secret(cx.secret(database.owner))
                .then(format!("@{host}:{port}/{}", in_url(database.name)))
        });
        if !self.tls {
            return plain;
        }
        let verified = |url: Template, certificate: Template| {
            url.then(format!("?sslmode=verify-full&sslrootcert={}", in_url(&certificate.redacted())))
        };
        Variable { host: verified(plain.host, certificate.host), container: verified(plain.container, certificate.container) }
    }
}

fn creation(extension: &str) -> Creation {
    PRELOADED.iter().find(|(name, ..)| *name == extension).map_or(Creation::Everywhere, |(.., creation)| *creation)
}

/// For parallel queries: the engine's usual 64 MiB are soon too small. A cap, not a reservation, and within the limit.
fn shared_memory(limit: Option<Size>) -> Size {
    let usual = Size::mebibytes(256);
    limit.map_or(usual, |limit| usual.max(Size::mebibytes((limit.bytes() >> 20) / 4)).min(limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use devenv_spec::EnvironmentSpec;

    use devenv_profile::{needs, testing::given};
    use devenv_spec::Probe;
    use serde_json::json;

    #[test]
    fn the_design_documents_example_becomes_plain_data_without_a_secret() {
        let given = given(
            "db",
            json!({"postgres": {
                "extensions": ["vector", "uuid-ossp", "pg_trgm", "pg_stat_statements"],
                "settings": { "log_min_duration_statement": "1s", "shared_buffers": "256MB" },
                "databases": { "orders": { "owner": "orders", "settings": { "statement_timeout": "30s" } } },
            }}),
        )
        .with(|service| service.resources.memory = Some("1GiB".parse().unwrap()));
        insta::assert_snapshot!(given.rendered(), @r##"
        image: pgvector/pgvector:pg17
        command: ["postgres","-c","effective_cache_size=768MB","-c","log_min_duration_statement=1s","-c","recovery_init_sync_method=syncfs","-c","shared_buffers=256MB","-c","shared_preload_libraries=pg_stat_statements"]
        variable: PGDATA=/var/lib/postgresql/data/pgdata
        variable: POSTGRES_PASSWORD_FILE=/run/devenv/postgres-password
        variable: POSTGRES_INITDB_ARGS=--auth-host=scram-sha-256 --auth-local=trust
        mount: volume data at /var/lib/postgresql/data
        port: 127.0.0.1:20000 -> 5432
        shared memory: 256MiB
        file: /run/devenv/postgres-password 0400 999:999
          ${secret:db/postgres}
        probe: {"postgres":{"port":20000,"user":"postgres","password":"db/postgres","database":"postgres","tls":false}}
        provision: {"postgres":{"port":20000,"tls":false,"password":"db/postgres","roles":[{"name":"orders","password":"db/orders"}],"databases":[{"name":"orders","owner":"orders","extensions":[{"name":"vector"},{"name":"uuid-ossp"},{"name":"pg_trgm"},{"name":"pg_stat_statements"}],"settings":{"statement_timeout":"30s"}}]}}
        proof: {"postgres":{"port":20000,"user":"orders","password":"db/orders","database":"orders","tls":false}}
        stop: SIGINT 30s
        restart: Always 5
        "##);
    }

    #[test]
    fn every_variable_of_the_contract_is_there_in_both_forms() {
        let given = given(
            "main-db",
            json!({"postgres": {
                "databases": { "user-data": {}, "reviews": { "owner": "reviewer" } },
            }}),
        );
        insta::assert_snapshot!(given.variables(), @r##"
        MAIN_DB_URL=postgres://user-data:${secret:main-db/user-data}@127.0.0.1:20000/user-data | postgres://user-data:${secret:main-db/user-data}@main-db:5432/user-data
        MAIN_DB_HOST=127.0.0.1 | main-db
        MAIN_DB_PORT=20000 | 5432
        MAIN_DB_USER_DATA_URL=postgres://user-data:${secret:main-db/user-data}@127.0.0.1:20000/user-data | postgres://user-data:${secret:main-db/user-data}@main-db:5432/user-data
        MAIN_DB_USER_DATA_USER=user-data
        MAIN_DB_USER_DATA_PASSWORD=${secret:main-db/user-data}
        MAIN_DB_USER_DATA_DATABASE=user-data
        MAIN_DB_REVIEWS_URL=postgres://reviewer:${secret:main-db/reviewer}@127.0.0.1:20000/reviews | postgres://reviewer:${secret:main-db/reviewer}@main-db:5432/reviews
        MAIN_DB_REVIEWS_USER=reviewer
        MAIN_DB_REVIEWS_PASSWORD=${secret:main-db/reviewer}
        MAIN_DB_REVIEWS_DATABASE=reviews
        DATABASE_URL=postgres://user-data:${secret:main-db/user-data}@127.0.0.1:20000/user-data | postgres://user-data:${secret:main-db/user-data}@main-db:5432/user-data
        PGHOST=127.0.0.1 | main-db
        PGPORT=20000 | 5432
        PGUSER=user-data
        PGPASSWORD=${secret:main-db/user-data}
        PGDATABASE=user-data
        DEVENV_ENVIRONMENT=shop-default-1a2b3c4d
        DEVENV_PROJECT=/home/ada/shop
        DEVENV_INSTANCE=default
        "##);
    }

    #[test]
    fn a_server_without_databases_has_one_named_after_the_service() {
        let spec = given("rate-limits", json!({"postgres": {}})).spec();
        assert_eq!(
            spec.variables["DATABASE_URL"].host.to_string(),
            "postgres://rate-limits:${secret:rate-limits/rate-limits}@127.0.0.1:20000/rate-limits"
        );
        let Some(Probe::OfKind(proof)) = &spec.services["rate-limits"].proof else { panic!("no proof") };
        let PostgresProbe { user, database, .. } = proof.decode().unwrap();
        assert_eq!((user.as_str(), database.as_str()), ("rate-limits", "rate-limits"));
    }

    #[test]
    fn the_image_follows_the_major_version_and_the_extensions() {
        let table = [
            (json!({}), "postgres:17"),
            (json!({ "version": "14" }), "postgres:14"),
            (json!({ "version": "16.3" }), "postgres:16"),
            (json!({ "version": "18", "extensions": ["pg_trgm"] }), "postgres:18"),
            (json!({ "version": "18", "extensions": ["vector"] }), "pgvector/pgvector:pg18"),
            (json!({ "databases": { "a": {}, "b": { "extensions": ["vector"] } } }), "pgvector/pgvector:pg17"),
        ];
        for (fields, image) in table {
            let spec = given("db", json!({ "postgres": fields })).spec();
            assert_eq!(spec.services["db"].container().unwrap().image.name(), image);
        }
        let own = given("db", json!({ "postgres": { "extensions": ["vector"] } }))
            .with(|service| service.image = Some("timescale/timescaledb-ha:pg17".into()));
        assert_eq!(own.spec().services["db"].container().unwrap().image.name(), "timescale/timescaledb-ha:pg17");
    }

    #[test]
    fn the_volume_is_laid_out_alike_for_all_majors() {
        for (version, mount) in [("14", "/var/lib/postgresql/data"), ("17", "/var/lib/postgresql/data"), ("18", "/var/lib/postgresql")] {
            let spec = given("db", json!({ "postgres": { "version": version } })).spec();
            let container = spec.services["db"].container().unwrap();
            assert_eq!(container.mounts, [Mount::volume("data", mount)]);
            assert_eq!(container.environment["PGDATA"].to_string(), format!("{mount}/pgdata"));
        }
    }

    #[test]
    fn memory_settings_follow_the_limit_and_yield_to_the_profile() {
        let table = [
            (None, json!({}), None, None, "256MiB"),
            (Some("1GiB"), json!({}), Some("256MB"), Some("768MB"), "256MiB"),
            (Some("4GiB"), json!({}), Some("1024MB"), Some("3072MB"), "1GiB"),
            (Some("128MiB"), json!({}), Some("32MB"), Some("96MB"), "128MiB"),
            (Some("1GiB"), json!({ "shared_buffers": "96MB" }), Some("96MB"), Some("768MB"), "256MiB"),
        ];
        for (limit, settings, shared_buffers, cache, shared_memory) in table {
            let given = given("db", json!({ "postgres": { "settings": settings } }))
                .with(|service| service.resources.memory = limit.map(|limit| limit.parse().unwrap()));
            let spec = given.spec();
            let container = spec.services["db"].container().unwrap();
            assert_eq!(setting(&spec, "shared_buffers").as_deref(), shared_buffers, "{limit:?}");
            assert_eq!(setting(&spec, "effective_cache_size").as_deref(), cache, "{limit:?}");
            assert_eq!(container.shared_memory.unwrap().to_string(), shared_memory, "{limit:?}");
        }
    }

    #[test]
    fn libraries_are_preloaded_for_the_extensions_that_need_it_and_the_users_are_kept() {
        let table = [
            (json!({ "extensions": ["pg_trgm"] }), None),
            (json!({ "databases": { "a": { "extensions": ["pg_stat_statements"] } } }), Some("pg_stat_statements")),
            (json!({ "extensions": ["pgaudit", "citus", "pg_partman"] }), Some("citus,pg_partman_bgw,pgaudit")),
            (
                json!({ "extensions": ["auto_explain"], "settings": { "shared_preload_libraries": "mine, auto_explain" } }),
                Some("auto_explain,mine"),
            ),
        ];
        for (fields, libraries) in table {
            let spec = given("db", json!({ "postgres": fields })).spec();
            assert_eq!(setting(&spec, "shared_preload_libraries").as_deref(), libraries, "{fields}");
        }
    }

    #[test]
    fn an_extension_is_created_only_where_it_can_be() {
        let spec = given(
            "db",
            json!({ "postgres": {
                "extensions": ["pg_cron", "auto_explain", "pg_trgm"],
                "databases": { "one": { "extensions": ["pg_trgm", "hstore"] }, "two": {} },
            }}),
        )
        .spec();
        let provision = PostgresProvision::of(&spec.services["db"]).unwrap();
        let created = |index: usize| {
            let database: &PostgresDatabase = &provision.databases[index];
            database.extensions.iter().map(|extension| extension.name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(created(0), ["pg_cron", "pg_trgm", "hstore"]);
        assert_eq!(created(1), ["pg_trgm"]);
        assert_eq!(setting(&spec, "cron.database_name").as_deref(), Some("one"));
    }

    #[test]
    fn two_databases_of_one_owner_make_one_role_and_the_superuser_is_never_made() {
        let given = given(
            "db",
            json!({ "postgres": {
                "databases": { "a": { "owner": "app" }, "b": { "owner": "app" }, "c": { "owner": "postgres" } },
            }}),
        );
        let spec = given.spec();
        let provision = PostgresProvision::of(&spec.services["db"]).unwrap();
        assert_eq!(provision.roles, [PostgresRole { name: "app".into(), password: SecretRef::new("db", "app") }]);
        assert_eq!(needs(&given.profile).secrets, [SecretRef::new("db", "postgres"), SecretRef::new("db", "app")]);
    }

    #[test]
    fn with_tls_only_encrypted_connections_are_taken_and_clients_are_told_to_verify() {
        let given = given("db", json!({ "postgres": { "tls": true } }));
        insta::assert_snapshot!(given.rendered(), @r##"
        image: postgres:17
        command: ["postgres","-c","hba_file=/run/devenv/pg_hba.conf","-c","recovery_init_sync_method=syncfs","-c","ssl=on","-c","ssl_cert_file=/run/devenv/tls/server.crt","-c","ssl_key_file=/run/devenv/tls/server.key"]
        variable: PGDATA=/var/lib/postgresql/data/pgdata
        variable: POSTGRES_PASSWORD_FILE=/run/devenv/postgres-password
        variable: POSTGRES_INITDB_ARGS=--auth-host=scram-sha-256 --auth-local=trust
        mount: volume data at /var/lib/postgresql/data
        port: 127.0.0.1:20000 -> 5432
        shared memory: 256MiB
        file: /run/devenv/postgres-password 0400 999:999
          ${secret:db/postgres}
        file: /run/devenv/tls/server.crt 0400 999:999
          ${secret:db/tls.crt}
        file: /run/devenv/tls/server.key 0400 999:999
          ${secret:db/tls.key}
        file: /run/devenv/pg_hba.conf 0400 999:999
          local all all trust
          local replication all trust
          hostssl all all all scram-sha-256
        probe: {"postgres":{"port":20000,"user":"postgres","password":"db/postgres","database":"postgres","tls":true}}
        provision: {"postgres":{"port":20000,"tls":true,"password":"db/postgres","roles":[{"name":"db","password":"db/db"}],"databases":[{"name":"db","owner":"db","extensions":[],"settings":{}}]}}
        proof: {"postgres":{"port":20000,"user":"db","password":"db/db","database":"db","tls":true}}
        stop: SIGINT 30s
        restart: Always 5
        "##);
        insta::assert_snapshot!(given.variables(), @r##"
        DB_URL=postgres://db:${secret:db/db}@127.0.0.1:20000/db?sslmode=verify-full&sslrootcert=/state/authority.crt | postgres://db:${secret:db/db}@db:5432/db?sslmode=verify-full&sslrootcert=/run/devenv/authority.crt
        DB_HOST=127.0.0.1 | db
        DB_PORT=20000 | 5432
        DB_DB_URL=postgres://db:${secret:db/db}@127.0.0.1:20000/db?sslmode=verify-full&sslrootcert=/state/authority.crt | postgres://db:${secret:db/db}@db:5432/db?sslmode=verify-full&sslrootcert=/run/devenv/authority.crt
        DB_DB_USER=db
        DB_DB_PASSWORD=${secret:db/db}
        DB_DB_DATABASE=db
        DEVENV_CA_FILE=/state/authority.crt | /run/devenv/authority.crt
        DATABASE_URL=postgres://db:${secret:db/db}@127.0.0.1:20000/db?sslmode=verify-full&sslrootcert=/state/authority.crt | postgres://db:${secret:db/db}@db:5432/db?sslmode=verify-full&sslrootcert=/run/devenv/authority.crt
        PGHOST=127.0.0.1 | db
        PGPORT=20000 | 5432
        PGUSER=db
        PGPASSWORD=${secret:db/db}
        PGDATABASE=db
        PGSSLMODE=verify-full
        PGSSLROOTCERT=/state/authority.crt | /run/devenv/authority.crt
        DEVENV_ENVIRONMENT=shop-default-1a2b3c4d
        DEVENV_PROJECT=/home/ada/shop
        DEVENV_INSTANCE=default
        "##);
    }

    fn setting(spec: &EnvironmentSpec, name: &str) -> Option<String> {
        let command = spec.services["db"].container().unwrap().command.as_ref().unwrap();
        command.iter().find_map(|argument| argument.strip_prefix(&format!("{name}="))).map(str::to_owned)
    }

    #[test]
    fn scripts_of_the_superuser_come_first_then_every_init_and_then_every_seed() {
        let spec = given(
            "db",
            json!({ "postgres": {
                "admin_init": ["admin"], "init": ["init"], "seed": ["seed"],
                "databases": { "a": { "owner": "ann", "init": ["a-init"] }, "b": { "init": ["b-init"], "seed": ["b-seed"] } },
            }}),
        )
        .spec();
        let sources = &spec.services["db"].scripts.as_ref().unwrap().sources;
        let shown = sources.iter().map(|source| match &source.place {
            ScriptPlace::Service => "service".to_owned(),
            ScriptPlace::Database { name, role, password } => format!("{} in {name} as {role} with {password}", source.paths[0]),
        });
        assert_eq!(
            shown.collect::<Vec<_>>(),
            [
                "admin in a as postgres with db/postgres",
                "init in a as ann with db/ann",
                "a-init in a as ann with db/ann",
                "b-init in b as b with db/b",
                "seed in a as ann with db/ann",
                "b-seed in b as b with db/b"
            ]
        );
    }
}
