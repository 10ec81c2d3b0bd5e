//! The container engine: whether one answers, whether it is spoken to, and whether the images are there.

use devenv_api::{Check, EngineChoice};

use super::{fail, ok, warning};
use crate::engine::{Engine, EngineError, docker};

pub(super) async fn checks(choice: &EngineChoice, images: &[String]) -> (Vec<Check>, bool) {
    let selection = docker::Selection::read(choice.context.clone(), |name| std::env::var(name).ok());
    let engine = match docker::connect(&selection).await {
        Ok(engine) => engine,
        Err(error) => return (vec![no_engine(&error)], false),
    };
    let mut checks = match engine.info().await {
        Ok(info) => vec![ok("engine", format!("{} {}, API {}, at {}", info.kind, info.version, info.api, info.endpoint))],
        Err(error) => return (vec![no_engine(&error)], false),
    };
    checks.push(images_check(engine.as_ref(), images).await);
    (checks, true)
}

fn no_engine(error: &EngineError) -> Check {
    let fix = match error {
        EngineError::Version { .. } => "use an engine whose range of API versions meets devenv's",
        _ => {
            "start the engine, or name the right one with --context, DOCKER_HOST or DOCKER_CONTEXT; being in the group `docker` may be needed too"
        }
    };
    fail("engine", error.to_string(), fix)
}

async fn images_check(engine: &dyn Engine, images: &[String]) -> Check {
    let mut missing = Vec::new();
    for image in images {
        match engine.image(image).await {
            Ok(Some(_)) => {}
            Ok(None) => missing.push(image.as_str()),
            Err(error) => return warning("images", error.to_string(), "look at the engine's own log"),
        }
    }
    if missing.is_empty() {
        return ok("images", format!("all {} of the profile `default` are here", images.len()));
    }
    warning(
        "images",
        format!("not here yet: {}", missing.join(", ")),
        "`devenv up` pulls them; where no registry is reached, `scripts/setup` builds them",
    )
}
