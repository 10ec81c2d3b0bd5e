//! Who may connect to a service over the environment's networks.

use crate::{clients::redis, corner::Corner};

#[test]
fn nobody_connects_to_a_service_but_those_whom_it_lets_in_and_the_host() {
    let corner = Corner::with(
        r#"
  cache:
    redis: {}
    access: [api]
  api:
    depends_on: { cache: ready }
    container: { image: "redis:8.0" }
  other:
    container: { image: "redis:8.0" }
"#,
    );
    corner.up("test");
    let password = corner.variable("CACHE_PASSWORD");
    let address = crate::corner::docker(&[
        "inspect",
        "--format",
        "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}",
        corner.service("cache")["container"].as_str().unwrap(),
    ]);
    let ping = |from: &str, host: &str| {
        let line = format!("REDISCLI_AUTH={password} timeout 5 redis-cli -h {host} PING");
        corner.devenv(&["exec", from, "--", "sh", "-c", &line]).stdout.trim().to_owned()
    };
    assert_eq!(ping("api", "cache"), "PONG");
    for host in ["cache", address.stdout.trim()] {
        assert_ne!(ping("other", host), "PONG", "{host}");
    }
    assert_eq!(redis(&corner.variable("REDIS_URL"), &["PING"]), "PONG");
    // It holds after a restart too, and those that may connect still do.
    corner.ok(&["restart", "cache"]);
    assert_eq!(ping("api", "cache"), "PONG");
    assert_ne!(ping("other", "cache"), "PONG");
}
