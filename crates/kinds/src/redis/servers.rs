//! Redis, or a server that speaks its protocol, in a container that the user configures.

use devenv_spec::{Probe, SecretRef, Template, Variable};

use super::{RedisKind, lease::LEASE, spec::RedisProbe};
use crate::{
    capability::{PASSWORD, PASSWORD_IN_URL, ServerFacts, Servers, password_secrets},
    describe::{Connection, Context},
};

impl Servers for RedisKind {
    fn images(&self) -> &'static [&'static str] {
        &["redis", "redis/redis-stack", "redis/redis-stack-server", "valkey/valkey", "bitnami/redis", "bitnami/valkey", "eqalpha/keydb"]
    }

    fn programs(&self) -> &'static [&'static str] {
        &["redis-server", "valkey-server", "keydb-server"]
    }

    fn port(&self, facts: &ServerFacts<'_>) -> u16 {
        facts.argument("--port").or_else(|| facts.variable("REDIS_PORT_NUMBER")).and_then(|port| port.parse().ok()).unwrap_or(6379)
    }

    fn secrets(&self, facts: &ServerFacts<'_>) -> Vec<(&'static str, String)> {
        password_secrets(password(facts).unwrap_or_default())
    }

    fn generated_secrets(&self) -> &'static [&'static str] {
        &[LEASE]
    }

    fn question(&self, _facts: &ServerFacts<'_>, port: u16, secret: &dyn Fn(&str) -> SecretRef) -> Option<Probe> {
        Some(RedisProbe { port, user: "default".to_owned(), password: secret(PASSWORD), tls: false }.into_probe())
    }

    /// The password is the container's own affair: an answer that asks for one is an answer.
    fn command(&self, facts: &ServerFacts<'_>) -> Option<Vec<String>> {
        let port = self.port(facts);
        let client = format!("$(command -v redis-cli || command -v valkey-cli || command -v keydb-cli) -p {port} ping");
        Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), format!("{client} 2>&1 | grep -Eq 'PONG|NOAUTH'")])
    }

    fn connection(&self, facts: &ServerFacts<'_>, port: u16, cx: &Context<'_>, connection: &mut Connection) {
        let url = || {
            cx.address(port, |host, port| match password(facts) {
                Some(_) => Template::text("redis://default:").then_secret(cx.secret(PASSWORD_IN_URL)).then(format!("@{host}:{port}/0")),
                None => Template::text(format!("redis://{host}:{port}/0")),
            })
        };
        connection.variable(cx, "URL", url());
        connection.host_and_port(cx, port);
        if password(facts).is_some() {
            connection.variable(cx, "PASSWORD", Variable::same(Template::secret(cx.secret(PASSWORD))));
        }
        connection.short_form("REDIS_URL", url());
        connection.url("redis", format!("{}/0", cx.url("redis", port)));
    }
}

fn password<'a>(facts: &'a ServerFacts<'_>) -> Option<&'a str> {
    facts.argument("--requirepass").or_else(|| facts.first(["REDIS_PASSWORD", "VALKEY_PASSWORD"])).filter(|password| !password.is_empty())
}
