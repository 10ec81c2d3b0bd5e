//! `devenv chaos`: injects faults into services, and runs scenarios.

mod run;
mod run_environment;

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use devenv_api::{ApiError, ClientError, ErrorCode, Fault, FaultCatalogue, Faults, FaultsRequest, HealRequest, InjectRequest};

use super::{
    Outcome,
    args::period,
    daemon,
    exit::ExitStatus,
    printer::{DIM, NAME, WARN, paint},
    session::Session,
};

/// Inject faults into services and run chaos scenarios.
///
/// Every fault is undone when its time is up, even if devenv or the daemon is killed in the meantime.
///
/// Example: devenv chaos inject latency cache --for 30s --set delay=80ms
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Chaos,
}

#[derive(Debug, clap::Subcommand)]
enum Chaos {
    Faults(FaultsArguments),
    Inject(Inject),
    Heal(Heal),
    Status(StatusArguments),
    Run(run::Arguments),
}

/// List the available faults and their parameters.
///
/// Example: devenv chaos faults latency
#[derive(Debug, clap::Args)]
struct FaultsArguments {
    /// Show only this fault.
    #[arg(value_name = "FAULT")]
    fault: Option<String>,
}

/// Inject a fault into a service.
///
/// Returns when devenv has observed the fault's effect. If the effect cannot be observed, the command fails, but the fault stays
/// active until its time is up.
///
/// Example: devenv chaos inject partition db --for 10s --set from=host
#[derive(Debug, clap::Args)]
struct Inject {
    /// The fault to inject, from `devenv chaos faults`.
    fault: String,
    /// The service to break.
    service: String,
    /// How long the fault lasts. Default: 5m. Faults that happen once, such as `kill`, have no duration.
    #[arg(long = "for", value_name = "DURATION", value_parser = period)]
    duration: Option<Duration>,
    /// A parameter of the fault, such as `delay=80ms`. Can be repeated.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
    /// Seed for random choices.
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,
    /// The id to give the fault. Default: a generated id.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
}

/// Undo faults now.
///
/// Works without a running daemon: the journal and the container labels record what to undo.
///
/// Example: devenv chaos heal
#[derive(Debug, clap::Args)]
struct Heal {
    /// The ids of the faults to undo. Default: all.
    #[arg(value_name = "ID")]
    ids: Vec<String>,
}

/// Show the active faults.
///
/// Example: devenv chaos status --json
#[derive(Debug, clap::Args)]
struct StatusArguments {
    /// Include faults that have been undone.
    #[arg(long)]
    all: bool,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    match &arguments.command {
        Chaos::Faults(arguments) => faults(arguments, session),
        Chaos::Inject(arguments) => inject(arguments, session).await,
        Chaos::Heal(arguments) => heal(arguments, session).await,
        Chaos::Status(arguments) => status(arguments, session).await,
        Chaos::Run(arguments) => run::run(arguments, session).await,
    }
}

impl Arguments {
    /// Whether faults must be healed when this process is asked to end.
    pub(super) fn heals_when_interrupted(&self) -> bool {
        matches!(&self.command, Chaos::Run(arguments) if arguments.injects())
    }
}

/// After Ctrl-C or SIGTERM in a run.
pub(super) async fn interrupted(session: &Session) {
    run::interrupted(session).await;
}

fn setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE, such as `delay=80ms`".to_owned()),
    }
}

fn faults(arguments: &FaultsArguments, session: &Session) -> Outcome {
    let mut catalogue = devenv_kinds::faults::catalogue();
    if let Some(name) = &arguments.fault {
        catalogue.faults.retain(|fault| fault.name == *name);
        if catalogue.faults.is_empty() {
            return Err(ApiError::new(ErrorCode::Usage, format!("unknown fault `{name}`"))
                .hint("run `devenv chaos faults` to list them")
                .into());
        }
    }
    session.printer.result(&catalogue, || described(&catalogue))?;
    Ok(ExitStatus::SUCCESS)
}

async fn inject(arguments: &Inject, session: &Session) -> Outcome {
    let request = InjectRequest {
        target: session.target()?,
        fault: arguments.fault.clone(),
        service: arguments.service.clone(),
        for_ms: arguments.duration.map(|duration| duration.as_millis() as u64),
        parameters: arguments.set.iter().cloned().collect::<BTreeMap<_, _>>(),
        id: arguments.id.clone(),
        seed: arguments.seed,
    };
    let fault = match session.client().await?.inject(&request).await {
        Ok(fault) => fault,
        // The next daemon knows the outcome.
        Err(ClientError::Lost(_)) => {
            let known_faults = FaultsRequest { target: request.target.clone(), healed: true };
            let faults = session.client().await?.faults(&known_faults).await?;
            known(faults, |fault| match &request.id {
                Some(id) => fault.id == *id,
                None => fault.fault == request.fault && fault.service == request.service,
            })?
        }
        Err(error) => return Err(error.into()),
    };
    session.printer.result(&fault, || line(&fault))?;
    Ok(if fault.witness.as_ref().is_some_and(|witness| witness.observed) { ExitStatus::SUCCESS } else { ExitStatus::FAILED })
}

/// The latest of these faults, if the daemon was lost while it injected it.
fn known(faults: Faults, meant: impl Fn(&Fault) -> bool) -> Result<Fault, ApiError> {
    faults.faults.into_iter().rev().find(meant).ok_or_else(|| {
        ApiError::new(ErrorCode::Failed, "lost the connection to the daemon before the fault was injected").hint(
            "run `devenv daemon \
            status` to check it",
        )
    })
}

async fn heal(arguments: &Heal, session: &Session) -> Outcome {
    let request = HealRequest { target: session.target()?, ids: arguments.ids.clone() };
    let healed = match session.client().await {
        Ok(client) => client.heal(&request).await?,
        // A daemon can undo everything; without one, what the kernel and the engine hold is released anyway.
        Err(failure) => {
            let (healed, left) = daemon::heal_without_daemon(session).await?;
            if healed.is_empty() || !left.is_empty() {
                return Err(failure);
            }
            session.printer.say("the daemon cannot be started; undid the faults that the journal and the container labels record");
            Faults { faults: healed }
        }
    };
    session.printer.result(&healed, || if healed.faults.is_empty() { "no active faults".to_owned() } else { lines(&healed) })?;
    Ok(ExitStatus::SUCCESS)
}

async fn status(arguments: &StatusArguments, session: &Session) -> Outcome {
    let request = FaultsRequest { target: session.target()?, healed: arguments.all };
    let faults = session.client().await?.faults(&request).await?;
    session.printer.result(&faults, || if faults.faults.is_empty() { "no active faults".to_owned() } else { lines(&faults) })?;
    Ok(ExitStatus::SUCCESS)
}

fn lines(faults: &Faults) -> String {
    faults.faults.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn line(fault: &Fault) -> String {
    let mut text = format!("{} {} on {}", paint(NAME, &fault.id), fault.fault, fault.service);
    match (&fault.healed_at, &fault.heals_at) {
        (Some(at), _) => drop(write!(text, ", healed at {at}")),
        (None, Some(at)) => drop(write!(text, ", until {at}")),
        (None, None) => {}
    }
    match &fault.witness {
        Some(witness) if witness.observed => drop(write!(text, "\n  {}", witness.what)),
        Some(witness) => drop(write!(text, "\n  {}: {}", paint(WARN, "effect not observed"), witness.what)),
        None => {}
    }
    text
}

fn described(catalogue: &FaultCatalogue) -> String {
    let mut text = String::new();
    for fault in &catalogue.faults {
        let _ = writeln!(
            text,
            "{}  {} {}",
            paint(NAME, &fault.name),
            fault.about,
            paint(DIM, format_args!("(undone by: {})", fault.undone_by))
        );
        for parameter in &fault.parameters {
            let default = parameter.default.as_ref().map(|default| format!(", default {default}")).unwrap_or_default();
            let _ = writeln!(
                text,
                "    {:<14} {} {}",
                parameter.name,
                parameter.about,
                paint(DIM, format_args!("({}{default})", parameter.form))
            );
        }
    }
    text.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_a_name_and_a_value() {
        assert_eq!(setting("delay=80ms"), Ok(("delay".to_owned(), "80ms".to_owned())));
        assert_eq!(setting("topic=a=b"), Ok(("topic".to_owned(), "a=b".to_owned())));
        assert!(setting("delay").is_err() && setting("=1").is_err());
    }
}
