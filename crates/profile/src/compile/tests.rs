//! The specs that profiles compile to.

use super::*;
use crate::testing::{Given, given};
use devenv_spec::{OnDependencyRestart, RestartWhen};
use serde_json::json;

#[test]
fn short_forms_belong_to_the_first_service_of_their_kind_and_wholly() {
    let spec = Given::nothing()
        .and("events", json!({ "redpanda": {} }))
        .and("audit", json!({ "kafka": {} }))
        .and("main", json!({ "postgres": {} }))
        .and("other", json!({ "postgres": { "tls": true } }))
        .spec();
    assert_eq!(spec.variables["KAFKA_BROKERS"].container.to_string(), "events:9092");
    assert_eq!(spec.variables["PGUSER"].host.to_string(), "main");
    assert!(!spec.variables.contains_key("PGSSLMODE"));
    assert_eq!(spec.variables["AUDIT_BROKERS"].container.to_string(), "audit:9092");
}

#[test]
fn a_connection_is_replaced_only_by_leave() {
    let mut given = given("db", json!({ "postgres": {} }));
    given.profile.variables.insert("DATABASE_URL".into(), "postgres://db.example.com/prod".into());
    let spec = given.spec();
    assert!(spec.variables["DATABASE_URL"].container.to_string().contains("@db:5432/"), "{:?}", spec.variables["DATABASE_URL"]);
    assert!(spec.overridden.is_empty());
    given.profile.overrides = vec!["DATABASE_URL".into(), "PGHOST".into()];
    let spec = given.spec();
    assert_eq!(spec.variables["DATABASE_URL"].container.to_string(), "postgres://db.example.com/prod");
    assert_eq!(spec.overridden, ["DATABASE_URL"]);
}

#[test]
fn secrets_of_users_are_secrets_in_the_spec() {
    let mut given = given("web", json!({ "container": { "image": "web" } }));
    given.profile.variables.insert("STRIPE_KEY".into(), "sk-1".into());
    given.profile.variables.insert("OTHER_URL".into(), "amqp://u:hidden@h/x".into());
    given.profile.variables.insert("FROM_MANAGER".into(), sensitive::declared_mark("DEPLOY"));
    given.profile.secrets.insert("DEPLOY".into(), SecretSource::Generate(20));
    let spec = given.with(|service| {
        service.environment.insert("SENTRY_DSN".into(), "https://key@example.com/1".into());
    });
    assert_eq!(needs(&spec.profile).secrets, [sensitive::declared("DEPLOY")]);
    let spec = spec.spec();
    let container = spec.services["web"].container().unwrap();
    let secret: Vec<&str> = container.secret_variables().map(|(name, _)| name.as_str()).collect();
    assert_eq!(secret, ["STRIPE_KEY", "OTHER_URL", "FROM_MANAGER", "SENTRY_DSN"]);
    assert_eq!(spec.variables["OTHER_URL"].host.redacted(), "amqp://u:********@h/x");
}

#[test]
fn the_profiles_own_variables_come_last_and_win() {
    let mut given = given("db", json!({ "postgres": {} }));
    given.profile.variables.insert("FEATURE".into(), "on".into());
    let spec = given.spec();
    assert_eq!(spec.variables.keys().last().unwrap(), "FEATURE");
    assert_eq!(spec.variables["DEVENV_ENVIRONMENT"].host.to_string(), "shop-default-1a2b3c4d");
    assert_eq!(spec.variables["DEVENV_PROJECT"].host.to_string(), "/home/ada/shop");
    assert_eq!(spec.variables["DEVENV_INSTANCE"].host.to_string(), "default");
}

#[test]
fn a_profiles_settings_of_a_service_replace_those_of_its_kind() {
    let spec = given("db", json!({ "postgres": {} }))
        .with(|service| {
            service.image = Some("postgres:17-alpine".into());
            service.stop = serde_json::from_value(json!({ "grace": "3s" })).unwrap();
            service.restart = serde_json::from_value(json!({ "attempts": 9 })).unwrap();
            service.ready_timeout = Some("5m".parse().unwrap());
            service.resources.cpus = Some(1.5);
            service.ports.extend([(5432, 15432)]);
            service.on_dependency_restart = Some(OnDependencyRestart::Signal);
            service.optional = true;
        })
        .spec();
    let db = &spec.services["db"];
    assert_eq!(db.container().unwrap().image.name(), "postgres:17-alpine");
    assert_eq!(db.stop, Stop::new("SIGINT", 3));
    assert_eq!((db.restart.policy, db.restart.attempts), (RestartWhen::Always, 9));
    assert_eq!(db.ready_timeout.as_secs(), 300);
    assert_eq!(db.container().unwrap().resources.cpus, Some(1.5));
    assert_eq!(db.ports(), BTreeMap::from([(5432, 15432)]));
    assert_eq!(db.on_dependency_restart, OnDependencyRestart::Signal);
    assert!(db.optional);
    assert_eq!(devenv_kinds::probe::port(&db.probe), Some(15432));
}

#[test]
fn services_of_the_product_follow_their_dependencies_and_servers_stand() {
    let spec = Given::nothing().and("db", json!({ "postgres": {} })).and("api", json!({ "process": { "command": ["api"] } })).spec();
    assert_eq!(spec.services["db"].on_dependency_restart, OnDependencyRestart::Ignore);
    assert_eq!(spec.services["api"].on_dependency_restart, OnDependencyRestart::Restart);
    assert_eq!(spec.services["api"].restart.policy, RestartWhen::OnFailure);
    assert_eq!(spec.services["api"].ready_timeout.as_secs(), 60);
}

#[test]
fn a_service_is_the_same_whatever_stands_beside_it_and_in_whatever_order_its_settings_are_written() {
    let alone = given("db", json!({ "postgres": { "settings": { "a.b": "1", "c.d": "2" } } })).spec();
    let beside = given("db", json!({ "postgres": { "settings": { "c.d": "2", "a.b": "1" } } })).and("cache", json!({ "redis": {} })).spec();
    assert_eq!(alone.services["db"].hash(), beside.services["db"].hash());
}

#[test]
fn no_argument_variable_or_readable_file_of_a_server_names_a_secret() {
    let given = Given::nothing()
        .and("db", json!({ "postgres": { "tls": true } }))
        .and("cache", json!({ "redis": { "tls": true, "users": { "app": { "rules": "+@all" } } } }))
        .and("events", json!({ "kafka": {} }))
        .and("panda", json!({ "redpanda": {} }))
        .and("pool", json!({ "pgbouncer": { "service": "db" } }))
        .and("tracing", json!({ "jaeger": {} }))
        .and("metrics", json!({ "prometheus": {} }))
        .and("boards", json!({ "grafana": {} }))
        .and("files", json!({ "s3": {} }));
    for service in given.spec().services.values() {
        let container = service.container().unwrap();
        for (name, value) in &container.environment {
            assert!(!value.holds_secret(), "{}: {name}", service.name);
        }
        for file in &container.files {
            assert!(!file.content.holds_secret() || file.mode == 0o400, "{}: {}", service.name, file.path);
        }
    }
}

#[test]
fn images_of_other_services_are_built_first_each_once_and_in_order() {
    let of = |contexts: serde_json::Value| json!({ "container": { "build": { "context": ".", "additional_contexts": contexts } } });
    let given = Given::nothing()
        .and("web", of(json!({ "a": "service:left", "b": "service:right", "c": "service:cache", "d": "./files" })))
        .and("left", of(json!({ "base": "service:base" })))
        .and("right", of(json!({ "base": "service:base" })))
        .and("base", json!({ "container": { "build": { "context": "https://example.org/a.git#v1" } } }))
        .and("cache", json!({ "container": { "image": "redis:8.0" } }))
        .and(
            "reader",
            json!({ "container": { "image": "x", "volumes": [{ "source": "service:left", "target": "/l", "subpath": "app" }] } }),
        );
    let spec = given.spec();
    let tag = |name: &str| format!("devenv-shop-default-1a2b3c4d-{name}:latest");
    let build = spec.services["web"].build().unwrap();
    let contexts: Vec<&str> = build.options.contexts.values().map(String::as_str).collect();
    let image = |name: &str| format!("docker-image://{}", tag(name));
    assert_eq!(contexts, [&image("left"), &image("right"), "docker-image://redis:8.0", "/home/ada/shop/files"]);
    let first: Vec<&str> = build.options.first.iter().map(|build| build.tag.as_str()).collect();
    assert_eq!(first, [tag("base"), tag("left"), tag("right")]);
    assert_eq!(build.options.first[1].options.contexts["base"], image("base"));
    assert_eq!(spec.services["base"].build().unwrap().context, PathBuf::from("https://example.org/a.git#v1"));
    let mount = &spec.services["reader"].container().unwrap().mounts[0];
    let files = mount.image.as_ref().unwrap();
    assert_eq!((files.image.as_str(), files.subpath.as_deref()), (tag("left").as_str(), Some("app")));
    assert_eq!(files.build.as_ref().unwrap().options.first.len(), 1);
    assert_eq!(mount.source, MountSource::Volume("image-l".into()));
}
