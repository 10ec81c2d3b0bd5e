//! The subnet that a profile demands, and the networks of services that not everybody may reach.

use devenv_engine::Engine;

use crate::world::{TestDaemon, World};

const PLANNED: &str = r#"
services:
  db:
    container: { image: "data:1" }
    access: [api]
  api:
    container: { image: "api:1" }
    depends_on: { db: ready }
  other:
    container: { image: "api:1" }
network: { subnet: 10.213.250.0/26 }
"#;

/// Of the engine's networks, in order.
fn subnets(daemon: &TestDaemon) -> Vec<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let used = runtime.block_on(daemon.engine.used_subnets()).unwrap();
    let mut subnets: Vec<String> = used.into_iter().map(|used| used.subnet.to_string()).collect();
    subnets.sort();
    subnets
}

#[test]
fn all_networks_of_an_environment_are_parts_of_the_subnet_that_its_profile_demands() {
    let world = World::new();
    world.write("profiles/n.yaml", PLANNED);
    let daemon = world.start();
    daemon.expect(0, "up n");
    assert_eq!(subnets(&daemon), ["10.213.250.0/27", "10.213.250.32/29"]);
    let listed = daemon.json("list --subnets");
    assert_eq!(listed[0]["subnet"], "10.213.250.0/26", "{listed}");
    // It keeps them over a restart of the daemon, and up changes nothing.
    drop(daemon);
    let daemon = world.start();
    daemon.expect(0, "up n");
    assert_eq!(subnets(&daemon).len(), 2);
    daemon.expect(0, "down");
    assert_eq!(subnets(&daemon).len(), 0);
}

#[test]
fn a_subnet_that_another_environment_uses_is_refused_and_that_environment_is_named() {
    let world = World::new();
    world.write("profiles/n.yaml", PLANNED);
    let daemon = world.start();
    let first = daemon.json("up n")["environment"].as_str().unwrap().to_owned();
    let refused = daemon.expect(1, "up n --instance second");
    assert!(refused.stderr.contains("10.213.250.0/26") && refused.stderr.contains(&first), "{}", refused.stderr);
    assert_eq!(subnets(&daemon).len(), 2, "nothing was made for the second one");

    // A running environment keeps its subnet.
    world.write("profiles/n.yaml", &PLANNED.replace("10.213.250.0/26", "10.213.251.0/26"));
    let refused = daemon.expect(1, "up n");
    assert!(refused.stderr.contains("10.213.251.0/26") && refused.stderr.contains("devenv down"), "{}", refused.stderr);
    daemon.expect(0, "down");
    daemon.expect(0, "up n");
    daemon.expect(0, "down --volumes");
}

#[test]
fn a_profile_in_which_a_dependant_may_not_connect_is_invalid() {
    let world = World::new();
    world.write("profiles/n.yaml", &PLANNED.replace("access: [api]", "access: [othr]"));
    let daemon = world.start();
    let refused = daemon.expect(2, "up n");
    assert!(refused.stderr.contains("othr") && refused.stderr.contains("did you mean `other`?"), "{}", refused.stderr);
    world.write("profiles/n.yaml", &PLANNED.replace("access: [api]", "access: [other]"));
    let refused = daemon.expect(2, "up n");
    assert!(refused.stderr.contains("`api` depends on `db`, and may not connect to it"), "{}", refused.stderr);
    world.write("profiles/n.yaml", &PLANNED.replace("10.213.250.0/26", "10.213.250.1/26"));
    assert!(daemon.expect(2, "up n").stderr.contains("write `10.213.250.0/26`"));
}
