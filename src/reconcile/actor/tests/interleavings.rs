//! Invariants that hold in any order of events: the order is random, and a seed reproduces it.

use std::time::Duration;

use devenv_api::Phase;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::world::{Lifecycle, World};
use crate::{
    reconcile::{Reload, ServiceAction},
    store::Goal,
};

const SEEDS: u64 = 80;
const EVENTS: usize = 16;

fn up_to(dice: &mut StdRng, milliseconds: u64) -> Duration {
    Duration::from_millis(dice.random_range(0..=milliseconds))
}

/// Something that the user, the engine or another program may do at any time.
async fn something_happens(world: &World, life: &mut Lifecycle, dice: &mut StdRng) {
    let name = ["db", "api"][dice.random_range(0..2)];
    let verb = [ServiceAction::Restart, ServiceAction::Stop, ServiceAction::Start][dice.random_range(0..3)];
    // A refused command (it is not up) counts as well.
    match dice.random_range(0..10) {
        0..3 => {
            if let Some(container) = world.find(name).await {
                world.engine.exit(&container.id, 1);
            }
        }
        3 => {
            if let Some(container) = world.find(name).await {
                world.engine.remove_externally(&container.id);
            }
        }
        4 => drop(life.handle.up(world.spec()).await),
        5 => drop(life.handle.down(false).await),
        6 | 7 => drop(life.handle.services(vec![name.parse().unwrap()], verb).await),
        8 => drop(life.handle.reload(name.parse().unwrap(), Reload::Restart, 0).await),
        _ => world.interrupt(life).await,
    }
}

#[tokio::test(start_paused = true)]
async fn at_most_one_operation_per_service_runs_at_a_time_and_each_ends() {
    for seed in 0..SEEDS {
        let mut dice = StdRng::seed_from_u64(seed);
        let world = World::new();
        for operation in ["create_network", "create_container", "upload", "start", "stop", "remove_container", "inspect"] {
            world.engine.delay(operation, up_to(&mut dice, 20));
        }
        *world.runtime.settles_in.lock().unwrap() = up_to(&mut dice, 40);
        let mut life = world.start().await;
        life.handle.up(world.spec()).await.unwrap();
        for _ in 0..EVENTS {
            tokio::time::sleep(up_to(&mut dice, 60)).await;
            something_happens(&world, &mut life, &mut dice).await;
        }
        // No command follows it: no message may claim that there was one.
        let revision = life.handle.up(world.spec()).await.unwrap();
        let Ok(view) = tokio::time::timeout(Duration::from_mins(10), life.handle.until_up(revision, &[])).await else {
            panic!("seed {seed}: never up: {:#?}", life.handle.view());
        };
        let view = view.unwrap();
        assert_eq!((view.goal, view.status.phase), (Goal::Up, Phase::Ready), "seed {seed}: {:?}", view.failures);
        assert_eq!(world.containers().await.len(), 2, "seed {seed}");
        life.down(true).await;
        assert_eq!(world.leftovers().await, 0, "seed {seed}");
        assert_eq!(world.engine.overlaps(), [""; 0], "seed {seed}");
    }
}
