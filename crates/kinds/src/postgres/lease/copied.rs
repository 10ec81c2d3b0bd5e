//! The variables of a lease: every variable with the shared database leads to the copy. Pure.

use devenv_spec::{ServiceName, variable_form};
use indexmap::IndexMap;

use crate::lease::variables::{replace, set, with_database};

/// A copy of `database`, called `name`.
pub(super) struct Copied {
    pub(super) service: ServiceName,
    pub(super) database: String,
    pub(super) name: String,
}

impl Copied {
    pub(super) fn make_private(&self, variables: &mut IndexMap<String, String>) {
        let service = self.service.variable();
        let own = |suffix: &str| format!("{service}_{}_{suffix}", variable_form(&self.database));
        let get = |variables: &IndexMap<String, String>, name: &str| variables.get(name).cloned();
        let Some(old) = get(variables, &own("URL")) else { return };
        let new = with_database(&old, &self.name);
        replace(variables, &old, &new);
        set(variables, own("DATABASE"), &self.name);
        // The short forms lead to the first database of the first server; in a lease, to the leased one of that server.
        let port = format!("{service}_PORT");
        if variables.contains_key("PGPORT") && get(variables, "PGPORT") == get(variables, &port) {
            set(variables, "DATABASE_URL".to_owned(), &new);
            set(variables, "PGDATABASE".to_owned(), &self.name);
            for (short, long) in [("PGUSER", own("USER")), ("PGPASSWORD", own("PASSWORD"))] {
                if let Some(value) = get(variables, &long) {
                    set(variables, short.to_owned(), &value);
                }
            }
        }
        set(variables, format!("{service}_URL"), &new);
    }
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
        Copied { service: "db".parse().unwrap(), database: "app".to_owned(), name: "x".to_owned() }.make_private(&mut variables);
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
        Copied { service: "db".parse().unwrap(), database: "b".to_owned(), name: "x".to_owned() }.make_private(&mut variables);
        assert_eq!(variables["DATABASE_URL"], "postgres://b:t@h:1/x");
        assert_eq!((variables["PGUSER"].as_str(), variables["PGPASSWORD"].as_str()), ("b", "t"));
    }
}
