//! Images that are built for services that run.

use devenv_engine::EngineError;

use crate::world::World;

#[test]
fn a_build_that_fails_leaves_the_running_container_alone() {
    let world = World::new();
    world.write("profiles/built.yaml", "services:\n  web:\n    container: { build: { context: ./image } }\n");
    world.write("image/Dockerfile", "FROM data:1\n");
    let daemon = world.start();
    daemon.expect(0, "up built");
    let container = || daemon.status("default").services[0].container.clone().unwrap();
    let before = container();
    world.write("image/Dockerfile", "FROM data:1\nRUN nosuch\n");
    let refusal = EngineError::Refused { action: "build the image".into(), status: 500, message: "nosuch: not found".into() };
    daemon.engine.fail_next("build", refusal);
    let refused = daemon.expect(1, "up built");
    assert!(refused.stderr.contains("nosuch: not found") && refused.stderr.contains("was not replaced"), "{}", refused.stderr);
    assert_eq!((container(), daemon.phase()), (before.clone(), "ready".to_owned()));
    daemon.expect(0, "up built");
    assert_ne!(container(), before);
}
