//! The scripts and data sets that a service declares, as plain data for whoever applies them.

use devenv_spec::{Provision, ScriptPlace, ScriptSet, ScriptSource, ScriptTarget, SecretRef, ServiceName};

use super::Kind;

const SUPERUSER: &str = "postgres";

/// Nothing for a kind without scripts. `provision` is what the kind said when it described the service.
pub fn scripts(service: &ServiceName, kind: &Kind, provision: &[Provision]) -> Option<ScriptSet> {
    let mut sources = Vec::new();
    let mut add = |place: &ScriptPlace, paths: &[String], seed: bool| {
        if !paths.is_empty() {
            sources.push(ScriptSource { place: place.clone(), paths: paths.to_vec(), seed });
        }
    };
    let target = match (kind, provision.first()?) {
        (Kind::Postgres(postgres), Provision::Postgres(known)) => {
            let place = |database: &str, role: &str| ScriptPlace::Database {
                name: database.to_owned(),
                role: role.to_owned(),
                password: SecretRef::new(service.as_str(), role),
            };
            let first = known.databases.first()?;
            let own = |name: &str| postgres.databases.get(name);
            add(&place(&first.name, SUPERUSER), &postgres.admin_init, false);
            add(&place(&first.name, &first.owner), &postgres.init, false);
            for database in &known.databases {
                if let Some(declared) = own(&database.name) {
                    add(&place(&database.name, &database.owner), &declared.init, false);
                }
            }
            add(&place(&first.name, &first.owner), &postgres.seed, true);
            for database in &known.databases {
                if let Some(declared) = own(&database.name) {
                    add(&place(&database.name, &database.owner), &declared.seed, true);
                }
            }
            ScriptTarget::Postgres { port: known.port, tls: known.tls, superuser: known.password.clone() }
        }
        (Kind::Redis(redis), Provision::Redis(known)) => {
            add(&ScriptPlace::Service, &redis.init, false);
            add(&ScriptPlace::Service, &redis.seed, true);
            ScriptTarget::Redis { port: known.port, tls: known.tls, password: known.password.clone() }
        }
        (Kind::Kafka(kafka), Provision::Kafka(known)) => {
            add(&ScriptPlace::Service, &kafka.init, false);
            add(&ScriptPlace::Service, &kafka.seed, true);
            ScriptTarget::Kafka { port: known.port }
        }
        (Kind::Redpanda(redpanda), Provision::Kafka(known)) => {
            add(&ScriptPlace::Service, &redpanda.init, false);
            add(&ScriptPlace::Service, &redpanda.seed, true);
            ScriptTarget::Kafka { port: known.port }
        }
        _ => return None,
    };
    (!sources.is_empty()).then(|| ScriptSet { service: service.clone(), target, sources })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use devenv_spec::{PostgresDatabase, PostgresProvision};

    #[test]
    fn scripts_of_the_superuser_come_first_then_every_init_and_then_every_seed() {
        let kind: Kind = serde_json::from_value(json!({ "postgres": {
            "admin_init": ["admin"], "init": ["init"], "seed": ["seed"],
            "databases": { "a": { "owner": "ann", "init": ["a-init"] }, "b": { "init": ["b-init"], "seed": ["b-seed"] } },
        }}))
        .unwrap();
        let database = |name: &str, owner: &str| PostgresDatabase {
            name: name.into(),
            owner: owner.into(),
            extensions: Vec::new(),
            settings: indexmap::IndexMap::new(),
        };
        let provision = PostgresProvision {
            port: 5,
            tls: false,
            password: SecretRef::new("db", "postgres"),
            roles: Vec::new(),
            databases: vec![database("a", "ann"), database("b", "b")],
        };
        let set = scripts(&"db".parse().unwrap(), &kind, &[Provision::Postgres(provision)]).unwrap();
        let shown: Vec<String> = set
            .sources
            .iter()
            .map(|source| match &source.place {
                ScriptPlace::Service => "service".to_owned(),
                ScriptPlace::Database { name, role, password } => format!("{} in {name} as {role} with {password}", source.paths[0]),
            })
            .collect();
        assert_eq!(
            shown,
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
