//! `devenv init`, `seed`, `reset`, `fork` and `undo`: data as the profile declares it, and back to it.

use devenv_api::{ApplyRequest, NamedRequest, ServicesRequest};

use super::{Outcome, exit::ExitStatus, progress, session::Session, table, up};

/// Apply init scripts that are pending now.
///
/// `up` does the same before a service is ready; this is for a script that was added or mended while it runs.
///
/// Example: devenv init db
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// The services. Default: all that have scripts.
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// Apply a data set.
///
/// Without a name, what the profile declares and is pending; with one, `seed-data/SET/KIND` for every service that has seeds.
///
/// Example: devenv seed demo
#[derive(Debug, clap::Args)]
pub(crate) struct Seed {
    /// A directory of `seed-data/`.
    #[arg(value_name = "SET")]
    set: Option<String>,
}

/// Bring data back to what it is after a first start, by today's scripts and data sets.
///
/// Addresses and passwords stay; services that depend on it are restarted. `devenv undo` has the former data for 24 h.
///
/// Example: devenv reset db
#[derive(Debug, clap::Args)]
pub(crate) struct Reset {
    /// The services. Default: all that keep data.
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
}

/// Make a new instance with a copy of this one's data, and bring it up.
///
/// Example: devenv fork experiment
#[derive(Debug, clap::Args)]
pub(crate) struct Fork {
    /// The new instance's name, for `--instance`.
    name: String,
}

/// Bring back the volumes that the last `down --volumes`, `reset` or `snapshot restore` took away.
///
/// They are kept for 24 h. Services that run on others are moved to them; what they have now goes to the trash in turn.
///
/// Example: devenv undo
#[derive(Debug, clap::Args)]
pub(crate) struct Undo {}

pub(super) async fn init(arguments: &Init, session: &Session) -> Outcome {
    let request = ApplyRequest { target: session.target()?, services: arguments.services.clone(), seed: false, set: None };
    apply(&request, session).await
}

pub(super) async fn seed(arguments: &Seed, session: &Session) -> Outcome {
    let request = ApplyRequest { target: session.target()?, services: Vec::new(), seed: true, set: arguments.set.clone() };
    apply(&request, session).await
}

async fn apply(request: &ApplyRequest, session: &Session) -> Outcome {
    let client = session.client().await?;
    progress::follow(&session.printer, client.apply(request).await?).await?;
    let ledger = client.ledger(&request.target).await?;
    session.printer.result(&ledger, || table::ledger(&ledger.entries))?;
    Ok(ExitStatus::SUCCESS)
}

pub(super) async fn reset(arguments: &Reset, session: &Session) -> Outcome {
    let request = ServicesRequest { target: session.target()?, services: arguments.services.clone() };
    let status = progress::follow(&session.printer, session.client().await?.reset(&request).await?).await?;
    session.printer.result(&status, || table::status(&status))?;
    Ok(ExitStatus::SUCCESS)
}

pub(super) async fn fork(arguments: &Fork, session: &Session) -> Outcome {
    let (client, target) = (session.client().await?, session.target()?);
    let profile = client.status(&target).await?.profile;
    let forked = client.fork(&NamedRequest { target, name: arguments.name.clone() }).await?;
    up::bring_up_instance(session, &forked.instance, profile.as_deref()).await
}

pub(super) async fn undo(_: &Undo, session: &Session) -> Outcome {
    let volumes = session.client().await?.undo(&session.target()?).await?;
    session.printer.result(&serde_json::json!({ "volumes": volumes }), || format!("brought back: {}", volumes.join(", ")))?;
    Ok(ExitStatus::SUCCESS)
}
