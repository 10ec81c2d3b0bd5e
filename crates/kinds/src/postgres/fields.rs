//! PostgreSQL: a server with its roles, databases and extensions.
//!
//! The layout of the volume is ours: the data directory is always `pgdata` in it, so that a server of
//! another major version refuses the data instead of starting an empty directory beside it, and `lost+found` does no harm.

mod first_start;
mod settings;
#[cfg(test)]
mod tests;

use devenv_spec::{ContainerSpec, FileSpec, Mount, ScriptPlace, ScriptSource, SecretRef, Stop, Template, Variable};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::settings::{Creation, creation, shared_memory};
use super::{
    access::{self, ACCESS, IDENTITIES, PASSWORDS, SUPERUSER},
    spec::{ExtensionSpec, PostgresDatabase, PostgresProbe, PostgresProvision, PostgresRole, PostgresTarget},
};
use crate::describe::{
    Connection, Context, DatabaseFacts, DeclaredScripts, Describe, Description, Facts, FirstStart, Metrics, PortNeed, authority, in_url,
};

/// PostgreSQL: a server with its roles, databases and extensions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Postgres {
    /// The major version: 14 to 18.
    #[serde(default = "default_version")]
    pub version: String,
    /// Server settings, as in `postgresql.conf`.
    #[serde(default)]
    pub settings: IndexMap<String, String>,
    /// Extensions to create in every database. `shared_preload_libraries` is set as needed.
    #[serde(default)]
    pub extensions: Vec<String>,
    /// Databases by name. Default: one database and role named after the service.
    #[serde(default)]
    pub databases: IndexMap<String, Database>,
    /// Accept only TLS connections, with a certificate that clients can verify.
    #[serde(default)]
    pub tls: bool,
    /// Scripts to run once as superuser in the first database, before all others.
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
    /// The role that owns the database. It gets a generated password and cannot connect to other databases. Default: the database's name.
    #[serde(default)]
    pub owner: Option<String>,
    /// Additional extensions for this database.
    #[serde(default)]
    pub extensions: Vec<String>,
    /// Settings of this database, as in `ALTER DATABASE … SET`.
    #[serde(default)]
    pub settings: IndexMap<String, String>,
    /// Scripts to run once, as the owner.
    #[serde(default)]
    pub init: Vec<String>,
    /// Seed data, loaded as the owner.
    #[serde(default)]
    pub seed: Vec<String>,
}

fn default_version() -> String {
    "17".to_owned()
}

const PORT: u16 = 5432;
/// The image's user. Another image may have another user, but its entrypoint reads the file as root.
const USER: u32 = 999;
const ROOT: u32 = 0;
const PASSWORD_FILE: &str = "/run/devenv/postgres-password";
const CERTIFICATE: &str = "/run/devenv/tls/server.crt";
const KEY: &str = "/run/devenv/tls/server.key";

/// Passwords over TCP, loopback included, and the socket for root and the server's own user. It counts where a profile's settings
/// replace our rules for access. `--no-sync` is deliberately not among them: a power cut in the first half minute would leave a
/// catalogue that was never written.
const INITDB: &str = "--auth-host=scram-sha-256 --auth-local=peer";

/// A database with every field set, defaults included.
struct Declared<'a> {
    name: &'a str,
    owner: &'a str,
    extensions: Vec<&'a str>,
    settings: IndexMap<String, String>,
}

impl Describe for Postgres {
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
        let mut container = ContainerSpec::new(self.image());
        let (mount, data) = self.layout();
        container.mounts.push(Mount::volume("data", mount));
        container.environment.insert("PGDATA".into(), Template::text(data));
        container.environment.insert("POSTGRES_PASSWORD_FILE".into(), Template::text(PASSWORD_FILE));
        container.environment.insert("POSTGRES_INITDB_ARGS".into(), Template::text(INITDB));
        container.files.push(FileSpec::private(PASSWORD_FILE, USER, Template::secret(cx.secret(SUPERUSER))));
        if self.tls {
            container.files.push(FileSpec::private(CERTIFICATE, USER, Template::secret(cx.secret("tls.crt"))));
            container.files.push(FileSpec::private(KEY, USER, Template::secret(cx.secret("tls.key"))));
        }
        let method = if self.settings.get("password_encryption").is_some_and(|value| value == "md5") { "md5" } else { "scram-sha-256" };
        container.files.push(FileSpec::readable(ACCESS, access::rules(self.tls, method)));
        container.files.push(FileSpec::readable(IDENTITIES, access::MAP));
        container.environment.insert("PGPASSFILE".into(), Template::text(PASSWORDS));
        container.files.push(FileSpec::private(PASSWORDS, ROOT, self.password_file(cx)));
        let memory = cx.declared.memory;
        container.shared_memory = Some(shared_memory(memory));
        let mut command = vec!["postgres".to_owned()];
        for (name, value) in self.server_settings(cx.name.as_str(), memory) {
            command.extend(["-c".to_owned(), format!("{name}={value}")]);
        }
        container.command = Some(command);

        let login = |user: &str, database: &str| {
            let probe = PostgresProbe {
                port: cx.port(PORT),
                user: user.to_owned(),
                password: cx.secret(user),
                database: database.to_owned(),
                tls: self.tls,
            };
            probe.into_probe()
        };
        let declared = self.declared(cx.name.as_str());
        let proof = declared.first().map(|database| login(database.owner, database.name));
        Description {
            scripts: Some(self.scripts(cx)),
            provision: vec![self.provision(cx).into_provision()],
            proof,
            // SIGINT is PostgreSQL's fast shutdown: sessions are ended, and the checkpoint takes the time.
            ..Description::server(container, login(SUPERUSER, SUPERUSER), Stop::new("SIGINT", 30))
        }
    }

    fn connection(&self, cx: &Context<'_>) -> Connection {
        let mut connection = Connection::default();
        let declared = self.declared(cx.name.as_str());
        let first = &declared[0];
        let url = |database: &Declared<'_>| self.url(cx, database);

        connection.variable(cx, "URL", url(first));
        connection.host_and_port(cx, PORT);
        for database in &declared {
            connection.variable_of(cx, database.name, "URL", url(database));
            connection.variable_of(cx, database.name, "USER", Variable::same(Template::text(database.owner)));
            connection.variable_of(cx, database.name, "PASSWORD", Variable::same(Template::secret(cx.secret(database.owner))));
            connection.variable_of(cx, database.name, "DATABASE", Variable::same(Template::text(database.name)));
        }

        connection.short_form("DATABASE_URL", url(first));
        connection.short_form("PGHOST", cx.address(PORT, |host, _| Template::text(host)));
        connection.short_form("PGPORT", cx.address(PORT, |_, port| Template::text(port.to_string())));
        connection.short_form("PGUSER", Variable::same(Template::text(first.owner)));
        connection.short_form("PGPASSWORD", Variable::same(Template::secret(cx.secret(first.owner))));
        connection.short_form("PGDATABASE", Variable::same(Template::text(first.name)));
        if self.tls {
            connection.authority(cx);
            connection.short_form("PGSSLMODE", Variable::same(Template::text("verify-full")));
            connection.short_form("PGSSLROOTCERT", authority(cx));
        }
        connection.url("postgres", format!("{}/{}", cx.url("postgres", PORT), in_url(first.name)));
        connection
    }

    fn first_start(&self, cx: &Context<'_>) -> FirstStart {
        let mut start = FirstStart { files: vec![first_start::script(&self.provision(cx))], missing: Vec::new() };
        if self.tls {
            start.missing.push("its certificate is signed by devenv's own authority".to_owned());
        }
        start
    }

    fn facts(&self, cx: &Context<'_>) -> Facts {
        let databases = self.declared(cx.name.as_str()).into_iter().map(|database| DatabaseFacts {
            database: database.name.to_owned(),
            owner: database.owner.to_owned(),
            password: cx.secret(database.owner),
        });
        Facts {
            kind: "postgres",
            databases: databases.collect(),
            metrics: Metrics::Asked,
            address: Some((cx.name.to_string(), PORT)),
            superuser: Some(cx.secret(SUPERUSER)),
            tls: self.tls,
        }
    }
}

impl Postgres {
    /// The major version of whatever is written: `17` of `17.6` too.
    fn major(&self) -> &str {
        self.version.split('.').next().unwrap_or(&self.version)
    }

    fn image(&self) -> String {
        let major = self.major();
        let own = self.databases.values().flat_map(|database| &database.extensions);
        if self.extensions.iter().chain(own).any(|extension| extension == "vector") {
            format!("pgvector/pgvector:pg{major}")
        } else {
            format!("postgres:{major}")
        }
    }

    /// The mount point of the volume, which the image declares, and the data directory in it.
    fn layout(&self) -> (&'static str, &'static str) {
        if self.major().parse::<u32>().is_ok_and(|major| major < 18) {
            ("/var/lib/postgresql/data", "/var/lib/postgresql/data/pgdata")
        } else {
            ("/var/lib/postgresql", "/var/lib/postgresql/pgdata")
        }
    }

    /// At least one.
    fn declared<'a>(&'a self, service: &'a str) -> Vec<Declared<'a>> {
        if self.databases.is_empty() {
            let extensions = self.extensions.iter().map(String::as_str).collect();
            return vec![Declared { name: service, owner: service, extensions, settings: IndexMap::new() }];
        }
        let declare = |(name, database): (&'a String, &'a Database)| {
            let mut extensions: Vec<&str> = Vec::new();
            for extension in self.extensions.iter().chain(&database.extensions) {
                if !extensions.contains(&extension.as_str()) {
                    extensions.push(extension);
                }
            }
            let owner = database.owner.as_deref().unwrap_or(name);
            Declared { name, owner, extensions, settings: database.settings.clone() }
        };
        self.databases.iter().map(declare).collect()
    }

    /// So that root's `psql -U OWNER` in the container asks for no password.
    fn password_file(&self, cx: &Context<'_>) -> Template {
        let mut roles = vec![SUPERUSER];
        for database in self.declared(cx.name.as_str()) {
            if !roles.contains(&database.owner) {
                roles.push(database.owner);
            }
        }
        roles.into_iter().fold(Template::text(""), |file, role| {
            file.then(format!("*:*:*:{}:", access::in_password_file(role))).then_secret(cx.secret(role)).then("\n".to_owned())
        })
    }

    fn provision(&self, cx: &Context<'_>) -> PostgresProvision {
        let declared = self.declared(cx.name.as_str());
        let mut roles: Vec<PostgresRole> = Vec::new();
        for database in &declared {
            if database.owner != SUPERUSER && !roles.iter().any(|role| role.name == database.owner) {
                roles.push(PostgresRole { name: database.owner.to_owned(), password: cx.secret(database.owner) });
            }
        }
        let mut single = Vec::new();
        let databases = declared.into_iter().map(|database| {
            let created = database.extensions.into_iter().filter(|extension| match creation(extension) {
                Creation::Everywhere => true,
                Creation::Nowhere => false,
                Creation::OneDatabase if single.contains(extension) => false,
                Creation::OneDatabase => {
                    single.push(extension);
                    true
                }
            });
            PostgresDatabase {
                extensions: created.map(|name| ExtensionSpec { name: name.to_owned() }).collect(),
                name: database.name.to_owned(),
                owner: database.owner.to_owned(),
                settings: database.settings,
            }
        });
        let databases = databases.collect();
        PostgresProvision {
            port: cx.port(PORT),
            tls: self.tls,
            superuser: SUPERUSER.to_owned(),
            password: cx.secret(SUPERUSER),
            roles,
            databases,
        }
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
        let mut sources = vec![source(first, SUPERUSER, &self.admin_init, false), source(first, first.owner, &self.init, false)];
        let own = || declared.iter().filter_map(|database| Some((database, self.databases.get(database.name)?)));
        sources.extend(own().map(|(database, fields)| source(database, database.owner, &fields.init, false)));
        sources.push(source(first, first.owner, &self.seed, true));
        sources.extend(own().map(|(database, fields)| source(database, database.owner, &fields.seed, true)));
        let target = PostgresTarget { port: cx.port(PORT), tls: self.tls, superuser: cx.secret(SUPERUSER) };
        DeclaredScripts::of(target.into_target(), sources)
    }

    fn url(&self, cx: &Context<'_>, database: &Declared<'_>) -> Variable {
        let certificate = authority(cx);
        let plain = cx.address(PORT, |host, port| {
            Template::text(format!("postgres://{}:", in_url(database.owner)))
                .then_secret(cx.secret(database.owner))
                .then(format!("@{host}:{port}/{}", in_url(database.name)))
        });
        if !self.tls {
            return plain;
        }
        let verified = |url: Template, certificate: Template| {
            url.then(format!("?sslmode=verify-full&sslrootcert={}", in_url(&certificate.redacted())))
        };
        Variable { host: verified(plain.host, certificate.host), container: verified(plain.container, certificate.container) }
    }
}
