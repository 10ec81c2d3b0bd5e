//! `devenv build`: builds images, and starts nothing.

use devenv_api::{BuildRequest, Built, OperationRequest};

use super::{Outcome, exit::ExitStatus, operation::carry_out, project, session::Session};

/// Build the images of services that have a `build`, and start nothing.
///
/// `devenv up` builds by itself what has changed. This builds in advance, or again. What runs keeps running with the image that it has.
///
/// Example: devenv build api --no-cache
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// A profile, and services of it. The first word is a profile if there is one of that name.
    ///
    /// Default: the environment's current profile, else `default`, and all services with a `build`.
    #[arg(value_name = "PROFILE|SERVICE")]
    words: Vec<String>,
    /// Run each step of the Dockerfile again, whatever earlier builds have left.
    #[arg(long)]
    no_cache: bool,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let (profile, services) = project::profile_and_services(session, &arguments.words)?;
    let named = project::profile_name(session, profile.as_deref()).await?;
    let loaded = project::load(session, &named)?;
    let up = project::up_request(session, &named, &loaded)?;
    let request =
        BuildRequest { target: up.target, document: up.document, services, no_cache: arguments.no_cache, inherited: up.inherited };
    let built: Built = carry_out(session, &session.client().await?, OperationRequest::Build(request)).await?;
    session.printer.result(&built, || {
        let lines = built.images.iter().map(|image| format!("{}  {}  {}", image.service, image.image, image.id));
        lines.collect::<Vec<_>>().join("\n")
    })?;
    Ok(ExitStatus::SUCCESS)
}
