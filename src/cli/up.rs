//! `devenv up`: starts an environment and waits until it is ready.

use std::time::Duration;

use devenv_api::{ApiError, Client, ErrorCode, OperationRequest, Phase, Status, UpRequest};

use jiff::Timestamp;

use super::{
    Outcome,
    args::period,
    attach,
    exit::ExitStatus,
    failure::Failure,
    operation::carry_out_and_hear,
    project::{self, Selection},
    session::Session,
    table,
    timings::{HeardEvents, waterfall},
};

/// Start the environment, and wait until everything is ready.
///
/// Starts services that are not running, updates those that differ from the profile, and leaves the rest alone. A service is ready when a
/// client can work with it. Prints the services' addresses at the end. If `up` fails, services that are running keep running.
///
/// Example: devenv up shop --timeout 2m
///
/// Example: devenv up -f compose.yaml web
///
/// Example: devenv up --timings
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    options: Options,
    /// Stream the logs until Ctrl-C. The environment keeps running after that.
    #[arg(long)]
    attach: bool,
}

/// The options that `up` and `dev` share.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// The profile, then services to start alone with what they depend on; with `--file`, only services.
    ///
    /// A profile is a name, or a path (of a profile or a Compose file) if it contains `/` or ends in `.yaml`. Default: the
    /// environment's current profile, else the project's Compose file if there is no `profiles/`, else `default`.
    #[arg(value_name = "PROFILE|SERVICE")]
    words: Vec<String>,
    #[command(flatten)]
    selection: Selection,
    /// Give up after this time, with exit code 4. Default: the limit of each service.
    #[arg(long, value_name = "DURATION", value_parser = period)]
    timeout: Option<Duration>,
    /// Use only local images, and do not pull any.
    #[arg(long)]
    offline: bool,
    /// Build the images again of services that have a `build`, even if none of their files has changed.
    #[arg(long)]
    build: bool,
    /// Replace the containers and restart the processes, even if nothing has changed. Data is kept.
    #[arg(long)]
    force_recreate: bool,
    /// Show where the time went: what each service did and when, what it waited for, and which services decided how long it took.
    #[arg(long)]
    timings: bool,
    /// Fail if an init script or seed has changed since it was applied.
    #[arg(long)]
    fail_on_drift: bool,
    /// Allow the profile's host powers without asking; `devenv plan` lists them.
    #[arg(long, short = 'y')]
    yes: bool,
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

/// Brings it up, and shows the progress.
pub(super) async fn and_attach(options: &Options, session: &Session) -> Outcome {
    let since = Timestamp::now();
    let client = up(options, session).await?;
    // Ctrl-C at the moment when everything became ready stops nothing, and still ends this command.
    if let Some(signal) = session.under_way.signal() {
        return Err(Failure::Signal(signal));
    }
    attach::follow(&client, session.target()?, since, session).await?;
    Ok(ExitStatus::SUCCESS)
}

async fn up(arguments: &Options, session: &Session) -> Result<Client, Failure> {
    let current = project::current_unless_named(session, &arguments.selection, &arguments.words).await?;
    let selected = project::select(session, &arguments.selection, &arguments.words, current)?;
    let request = UpRequest {
        services: selected.services,
        offline: arguments.offline,
        fail_on_drift: arguments.fail_on_drift,
        build: arguments.build,
        force_recreate: arguments.force_recreate,
        timeout_ms: arguments.timeout.map(|timeout| timeout.as_millis() as u64),
        ..project::start_request(session, &selected.name, &selected.loaded, arguments.yes).await?
    };
    let client = session.client().await?;
    let mut heard = HeardEvents::since(session.began_at());
    let bring_up = async {
        let brought_up = carry_out_and_hear(session, &client, OperationRequest::Up(request.clone()), |event| heard.event(event)).await;
        if brought_up.is_err() && arguments.timings {
            show_timings_of_failure(heard, &client, &request, session).await;
            return brought_up;
        }
        let total = session.began.elapsed().as_millis() as u64;
        brought_up.map(|status: Status| Status { timings: arguments.timings.then(|| heard.timings(&status.services, total)), ..status })
    };
    let mut status = match arguments.timeout {
        None => bring_up.await?,
        Some(limit) => tokio::time::timeout(limit + GRACE, bring_up).await.map_err(|_| out_of_time(limit))??,
    };
    if !status.overridden.is_empty() {
        session.printer.say(format_args!("the profile overrides {}: it may not lead to this environment", status.overridden.join(", ")));
    }
    status.elapsed_ms.get_or_insert(session.began.elapsed().as_millis() as u64);
    session.printer.result(&status, || text(&status))?;
    session.printer.flush()?;
    for changed in &status.drift {
        session.printer.say(format_args!("warning: {}", table::changed_script(changed)));
    }
    if let Some(elapsed) = status.elapsed_ms {
        // Others may have failed: it is not about them.
        let phase = if request.services.is_empty() { status.phase } else { Phase::Ready };
        session.printer.say(format_args!("{phase} after {}", table::duration(elapsed)));
    }
    Ok(client)
}

fn text(status: &Status) -> String {
    let endpoints = table::endpoints(status);
    match &status.timings {
        None => endpoints,
        Some(timings) if endpoints.is_empty() => waterfall(timings, columns()),
        Some(timings) => format!("{endpoints}\n\n{}", waterfall(timings, columns())),
    }
}

/// Above the error: what was done until then.
async fn show_timings_of_failure(heard: HeardEvents, client: &Client, request: &UpRequest, session: &Session) {
    // A daemon that no longer answers is the error that follows.
    if let Ok(status) = client.status(&request.target).await {
        let timings = heard.timings(&status.services, session.began.elapsed().as_millis() as u64);
        session.printer.say_block(&waterfall(&timings, columns()));
    }
}

/// Of the terminal, else of a usual log.
fn columns() -> usize {
    rustix::termios::tcgetwinsize(std::io::stdout()).ok().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0).unwrap_or(100)
}

fn out_of_time(limit: Duration) -> Failure {
    let limit = table::duration(limit.as_millis() as u64);
    ApiError::new(ErrorCode::TimedOut, format!("the environment is not ready after {limit}, and the daemon does not answer"))
        .hint("run `devenv status` to see which services are not ready")
        .into()
}
