//! `devenv up`: bring an environment to ready.

use std::time::Duration;

use devenv_api::{ApiError, Client, ErrorCode, Status, UpRequest};

use jiff::Timestamp;

use super::{Outcome, args::period, attach, exit::ExitStatus, failure::Failure, progress, project, session::Session, table};

/// Bring the environment up, and return when everything is ready.
///
/// Starts what does not run, changes what differs from the profile, leaves the rest alone. Ready means that a client can do real work now.
/// The services' addresses are printed at the end. A failed `up` leaves what runs running.
///
/// Example: devenv up shop --timeout 2m
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Stay, and stream the logs until Ctrl-C. The environment goes on running after it.
    #[arg(long)]
    attach: bool,
}

/// What `dev` takes as well.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// A profile's name, or a path if it contains `/` or ends in `.yaml`.
    ///
    /// Default: the one that the environment runs, else `default`.
    profile: Option<String>,
    /// Give up after this time, with exit code 4. Default: each service's own limit.
    #[arg(long, value_name = "DURATION", value_parser = period)]
    timeout: Option<Duration>,
    /// Use the images that are here, and pull none.
    #[arg(long)]
    offline: bool,
    /// Fail if a script has changed since it was applied.
    #[arg(long)]
    fail_on_drift: bool,
}

/// The daemon keeps the time limit; this is for one that does not answer.
const GRACE: Duration = Duration::from_secs(5);

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    if arguments.attach {
        return and_attach(&arguments.options, session).await;
    }
    up(&arguments.options, session).await?;
    Ok(ExitStatus::SUCCESS)
}

/// Brings it up, and follows what happens in it.
pub(super) async fn and_attach(options: &Options, session: &Session) -> Outcome {
    let since = Timestamp::now();
    let client = up(options, session).await?;
    attach::follow(&client, session.target()?, since, session).await?;
    Ok(ExitStatus::SUCCESS)
}

async fn up(arguments: &Options, session: &Session) -> Result<Client, Failure> {
    let named = project::profile_name(session, arguments.profile.as_deref()).await?;
    let loaded = project::load(session, &named)?;
    let request = UpRequest {
        offline: arguments.offline,
        fail_on_drift: arguments.fail_on_drift,
        timeout_ms: arguments.timeout.map(|timeout| timeout.as_millis() as u64),
        ..project::up_request(session, &named, &loaded)?
    };
    let client = session.client().await?;
    let bring_up = bring_up(&client, &request, session);
    let mut status = match arguments.timeout {
        None => bring_up.await?,
        Some(limit) => tokio::time::timeout(limit + GRACE, bring_up).await.map_err(|_| out_of_time(limit))??,
    };
    status.elapsed_ms.get_or_insert(session.began.elapsed().as_millis() as u64);
    session.printer.result(&status, || table::endpoints(&status))?;
    session.printer.flush()?;
    if let Some(elapsed) = status.elapsed_ms {
        session.printer.say(format_args!("{} after {}", status.phase, table::duration(elapsed)));
    }
    Ok(client)
}

/// Brings another instance up with the same profile, for whoever has just made it.
pub(super) async fn bring_up_instance(session: &Session, instance: &str, profile: Option<&str>) -> Outcome {
    let named = project::profile_name(session, profile).await?;
    let loaded = project::load(session, &named)?;
    let mut request = project::up_request(session, &named, &loaded)?;
    request.target.instance = instance.to_owned();
    let status = bring_up(&session.client().await?, &request, session).await?;
    session.printer.result(&status, || table::endpoints(&status))?;
    Ok(ExitStatus::SUCCESS)
}

async fn bring_up(client: &Client, request: &UpRequest, session: &Session) -> Result<Status, Failure> {
    progress::follow(&session.printer, client.up(request).await?).await
}

fn out_of_time(limit: Duration) -> Failure {
    let limit = table::duration(limit.as_millis() as u64);
    ApiError::new(ErrorCode::TimedOut, format!("the environment is not ready after {limit}, and the daemon does not answer"))
        .hint("`devenv status` shows what is late")
        .into()
}
