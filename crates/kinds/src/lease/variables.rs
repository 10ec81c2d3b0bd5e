//! The environment's variables with a lease's values in the place of the shared ones. Pure.

use devenv_spec::{ServiceName, variable_form};
use indexmap::IndexMap;

/// What a lease has of one service.
pub(super) enum Private {
    /// A copy of `database`, called `name`.
    Database { service: ServiceName, database: String, name: String },
    /// A numbered database of Redis.
    Number { service: ServiceName, user: String, password: String, number: u32 },
    /// Topics and groups whose names begin so.
    Prefix { service: ServiceName, prefix: String },
}

/// Every variable that leads to the shared part leads to the private one, those of the profile's own included.
pub(super) fn make_private(variables: &mut IndexMap<String, String>, privates: &[Private]) {
    for private in privates {
        match private {
            Private::Database { service, database, name } => make_database_private(variables, service, database, name),
            Private::Number { service, user, password, number } => {
                let own = |suffix: &str| format!("{}_{suffix}", service.variable());
                if let Some(old) = variables.get(&own("URL")).cloned() {
                    replace(variables, &old, &redis_url(&old, user, password, *number));
                }
                set(variables, own("USER"), user);
                set(variables, own("PASSWORD"), password);
                set(variables, own("DATABASE"), &number.to_string());
            }
            Private::Prefix { service, prefix } => {
                for name in ["TOPIC_PREFIX", "GROUP_PREFIX"] {
                    set(variables, format!("{}_{name}", service.variable()), prefix);
                    variables.entry(format!("KAFKA_{name}")).or_insert_with(|| prefix.clone());
                }
            }
        }
    }
}

fn make_database_private(variables: &mut IndexMap<String, String>, service: &ServiceName, database: &str, name: &str) {
    let service = service.variable();
    let own = |suffix: &str| format!("{service}_{}_{suffix}", variable_form(database));
    let get = |variables: &IndexMap<String, String>, name: &str| variables.get(name).cloned();
    let Some(old) = get(variables, &own("URL")) else { return };
    let new = database_url(&old, name);
    replace(variables, &old, &new);
    set(variables, own("DATABASE"), name);
    // The short forms lead to the first database of the first server; in a lease, to the leased one of that server.
    let port = format!("{service}_PORT");
    if variables.contains_key("PGPORT") && get(variables, "PGPORT") == get(variables, &port) {
        set(variables, "DATABASE_URL".to_owned(), &new);
        set(variables, "PGDATABASE".to_owned(), name);
        for (short, long) in [("PGUSER", own("USER")), ("PGPASSWORD", own("PASSWORD"))] {
            if let Some(value) = get(variables, &long) {
                set(variables, short.to_owned(), &value);
            }
        }
    }
    set(variables, format!("{service}_URL"), &new);
}

fn set(variables: &mut IndexMap<String, String>, name: String, value: &str) {
    variables.insert(name, value.to_owned());
}

fn replace(variables: &mut IndexMap<String, String>, old: &str, new: &str) {
    for value in variables.values_mut().filter(|value| value.as_str() == old) {
        new.clone_into(value);
    }
}

/// `postgres://USER:SECRET@HOST:PORT/DATABASE?…` with another database.
fn database_url(url: &str, name: &str) -> String {
    let (address, query) = url.split_once('?').map_or((url, String::new()), |(address, query)| (address, format!("?{query}")));
    let server = address.rsplit_once('/').map_or(address, |(server, _)| server);
    format!("{server}/{name}{query}")
}

/// `redis://USER:SECRET@HOST:PORT/0` with another user and number.
fn redis_url(url: &str, user: &str, password: &str, number: u32) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("redis", url));
    let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
    let server = place.split_once('/').map_or(place, |(server, _)| server);
    format!("{scheme}://{user}:{password}@{server}/{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(variables: &[(&str, &str)]) -> IndexMap<String, String> {
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn lines(variables: &IndexMap<String, String>) -> String {
        variables.iter().map(|(name, value)| format!("{name}={value}\n")).collect()
    }

    #[test]
    fn everything_that_led_to_the_shared_database_leads_to_the_private_one() {
        let first = "postgres://app:s@127.0.0.1:1/app?sslmode=verify-full";
        let mut variables = given(&[
            ("DB_URL", first),
            ("DB_PORT", "1"),
            ("DB_APP_URL", first),
            ("DB_APP_USER", "app"),
            ("DB_APP_PASSWORD", "s"),
            ("DB_APP_DATABASE", "app"),
            ("DB_AUDIT_URL", "postgres://audit:t@127.0.0.1:1/audit"),
            ("DB_AUDIT_DATABASE", "audit"),
            ("DATABASE_URL", first),
            ("PGPORT", "1"),
            ("PGUSER", "app"),
            ("PGDATABASE", "app"),
            ("STORE", first),
        ]);
        make_private(
            &mut variables,
            &[Private::Database { service: "db".parse().unwrap(), database: "app".to_owned(), name: "x".to_owned() }],
        );
        insta::assert_snapshot!(lines(&variables), @r"
        DB_URL=postgres://app:s@127.0.0.1:1/x?sslmode=verify-full
        DB_PORT=1
        DB_APP_URL=postgres://app:s@127.0.0.1:1/x?sslmode=verify-full
        DB_APP_USER=app
        DB_APP_PASSWORD=s
        DB_APP_DATABASE=x
        DB_AUDIT_URL=postgres://audit:t@127.0.0.1:1/audit
        DB_AUDIT_DATABASE=audit
        DATABASE_URL=postgres://app:s@127.0.0.1:1/x?sslmode=verify-full
        PGPORT=1
        PGUSER=app
        PGDATABASE=x
        STORE=postgres://app:s@127.0.0.1:1/x?sslmode=verify-full
        PGPASSWORD=s
        ");
    }

    #[test]
    fn the_short_forms_follow_a_lease_on_another_database() {
        let mut variables = given(&[
            ("DB_URL", "postgres://a:s@h:1/a"),
            ("DB_PORT", "1"),
            ("DB_B_URL", "postgres://b:t@h:1/b"),
            ("DB_B_USER", "b"),
            ("DB_B_PASSWORD", "t"),
            ("DATABASE_URL", "postgres://a:s@h:1/a"),
            ("PGPORT", "1"),
            ("PGUSER", "a"),
        ]);
        make_private(
            &mut variables,
            &[Private::Database { service: "db".parse().unwrap(), database: "b".to_owned(), name: "x".to_owned() }],
        );
        assert_eq!(variables["DATABASE_URL"], "postgres://b:t@h:1/x");
        assert_eq!((variables["PGUSER"].as_str(), variables["PGPASSWORD"].as_str()), ("b", "t"));
    }

    #[test]
    fn a_lease_on_redis_has_its_own_user_and_number() {
        let url = "redis://default:s@127.0.0.1:2/0";
        let mut variables = given(&[("CACHE_URL", url), ("REDIS_URL", url)]);
        let private = Private::Number { service: "cache".parse().unwrap(), user: "u".to_owned(), password: "p".to_owned(), number: 15 };
        make_private(&mut variables, &[private, Private::Prefix { service: "events".parse().unwrap(), prefix: "x.".to_owned() }]);
        assert_eq!(variables["REDIS_URL"], "redis://u:p@127.0.0.1:2/15");
        assert_eq!(variables["CACHE_URL"], variables["REDIS_URL"]);
        assert_eq!((variables["KAFKA_TOPIC_PREFIX"].as_str(), variables["EVENTS_GROUP_PREFIX"].as_str()), ("x.", "x."));
    }
}
