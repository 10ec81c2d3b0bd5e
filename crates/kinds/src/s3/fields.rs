//! An S3-compatible store: versitygw over a directory.
//!
//! It accepts its root keys only as arguments or variables, and `inspect` shows both. So a shell, which the image
//! has, reads them from a file that only root can read, and becomes the gateway: then they are only in that process.

use devenv_spec::{ContainerSpec, FileSpec, Mount, Probe, SecretRef, Stop, Template, Variable};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::spec::S3Provision;
use crate::describe::{Connection, Context, Describe, Description, Facts, FirstStart, PortNeed};

/// An S3-compatible object store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct S3 {
    /// The version of the S3 server, versitygw.
    #[serde(default = "default_version")]
    pub version: String,
    /// Buckets to create before the service is ready.
    #[serde(default)]
    pub buckets: Vec<String>,
}

fn default_version() -> String {
    "1.8.0".to_owned()
}

const PORT: u16 = 7070;
const KEYS: &str = "/run/devenv/s3-keys";
const REGION: &str = "us-east-1";

impl Describe for S3 {
    fn ports(&self) -> Vec<PortNeed> {
        vec![PortNeed::any(PORT)]
    }

    fn secrets(&self, service: &str) -> Vec<SecretRef> {
        ["access-key", "secret-key"].map(|name| SecretRef::new(service, name)).into()
    }

    fn describe(&self, cx: &Context<'_>) -> Description {
        let mut container = ContainerSpec::new(format!("versity/versitygw:v{}", self.version));
        let start = format!(". {KEYS} && exec versitygw --port :{PORT} --region {REGION} --health /health posix /data");
        container.entrypoint = Some(["sh", "-c"].map(str::to_owned).into());
        container.command = Some(vec![start]);
        container.mounts.push(Mount::volume("data", "/data"));
        let keys = Template::text("export ROOT_ACCESS_KEY=")
            .then_secret(cx.secret("access-key"))
            .then(" ROOT_SECRET_KEY=")
            .then_secret(cx.secret("secret-key"))
            .then("\n");
        container.files.push(FileSpec::private(KEYS, 0, keys));

        let provision = S3Provision {
            port: cx.port(PORT),
            access_key: cx.secret("access-key"),
            secret_key: cx.secret("secret-key"),
            buckets: self.buckets.clone(),
        };
        let probe = Probe::Http { port: cx.port(PORT), path: "/health".to_owned(), status: 200 };
        Description { provision: vec![provision.into_provision()], ..Description::server(container, probe, Stop::new("SIGTERM", 5)) }
    }

    fn first_start(&self, _cx: &Context<'_>) -> FirstStart {
        let missing = !self.buckets.is_empty();
        FirstStart { missing: missing.then(|| "its buckets are made by devenv".to_owned()).into_iter().collect(), ..FirstStart::default() }
    }

    fn connection(&self, cx: &Context<'_>) -> Connection {
        let url = cx.address(PORT, |host, port| Template::text(format!("http://{host}:{port}")));
        let key = |name: &str| Variable::same(Template::secret(cx.secret(name)));
        let mut connection = Connection::default();
        connection.variable(cx, "URL", url.clone());
        connection.variable(cx, "ACCESS_KEY", key("access-key"));
        connection.variable(cx, "SECRET_KEY", key("secret-key"));
        if let Some(bucket) = self.buckets.first() {
            connection.variable(cx, "BUCKET", Variable::same(Template::text(bucket.as_str())));
        }
        connection.short_form("AWS_ENDPOINT_URL_S3", url);
        connection.short_form("AWS_ACCESS_KEY_ID", key("access-key"));
        connection.short_form("AWS_SECRET_ACCESS_KEY", key("secret-key"));
        connection.short_form("AWS_REGION", Variable::same(Template::text(REGION)));
        connection.url("s3", cx.url("http", PORT));
        connection
    }

    fn facts(&self, cx: &Context<'_>) -> Facts {
        Facts { kind: "s3", address: Some((cx.name.to_string(), PORT)), ..Facts::default() }
    }
}

#[cfg(test)]
mod tests {
    use devenv_profile::testing::given;
    use serde_json::json;

    #[test]
    fn its_keys_reach_it_by_a_file_alone() {
        let given = given("files", json!({ "s3": { "buckets": ["documents", "exports"] } }));
        insta::assert_snapshot!(given.rendered(), @r##"
        image: versity/versitygw:v1.8.0
        entrypoint: ["sh","-c"]
        command: [". /run/devenv/s3-keys && exec versitygw --port :7070 --region us-east-1 --health /health posix /data"]
        mount: volume data at /data
        port: 127.0.0.1:20000 -> 7070
        file: /run/devenv/s3-keys 0400 0:0
          export ROOT_ACCESS_KEY=${secret:files/access-key} ROOT_SECRET_KEY=${secret:files/secret-key}
        probe: {"http":{"port":20000,"path":"/health","status":200}}
        provision: {"s3":{"port":20000,"access_key":"files/access-key","secret_key":"files/secret-key","buckets":["documents","exports"]}}
        stop: SIGTERM 5s
        restart: Always 5
        "##);
        insta::assert_snapshot!(given.variables(), @r##"
        FILES_URL=http://127.0.0.1:20000 | http://files:7070
        FILES_ACCESS_KEY=${secret:files/access-key}
        FILES_SECRET_KEY=${secret:files/secret-key}
        FILES_BUCKET=documents
        AWS_ENDPOINT_URL_S3=http://127.0.0.1:20000 | http://files:7070
        AWS_ACCESS_KEY_ID=${secret:files/access-key}
        AWS_SECRET_ACCESS_KEY=${secret:files/secret-key}
        AWS_REGION=us-east-1
        DEVENV_ENVIRONMENT=shop-default-1a2b3c4d
        DEVENV_PROJECT=/home/ada/shop
        DEVENV_INSTANCE=default
        "##);
    }
}
