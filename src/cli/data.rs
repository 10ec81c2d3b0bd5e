//! `devenv init`, `seed`, `reset`, `fork` and `undo`: apply, reset and copy data.

use devenv_api::{ApplyRequest, EnvironmentTarget, ErrorCode, ForkRequest, OperationRequest, ServicesRequest, Status, UpRequest};

use super::{Outcome, exit::ExitStatus, failure::Failure, operation::carry_out, project, session::Session, table};

/// Apply pending init scripts.
///
/// `up` applies them before a service is ready. Use `init` for scripts that were added or fixed while the service is running. To write the
/// first profile of a project, use `devenv new`.
///
/// Example: devenv init db
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// The services to initialize. Default: all that have init scripts.
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// Load seed data.
///
/// With SET, loads `seed-data/SET/KIND` into every service whose kind has seeds. Without it, loads the pending seeds of the profile.
///
/// Example: devenv seed demo
#[derive(Debug, clap::Args)]
pub(crate) struct Seed {
    /// The name of a directory in `seed-data/`.
    #[arg(value_name = "SET")]
    set: Option<String>,
}

/// Reset data to what a first start with the current init scripts and seeds produces.
///
/// Keeps addresses and passwords, and restarts dependent services. `devenv undo` brings the previous data back for 24 hours.
///
/// Example: devenv reset db
#[derive(Debug, clap::Args)]
pub(crate) struct Reset {
    /// The services to reset. Default: all that store data.
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// Create a new instance with a copy of this instance's data, and start it.
///
/// Example: devenv fork experiment
#[derive(Debug, clap::Args)]
pub(crate) struct Fork {
    /// The name of the new instance, for `--instance`.
    #[arg(value_parser = super::args::instance)]
    name: String,
}

/// Undo the last `down --volumes`, `reset` or `snapshot restore`.
///
/// Brings back the removed volumes, which stay in the trash for 24 hours. Services that are running are switched to them, and their
/// current volumes go to the trash.
///
/// Example: devenv undo
#[derive(Debug, clap::Args)]
pub(crate) struct Undo {}

pub(super) async fn init(arguments: &Init, session: &Session) -> Outcome {
    let request = ApplyRequest { target: session.target()?, services: arguments.services.clone(), seed: false, set: None };
    match apply(&request, session).await {
        // A newcomer may mean `devenv new`.
        Err(Failure::Told(error)) if error.code == ErrorCode::NotFound => Err(error
            .hint("`devenv up` starts the environment and applies its scripts; `devenv new` writes the first profile of a project")
            .into()),
        outcome => outcome,
    }
}

pub(super) async fn seed(arguments: &Seed, session: &Session) -> Outcome {
    let request = ApplyRequest { target: session.target()?, services: Vec::new(), seed: true, set: arguments.set.clone() };
    apply(&request, session).await
}

async fn apply(request: &ApplyRequest, session: &Session) -> Outcome {
    let client = session.client().await?;
    let _: Status = carry_out(session, &client, OperationRequest::Apply(request.clone())).await?;
    let ledger = client.ledger(&request.target).await?;
    session.printer.result(&ledger, || table::ledger(&ledger.entries))?;
    if ledger.entries.is_empty() {
        session.printer.say("no service here has scripts: list folders in `init` and `seed` of a service; `devenv help data` says how");
    }
    Ok(ExitStatus::SUCCESS)
}

pub(super) async fn reset(arguments: &Reset, session: &Session) -> Outcome {
    let request = ServicesRequest { target: session.target()?, services: arguments.services.clone() };
    let status: Status = carry_out(session, &session.client().await?, OperationRequest::Reset(request)).await?;
    session.printer.result(&status, || table::status(&status))?;
    Ok(ExitStatus::SUCCESS)
}

pub(super) async fn fork(arguments: &Fork, session: &Session) -> Outcome {
    let (client, target) = (session.client().await?, session.target()?);
    let profile = client.status(&target).await?.profile;
    let named = project::profile_name(session, profile.as_deref()).await?;
    let loaded = project::load(session, &named)?;
    let name = arguments.name.clone();
    let copy = EnvironmentTarget { instance: name.clone(), ..target.clone() };
    let up = UpRequest { target: copy, ..project::start_request(session, &named, &loaded, false).await? };
    // The daemon starts the copy itself, even if this process is gone by then.
    let request = OperationRequest::Fork(ForkRequest { target, name, up: Some(up) });
    let status: Status = carry_out(session, &client, request).await?;
    session.printer.result(&status, || table::endpoints(&status))?;
    Ok(ExitStatus::SUCCESS)
}

pub(super) async fn undo(_: &Undo, session: &Session) -> Outcome {
    let request = OperationRequest::Undo(session.target()?);
    let volumes: Vec<String> = carry_out(session, &session.client().await?, request).await?;
    session.printer.result(&serde_json::json!({ "volumes": volumes }), || format!("restored from the trash: {}", volumes.join(", ")))?;
    Ok(ExitStatus::SUCCESS)
}
