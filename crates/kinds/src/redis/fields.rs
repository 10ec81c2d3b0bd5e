//! Redis, with explicit durability.

use std::{collections::BTreeMap, fmt::Write as _};

use devenv_spec::{ContainerSpec, FileSpec, Mount, ScriptPlace, ScriptSource, SecretRef, Size, Stop, Template, Variable};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spec::{RedisProbe, RedisProvision, RedisTarget};
use crate::describe::{Connection, Context, DeclaredScripts, Describe, Description, Facts, FirstStart, Metrics, PortNeed};

/// Redis, with explicit persistence settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    /// The version of Redis.
    #[serde(default = "default_version")]
    pub version: String,
    #[serde(default)]
    pub persistence: Persistence,
    /// Memory limit for data. Default: unlimited.
    #[serde(default)]
    pub maxmemory: Option<Size>,
    /// What to evict at `maxmemory`.
    #[serde(default)]
    pub policy: Policy,
    /// The number of databases.
    #[serde(default = "default_databases")]
    pub databases: u32,
    /// Other settings, as in `redis.conf`.
    #[serde(default)]
    pub settings: IndexMap<String, String>,
    /// ACL users by name, each with a generated password.
    #[serde(default)]
    pub users: IndexMap<String, User>,
    /// Accept only TLS connections, with a certificate that clients can verify.
    #[serde(default)]
    pub tls: bool,
    /// Scripts to run once.
    #[serde(default)]
    pub init: Vec<String>,
    /// Seed data to load once.
    #[serde(default)]
    pub seed: Vec<String>,
}

/// How Redis persists its data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Persistence {
    /// When to sync the append-only file to disk. `never` disables the file.
    #[serde(default)]
    pub aof: Aof,
    /// When to save an RDB dump: pairs of seconds and changes such as `60 1 300 10`, or `never`.
    #[serde(default = "default_rdb")]
    pub rdb: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Aof {
    Always,
    #[default]
    Everysec,
    No,
    Never,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    #[default]
    Noeviction,
    AllkeysLru,
    AllkeysLfu,
    AllkeysRandom,
    VolatileLru,
    VolatileLfu,
    VolatileRandom,
    VolatileTtl,
}

/// An ACL user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// ACL rules as in `ACL SETUSER`, such as `~app:* +@all`.
    pub rules: String,
}

impl Default for Persistence {
    fn default() -> Self {
        Self { aof: Aof::default(), rdb: default_rdb() }
    }
}

fn default_version() -> String {
    "8.0".to_owned()
}

fn default_rdb() -> String {
    "3600 1 300 100 60 10000".to_owned()
}

fn default_databases() -> u32 {
    16
}

const PORT: u16 = 6379;
const USER: u32 = 999;
/// Redis's own name for the user who logs in with only a password; also the name of that password's secret.
const DEFAULT_USER: &str = "default";
const CONFIGURATION: &str = "/run/devenv/redis.conf";
/// With an append-only file enabled, Redis starts from an empty file, and at its end overwrites the existing
/// dump: so if a volume contains only a dump, that becomes the file's base first. The entrypoint is the image's.
const ADOPT_DUMP: &str = "\
cd /data && if [ -f dump.rdb ] && ! [ -e appendonlydir ]; then \
rm -rf adopted && mkdir adopted && cp dump.rdb adopted/appendonly.aof.1.base.rdb \
&& echo 'file appendonly.aof.1.base.rdb seq 1 type b' >adopted/appendonly.aof.manifest && mv adopted appendonlydir; \
fi; exec docker-entrypoint.sh \"$@\"";
const CERTIFICATE: &str = "/run/devenv/tls/server.crt";
const KEY: &str = "/run/devenv/tls/server.key";

impl Describe for Redis {
    fn ports(&self) -> Vec<PortNeed> {
        vec![PortNeed::any(PORT)]
    }

    fn encrypts(&self) -> bool {
        self.tls
    }

    fn secrets(&self, service: &str) -> Vec<SecretRef> {
        let users = self.users.keys().map(String::as_str).filter(|user| *user != DEFAULT_USER);
        [DEFAULT_USER].into_iter().chain(users).map(|user| SecretRef::new(service, user)).collect()
    }

    fn describe(&self, cx: &Context<'_>) -> Description {
        let mut container = ContainerSpec::new(format!("redis:{}", self.version));
        container.command = Some(vec!["redis-server".to_owned(), CONFIGURATION.to_owned()]);
        if self.persistence.aof != Aof::Never {
            container.entrypoint = Some(["sh", "-c", ADOPT_DUMP, "sh"].map(str::to_owned).into());
        }
        container.files.push(FileSpec::private(CONFIGURATION, USER, self.configuration(cx)));
        if self.tls {
            container.files.push(FileSpec::private(CERTIFICATE, USER, Template::secret(cx.secret("tls.crt"))));
            container.files.push(FileSpec::private(KEY, USER, Template::secret(cx.secret("tls.key"))));
        }
        // Without persistence an old dump would still be loaded from a volume: so there is no volume, unless
        // a disk for faults is requested.
        let disk = cx.declared.faultable;
        container.mounts.push(if disk || self.persistent() { Mount::volume("data", "/data") } else { Mount::memory("/data") });

        let probe = RedisProbe { port: cx.port(PORT), user: DEFAULT_USER.to_owned(), password: cx.secret(DEFAULT_USER), tls: self.tls };
        let probe = probe.into_probe();
        let users = self.users.iter().map(|(name, user)| (name.clone(), user.rules.clone(), cx.secret(name)));
        let provision = RedisProvision { port: cx.port(PORT), tls: self.tls, password: cx.secret(DEFAULT_USER), users: users.collect() };
        Description {
            scripts: Some(self.scripts(cx)),
            provision: vec![provision.into_provision()],
            ..Description::server(container, probe, Stop::new("SIGTERM", self.grace_seconds()))
        }
    }

    fn first_start(&self, _cx: &Context<'_>) -> FirstStart {
        let missing = !self.users.is_empty() || self.tls;
        FirstStart {
            missing: missing.then(|| "its users and its certificate are made by devenv".to_owned()).into_iter().collect(),
            ..FirstStart::default()
        }
    }

    fn connection(&self, cx: &Context<'_>) -> Connection {
        let mut connection = Connection::default();
        connection.variable(cx, "URL", self.url(cx, DEFAULT_USER));
        connection.host_and_port(cx, PORT);
        connection.variable(cx, "PASSWORD", Variable::same(Template::secret(cx.secret(DEFAULT_USER))));
        for user in self.users.keys() {
            connection.variable_of(cx, user, "URL", self.url(cx, user));
        }
        if self.tls {
            connection.authority(cx);
        }
        connection.short_form("REDIS_URL", self.url(cx, DEFAULT_USER));
        connection.url("redis", format!("{}/0", cx.url(self.scheme(), PORT)));
        connection
    }

    fn facts(&self, cx: &Context<'_>) -> Facts {
        Facts { kind: "redis", metrics: Metrics::Asked, address: Some((cx.name.to_string(), PORT)), tls: self.tls, ..Facts::default() }
    }
}

impl Redis {
    fn scheme(&self) -> &'static str {
        if self.tls { "rediss" } else { "redis" }
    }

    fn saves(&self) -> bool {
        self.persistence.rdb.trim() != "never"
    }

    fn persistent(&self) -> bool {
        self.saves() || self.persistence.aof != Aof::Never
    }

    /// On SIGTERM Redis writes what its durability promises: a complete dump takes longest.
    fn grace_seconds(&self) -> u64 {
        if self.saves() {
            30
        } else if self.persistent() {
            10
        } else {
            5
        }
    }

    fn configuration(&self, cx: &Context<'_>) -> Template {
        let aof = &self.persistence.aof;
        let mut lines = BTreeMap::new();
        let mut set = |name: &str, value: String| lines.insert(name.to_owned(), value);
        set("appendonly", if *aof == Aof::Never { "no" } else { "yes" }.to_owned());
        set("appendfsync", aof.when().to_owned());
        set("databases", self.databases.to_string());
        set("maxmemory-policy", self.policy.name().to_owned());
        set("save", if self.saves() { self.persistence.rdb.trim().to_owned() } else { "\"\"".to_owned() });
        if let Some(maxmemory) = self.maxmemory {
            set("maxmemory", maxmemory.bytes().to_string());
        }
        lines.extend(self.settings.clone());

        let mut text = String::new();
        for (name, value) in lines {
            let _ = writeln!(text, "{name} {value}");
        }
        // Last, because the last line wins and everything else depends on these. Clients that reach the port need the
        // password, so protected mode would only refuse our own clients.
        text.push_str("appenddirname appendonlydir\nappendfilename appendonly.aof\nbind * -::*\n");
        text.push_str("dbfilename dump.rdb\ndir /data\nprotected-mode no\n");
        if self.tls {
            let _ = writeln!(text, "port 0\ntls-port {PORT}\ntls-auth-clients no");
            let _ = writeln!(text, "tls-cert-file {CERTIFICATE}\ntls-key-file {KEY}");
        } else {
            let _ = writeln!(text, "port {PORT}");
        }
        Template::text(text).then("requirepass ").then_secret(cx.secret(DEFAULT_USER)).then("\n")
    }

    fn scripts(&self, cx: &Context<'_>) -> DeclaredScripts {
        let source = |paths: &[String], seed| ScriptSource { place: ScriptPlace::Service, paths: paths.to_vec(), seed };
        let target = RedisTarget { port: cx.port(PORT), tls: self.tls, password: cx.secret(DEFAULT_USER) };
        DeclaredScripts::of(target.into_target(), [source(&self.init, false), source(&self.seed, true)])
    }

    fn url(&self, cx: &Context<'_>, user: &str) -> Variable {
        cx.address(PORT, |host, port| {
            Template::text(format!("{}://{user}:", self.scheme())).then_secret(cx.secret(user)).then(format!("@{host}:{port}/0"))
        })
    }
}

impl Aof {
    fn when(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Everysec => "everysec",
            Self::No | Self::Never => "no",
        }
    }
}

impl Policy {
    fn name(self) -> &'static str {
        match self {
            Self::Noeviction => "noeviction",
            Self::AllkeysLru => "allkeys-lru",
            Self::AllkeysLfu => "allkeys-lfu",
            Self::AllkeysRandom => "allkeys-random",
            Self::VolatileLru => "volatile-lru",
            Self::VolatileLfu => "volatile-lfu",
            Self::VolatileRandom => "volatile-random",
            Self::VolatileTtl => "volatile-ttl",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use devenv_profile::testing::given;
    use serde_json::json;

    #[test]
    fn durability_stands_plainly_in_the_configuration() {
        let given = given(
            "cache",
            json!({"redis": {
                "persistence": { "aof": "always", "rdb": "60 1 300 10" },
                "maxmemory": "256MiB",
                "policy": "allkeys-lru",
                "databases": 3,
                "settings": { "tcp-keepalive": "300", "port": "1" },
                "users": { "app": { "rules": "~app:* +@all" } },
            }}),
        );
        insta::assert_snapshot!(given.rendered(), @r##"
        image: redis:8.0
        entrypoint: ["sh","-c","cd /data && if [ -f dump.rdb ] && ! [ -e appendonlydir ]; then rm -rf adopted && mkdir adopted && cp dump.rdb adopted/appendonly.aof.1.base.rdb && echo 'file appendonly.aof.1.base.rdb seq 1 type b' >adopted/appendonly.aof.manifest && mv adopted appendonlydir; fi; exec docker-entrypoint.sh \"$@\"","sh"]
        command: ["redis-server","/run/devenv/redis.conf"]
        mount: volume data at /data
        port: 127.0.0.1:20000 -> 6379
        file: /run/devenv/redis.conf 0400 999:999
          appendfsync always
          appendonly yes
          databases 3
          maxmemory 268435456
          maxmemory-policy allkeys-lru
          port 1
          save 60 1 300 10
          tcp-keepalive 300
          appenddirname appendonlydir
          appendfilename appendonly.aof
          bind * -::*
          dbfilename dump.rdb
          dir /data
          protected-mode no
          port 6379
          requirepass ${secret:cache/default}
        probe: {"redis":{"port":20000,"user":"default","password":"cache/default","tls":false}}
        provision: {"redis":{"port":20000,"tls":false,"password":"cache/default","users":[["app","~app:* +@all","cache/app"]]}}
        stop: SIGTERM 30s
        restart: Always 5
        "##);
        insta::assert_snapshot!(given.variables(), @r##"
        CACHE_URL=redis://default:${secret:cache/default}@127.0.0.1:20000/0 | redis://default:${secret:cache/default}@cache:6379/0
        CACHE_HOST=127.0.0.1 | cache
        CACHE_PORT=20000 | 6379
        CACHE_PASSWORD=${secret:cache/default}
        CACHE_APP_URL=redis://app:${secret:cache/app}@127.0.0.1:20000/0 | redis://app:${secret:cache/app}@cache:6379/0
        REDIS_URL=redis://default:${secret:cache/default}@127.0.0.1:20000/0 | redis://default:${secret:cache/default}@cache:6379/0
        DEVENV_ENVIRONMENT=shop-default-1a2b3c4d
        DEVENV_PROJECT=/home/ada/shop
        DEVENV_INSTANCE=default
        "##);
    }

    #[test]
    fn each_durability_has_its_lines_its_storage_and_its_time_to_stop() {
        let table = [
            (json!({}), "appendonly yes", "appendfsync everysec", "save 3600 1 300 100 60 10000", true, 30),
            (json!({ "aof": "always", "rdb": "never" }), "appendonly yes", "appendfsync always", "save \"\"", true, 10),
            (json!({ "aof": "no", "rdb": "never" }), "appendonly yes", "appendfsync no", "save \"\"", true, 10),
            (json!({ "aof": "never", "rdb": "60 1" }), "appendonly no", "appendfsync no", "save 60 1", true, 30),
            (json!({ "aof": "never", "rdb": "never" }), "appendonly no", "appendfsync no", "save \"\"", false, 5),
        ];
        for (persistence, appendonly, appendfsync, save, volume, grace) in table {
            let spec = given("cache", json!({ "redis": { "persistence": persistence } })).spec();
            let cache = &spec.services["cache"];
            let container = cache.container().unwrap();
            let text = container.files[0].content.to_string();
            for line in [appendonly, appendfsync, save] {
                assert!(text.lines().any(|found| found == line), "{line} in {text}");
            }
            assert_eq!(container.entrypoint.is_some(), appendonly == "appendonly yes");
            assert_eq!(container.mounts, [if volume { Mount::volume("data", "/data") } else { Mount::memory("/data") }]);
            assert_eq!(cache.stop, Stop::new("SIGTERM", grace));
        }
    }

    #[test]
    fn with_tls_there_is_no_plain_port() {
        let given = given("cache", json!({ "redis": { "tls": true } }));
        let spec = given.spec();
        let text = spec.services["cache"].container().unwrap().files[0].content.to_string();
        assert!(text.contains("\nport 0\ntls-port 6379\n"), "{text}");
        assert_eq!(spec.variables["REDIS_URL"].host.to_string(), "rediss://default:${secret:cache/default}@127.0.0.1:20000/0");
        assert_eq!(spec.variables["DEVENV_CA_FILE"].host.to_string(), "/state/authority.crt");
    }
}
