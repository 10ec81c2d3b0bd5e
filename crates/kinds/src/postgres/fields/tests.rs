//! The description of a PostgreSQL service, as plain data.

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
    command: ["postgres","-c","effective_cache_size=768MB","-c","hba_file=/run/devenv/pg_hba.conf","-c","ident_file=/run/devenv/pg_ident.conf","-c","log_min_duration_statement=1s","-c","recovery_init_sync_method=syncfs","-c","shared_buffers=256MB","-c","shared_preload_libraries=pg_stat_statements"]
    variable: PGDATA=/var/lib/postgresql/data/pgdata
    variable: POSTGRES_PASSWORD_FILE=/run/devenv/postgres-password
    variable: POSTGRES_INITDB_ARGS=--auth-host=scram-sha-256 --auth-local=peer
    variable: PGPASSFILE=/run/devenv/pgpass
    mount: volume data at /var/lib/postgresql/data
    port: 127.0.0.1:20000 -> 5432
    shared memory: 256MiB
    file: /run/devenv/postgres-password 0400 999:999
      ${secret:db/postgres}
    file: /run/devenv/pg_hba.conf 0444 0:0
      local all postgres peer map=devenv
      local replication postgres peer map=devenv
      local all all scram-sha-256
      host all all all scram-sha-256
      host replication all all scram-sha-256
    file: /run/devenv/pg_ident.conf 0444 0:0
      devenv root postgres
      devenv postgres postgres
    file: /run/devenv/pgpass 0400 0:0
      *:*:*:postgres:${secret:db/postgres}
      *:*:*:orders:${secret:db/orders}
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
fn with_tls_only_encrypted_connections_are_accepted_and_clients_must_verify() {
    let given = given("db", json!({ "postgres": { "tls": true } }));
    insta::assert_snapshot!(given.rendered(), @r##"
    image: postgres:17
    command: ["postgres","-c","hba_file=/run/devenv/pg_hba.conf","-c","ident_file=/run/devenv/pg_ident.conf","-c","recovery_init_sync_method=syncfs","-c","ssl=on","-c","ssl_cert_file=/run/devenv/tls/server.crt","-c","ssl_key_file=/run/devenv/tls/server.key"]
    variable: PGDATA=/var/lib/postgresql/data/pgdata
    variable: POSTGRES_PASSWORD_FILE=/run/devenv/postgres-password
    variable: POSTGRES_INITDB_ARGS=--auth-host=scram-sha-256 --auth-local=peer
    variable: PGPASSFILE=/run/devenv/pgpass
    mount: volume data at /var/lib/postgresql/data
    port: 127.0.0.1:20000 -> 5432
    shared memory: 256MiB
    file: /run/devenv/postgres-password 0400 999:999
      ${secret:db/postgres}
    file: /run/devenv/tls/server.crt 0400 999:999
      ${secret:db/tls.crt}
    file: /run/devenv/tls/server.key 0400 999:999
      ${secret:db/tls.key}
    file: /run/devenv/pg_hba.conf 0444 0:0
      local all postgres peer map=devenv
      local replication postgres peer map=devenv
      local all all scram-sha-256
      hostssl all all all scram-sha-256
      hostssl replication all all scram-sha-256
    file: /run/devenv/pg_ident.conf 0444 0:0
      devenv root postgres
      devenv postgres postgres
    file: /run/devenv/pgpass 0400 0:0
      *:*:*:postgres:${secret:db/postgres}
      *:*:*:db:${secret:db/db}
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
