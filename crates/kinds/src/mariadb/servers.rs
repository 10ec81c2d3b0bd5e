//! MariaDB or MySQL in a container that the user configures, with the variables of the official images.

use devenv_spec::{Probe, SecretRef, Template, Variable};

use super::{MariadbKind, spec::MariadbProbe};
use crate::{
    capability::{PASSWORD, PASSWORD_IN_URL, ServerFacts, Servers, password_secrets},
    describe::{Connection, Context, in_url},
};

const PORT: u16 = 3306;

impl Servers for MariadbKind {
    fn images(&self) -> &'static [&'static str] {
        &["mariadb", "mysql", "mysql/mysql-server", "bitnami/mariadb", "bitnami/mysql", "percona"]
    }

    fn programs(&self) -> &'static [&'static str] {
        &["mariadbd", "mysqld", "mysqld_safe"]
    }

    fn port(&self, _facts: &ServerFacts<'_>) -> u16 {
        PORT
    }

    fn secrets(&self, facts: &ServerFacts<'_>) -> Vec<(&'static str, String)> {
        password_secrets(login(facts).map(|(_, password)| password).unwrap_or_default())
    }

    fn question(&self, facts: &ServerFacts<'_>, port: u16, secret: &dyn Fn(&str) -> SecretRef) -> Option<Probe> {
        let (user, _) = login(facts)?;
        let probe = MariadbProbe {
            port,
            user: user.to_owned(),
            password: secret(PASSWORD),
            database: database(facts).map(str::to_owned),
            tls: false,
        };
        Some(probe.into_probe())
    }

    /// Over TCP, and any answer counts: the temporary server of the first start does not listen there.
    fn command(&self, _facts: &ServerFacts<'_>) -> Option<Vec<String>> {
        let script = "$(command -v mariadb-admin || command -v mysqladmin) ping -h 127.0.0.1 --silent";
        Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()])
    }

    fn connection(&self, facts: &ServerFacts<'_>, port: u16, cx: &Context<'_>, connection: &mut Connection) {
        connection.host_and_port(cx, port);
        let Some((user, _)) = login(facts) else { return };
        let path = database(facts).map(in_url).unwrap_or_default();
        let url = || {
            cx.address(port, |host, port| {
                Template::text(format!("mysql://{}:", in_url(user)))
                    .then_secret(cx.secret(PASSWORD_IN_URL))
                    .then(format!("@{host}:{port}/{path}"))
            })
        };
        connection.variable(cx, "URL", url());
        if let Some(database) = database(facts) {
            let text = |text: &str| Variable::same(Template::text(text));
            connection.variable_of(cx, database, "URL", url());
            connection.variable_of(cx, database, "USER", text(user));
            connection.variable_of(cx, database, "PASSWORD", Variable::same(Template::secret(cx.secret(PASSWORD))));
            connection.variable_of(cx, database, "DATABASE", text(database));
        }
        connection.url("mariadb", format!("{}/{path}", cx.url("mysql", port)));
    }
}

/// A user with a known password: the one that the image creates, otherwise the administrator.
fn login<'a>(facts: &'a ServerFacts<'_>) -> Option<(&'a str, &'a str)> {
    let user = facts.first(["MARIADB_USER", "MYSQL_USER"]).zip(facts.first(["MARIADB_PASSWORD", "MYSQL_PASSWORD"]));
    let empty = || facts.first(["MARIADB_ALLOW_EMPTY_ROOT_PASSWORD", "MYSQL_ALLOW_EMPTY_PASSWORD"]).map(|_| ("root", ""));
    user.or_else(|| Some(("root", facts.first(["MARIADB_ROOT_PASSWORD", "MYSQL_ROOT_PASSWORD"])?))).or_else(empty)
}

fn database<'a>(facts: &'a ServerFacts<'_>) -> Option<&'a str> {
    facts.first(["MARIADB_DATABASE", "MYSQL_DATABASE"])
}
