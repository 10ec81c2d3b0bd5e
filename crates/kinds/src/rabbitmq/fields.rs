//! The fields of the kind, and the service that they describe. Pure.
//!
//! The node is always `rabbit@localhost`, so that a copied volume opens; the node and its port
//! mapper listen on the container's own loopback. The administrator is in a file of definitions that the server reads at each
//! start, before it accepts connections: a kept volume whose password is lost needs no repair. The cookie, by which the node
//! authenticates its tools, is written there too: the server would write it once without a sync, and not start after a power cut.

use std::fmt::Write as _;

use devenv_spec::{ContainerSpec, FileSpec, Mount, ScriptPlace, ScriptSource, SecretRef, Stop, Template, Variable};
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spec::{RabbitmqProbe, RabbitmqProvision, RabbitmqTarget, RabbitmqVhost};
use crate::describe::{
    Connection, Context, DeclaredScripts, Describe, Description, Facts, FirstStart, Metrics, MetricsEndpoint, PortNeed, in_url_part,
};

/// RabbitMQ: a broker with its virtual hosts, each with a user that reaches no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rabbitmq {
    /// The version, as in the tag of the official image.
    #[serde(default = "default_version")]
    pub version: String,
    /// One virtual host and user named after the service, unless said.
    #[serde(default)]
    pub vhosts: IndexMap<String, Vhost>,
    /// Files of definitions (`.json`, as the management exports them): exchanges, queues, bindings, policies.
    #[serde(default)]
    pub definitions: Vec<String>,
    /// Any other setting, as in `rabbitmq.conf`.
    #[serde(default)]
    pub settings: IndexMap<String, String>,
    /// Messages (`.jsonl`), for the first virtual host unless a line names another.
    #[serde(default)]
    pub seed: Vec<String>,
}

/// One virtual host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vhost {
    /// A user with a generated password that reaches no other virtual host; named after it unless said.
    #[serde(default)]
    pub user: Option<String>,
}

fn default_version() -> String {
    "4.0".to_owned()
}

pub(super) const AMQP: u16 = 5672;
const MANAGEMENT: u16 = 15672;
const PROMETHEUS: u16 = 15692;
/// The image's user.
const USER: u32 = 999;
pub(super) const ADMINISTRATOR: &str = "devenv";
/// The default virtual host of every server; only the administrator can access it.
const ROOT_VHOST: &str = "/";
const SETTINGS: &str = "/etc/rabbitmq/conf.d/90-devenv.conf";
/// Where Erlang looks for the cookie: outside of the volume.
const HOME: &str = "/run/devenv";
const COOKIE_FILE: &str = "/run/devenv/.erlang.cookie";
/// The secret's name, which no user can have.
const COOKIE: &str = "erlang.cookie";
const DEFINITIONS: &str = "/run/devenv/rabbitmq-definitions.json";
/// Idle threads sleep instead of spinning, and no other node can connect.
const ERLANG: &str = "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}";
/// At the front of the runtime's arguments, because those at the end are evaluated after the broker has accepted clients.
const ERLANG_FIRST: &str = "-run file eval /run/devenv/queues.erl";
/// What keeps quorum queues through a kill; its top says why. Named by [`ERLANG_FIRST`].
const QUEUES_FILE: &str = "/run/devenv/queues.erl";
const QUEUES: &str = include_str!("queues.erl");

impl Describe for Rabbitmq {
    fn ports(&self) -> Vec<PortNeed> {
        [AMQP, MANAGEMENT].map(PortNeed::any).into()
    }

    fn secrets(&self, service: &str) -> Vec<SecretRef> {
        let mut names = vec![ADMINISTRATOR, LEASE, COOKIE];
        for (_, user) in self.declared(service) {
            if !names.contains(&user) {
                names.push(user);
            }
        }
        names.into_iter().map(|name| SecretRef::new(service, name)).collect()
    }

    fn describe(&self, cx: &Context<'_>) -> Description {
        let mut container = ContainerSpec::new(format!("rabbitmq:{}-management", self.version));
        container.mounts.push(Mount::volume("data", "/var/lib/rabbitmq"));
        for (name, value) in [
            ("HOME", HOME),
            ("RABBITMQ_NODENAME", "rabbit@localhost"),
            ("ERL_EPMD_ADDRESS", "127.0.0.1"),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", ERLANG),
            ("ERL_AFLAGS", ERLANG_FIRST),
        ] {
            container.environment.insert(name.into(), Template::text(value));
        }
        container.files.push(FileSpec::private(SETTINGS, USER, self.configuration(cx)));
        container.files.push(FileSpec::private(COOKIE_FILE, USER, Template::secret(cx.secret(COOKIE))));
        container.files.push(FileSpec::private(QUEUES_FILE, USER, Template::text(QUEUES)));
        container.files.push(FileSpec::private(DEFINITIONS, USER, definitions(cx.secret(ADMINISTRATOR))));

        let login = |user: &str, vhost: &str| RabbitmqProbe {
            port: cx.port(AMQP),
            user: user.to_owned(),
            password: cx.secret(user),
            vhost: vhost.to_owned(),
        };
        let declared = self.declared(cx.name.as_str());
        let (vhost, user) = declared[0];
        let provision = self.provision(cx);
        let source = |paths: &[String], seed| ScriptSource { place: ScriptPlace::Service, paths: paths.to_vec(), seed };
        let sources = [source(&self.definitions, false), source(&self.seed, true)];
        Description {
            scripts: Some(DeclaredScripts::of(provision.target.clone().into_target(), sources)),
            provision: vec![provision.into_provision()],
            proof: Some(login(user, vhost).into_probe()),
            ..Description::server(container, login(ADMINISTRATOR, ROOT_VHOST).into_probe(), Stop::new("SIGTERM", 30))
        }
    }

    fn connection(&self, cx: &Context<'_>) -> Connection {
        let mut connection = Connection::default();
        let declared = self.declared(cx.name.as_str());
        let url = |(vhost, user): (&str, &str)| {
            cx.address(AMQP, |host, port| {
                Template::text(format!("amqp://{}:", encoded(user)))
                    .then_secret(cx.secret(user))
                    .then(format!("@{host}:{port}/{}", encoded(vhost)))
            })
        };
        connection.variable(cx, "URL", url(declared[0]));
        connection.host_and_port(cx, AMQP);
        connection.variable(cx, "MANAGEMENT_URL", cx.address(MANAGEMENT, |host, port| Template::text(format!("http://{host}:{port}"))));
        for (vhost, user) in &declared {
            connection.variable_of(cx, vhost, "URL", url((vhost, user)));
            connection.variable_of(cx, vhost, "USER", Variable::same(Template::text(*user)));
            connection.variable_of(cx, vhost, "PASSWORD", Variable::same(Template::secret(cx.secret(user))));
            connection.variable_of(cx, vhost, "VHOST", Variable::same(Template::text(*vhost)));
        }
        connection.url("amqp", format!("{}/{}", cx.url("amqp", AMQP), encoded(declared[0].0)));
        connection.url("management", cx.url("http", MANAGEMENT));
        connection
    }

    fn first_start(&self, _cx: &Context<'_>) -> FirstStart {
        let missing = !self.vhosts.is_empty();
        FirstStart {
            missing: missing.then(|| "its virtual hosts and their users are made by devenv".to_owned()).into_iter().collect(),
            ..FirstStart::default()
        }
    }

    fn facts(&self, cx: &Context<'_>) -> Facts {
        let endpoint = MetricsEndpoint { host: cx.name.to_string(), port: PROMETHEUS, path: "/metrics/per-object".to_owned() };
        Facts { kind: super::NAME, metrics: Metrics::Served(endpoint), address: Some((cx.name.to_string(), AMQP)), ..Facts::default() }
    }
}

/// The password of all users of leases.
pub(super) const LEASE: &str = "lease";

impl Rabbitmq {
    /// Virtual hosts and their users: at least one.
    fn declared<'a>(&'a self, service: &'a str) -> Vec<(&'a str, &'a str)> {
        if self.vhosts.is_empty() {
            return vec![(service, service)];
        }
        self.vhosts.iter().map(|(name, vhost)| (name.as_str(), vhost.user.as_deref().unwrap_or(name))).collect()
    }

    fn provision(&self, cx: &Context<'_>) -> RabbitmqProvision {
        let declared = self.declared(cx.name.as_str());
        let target =
            RabbitmqTarget { management: cx.port(MANAGEMENT), administrator: cx.secret(ADMINISTRATOR), vhost: declared[0].0.to_owned() };
        let vhosts = declared.into_iter().map(|(vhost, user)| RabbitmqVhost {
            name: vhost.to_owned(),
            user: user.to_owned(),
            password: cx.secret(user),
        });
        RabbitmqProvision { target, vhosts: vhosts.collect() }
    }

    fn configuration(&self, cx: &Context<'_>) -> Template {
        let mut settings = IndexMap::new();
        if let Some(memory) = cx.declared.memory {
            settings.insert("vm_memory_high_watermark.absolute", (memory.bytes() / 5 * 3).to_string());
        }
        settings.extend(self.settings.iter().map(|(name, value)| (name.as_str(), value.clone())));
        // Last, because everything else depends on these.
        settings.insert("listeners.tcp.default", AMQP.to_string());
        settings.insert("management.tcp.port", MANAGEMENT.to_string());
        settings.insert("prometheus.tcp.port", PROMETHEUS.to_string());
        settings.insert("load_definitions", DEFINITIONS.to_owned());
        settings.sort_keys();
        let mut text = String::new();
        for (name, value) in settings {
            let _ = writeln!(text, "{name} = {value}");
        }
        Template::text(text)
    }
}

/// The administrator, and the virtual host that its first probe opens.
fn definitions(password: SecretRef) -> Template {
    Template::text(format!(r#"{{"users":[{{"name":"{ADMINISTRATOR}","tags":["administrator"],"password":""#))
        .then_secret(password)
        .then(format!(
            r#""}}],"vhosts":[{{"name":"{ROOT_VHOST}"}}],"permissions":[{{"user":"{ADMINISTRATOR}","vhost":"{ROOT_VHOST}","configure":".*","write":".*","read":".*"}}]}}"#
        ))
}

/// A virtual host as the last part of a URL, where `/` would start another one.
pub(super) fn encoded(vhost: &str) -> String {
    in_url_part(vhost)
}

#[cfg(test)]
mod tests {
    use devenv_profile::testing::given;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_broker_is_described_with_its_virtual_hosts_and_a_node_that_only_the_container_reaches() {
        let given = given(
            "queue",
            json!({"rabbitmq": {
                "vhosts": { "app": { "user": "ann" }, "a/b": {} },
                "definitions": ["mq/definitions.json"],
                "settings": { "heartbeat": "30", "load_definitions": "/elsewhere" },
            }}),
        );
        insta::assert_snapshot!(given.rendered(), @r##"
        image: rabbitmq:4.0-management
        variable: HOME=/run/devenv
        variable: RABBITMQ_NODENAME=rabbit@localhost
        variable: ERL_EPMD_ADDRESS=127.0.0.1
        variable: RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}
        variable: ERL_AFLAGS=-run file eval /run/devenv/queues.erl
        mount: volume data at /var/lib/rabbitmq
        port: 127.0.0.1:20000 -> 5672
        port: 127.0.0.1:20001 -> 15672
        file: /etc/rabbitmq/conf.d/90-devenv.conf 0400 999:999
          heartbeat = 30
          listeners.tcp.default = 5672
          load_definitions = /run/devenv/rabbitmq-definitions.json
          management.tcp.port = 15672
          prometheus.tcp.port = 15692
        file: /run/devenv/.erlang.cookie 0400 999:999
          ${secret:queue/erlang.cookie}
        file: /run/devenv/queues.erl 0400 999:999
          %% Evaluated by each Erlang runtime of the container before anything else; the tools' runtimes do nothing with it.
          %%
          %% Ra, the Raft library under quorum queues, keeps the directory that leads from a queue to its log in `names.dets`, and
          %% writes it about a second late. A broker that is killed in between does not find the log of a queue that was just
          %% declared: it gives the queue a new, empty member, which loses confirmed messages, and that member never elects itself,
          %% which leaves the queue without a leader for ever. So the directory is written as soon as a queue is entered, from the
          %% first queue on: this must run before the broker accepts clients. A member that has never seen an election is made to
          %% hold one.
          Sync = fun() -> [catch dets:sync(Table) || Table <- dets:all(), filename:basename(dets:info(Table, filename)) =:= "names.dets"] end,
          Members = fun(System) -> try ra_directory:list_registered(System) catch _:_ -> [] end end,
          Elect = fun(Name) ->
              try
                  #{state := follower, term := 0} = ra:key_metrics({Name, node()}),
                  ra:trigger_election({Name, node()})
              catch _:_ -> ok end
          end,
          IsBooted = fun() -> try rabbit_boot_state:get() =:= ready catch _:_ -> false end end,
          Watch = fun Watch(Quiet) ->
              receive
                  {trace, _, return_from, _, _} -> Sync(), Watch(500);
                  _ -> Watch(Quiet)
              after Quiet ->
                  Next = case IsBooted() of true -> infinity; false -> 500 end,
                  [Elect(Name) || System <- [quorum_queues, coordination], {Name, _} <- Members(System)],
                  Watch(Next)
              end
          end,
          Start = fun Start() ->
              case code:ensure_loaded(ra_directory) of
                  {module, _} ->
                      erlang:trace_pattern({ra_directory, register_name, '_'}, [{'_', [], [{return_trace}]}], [global]),
                      erlang:trace(all, true, [call]),
                      Sync(),
                      Watch(500);
                  _ ->
                      receive after 10 -> Start() end
              end
          end,
          case init:get_argument(boot) of
              {ok, [["no_dot_erlang"] | _]} -> ok;
              _ -> spawn(fun() -> process_flag(priority, high), Start() end)
          end.
        file: /run/devenv/rabbitmq-definitions.json 0400 999:999
          {"users":[{"name":"devenv","tags":["administrator"],"password":"${secret:queue/devenv}"}],"vhosts":[{"name":"/"}],"permissions":[{"user":"devenv","vhost":"/","configure":".*","write":".*","read":".*"}]}
        probe: {"rabbitmq":{"port":20000,"user":"devenv","password":"queue/devenv","vhost":"/"}}
        provision: {"rabbitmq":{"target":{"management":20001,"administrator":"queue/devenv","vhost":"app"},"vhosts":[{"name":"app","user":"ann","password":"queue/ann"},{"name":"a/b","user":"a/b","password":"queue/a/b"}]}}
        proof: {"rabbitmq":{"port":20000,"user":"ann","password":"queue/ann","vhost":"app"}}
        stop: SIGTERM 30s
        restart: Always 5
        "##);
        insta::assert_snapshot!(given.variables(), @r##"
        QUEUE_URL=amqp://ann:${secret:queue/ann}@127.0.0.1:20000/app | amqp://ann:${secret:queue/ann}@queue:5672/app
        QUEUE_HOST=127.0.0.1 | queue
        QUEUE_PORT=20000 | 5672
        QUEUE_MANAGEMENT_URL=http://127.0.0.1:20001 | http://queue:15672
        QUEUE_APP_URL=amqp://ann:${secret:queue/ann}@127.0.0.1:20000/app | amqp://ann:${secret:queue/ann}@queue:5672/app
        QUEUE_APP_USER=ann
        QUEUE_APP_PASSWORD=${secret:queue/ann}
        QUEUE_APP_VHOST=app
        QUEUE_A_B_URL=amqp://a%2Fb:${secret:queue/a/b}@127.0.0.1:20000/a%2Fb | amqp://a%2Fb:${secret:queue/a/b}@queue:5672/a%2Fb
        QUEUE_A_B_USER=a/b
        QUEUE_A_B_PASSWORD=${secret:queue/a/b}
        QUEUE_A_B_VHOST=a/b
        DEVENV_ENVIRONMENT=shop-default-1a2b3c4d
        DEVENV_PROJECT=/home/ada/shop
        DEVENV_INSTANCE=default
        "##);
    }

    #[test]
    fn without_virtual_hosts_there_is_one_named_after_the_service() {
        let spec = given("jobs", json!({ "rabbitmq": {} })).spec();
        let provision = RabbitmqProvision::of(&spec.services["jobs"]).unwrap();
        let names: Vec<_> = provision.vhosts.iter().map(|vhost| (vhost.name.as_str(), vhost.user.as_str())).collect();
        assert_eq!(names, [("jobs", "jobs")]);
        assert_eq!(spec.variables["JOBS_URL"].container.to_string(), "amqp://jobs:${secret:jobs/jobs}@jobs:5672/jobs");
    }
}
