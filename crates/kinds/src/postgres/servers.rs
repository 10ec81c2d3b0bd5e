//! PostgreSQL in a container that the user configures, with the variables of the official image.

use devenv_spec::{Probe, SecretRef, Template, Variable};

use super::{PostgresKind, spec::PostgresProbe};
use crate::{
    capability::{PASSWORD, PASSWORD_IN_URL, ServerFacts, Servers, password_secrets},
    describe::{Connection, Context, in_url},
};

impl Servers for PostgresKind {
    fn images(&self) -> &'static [&'static str] {
        &["postgres", "pgvector/pgvector", "postgis/postgis", "timescale/timescaledb", "bitnami/postgresql", "supabase/postgres"]
    }

    fn programs(&self) -> &'static [&'static str] {
        &["postgres", "docker-entrypoint.sh"]
    }

    fn port(&self, facts: &ServerFacts<'_>) -> u16 {
        facts.first(["PGPORT", "POSTGRESQL_PORT_NUMBER"]).and_then(|port| port.parse().ok()).unwrap_or(5432)
    }

    fn secrets(&self, facts: &ServerFacts<'_>) -> Vec<(&'static str, String)> {
        password_secrets(password(facts).unwrap_or_default())
    }

    fn question(&self, facts: &ServerFacts<'_>, port: u16, secret: &dyn Fn(&str) -> SecretRef) -> Option<Probe> {
        let known = password(facts).is_some() || facts.variable("POSTGRES_HOST_AUTH_METHOD") == Some("trust");
        let probe = PostgresProbe {
            port,
            user: user(facts).to_owned(),
            password: secret(PASSWORD),
            database: database(facts).to_owned(),
            tls: false,
        };
        known.then(|| probe.into_probe())
    }

    /// Over TCP: the temporary server of the first start listens on a socket file only.
    fn command(&self, facts: &ServerFacts<'_>) -> Option<Vec<String>> {
        let port = self.port(facts).to_string();
        let words = ["psql", "-X", "-At", "-h", "127.0.0.1", "-p", &port, "-U", user(facts), "-d", database(facts), "-c", "SELECT 1"];
        // The official image trusts its own loopback; the command is for those that do not, too.
        let ready = ["pg_isready", "-h", "127.0.0.1", "-p", &port];
        let script = format!("{} >/dev/null 2>&1 || {}", quoted(&words), quoted(&ready));
        Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), script])
    }

    fn connection(&self, facts: &ServerFacts<'_>, port: u16, cx: &Context<'_>, connection: &mut Connection) {
        let (user, database) = (user(facts), database(facts));
        let url = || {
            cx.address(port, |host, port| {
                Template::text(format!("postgres://{}:", in_url(user)))
                    .then_secret(cx.secret(PASSWORD_IN_URL))
                    .then(format!("@{host}:{port}/{}", in_url(database)))
            })
        };
        let text = |text: &str| Variable::same(Template::text(text));
        let password = || Variable::same(Template::secret(cx.secret(PASSWORD)));
        connection.variable(cx, "URL", url());
        connection.host_and_port(cx, port);
        connection.variable_of(cx, database, "URL", url());
        connection.variable_of(cx, database, "USER", text(user));
        connection.variable_of(cx, database, "PASSWORD", password());
        connection.variable_of(cx, database, "DATABASE", text(database));
        connection.short_form("DATABASE_URL", url());
        connection.short_form("PGHOST", cx.address(port, |host, _| Template::text(host)));
        connection.short_form("PGPORT", cx.address(port, |_, port| Template::text(port.to_string())));
        connection.short_form("PGUSER", text(user));
        connection.short_form("PGPASSWORD", password());
        connection.short_form("PGDATABASE", text(database));
        connection.url("postgres", format!("{}/{}", cx.url("postgres", port), in_url(database)));
    }

    fn stop_signal(&self) -> Option<&'static str> {
        Some("SIGINT")
    }
}

fn user<'a>(facts: &'a ServerFacts<'_>) -> &'a str {
    facts.first(["POSTGRES_USER", "POSTGRESQL_USERNAME"]).unwrap_or("postgres")
}

fn database<'a>(facts: &'a ServerFacts<'_>) -> &'a str {
    facts.first(["POSTGRES_DB", "POSTGRESQL_DATABASE"]).unwrap_or_else(|| user(facts))
}

fn password<'a>(facts: &'a ServerFacts<'_>) -> Option<&'a str> {
    facts.first(["POSTGRES_PASSWORD", "POSTGRESQL_PASSWORD"])
}

/// Words for a shell.
fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect::<Vec<_>>().join(" ")
}
