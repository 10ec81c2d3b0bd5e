//! The container engine: whether it answers, whether its API version is supported, its clock, and which images are present.

use std::time::Duration;

use bytesize::ByteSize;
use devenv_api::{Check, EngineSelection};
use devenv_engine::{Engine, EngineError, HelperRun, Labels, OwnerId, Reach, docker};
use devenv_spec::EnvironmentId;
use jiff::Timestamp;

use super::{fail, ok, warning};
use crate::faults;

pub(super) async fn checks(choice: &EngineSelection, images: &[String]) -> (Vec<Check>, bool) {
    let selection = docker::Selection::read(choice.context.clone(), |name| std::env::var(name).ok());
    let engine = match docker::connect(&selection).await {
        Ok(engine) => engine,
        Err(error) => return (vec![no_engine(&error)], false),
    };
    let mut checks = match engine.info().await {
        Ok(info) => vec![ok("engine", format!("{} {}, API {}, at {}", info.kind, info.version, info.api, info.endpoint))],
        Err(error) => return (vec![no_engine(&error)], false),
    };
    checks.push(clock_check(engine.as_ref()).await);
    checks.push(images_check(engine.as_ref(), images).await);
    if engine.reach().await == Reach::Relayed {
        checks.push(disk_check(engine.as_ref()).await);
    }
    (checks, true)
}

fn no_engine(error: &EngineError) -> Check {
    let fix = match error {
        EngineError::Version { .. } => "use an engine whose API versions overlap with devenv's",
        _ => {
            "start the engine, or select another one with --context, DOCKER_HOST or DOCKER_CONTEXT; you may have to join the group `docker`"
        }
    };
    fail("engine", error.to_string(), fix)
}

/// With a larger difference tokens expire early, `logs --since` misses lines, and traces end before they begin.
const SKEW: Duration = Duration::from_secs(1);

async fn clock_check(engine: &dyn Engine) -> Check {
    let asked = Timestamp::now();
    let engine_time = engine.clock().await;
    let answered = Timestamp::now();
    match engine_time.map(|engine_time| engine_time.parse::<Timestamp>()) {
        Ok(Ok(engine_time)) => skew(asked, engine_time, answered),
        Ok(Err(error)) => warning("clock", format!("cannot parse the engine's time: {error}"), "compare `date` with `docker info`"),
        Err(error) => warning("clock", error.to_string(), "see the engine's own log"),
    }
}

/// By how much `engine_time` is outside of the duration of the request.
fn skew(asked: Timestamp, engine_time: Timestamp, answered: Timestamp) -> Check {
    let (ahead, behind) = (engine_time.duration_since(answered), asked.duration_since(engine_time));
    let (off, how) = if ahead > behind { (ahead, "ahead of") } else { (behind, "behind") };
    if off.is_negative() || off.unsigned_abs() <= SKEW {
        return ok("clock", "the engine and this machine have the same time");
    }
    warning(
        "clock",
        format!("the engine is {:.1} s {how} this machine", off.as_secs_f64()),
        "the clock of a virtual machine stops while a laptop sleeps: restart the engine's machine (`colima restart`, or restart Docker \
            Desktop), or synchronize both clocks (`timedatectl set-ntp true`)",
    )
}

async fn images_check(engine: &dyn Engine, images: &[String]) -> Check {
    let mut missing = Vec::new();
    for image in images {
        match engine.image(image).await {
            Ok(Some(_)) => {}
            Ok(None) => missing.push(image.as_str()),
            Err(error) => return warning("images", error.to_string(), "see the engine's own log"),
        }
    }
    if missing.is_empty() {
        return ok("images", format!("all {} images of the profile `default` exist locally", images.len()));
    }
    warning(
        "images",
        format!("missing images: {}", missing.join(", ")),
        "`devenv up` pulls them; without a registry, `scripts/setup` builds them",
    )
}

/// Below this, pulling a few images fills the disk.
const LITTLE: u64 = 5 << 30;

/// The disk of another machine's engine, which no request of its interface reports: a program of ours looks there, if `up` has already
/// brought it there.
async fn disk_check(engine: &dyn Engine) -> Check {
    let image = faults::agent_image_name();
    match engine.image(&image).await {
        Ok(Some(_)) => {}
        Ok(None) => return ok("engine disk", "its free space is known after the first `devenv up` on this engine"),
        Err(error) => return warning("engine disk", error.to_string(), "see the engine's own log"),
    }
    let labels = Labels {
        owner: OwnerId("doctor".to_owned()),
        environment: EnvironmentId::recorded("doctor"),
        project: String::new(),
        instance: String::new(),
        service: None,
        spec: None,
        role: None,
    };
    let command = ["/holder", "disk"].map(str::to_owned).to_vec();
    let helper = HelperRun { labels, image, command, mounts: Vec::new(), user: Some("65534:65534".to_owned()), network: None };
    let said = match engine.run_helper(&helper).await {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => return warning("engine disk", error.to_string(), "see the engine's own log"),
    };
    free_space(&said)
}

/// The answer of the program: `ready` and the number of free bytes.
fn free_space(said: &str) -> Check {
    match said.strip_prefix("ready ").and_then(|free| free.parse::<u64>().ok()) {
        Some(free) if free < LITTLE => warning(
            "engine disk",
            format!("{} are free on the engine's machine", ByteSize(free)),
            "`devenv gc --all` and `docker system prune` remove what is not needed",
        ),
        Some(free) => ok("engine disk", format!("{} are free on the engine's machine", ByteSize(free))),
        None => warning("engine disk", format!("its free space is not known: {said}"), "see the engine's own log"),
    }
}

#[cfg(test)]
mod tests {
    use devenv_api::CheckStatus;

    use super::*;

    #[test]
    fn little_free_space_of_the_engines_machine_is_a_warning() {
        assert_eq!(free_space("ready 1000").status, CheckStatus::Warning);
        assert_eq!(free_space("ready 90000000000").status, CheckStatus::Ok);
        assert_eq!(free_space("failed: no").status, CheckStatus::Warning);
    }

    #[test]
    fn a_clock_differs_by_more_than_the_request_took() {
        let at = |milliseconds: i64| Timestamp::from_millisecond(1_800_000_000_000 + milliseconds).unwrap();
        let status = |engine_time, answered| skew(at(0), at(engine_time), at(answered)).status;
        assert_eq!(status(40, 80), CheckStatus::Ok);
        // An engine that is slow to answer does not have a wrong clock.
        assert_eq!(status(10, 9_000), CheckStatus::Ok);
        assert_eq!(status(-900, 80), CheckStatus::Ok);
        let check = skew(at(0), at(-90_000), at(80));
        assert_eq!((check.status, check.detail.as_str()), (CheckStatus::Warning, "the engine is 90.0 s behind this machine"));
        assert_eq!(skew(at(0), at(5_080), at(80)).detail, "the engine is 5.0 s ahead of this machine");
    }
}
