//! RabbitMQ in a container that the user configures, with the variables of the official image.

use devenv_spec::{Probe, SecretRef, Template};

use super::{RabbitmqKind, spec::RabbitmqProbe};
use crate::{
    capability::{PASSWORD, PASSWORD_IN_URL, ServerFacts, Servers, password_secrets},
    describe::{Connection, Context, in_url, in_url_part},
};

const AMQP: u16 = 5672;
const MANAGEMENT: u16 = 15672;

impl Servers for RabbitmqKind {
    fn images(&self) -> &'static [&'static str] {
        &["rabbitmq", "bitnami/rabbitmq"]
    }

    fn programs(&self) -> &'static [&'static str] {
        &["rabbitmq-server"]
    }

    fn port(&self, _facts: &ServerFacts<'_>) -> u16 {
        AMQP
    }

    fn secrets(&self, facts: &ServerFacts<'_>) -> Vec<(&'static str, String)> {
        password_secrets(facts.first(["RABBITMQ_DEFAULT_PASS", "RABBITMQ_PASSWORD"]).unwrap_or("guest"))
    }

    /// The user `guest` may log in only from the server's own host, and still gets an answer where the image allows it.
    fn question(&self, facts: &ServerFacts<'_>, port: u16, secret: &dyn Fn(&str) -> SecretRef) -> Option<Probe> {
        let probe = RabbitmqProbe { port, user: user(facts).to_owned(), password: secret(PASSWORD), vhost: vhost(facts).to_owned() };
        Some(probe.into_probe())
    }

    fn command(&self, _facts: &ServerFacts<'_>) -> Option<Vec<String>> {
        Some(["rabbitmq-diagnostics", "-q", "check_port_connectivity"].map(str::to_owned).to_vec())
    }

    fn connection(&self, facts: &ServerFacts<'_>, port: u16, cx: &Context<'_>, connection: &mut Connection) {
        let vhost = in_url_part(vhost(facts));
        let url = cx.address(port, |host, port| {
            Template::text(format!("amqp://{}:", in_url(user(facts))))
                .then_secret(cx.secret(PASSWORD_IN_URL))
                .then(format!("@{host}:{port}/{vhost}"))
        });
        connection.variable(cx, "URL", url);
        connection.host_and_port(cx, port);
        if cx.ports.contains_key(&MANAGEMENT) {
            let management = cx.address(MANAGEMENT, |host, port| Template::text(format!("http://{host}:{port}")));
            connection.variable(cx, "MANAGEMENT_URL", management);
            connection.url("management", cx.url("http", MANAGEMENT));
        }
        connection.url("amqp", format!("{}/{vhost}", cx.url("amqp", port)));
    }
}

fn user<'a>(facts: &'a ServerFacts<'_>) -> &'a str {
    facts.first(["RABBITMQ_DEFAULT_USER", "RABBITMQ_USERNAME"]).unwrap_or("guest")
}

fn vhost<'a>(facts: &'a ServerFacts<'_>) -> &'a str {
    facts.first(["RABBITMQ_DEFAULT_VHOST", "RABBITMQ_VHOST"]).unwrap_or("/")
}
