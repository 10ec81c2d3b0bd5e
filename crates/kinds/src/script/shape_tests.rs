//! The scripts and data sets of the five built-in example profiles, applied to real servers as the profiles declare them.

use std::path::Path;

use devenv_api::{LedgerEntry, LedgerState};
use serde_json::{Value, json};

use super::{
    Checksums, Choice, ScriptContext,
    service_tests::Project,
    testing::{Server, apply, engine},
};
use devenv_profile::testing::given;
use devenv_secrets::Vault;
use devenv_spec::{ScriptSet, SecretRef};

use crate::Kind;

fn profile(shape: &str) -> Value {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).join(format!("examples/profiles/{shape}.yaml"));
    serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn kind(shape: &str, service: &str, kind: &str) -> Kind {
    let profile = profile(shape);
    serde_json::from_value(json!({ kind: profile["services"][service][kind].clone() })).unwrap()
}

/// An empty project: everything is found among the built-in files.
async fn applied(set: &ScriptSet, vault: &Vault, container: &str) -> Vec<LedgerEntry> {
    let (project, checksums) = (tempfile::tempdir().unwrap(), Checksums::default());
    let cx = ScriptContext {
        engine: engine().await,
        container,
        vault,
        project: project.path(),
        authority: None,
        checksums: &checksums,
        progress: &|_| {},
    };
    let entries = apply(set, Choice::All, &cx).await.unwrap_or_else(|error| panic!("{error} {:?}", error.hint));
    assert!(entries.iter().all(|entry| entry.state == LedgerState::Applied), "{entries:#?}");
    entries
}

/// Does what provisioning would, with the minimum that scripts need, and applies them.
async fn database(shape: &str) -> (Server, Vec<LedgerEntry>) {
    let directory = tempfile::tempdir().unwrap();
    let vault = Vault::new(directory.path().join("secrets"));
    let superuser = SecretRef::new("db", "postgres");
    let server = Server::postgres(&vault.reveal(&superuser).unwrap());
    let kind = kind(shape, "db", "postgres");
    let Kind::Postgres(declared) = &kind else { panic!("no database") };
    for (name, database) in &declared.databases {
        let owner = database.owner.clone().unwrap();
        let password = vault.reveal(&SecretRef::new("db", &owner)).unwrap();
        server.psql("postgres", &format!("create role \"{owner}\" login password '{password}'"));
        server.psql("postgres", &format!("create database \"{name}\" owner \"{owner}\""));
        for extension in &declared.extensions {
            server.psql(name, &format!("create extension \"{extension}\""));
        }
    }
    // The server of the test has no certificate.
    let mut plain = json!(kind);
    plain["postgres"]["tls"] = false.into();
    let spec = given("db", plain)
        .with(|service| {
            service.ports.insert(5432, server.port);
        })
        .spec();
    let entries = applied(spec.services["db"].scripts.as_ref().unwrap(), &vault, &server.id).await;
    (server, entries)
}

#[tokio::test(flavor = "multi_thread")]
async fn legal_platform_finds_the_nearest_of_1536_dimensions() {
    let (server, _) = database("legal-platform").await;
    let near = "select name from documents order by embedding <=> (select embedding from documents where name = 'document-7.pdf') limit 1";
    assert_eq!(server.psql("legal", near), "document-7.pdf");
    assert_eq!(
        server
            .psql("legal", "select count(*) || ' ' || (select count(*) from users) || ' ' || (select count(*) from cases) from documents"),
        "20 3 2"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn complianceflow_keeps_its_tenants_apart() {
    let (server, entries) = database("complianceflow").await;
    assert_eq!(entries.len(), 8 * 3);
    for (name, table) in [
        ("user", "users"),
        ("declaration", "declarations"),
        ("form", "forms"),
        ("ruleengine", "rules"),
        ("review", "reviews"),
        ("case", "cases"),
        ("notification", "notifications"),
        ("analytics", "events"),
    ] {
        let as_tenant = |tenant: &str, sql: &str| {
            server.try_psql(name, &format!("set role {name}_service; select set_config('app.tenant', (select id::text from tenants where name = '{tenant}'), false) is null; {sql}"))
        };
        let seen =
            |tenant: &str| as_tenant(tenant, &format!("select count(*) > 0 and count(distinct tenant_id) = 1 from {table}")).unwrap();
        assert_eq!((seen("North").as_str(), seen("South").as_str()), ("f\nt", "f\nt"), "{name}");
        assert_eq!(as_tenant("nobody", &format!("select count(*) from {table}")).unwrap(), "f\n0", "{name}");
        assert!(
            as_tenant("North", &format!("update {table} set tenant_id = (select id from tenants where name = 'South')")).is_err(),
            "{name}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_shapes_have_their_tables_and_rows() {
    let (server, _) = database("invoice-api").await;
    assert_eq!(
        server.psql(
            "invoices",
            "select (select count(*) from api_keys) || ' ' || (select count(*) from jobs) || ' ' || (select count(*) from job_results)"
        ),
        "2 3000 2921"
    );
    let (server, _) = database("platform-wrapper").await;
    assert_eq!(server.psql("platform", "select count(*) || ' ' || (select count(*) from accounts) from api_calls"), "1000 3");
    let (server, _) = database("lawyers-hub").await;
    assert_eq!(server.psql("hub", "select count(*) || ' ' || (select count(*) from lawyers) from consultations"), "30 3");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shapes_caches_and_queues_are_seeded() {
    for (shape, service, key, wanted) in [
        ("legal-platform", "cache", ["-n", "0", "ttl", "cache:case:2026-0001"], "300"),
        ("platform-wrapper", "cache", ["-n", "2", "hlen", "analytics:today"], "2"),
        ("lawyers-hub", "queue", ["-n", "0", "llen", "jobs:queued"], "5"),
    ] {
        let mut project = Project::redis(false);
        let Kind::Redis(redis) = kind(shape, service, "redis") else { panic!("no redis") };
        project.set.sources[0].paths.clone_from(&redis.seed);
        applied(&project.set, &project.vault, &project.server.id).await;
        let found = project.cli(&key);
        // Its time to live has started.
        assert!(found == wanted || key[2] == "ttl" && (290..=300).contains(&found.parse().unwrap()), "{shape}: {found}");
        if shape == "platform-wrapper" {
            assert_eq!(project.cli(&["-n", "1", "exists", "rate:1"]), "1");
            assert_eq!(project.cli(&["-n", "0", "get", "session:demo"]), "{\"account\": 1}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn complianceflow_has_events_of_both_tenants() {
    let mut project = Project::kafka();
    let Kind::Kafka(kafka) = kind("complianceflow", "events", "kafka") else { panic!("no kafka") };
    project.set.sources[0].paths.clone_from(&kafka.seed);
    applied(&project.set, &project.vault, &project.server.id).await;
    assert_eq!(project.records("case-events").len(), 2);
}

#[test]
fn every_service_of_the_shapes_is_of_a_known_kind() {
    for shape in ["legal-platform", "platform-wrapper", "complianceflow", "invoice-api", "lawyers-hub"] {
        for (name, service) in profile(shape)["services"].as_object().unwrap() {
            let kinds: Vec<&str> = Kind::NAMES.iter().copied().filter(|kind| service.get(kind).is_some()).collect();
            assert_eq!(kinds.len(), 1, "{shape} {name}");
            kind(shape, name, kinds[0]);
        }
    }
}
