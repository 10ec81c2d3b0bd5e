//! Checks the machine for what devenv needs, each check with a remedy.
//!
//! Part of the composition like `daemon`: it may use the engine, which the command line may not. Checks are cheap,
//! change nothing, and report only what they observe.

mod engine;
mod host;

use devenv_api::{Check, CheckStatus, Doctor, EngineSelection};

use crate::paths::Paths;

/// The inputs of the checks.
pub(crate) struct Subject {
    pub(crate) paths: Paths,
    pub(crate) engine: EngineSelection,
    /// The images of the `default` profile.
    pub(crate) images: Vec<String>,
}

/// The findings, and whether an engine answers.
pub(crate) async fn examine(subject: &Subject) -> (Doctor, bool) {
    let (mut checks, engine_answers) = engine::checks(&subject.engine, &subject.images).await;
    checks.extend(host::checks(&subject.paths));
    (Doctor { checks }, engine_answers)
}

fn ok(name: &str, detail: impl Into<String>) -> Check {
    Check { name: name.to_owned(), status: CheckStatus::Ok, detail: detail.into(), fix: None }
}

fn warning(name: &str, detail: impl Into<String>, fix: impl Into<String>) -> Check {
    Check { name: name.to_owned(), status: CheckStatus::Warning, detail: detail.into(), fix: Some(fix.into()) }
}

fn fail(name: &str, detail: impl Into<String>, fix: impl Into<String>) -> Check {
    Check { name: name.to_owned(), status: CheckStatus::Fail, detail: detail.into(), fix: Some(fix.into()) }
}
