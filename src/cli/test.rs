//! `devenv test`: runs a command in a temporary environment, which is removed however either of them ends.
//!
//! A connection holds the environment; the daemon removes it when the connection ends. Everything else is as in `up`,
//! `env` and `lease`.

use std::{num::NonZeroU16, path::PathBuf};

use devenv_api::{
    ApiError, Client, DownRequest, EnvironmentTarget, ErrorCode, HoldRequest, Holding, LeaseRequest, OperationRequest, Status,
    VariablesFor, VariablesRequest,
};
use devenv_processes::MARKER;
use futures_util::future::join_all;
use indexmap::IndexMap;

use super::{
    Outcome, bundle,
    exit::ExitStatus,
    failure::{Failure, Signals, internal},
    lease,
    leased_command::{self, LeasedCommand},
    operation::carry_out,
    project::{self, Loaded, Selected},
    session::Session,
};

/// Run tests in a temporary environment.
///
/// Starts the profile with a unique name, ports, network and secrets, runs the command with the environment's variables, and removes
/// everything, even if this process is killed. Exits with the command's exit code, or with 125 if devenv fails (for example because a
/// service is not ready in time), 126 if the command cannot be run, 127 if it is not found.
///
/// Example: devenv test ci -- cargo nextest run
///
/// Example: devenv test ci --warm --shards 4 --bundle target/devenv -- pytest -q
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The name of a profile, or a path if it contains `/` or ends in `.yaml`; a Compose file's path, too. Default: the Compose file of a
    /// project without `profiles/`, else `default`.
    profile: Option<String>,
    /// Keep the environment running if the command fails.
    #[arg(long)]
    keep_on_failure: bool,
    /// Share one environment between runs. The first run starts it, and every run gets its own leases.
    #[arg(long)]
    warm: bool,
    /// Run N copies of the command in parallel. Each gets its own leases, its number from 1 in DEVENV_SHARD, and N in DEVENV_SHARDS.
    #[arg(long, value_name = "N")]
    shards: Option<NonZeroU16>,
    /// If the command fails, write logs, events, profile, status and versions to this directory, without secrets.
    #[arg(long, value_name = "DIR")]
    bundle: Option<PathBuf>,
    /// Allow the profile's host powers without asking; `devenv plan` lists them.
    #[arg(long, short = 'y')]
    yes: bool,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    pub(super) command: Vec<String>,
}

/// One run: its environment, its command, and how to stop it.
struct Run<'a> {
    arguments: &'a Arguments,
    session: &'a Session,
    client: Client,
    target: EnvironmentTarget,
    profile: String,
    loaded: Loaded,
}

/// How the environment is held.
enum Claim {
    /// It belongs to this run, and is removed with it.
    LeasedCommand {
        marker: String,
        holding: Holding,
    },
    Warm,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    if let Err((status, error)) = leased_command::find(&arguments.command) {
        session.printer.failure(&error, None);
        return Ok(status);
    }
    let mut signals = Signals::listen().map_err(|error| internal("cannot listen for signals", error))?;
    let Selected { name: profile, loaded, .. } = project::select_profile(session, arguments.profile.as_deref())?;
    loaded.refuse_overridden("devenv test")?;
    let target = EnvironmentTarget { instance: instance(arguments, session, &profile), ..session.target()? };
    let run = Run { arguments, session, client: session.client().await?, target, profile, loaded };
    let claim = if arguments.warm {
        Claim::Warm
    } else {
        let (marker, holding) = run.client.hold(&HoldRequest { target: run.target.clone() }).await?;
        Claim::LeasedCommand { marker, holding }
    };
    run.carry_out(claim, &mut signals).await
}

/// An unused name, unless one is given.
fn instance(arguments: &Arguments, session: &Session, profile: &str) -> String {
    if let Some(name) = &session.global.instance {
        return name.clone();
    }
    if arguments.warm {
        let name: String = profile.trim_end_matches(".yaml").chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        return format!("warm-{}", name.trim_matches('-').chars().rev().take(30).collect::<String>().chars().rev().collect::<String>());
    }
    format!("test-{:08x}", rand::random::<u32>())
}

impl Run<'_> {
    async fn carry_out(&self, mut claim: Claim, signals: &mut Signals) -> Outcome {
        let outcome = self.work(&mut claim, signals).await;
        let succeeded = matches!(outcome, Ok(ExitStatus::SUCCESS));
        if !succeeded && !matches!(outcome, Err(Failure::Signal(_) | Failure::Cancelled { .. })) {
            self.leave_bundle(&outcome).await;
        }
        let Claim::LeasedCommand { holding, .. } = claim else { return outcome };
        if !succeeded && self.arguments.keep_on_failure {
            let kept = holding.keep().await;
            let name = &self.target.instance;
            self.session.printer.say(format_args!(
                "the environment is kept: run `devenv --instance {name} status` to inspect it, and `devenv --instance {name} down \
                    --volumes` to remove it"
            ));
            return kept.map_err(Failure::from).and(outcome);
        }
        let gone = tokio::select! {
            gone = holding.release() => gone,
            // A second signal: stop waiting, the daemon continues.
            signal = signals.next() => return Err(Failure::Signal(signal)),
        };
        match gone {
            Ok(()) => outcome,
            Err(error) => {
                self.remove_after_loss().await?;
                outcome.and(Err(error.into()))
            }
        }
    }

    /// Brings it up, then runs the command, once or in shards.
    async fn work(&self, claim: &mut Claim, signals: &mut Signals) -> Outcome {
        let request = project::start_request(self.session, &self.profile, &self.loaded, self.arguments.yes).await?;
        let request = devenv_api::UpRequest { target: self.target.clone(), warm: self.arguments.warm, ..request };
        let up = async { carry_out::<Status>(self.session, &self.client, OperationRequest::Up(request)).await };
        tokio::select! {
            up = up => up.inspect_err(|failure| annotate(self.session, failure))?,
            signal = signals.next() => return Err(Failure::Signal(signal)),
        };
        let shards = self.arguments.shards.map_or(1, NonZeroU16::get);
        match claim {
            Claim::LeasedCommand { marker, holding } if shards == 1 => {
                let mut variables = self.variables().await?;
                variables.insert(MARKER.to_owned(), marker.clone());
                let held = LeasedCommand { command: &self.arguments.command, variables };
                held.run(signals, async { lease::lost(holding.lost().await) }).await
            }
            Claim::LeasedCommand { holding, .. } => {
                tokio::select! {
                    status = self.in_shards(shards) => status,
                    error = holding.lost() => Err(lease::lost(error)),
                }
            }
            Claim::Warm => self.in_shards(shards).await,
        }
    }

    /// Each shard with its own leases, all at once; returns the first failure's code, in the order of shards.
    async fn in_shards(&self, shards: u16) -> Outcome {
        let runs = join_all((1..=shards).map(async |shard| -> Outcome {
            let mut signals = Signals::listen().map_err(|error| internal("cannot listen for signals", error))?;
            let request = LeaseRequest { target: self.target.clone(), services: Vec::new(), database: None, optional: true };
            let (mut lease, holding) = self.client.lease(&request).await?;
            lease.variables.insert("DEVENV_SHARD".to_owned(), shard.to_string());
            lease.variables.insert("DEVENV_SHARDS".to_owned(), shards.to_string());
            lease::on_lease(&self.arguments.command, lease, holding, &mut signals).await
        }));
        let mut first = ExitStatus::SUCCESS;
        for (index, outcome) in runs.await.into_iter().enumerate() {
            let status = outcome?;
            if status != ExitStatus::SUCCESS {
                if shards > 1 {
                    self.session.printer.say(format_args!("shard {} of {shards} failed with exit code {}", index + 1, status.code()));
                }
                if first == ExitStatus::SUCCESS {
                    first = status;
                }
            }
        }
        Ok(first)
    }

    async fn variables(&self) -> Result<IndexMap<String, String>, Failure> {
        let request = VariablesRequest { target: self.target.clone(), form: VariablesFor::Host, service: None };
        let variables = self.client.variables(&request).await?.variables;
        Ok(variables.into_iter().map(|(name, variable)| (name, variable.value)).collect())
    }

    /// Writes the bundle. A failure to write it is reported, but does not change the exit code.
    async fn leave_bundle(&self, outcome: &Outcome) {
        let Some(directory) = &self.arguments.bundle else { return };
        let ending = match outcome {
            Ok(status) => format!("the command ended with exit code {}", status.code()),
            Err(Failure::Told(error) | Failure::Invalid { error, .. }) => error.message.clone(),
            Err(Failure::Signal(_) | Failure::Cancelled { .. } | Failure::OutputClosed) => "it was killed".to_owned(),
        };
        let story = bundle::Story { command: &self.arguments.command, ending, profile: &self.profile, loaded: &self.loaded };
        match bundle::write(&self.client, &self.target, directory, &story).await {
            Ok(()) => {
                self.session
                    .printer
                    .say(format_args!("the diagnostics are in {0}; run `devenv bundle show {0}` for a summary", directory.display()));
            }
            Err(error) => {
                self.session.printer.failure(&ApiError::new(ErrorCode::Failed, format!("cannot write the bundle: {error}")), None);
            }
        }
    }

    /// The daemon has died. The next one finds that nobody holds the environment, and removes it.
    async fn remove_after_loss(&self) -> Result<(), Failure> {
        let client = self.session.client().await?;
        let request = DownRequest { target: self.target.clone(), volumes: true };
        let _: Status = carry_out(self.session, &client, OperationRequest::Down(request)).await?;
        Ok(())
    }
}

/// A failure of the environment, in GitHub's format.
fn annotate(session: &Session, failure: &Failure) {
    if std::env::var_os("GITHUB_ACTIONS").is_none() {
        return;
    }
    if let Failure::Told(error) = failure {
        let message = error.message.replace('%', "%25").replace('\n', "%0A");
        session.printer.say(format_args!("::error title=devenv::{message}"));
    }
}
