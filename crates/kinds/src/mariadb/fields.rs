//! The fields of the kind, and the service that they describe. Pure.
//!
//! The data directory is `data` in the volume, so that `lost+found` does no harm. The superuser is set by a file that
//! the server runs at each start, before it accepts connections: an interrupted first start, or a kept volume whose password
//! is lost, needs no repair.

use std::collections::BTreeMap;

use devenv_spec::{ContainerSpec, FileSpec, Mount, ScriptPlace, ScriptSource, SecretRef, Size, Stop, Template, Variable};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spec::{MariadbDatabase, MariadbProbe, MariadbProvision};
use crate::describe::{
    Connection, Context, DatabaseFacts, DeclaredScripts, Describe, Description, Facts, FirstStart, Metrics, PortNeed, authority, in_url,
};

/// MariaDB: a server with its databases, each with an owner that reaches no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mariadb {
    /// The version, as in the tag of the official image.
    #[serde(default = "default_version")]
    pub version: String,
    /// Server variables, as in `my.cnf`.
    #[serde(default)]
    pub settings: IndexMap<String, String>,
    /// One database and owner named after the service, unless said.
    #[serde(default)]
    pub databases: IndexMap<String, Database>,
    /// Accept only TLS connections, with a certificate that clients can verify.
    #[serde(default)]
    pub tls: bool,
    /// Scripts applied once as root in the first database, before the rest.
    #[serde(default)]
    pub admin_init: Vec<String>,
    /// Scripts to run once in the first database, as its owner.
    #[serde(default)]
    pub init: Vec<String>,
    /// Seed data for the first database, loaded as its owner.
    #[serde(default)]
    pub seed: Vec<String>,
}

/// One database of the server.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    /// A user with a generated password that reaches no other database; named after the database unless said.
    #[serde(default)]
    pub owner: Option<String>,
    /// Scripts to run once, as the owner.
    #[serde(default)]
    pub init: Vec<String>,
    /// Seed data, loaded as the owner.
    #[serde(default)]
    pub seed: Vec<String>,
}

fn default_version() -> String {
    "11.8".to_owned()
}

pub(super) const SUPERUSER: &str = "root";
pub(super) const PORT: u16 = 3306;
/// The image's user.
const USER: u32 = 999;
const VOLUME: &str = "/var/lib/mysql";
/// The path in the volume.
pub(super) const DATA: &str = "data";
const PASSWORD_FILE: &str = "/run/devenv/mariadb-root-password";
const START_FILE: &str = "/run/devenv/mariadb-start.sql";
const CERTIFICATE: &str = "/run/devenv/tls/server.crt";
const KEY: &str = "/run/devenv/tls/server.key";

/// A database with every field set, defaults included.
#[derive(Clone, Copy)]
struct Declared<'a> {
    name: &'a str,
    owner: &'a str,
    fields: Option<&'a Database>,
}

impl Describe for Mariadb {
    fn ports(&self) -> Vec<PortNeed> {
        vec![PortNeed::any(PORT)]
    }

    fn encrypts(&self) -> bool {
        self.tls
    }

    fn secrets(&self, service: &str) -> Vec<SecretRef> {
        let mut names = vec![SUPERUSER];
        for database in self.declared(service) {
            if !names.contains(&database.owner) {
                names.push(database.owner);
            }
        }
        names.into_iter().map(|name| SecretRef::new(service, name)).collect()
    }

    fn databases(&self, service: &str) -> Vec<String> {
        self.declared(service).into_iter().map(|database| database.name.to_owned()).collect()
    }

    fn describe(&self, cx: &Context<'_>) -> Description {
        let mut container = ContainerSpec::new(format!("mariadb:{}", self.version));
        container.mounts.push(Mount::volume("data", VOLUME));
        container.environment.insert("MARIADB_ROOT_PASSWORD_FILE".into(), Template::text(PASSWORD_FILE));
        // The image's own root is for the socket; the one for the network is set at each start.
        container.environment.insert("MARIADB_ROOT_HOST".into(), Template::text("localhost"));
        container.files.push(FileSpec::private(PASSWORD_FILE, USER, Template::secret(cx.secret(SUPERUSER))));
        container.files.push(FileSpec::private(START_FILE, USER, start_file(cx.secret(SUPERUSER))));
        if self.tls {
            container.files.push(FileSpec::private(CERTIFICATE, USER, Template::secret(cx.secret("tls.crt"))));
            container.files.push(FileSpec::private(KEY, USER, Template::secret(cx.secret("tls.key"))));
        }
        let settings = self.server_settings(cx.declared.memory);
        let arguments = settings.into_iter().map(|(name, value)| format!("--{}={value}", name.replace('_', "-")));
        container.command = Some(["mariadbd".to_owned()].into_iter().chain(arguments).collect());

        let declared = self.declared(cx.name.as_str());
        let login = |user: &str, database: Option<&str>| MariadbProbe {
            port: cx.port(PORT),
            user: user.to_owned(),
            password: cx.secret(user),
            database: database.map(str::to_owned),
            tls: self.tls,
        };
        Description {
            scripts: Some(self.scripts(cx)),
            provision: vec![self.provision(cx).into_provision()],
            proof: Some(login(declared[0].owner, Some(declared[0].name)).into_probe()),
            ..Description::server(container, login(SUPERUSER, None).into_probe(), Stop::new("SIGTERM", 30))
        }
    }

    fn first_start(&self, cx: &Context<'_>) -> FirstStart {
        let mut text = Template::default();
        for database in self.provision(cx).databases {
            let owner = format!("'{}'@'%'", database.owner.replace('\'', "''"));
            let name = database.name.replace('`', "``");
            text = text
                .then(format!("CREATE USER IF NOT EXISTS {owner} IDENTIFIED BY '"))
                .then_secret(database.password)
                .then(format!("';\nCREATE DATABASE IF NOT EXISTS `{name}`;\nGRANT ALL ON `{name}`.* TO {owner};\n"));
        }
        let missing = if self.tls { vec!["its certificate is signed by devenv's own authority".to_owned()] } else { Vec::new() };
        FirstStart { files: vec![FileSpec::private("/docker-entrypoint-initdb.d/10-databases.sql", USER, text)], missing }
    }

    fn connection(&self, cx: &Context<'_>) -> Connection {
        let mut connection = Connection::default();
        let declared = self.declared(cx.name.as_str());
        connection.variable(cx, "URL", self.url(cx, declared[0]));
        connection.host_and_port(cx, PORT);
        for database in &declared {
            connection.variable_of(cx, database.name, "URL", self.url(cx, *database));
            connection.variable_of(cx, database.name, "USER", Variable::same(Template::text(database.owner)));
            connection.variable_of(cx, database.name, "PASSWORD", Variable::same(Template::secret(cx.secret(database.owner))));
            connection.variable_of(cx, database.name, "DATABASE", Variable::same(Template::text(database.name)));
        }
        if self.tls {
            connection.authority(cx);
        }
        connection.url("mariadb", format!("{}/{}", cx.url("mysql", PORT), in_url(declared[0].name)));
        connection
    }

    fn facts(&self, cx: &Context<'_>) -> Facts {
        let databases = self.declared(cx.name.as_str()).into_iter().map(|database| DatabaseFacts {
            database: database.name.to_owned(),
            owner: database.owner.to_owned(),
            password: cx.secret(database.owner),
        });
        Facts {
            kind: super::NAME,
            databases: databases.collect(),
            metrics: Metrics::Asked,
            address: Some((cx.name.to_string(), PORT)),
            superuser: Some(cx.secret(SUPERUSER)),
            tls: self.tls,
        }
    }
}

impl Mariadb {
    /// At least one.
    fn declared<'a>(&'a self, service: &'a str) -> Vec<Declared<'a>> {
        if self.databases.is_empty() {
            return vec![Declared { name: service, owner: service, fields: None }];
        }
        let declare = |(name, fields): (&'a String, &'a Database)| {
            let owner = fields.owner.as_deref().unwrap_or(name);
            Declared { name, owner, fields: Some(fields) }
        };
        self.databases.iter().map(declare).collect()
    }

    /// In the order of their names, so that the order in a profile does not matter.
    fn server_settings(&self, memory: Option<Size>) -> BTreeMap<String, String> {
        let mut settings = BTreeMap::new();
        let mut set = |name: &str, value: String| settings.insert(name.to_owned(), value);
        set("character_set_server", "utf8mb4".to_owned());
        if let Some(memory) = memory {
            set("innodb_buffer_pool_size", format!("{}M", (memory.bytes() >> 21).max(8)));
        }
        settings.extend(self.settings.iter().map(|(name, value)| (name.replace('-', "_"), value.clone())));
        // What everything else depends on.
        let mut set = |name: &str, value: &str| settings.insert(name.to_owned(), value.to_owned());
        set("datadir", &format!("{VOLUME}/{DATA}"));
        set("init_file", START_FILE);
        set("skip_name_resolve", "ON");
        if self.tls {
            set("require_secure_transport", "ON");
            set("ssl_cert", CERTIFICATE);
            set("ssl_key", KEY);
        }
        settings
    }

    fn provision(&self, cx: &Context<'_>) -> MariadbProvision {
        let databases = self.declared(cx.name.as_str()).into_iter().map(|database| MariadbDatabase {
            name: database.name.to_owned(),
            owner: database.owner.to_owned(),
            password: cx.secret(database.owner),
        });
        MariadbProvision { port: cx.port(PORT), tls: self.tls, password: cx.secret(SUPERUSER), databases: databases.collect() }
    }

    /// Scripts of the server first, then those of each database; data sets after all scripts.
    fn scripts(&self, cx: &Context<'_>) -> DeclaredScripts {
        let declared = self.declared(cx.name.as_str());
        let source = |database: &Declared<'_>, role: &str, paths: &[String], seed: bool| ScriptSource {
            place: ScriptPlace::Database { name: database.name.to_owned(), role: role.to_owned(), password: cx.secret(role) },
            paths: paths.to_vec(),
            seed,
        };
        let first = &declared[0];
        let own = || declared.iter().filter_map(|database| Some((database, database.fields?)));
        let mut sources = vec![source(first, SUPERUSER, &self.admin_init, false), source(first, first.owner, &self.init, false)];
        sources.extend(own().map(|(database, fields)| source(database, database.owner, &fields.init, false)));
        sources.push(source(first, first.owner, &self.seed, true));
        sources.extend(own().map(|(database, fields)| source(database, database.owner, &fields.seed, true)));
        DeclaredScripts::of(self.provision(cx).target().into_target(), sources)
    }

    fn url(&self, cx: &Context<'_>, database: Declared<'_>) -> Variable {
        let certificate = authority(cx);
        let plain = cx.address(PORT, |host, port| {
            Template::text(format!("mysql://{}:", in_url(database.owner)))
                .then_secret(cx.secret(database.owner))
                .then(format!("@{host}:{port}/{}", in_url(database.name)))
        });
        if !self.tls {
            return plain;
        }
        let verified = |url: Template, certificate: &Template| url.then(format!("?ssl-mode=VERIFY_IDENTITY&ssl-ca={certificate}"));
        Variable { host: verified(plain.host, &certificate.host), container: verified(plain.container, &certificate.container) }
    }
}

/// One statement per line, as the server reads such a file.
fn start_file(password: SecretRef) -> Template {
    Template::text(format!("CREATE USER IF NOT EXISTS {SUPERUSER}@'%';\nSET PASSWORD FOR {SUPERUSER}@'%' = PASSWORD('"))
        .then_secret(password)
        .then(format!("');\nGRANT ALL ON *.* TO {SUPERUSER}@'%' WITH GRANT OPTION;\n"))
}

#[cfg(test)]
mod tests {
    use devenv_profile::testing::given;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_server_is_described_with_its_databases_and_no_secret_in_its_command() {
        let given = given(
            "store",
            json!({"mariadb": {
                "settings": { "max_connections": "50", "init-file": "/elsewhere" },
                "databases": { "app": { "owner": "ann", "init": ["init"] }, "audit_log": { "seed": ["seed"] } },
                "admin_init": ["admin"],
            }}),
        );
        insta::assert_snapshot!(given.rendered(), @r##"
        image: mariadb:11.8
        command: ["mariadbd","--character-set-server=utf8mb4","--datadir=/var/lib/mysql/data","--init-file=/run/devenv/mariadb-start.sql","--max-connections=50","--skip-name-resolve=ON"]
        variable: MARIADB_ROOT_PASSWORD_FILE=/run/devenv/mariadb-root-password
        variable: MARIADB_ROOT_HOST=localhost
        mount: volume data at /var/lib/mysql
        port: 127.0.0.1:20000 -> 3306
        file: /run/devenv/mariadb-root-password 0400 999:999
          ${secret:store/root}
        file: /run/devenv/mariadb-start.sql 0400 999:999
          CREATE USER IF NOT EXISTS root@'%';
          SET PASSWORD FOR root@'%' = PASSWORD('${secret:store/root}');
          GRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;
        probe: {"mariadb":{"port":20000,"user":"root","password":"store/root","tls":false}}
        provision: {"mariadb":{"port":20000,"tls":false,"password":"store/root","databases":[{"name":"app","owner":"ann","password":"store/ann"},{"name":"audit_log","owner":"audit_log","password":"store/audit_log"}]}}
        proof: {"mariadb":{"port":20000,"user":"ann","password":"store/ann","database":"app","tls":false}}
        stop: SIGTERM 30s
        restart: Always 5
        "##);
        insta::assert_snapshot!(given.variables(), @r##"
        STORE_URL=mysql://ann:${secret:store/ann}@127.0.0.1:20000/app | mysql://ann:${secret:store/ann}@store:3306/app
        STORE_HOST=127.0.0.1 | store
        STORE_PORT=20000 | 3306
        STORE_APP_URL=mysql://ann:${secret:store/ann}@127.0.0.1:20000/app | mysql://ann:${secret:store/ann}@store:3306/app
        STORE_APP_USER=ann
        STORE_APP_PASSWORD=${secret:store/ann}
        STORE_APP_DATABASE=app
        STORE_AUDIT_LOG_URL=mysql://audit_log:${secret:store/audit_log}@127.0.0.1:20000/audit_log | mysql://audit_log:${secret:store/audit_log}@store:3306/audit_log
        STORE_AUDIT_LOG_USER=audit_log
        STORE_AUDIT_LOG_PASSWORD=${secret:store/audit_log}
        STORE_AUDIT_LOG_DATABASE=audit_log
        DEVENV_ENVIRONMENT=shop-default-1a2b3c4d
        DEVENV_PROJECT=/home/ada/shop
        DEVENV_INSTANCE=default
        "##);
    }

    #[test]
    fn without_databases_there_is_one_named_after_the_service() {
        let spec = given("rate-limits", json!({ "mariadb": {} })).spec();
        let provision = MariadbProvision::of(&spec.services["rate-limits"]).unwrap();
        let names: Vec<_> = provision.databases.iter().map(|database| (database.name.as_str(), database.owner.as_str())).collect();
        assert_eq!(names, [("rate-limits", "rate-limits")]);
        assert_eq!(
            spec.variables["RATE_LIMITS_URL"].host.to_string(),
            "mysql://rate-limits:${secret:rate-limits/rate-limits}@127.0.0.1:20000/rate-limits"
        );
    }

    #[test]
    fn with_tls_no_plain_connection_is_taken_and_clients_can_verify_the_server() {
        let spec = given("store", json!({ "mariadb": { "tls": true } })).spec();
        let container = spec.services["store"].container().unwrap();
        let command = container.command.as_ref().unwrap();
        for argument in ["--require-secure-transport=ON", "--ssl-cert=/run/devenv/tls/server.crt", "--ssl-key=/run/devenv/tls/server.key"] {
            assert!(command.iter().any(|found| found == argument), "{command:?}");
        }
        let url = &spec.variables["STORE_URL"];
        assert!(url.host.to_string().ends_with("/store?ssl-mode=VERIFY_IDENTITY&ssl-ca=/state/authority.crt"), "{}", url.host);
        assert!(url.container.to_string().ends_with("&ssl-ca=/run/devenv/authority.crt"), "{}", url.container);
    }
}
