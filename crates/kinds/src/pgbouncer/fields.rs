//! PgBouncer in front of a PostgreSQL service, with the same roles.
//!
//! Clients and servers both use SCRAM, for which PgBouncer needs the passwords in plain text: they are in a
//! file that only its user can read. The program is started as that user directly, so the image's entrypoint, which
//! would take passwords from variables, is not needed.

use std::fmt::Write as _;

use devenv_spec::{ContainerSpec, FileSpec, Probe, SecretRef, Stop, Template};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spec::PgbouncerProbe;
use crate::describe::{Connection, Context, DatabaseFacts, Describe, Description, Facts, PortNeed, in_url};

/// PgBouncer in front of a PostgreSQL service, with the same roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pgbouncer {
    /// The PostgreSQL service to pool connections to.
    pub service: String,
    /// When a server connection returns to the pool.
    #[serde(default)]
    pub mode: PoolMode,
    /// Server connections per database and role.
    #[serde(default = "default_pool_size")]
    pub pool_size: u32,
    /// Maximum number of client connections.
    #[serde(default = "default_max_clients")]
    pub max_clients: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PoolMode {
    Session,
    #[default]
    Transaction,
    Statement,
}

fn default_pool_size() -> u32 {
    20
}

fn default_max_clients() -> u32 {
    200
}

const PORT: u16 = 6432;
/// The user of the official image's recipe. It is set on the container too, so that other images work.
const USER: u32 = 70;
const CONFIGURATION: &str = "/etc/pgbouncer/pgbouncer.ini";
const USERS: &str = "/etc/pgbouncer/userlist.txt";

impl Describe for Pgbouncer {
    fn ports(&self) -> Vec<PortNeed> {
        vec![PortNeed::any(PORT)]
    }

    fn secrets(&self, _service: &str) -> Vec<SecretRef> {
        Vec::new()
    }

    fn describe(&self, cx: &Context<'_>) -> Description {
        let server = self.server(cx);
        let mut container = ContainerSpec::new("edoburu/pgbouncer:v1.24.1-p1");
        container.entrypoint = Some(vec!["pgbouncer".to_owned()]);
        container.command = Some(vec![CONFIGURATION.to_owned()]);
        container.user = Some(format!("{USER}:{USER}"));
        container.files.push(FileSpec::private(CONFIGURATION, USER, self.configuration(server)));
        container.files.push(FileSpec::private(USERS, USER, users(server)));
        let probe = server.databases.first().map_or(Probe::Tcp { port: cx.port(PORT) }, |first| {
            let probe = PgbouncerProbe {
                port: cx.port(PORT),
                user: first.owner.clone(),
                password: first.password.clone(),
                database: first.database.clone(),
            };
            probe.into_probe()
        });
        // Its gentler signals wait for clients to disconnect; a pooler has nothing to lose.
        Description::server(container, probe, Stop::new("SIGQUIT", 5))
    }

    fn connection(&self, cx: &Context<'_>) -> Connection {
        let mut connection = Connection::default();
        if let Some(DatabaseFacts { database, owner, password }) = self.server(cx).databases.first() {
            let url = cx.address(PORT, |host, port| {
                Template::text(format!("postgres://{}:", in_url(owner)))
                    .then_secret(password.clone())
                    .then(format!("@{host}:{port}/{}", in_url(database)))
            });
            connection.variable(cx, "URL", url);
            connection.url("postgres", format!("{}/{}", cx.url("postgres", PORT), in_url(database)));
        }
        connection.host_and_port(cx, PORT);
        connection
    }

    fn facts(&self, cx: &Context<'_>) -> Facts {
        Facts { kind: "pgbouncer", address: Some((cx.name.to_string(), PORT)), ..Facts::default() }
    }

    fn references(&self) -> Vec<String> {
        vec![self.service.clone()]
    }
}

impl Pgbouncer {
    /// The facts of the server behind it; empty without one: a validated profile has one.
    fn server<'a>(&self, cx: &Context<'a>) -> &'a Facts {
        const NOTHING: &Facts = &Facts::NONE;
        cx.neighbours.get(self.service.as_str()).unwrap_or(NOTHING)
    }

    fn configuration(&self, server: &Facts) -> String {
        let (host, port) = server.address.clone().unwrap_or_else(|| (self.service.clone(), 5432));
        let mut text = "[databases]\n".to_owned();
        let plain = |name: &&str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
        for name in server.databases.iter().map(|database| database.database.as_str()).filter(plain) {
            let _ = writeln!(text, "{name} = host={host} port={port}");
        }
        // Undeclared databases, such as those of a test's lease, and names that are not allowed here.
        let _ = writeln!(text, "* = host={host} port={port}");
        let settings = [
            ("listen_addr", "0.0.0.0".to_owned()),
            ("listen_port", PORT.to_string()),
            ("unix_socket_dir", String::new()),
            ("auth_type", "scram-sha-256".to_owned()),
            ("auth_file", USERS.to_owned()),
            ("admin_users", "postgres".to_owned()),
            ("pool_mode", self.mode.name().to_owned()),
            ("default_pool_size", self.pool_size.to_string()),
            ("max_client_conn", self.max_clients.to_string()),
            ("max_prepared_statements", "200".to_owned()),
            ("ignore_startup_parameters", "extra_float_digits,options".to_owned()),
            ("server_tls_sslmode", if server.tls { "require" } else { "disable" }.to_owned()),
            // A server that comes back is found again at once, at its new address.
            ("server_login_retry", "1".to_owned()),
            ("dns_max_ttl", "1".to_owned()),
            ("dns_nxdomain_ttl", "1".to_owned()),
        ];
        text.push_str("\n[pgbouncer]\n");
        for (name, value) in settings {
            let _ = writeln!(text, "{name} = {value}");
        }
        text
    }
}

impl PoolMode {
    fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Transaction => "transaction",
            Self::Statement => "statement",
        }
    }
}

/// `"role" "password"`, one per line.
fn users(server: &Facts) -> Template {
    let superuser = server.superuser.iter().map(|password| ("postgres", password));
    let owners = server.databases.iter().map(|database| (database.owner.as_str(), &database.password));
    let mut names: Vec<&str> = Vec::new();
    let mut text = Template::default();
    for (name, password) in superuser.chain(owners) {
        if names.contains(&name) {
            continue;
        }
        names.push(name);
        let name = name.replace('"', "\"\"");
        text = text.then(format!("\"{name}\" \"")).then_secret(password.clone()).then("\"\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use devenv_spec::Condition;

    use devenv_profile::testing::given;
    use serde_json::json;

    #[test]
    fn it_serves_the_databases_and_roles_of_the_server_behind_it() {
        let given = given("db", json!({"postgres": { "databases": { "orders": {}, "reviews": { "owner": "orders" } } }}))
            .and("pool", json!({ "pgbouncer": { "service": "db", "pool_size": 50 } }));
        insta::assert_snapshot!(given.rendered(), @r##"
        image: edoburu/pgbouncer:v1.24.1-p1
        entrypoint: ["pgbouncer"]
        command: ["/etc/pgbouncer/pgbouncer.ini"]
        user: 70:70
        port: 127.0.0.1:20001 -> 6432
        file: /etc/pgbouncer/pgbouncer.ini 0400 70:70
          [databases]
          orders = host=db port=5432
          reviews = host=db port=5432
          * = host=db port=5432
          
          [pgbouncer]
          listen_addr = 0.0.0.0
          listen_port = 6432
          unix_socket_dir = 
          auth_type = scram-sha-256
          auth_file = /etc/pgbouncer/userlist.txt
          admin_users = postgres
          pool_mode = transaction
          default_pool_size = 50
          max_client_conn = 200
          max_prepared_statements = 200
          ignore_startup_parameters = extra_float_digits,options
          server_tls_sslmode = disable
          server_login_retry = 1
          dns_max_ttl = 1
          dns_nxdomain_ttl = 1
        file: /etc/pgbouncer/userlist.txt 0400 70:70
          "postgres" "${secret:db/postgres}"
          "orders" "${secret:db/orders}"
        probe: {"pgbouncer":{"port":20001,"user":"orders","password":"db/orders","database":"orders"}}
        stop: SIGQUIT 5s
        restart: Always 5
        "##);
        let spec = given.spec();
        assert_eq!(spec.variables["POOL_URL"].host.to_string(), "postgres://orders:${secret:db/orders}@127.0.0.1:20001/orders");
        assert_eq!(spec.variables["POOL_URL"].container.to_string(), "postgres://orders:${secret:db/orders}@pool:6432/orders");
        assert_eq!(spec.services["pool"].depends_on["db"], Condition::Ready);
    }
}
