//! Golden volumes of two environments whose data is decided by the same.

use std::{fs, sync::atomic::Ordering, time::Duration};

use devenv_api::Phase;

use crate::world::{TestDaemon, World, keeper, until};

const PROFILE: &str = "services: { db: { mariadb: {} } }";

/// Long enough for a copy that fails to be removed.
const WHILE: Duration = Duration::from_millis(100);

/// Golden volumes, without their spare copies.
fn golden(daemon: &TestDaemon) -> Vec<String> {
    let is_golden = |name: &String| name.starts_with("devenv-golden-") && !name.ends_with("-spare");
    daemon.all_volumes().into_iter().filter(is_golden).collect()
}

fn is_complete(world: &World) -> bool {
    let records = fs::read_dir(world.state().join("golden")).into_iter().flatten().flatten();
    let texts = records.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "json"));
    texts.filter_map(|entry| fs::read_to_string(entry.path()).ok()).any(|text| text.contains(r#""complete":true"#))
}

/// The copy of the second environment would fail, and take away what it has made, which has the same name.
#[test]
fn of_two_environments_with_equal_keys_one_makes_the_golden_volume_and_the_other_lets_it_be() {
    let world = World::new();
    world.write("profiles/db.yaml", PROFILE);
    let daemon = world.start();
    // Both look whether there is a golden volume before either has begun to make one.
    let first = daemon.spawn("up db");
    until("the first is about to make it", || keeper::FIRST_IS_ASKED.load(Ordering::SeqCst));
    daemon.expect(0, "up db --instance other");
    let volume = daemon.volumes("default")["db/data"].clone();
    let directory = daemon.engine.files_of(&volume).join(keeper::DIRECTORY);
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("data"), "of the first").unwrap();
    keeper::FIRST_GOES_ON.store(true, Ordering::SeqCst);
    assert_eq!(first.ended().code, Some(0));
    until("the golden volume is complete", || is_complete(&world));
    keeper::OTHERS_FAIL.store(true, Ordering::SeqCst);
    std::thread::sleep(WHILE);

    let made = golden(&daemon);
    assert_eq!(made.len(), 1, "{}", daemon.engine.describe());
    let data = |volume: &str| fs::read_to_string(daemon.engine.files_of(volume).join(keeper::DIRECTORY).join("data"));
    assert_eq!(data(&made[0]).unwrap(), "of the first");
    for instance in ["default", "other"] {
        assert_eq!(daemon.status(instance).phase, Phase::Ready, "{instance}");
    }
    daemon.expect(0, "up db --instance third");
    assert_eq!(data(&daemon.volumes("third")["db/data"]).unwrap(), "of the first", "the next one starts from it");
    assert_eq!(golden(&daemon), made);
}
