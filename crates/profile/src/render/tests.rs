use devenv_compose::{Files, Request};
use serde_json::json;

use super::*;
use crate::testing::Given;

fn shop() -> Given {
    let mut given = Given::nothing()
        .and("db", json!({ "postgres": { "databases": { "app": {} }, "extensions": ["vector"] } }))
        .and("cache", json!({ "redis": {} }))
        .and("events", json!({ "kafka": { "topics": { "orders": {} } } }))
        .and("rates", json!({ "mariadb": {} }))
        .and("jobs", json!({ "rabbitmq": {} }))
        .and("files", json!({ "s3": {} }))
        .and("traces", json!({ "jaeger": {} }))
        .and("web", json!({ "container": { "image": "shop/web:1", "expose": [8080], "secret_files": { "/run/key": { "secret": "KEY", "mode": "0400" } } } }))
        .with(|service| {
            service.depends_on = serde_json::from_value(json!({ "db": "ready", "traces": "ready", "api": "started" })).unwrap();
            service.environment.insert("PRICE".into(), "$5".into());
        })
        .and("api", json!({ "process": { "command": ["serve"] } }));
    given.profile.secrets.insert("KEY".into(), SecretSource::FromEnv("API_KEY".into()));
    given
}

fn document(given: &Given) -> Value {
    let web = &given.profile.services["web"];
    let container = json!({ "image": "shop/web:1", "expose": [8080], "secret_files": { "/run/key": { "secret": "KEY", "mode": "0400" } } });
    json!({ "services": { "web": { "container": container, "environment": web.environment } }, "secrets": { "KEY": { "from_env": "API_KEY" } } })
}

struct Memory(String);

impl Files for Memory {
    fn read(&self, _: &std::path::Path) -> Result<Vec<u8>, String> {
        Ok(self.0.clone().into_bytes())
    }

    fn has(&self, path: &std::path::Path) -> bool {
        path.ends_with("compose.yaml")
    }
}

#[test]
fn a_profile_of_all_kinds_becomes_a_compose_file_that_holds_no_secret_and_can_be_read_again() {
    let given = shop();
    let rendering = render_profile(&given.profile, &document(&given), Some("shop"));
    assert_eq!(rendering.left_out, [("api".to_owned(), "it is a process on the host".to_owned())]);
    for variable in ["DB_APP_PASSWORD", "DB_POSTGRES_PASSWORD", "CACHE_PASSWORD", "RATES_RATES_PASSWORD", "API_KEY"] {
        assert!(rendering.variables.iter().any(|known| known == variable), "{variable}: {:?}", rendering.variables);
    }
    let environment: BTreeMap<String, String> = rendering.variables.iter().map(|name| (name.clone(), format!("value of {name}"))).collect();
    let files = [given.profile.project.join("compose.yaml")];
    let request = Request { project: &given.profile.project, files: &files, environment: &environment, profiles: &[], services: &[] };
    let loaded = devenv_compose::load(request, &Memory(rendering.text.clone()));
    let problems = loaded.findings.problems(&loaded.sources);
    assert!(problems.is_empty(), "{problems:?}\n{}", rendering.text);
    let services = loaded.converted.unwrap().document["services"].clone();
    let (db, web) = (&services["db"], &services["web"]);
    assert_eq!(db["container"]["image"], "pgvector/pgvector:pg17");
    assert_eq!(db["container"]["secret_files"]["/run/devenv/postgres-password"]["content"], "value of DB_POSTGRES_PASSWORD");
    let script = db["container"]["config_files"]["/docker-entrypoint-initdb.d/10-databases.sql"]["content"].as_str().unwrap();
    assert!(script.contains("CREATE ROLE \"app\" LOGIN PASSWORD 'value of DB_APP_PASSWORD';") && script.contains("\"vector\""), "{script}");
    assert!(db["probe"]["exec"].is_array() && services["events"]["probe"]["exec"].is_array(), "known servers are asked by their clients");
    assert_eq!(services["events"]["ports"]["9094"], 9094, "it tells its clients this port");
    assert_eq!(web["environment"]["DATABASE_URL"], "postgres://app:value of DB_APP_PASSWORD@db:5432/app");
    assert_eq!((&web["environment"]["PRICE"], web["environment"].get("DEVENV_PROJECT")), (&json!("$5"), None));
    assert_eq!(web["container"]["secret_files"]["/run/key"]["content"], "value of API_KEY");
    assert_eq!(web["depends_on"], json!({ "db": "ready", "traces": "started" }), "nothing in the image of traces asks it");
    assert!(rendering.missing.iter().any(|(service, what)| service == "events" && what.contains("topics")), "{:?}", rendering.missing);
}
