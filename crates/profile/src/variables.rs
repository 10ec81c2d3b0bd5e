//! PURE: which variables a service gets, and names that two services would both give.
//!
//! The compiler asks for the variables of each service and of the environment, the guard for the names that meet. A service of
//! the product gets those of the services that it depends on, so that a service that is added beside it changes nothing of it.

use std::collections::{BTreeSet, HashSet};

use devenv_kinds::describe::Connection;
use devenv_spec::{EnvironmentId, ServiceName, Template, Variable};
use indexmap::IndexMap;

use crate::{Profile, ServiceProfile, VariablesFrom};

/// The connections of all services, as the variables of the environment.
pub(crate) struct Connections<'a> {
    profile: &'a Profile,
    of: &'a IndexMap<ServiceName, Connection>,
    /// Whose each variable is; of names that meet, the first one's.
    owned: IndexMap<String, ServiceName>,
    /// The services that have the short forms of their kind.
    first: HashSet<&'a ServiceName>,
}

/// Whose environment it is.
pub(crate) struct Identity<'a> {
    pub(crate) environment: &'a EnvironmentId,
    pub(crate) instance: &'a str,
}

/// A name that would be the variable of two services, or of two parts of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Collision {
    pub(crate) variable: String,
    pub(crate) first: Giver,
    pub(crate) second: Giver,
}

/// What a variable is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Giver {
    pub(crate) service: ServiceName,
    /// A part of it that the profile names, such as a database.
    pub(crate) part: Option<String>,
    /// It is a short form, which the first service of a kind has.
    pub(crate) short: bool,
}

impl<'a> Connections<'a> {
    pub(crate) fn new(profile: &'a Profile, of: &'a IndexMap<ServiceName, Connection>) -> Self {
        let mut owned = IndexMap::new();
        let mut first = HashSet::new();
        let mut taken: HashSet<&str> = HashSet::new();
        for (service, connection) in of {
            for name in connection.variables.keys().chain(connection.short_forms.keys()) {
                owned.entry(name.clone()).or_insert_with(|| service.clone());
            }
            // All of them or none: the TLS of one server is nothing to the port of another.
            if !connection.short_forms.keys().any(|name| taken.contains(name.as_str())) {
                taken.extend(connection.short_forms.keys().map(String::as_str));
                first.insert(service);
            }
        }
        Self { profile, of, owned, first }
    }

    pub(crate) fn into_owned(self) -> IndexMap<String, ServiceName> {
        self.owned
    }

    /// Those that `override` gives a value of the profile.
    pub(crate) fn overridden(&self) -> Vec<String> {
        let set = |name: &&String| self.owned.contains_key(*name) && self.profile.variables.contains_key(*name);
        self.profile.overrides.iter().filter(set).cloned().collect()
    }

    /// What `devenv env` prints: those of all services.
    pub(crate) fn of_environment(&self, identity: &Identity<'_>) -> IndexMap<String, Variable> {
        self.of_services(&self.of.iter().collect::<Vec<_>>(), identity)
    }

    /// What one service gets.
    pub(crate) fn of_service(&self, name: &ServiceName, service: &ServiceProfile, identity: &Identity<'_>) -> IndexMap<String, Variable> {
        match &service.variables_from {
            Some(VariablesFrom::Services(names)) if names.is_empty() => IndexMap::new(),
            Some(VariablesFrom::Services(names)) => self.of_services(&self.in_order(names.iter().map(String::as_str)), identity),
            Some(VariablesFrom::All) => self.of_environment(identity),
            None => {
                let needed = service.kind.fields().dependencies();
                let depends = service.depends_on.keys().map(ServiceName::as_str).chain(needed.iter().map(String::as_str));
                self.of_services(&self.in_order(depends.chain([name.as_str()])), identity)
            }
        }
    }

    /// The named services, each once, in the order of the profile: a profile of thousands is not searched for each of its services.
    fn in_order<'n>(&self, names: impl Iterator<Item = &'n str>) -> Vec<(&'a ServiceName, &'a Connection)> {
        let places: BTreeSet<usize> = names.filter_map(|name| self.of.get_index_of(name)).collect();
        places.into_iter().filter_map(|place| self.of.get_index(place)).collect()
    }

    /// Names that meet: of two services, of a service and a short form of another, of two parts of one service.
    pub(crate) fn collisions(&self) -> Vec<Collision> {
        let mut found = Vec::new();
        let mut given: IndexMap<&str, (Giver, &Variable)> = IndexMap::new();
        for (service, connection) in self.of {
            let giver = |part: Option<&String>, short| Giver { service: service.clone(), part: part.cloned(), short };
            for clash in &connection.clashes {
                let (first, second) = (giver(clash.first.as_ref(), false), giver(clash.second.as_ref(), false));
                found.push(Collision { variable: clash.variable.clone(), first, second });
            }
            let full = connection.variables.iter().map(|(name, value)| (name, value, connection.parts.get(name), false));
            let short = self.short_forms_of(service).map(|(name, value)| (name, value, None, true));
            for (name, value, part, short) in full.chain(short) {
                match given.get(name.as_str()) {
                    Some((first, there)) if *there != value => {
                        found.push(Collision { variable: name.clone(), first: first.clone(), second: giver(part, short) });
                    }
                    Some(_) => {}
                    None => drop(given.insert(name, (giver(part, short), value))),
                }
            }
        }
        found
    }

    /// The short forms that are this service's.
    fn short_forms_of(&self, service: &ServiceName) -> impl Iterator<Item = (&String, &Variable)> {
        self.of.get(service).filter(|_| self.first.contains(service)).into_iter().flat_map(|connection| &connection.short_forms)
    }

    /// Whether one of them is the name of another service's variable, which then stays with that service.
    fn short_forms_meet(&self, service: &ServiceName) -> bool {
        let of_others = |name: &String, value: &Variable| {
            let owner = self.owned.get(name).filter(|owner| *owner != service).and_then(|owner| self.of.get(owner));
            owner.and_then(|owner| owner.variables.get(name)).is_some_and(|there| there != value)
        };
        self.short_forms_of(service).any(|(name, value)| of_others(name, value))
    }

    /// Connections, then short forms, then whose environment it is, then the profile's own: what comes later wins. A connection is
    /// replaced only by leave.
    fn of_services(&self, services: &[(&ServiceName, &Connection)], identity: &Identity<'_>) -> IndexMap<String, Variable> {
        let mut variables = IndexMap::new();
        for (name, value) in services.iter().flat_map(|(_, connection)| &connection.variables) {
            variables.entry(name.clone()).or_insert_with(|| value.clone());
        }
        for (name, _) in services.iter().filter(|(name, _)| !self.short_forms_meet(name)) {
            variables.extend(self.short_forms_of(name).map(|(name, value)| (name.clone(), value.clone())));
        }
        let own = [
            ("DEVENV_ENVIRONMENT", identity.environment.as_str().to_owned()),
            ("DEVENV_PROJECT", self.profile.project.display().to_string()),
            ("DEVENV_INSTANCE", identity.instance.to_owned()),
        ];
        variables.extend(own.map(|(name, value)| (name.to_owned(), Variable::same(Template::text(value)))));
        for (name, value) in &self.profile.variables {
            if !self.owned.contains_key(name) || self.profile.overrides.contains(name) {
                variables.insert(name.clone(), Variable::same(Template::given(name, value)));
            }
        }
        variables
    }
}

/// Each pair of givers once, with the names in which they meet.
pub(crate) fn by_pair(collisions: Vec<Collision>) -> Vec<(Giver, Giver, Vec<String>)> {
    let mut pairs: IndexMap<(Giver, Giver), Vec<String>> = IndexMap::new();
    for Collision { variable, first, second } in collisions {
        pairs.entry((first, second)).or_default().push(variable);
    }
    pairs.into_iter().map(|((first, second), names)| (first, second, names)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Given, given};
    use devenv_spec::Condition;
    use serde_json::json;

    fn names(given: &Given, service: &str) -> Vec<String> {
        let spec = given.spec();
        let own = |name: &&String| !name.starts_with("DEVENV_");
        spec.services[service].container().unwrap().environment.keys().filter(own).cloned().collect()
    }

    fn shop() -> Given {
        Given::nothing()
            .and("cache", json!({ "redis": {} }))
            .and("files", json!({ "s3": {} }))
            .and("web", json!({ "container": { "image": "web", "expose": [80] } }))
    }

    #[test]
    fn a_service_gets_the_variables_of_what_it_depends_on_and_its_own() {
        let own = ["WEB_URL", "WEB_HOST", "WEB_PORT"];
        assert_eq!(names(&shop(), "web"), own);
        let depends = shop().with(|web| {
            web.depends_on.insert("cache".parse().unwrap(), Condition::Started);
        });
        assert_eq!(
            names(&depends, "web"),
            [&["CACHE_URL", "CACHE_HOST", "CACHE_PORT", "CACHE_PASSWORD"], &own[..], &["REDIS_URL"]].concat()
        );
        let all = shop().with(|web| web.variables_from = Some(VariablesFrom::All));
        assert!(names(&all, "web").contains(&"AWS_REGION".to_owned()));
        let named = shop().with(|web| web.variables_from = Some(VariablesFrom::Services(vec!["files".into()])));
        assert!(names(&named, "web").contains(&"FILES_URL".to_owned()));
        assert!(!names(&named, "web").contains(&"CACHE_URL".to_owned()));
    }

    #[test]
    fn no_service_changes_with_one_that_is_added_beside_it() {
        let given = shop().with(|web| {
            web.depends_on.insert("cache".parse().unwrap(), Condition::Ready);
        });
        let before = given.spec();
        let after = given
            .and("db", json!({ "postgres": { "tls": true } }))
            .and("second", json!({ "redis": { "tls": true } }))
            .and("tracing", json!({ "jaeger": {} }))
            .spec();
        assert_eq!(before.services["web"], after.services["web"]);
    }

    #[test]
    fn a_short_form_is_that_of_the_first_service_of_the_kind_or_none() {
        let given = Given::nothing()
            .and("first", json!({ "redis": {} }))
            .and("second", json!({ "redis": {} }))
            .and("web", json!({ "container": { "image": "web" } }))
            .with(|web| {
                web.depends_on.insert("second".parse().unwrap(), Condition::Ready);
            });
        assert_eq!(names(&given, "web"), ["SECOND_URL", "SECOND_HOST", "SECOND_PORT", "SECOND_PASSWORD"]);
    }

    /// Which services with which kinds meet in which first name.
    #[test]
    fn names_that_meet_are_found_and_names_that_only_look_alike_are_not() {
        let postgres = |names: &[&str]| json!({ "postgres": { "databases": names.iter().map(|name| ((*name).to_owned(), json!({}))).collect::<serde_json::Map<_, _>>() } });
        let rows = [
            (vec![("orders", postgres(&["orders", "replica"])), ("orders-replica", postgres(&[]))], Some("ORDERS_REPLICA_URL")),
            (vec![("orders-replica", postgres(&[])), ("orders", postgres(&["orders", "replica"]))], Some("ORDERS_REPLICA_URL")),
            (vec![("db", postgres(&["my-app", "my_app"]))], Some("DB_MY_APP_URL")),
            (vec![("db", json!({ "mariadb": { "databases": { "a-b": {}, "a_b": {} } } }))], Some("DB_A_B_URL")),
            (vec![("bus", json!({ "rabbitmq": { "vhosts": { "a-b": {}, "a_b": {} } } }))], Some("BUS_A_B_URL")),
            (
                vec![("cache", json!({ "redis": { "users": { "a-b": { "rules": "+@all" }, "a_b": { "rules": "+@all" } } } }))],
                Some("CACHE_A_B_URL"),
            ),
            (vec![("cache", json!({ "redis": {} })), ("redis", json!({ "redis": {} }))], Some("REDIS_URL")),
            (vec![("database", json!({ "container": { "image": "x", "expose": [80] } })), ("db", postgres(&[]))], Some("DATABASE_URL")),
            (vec![("web", json!({ "container": { "image": "x", "expose": [80, 81] } })), ("web-port", postgres(&["81"]))], None),
            (vec![("redis", json!({ "redis": {} })), ("cache", json!({ "redis": {} }))], None),
            (vec![("pg", postgres(&["host"]))], None),
            (vec![("a", json!({ "redis": { "tls": true } })), ("b", postgres(&[]))], None),
        ];
        for (services, met) in rows {
            let given = services.into_iter().fold(Given::nothing(), |given, (name, kind)| given.and(name, kind));
            let found = crate::compile::collisions(&given.profile);
            assert_eq!(found.first().map(|collision| collision.variable.as_str()), met, "{found:?}");
        }
        assert!(crate::compile::collisions(&given("db", postgres(&["a"])).profile).is_empty());
    }
}
