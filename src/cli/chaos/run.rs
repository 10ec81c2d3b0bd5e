//! `devenv chaos run`: a scenario from its file to its verdict.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use async_trait::async_trait;
use devenv_api::{
    ApiError, ChaosPlan, Client, ClientError, EnvironmentTarget, ErrorCode, Event, Fault, FaultsRequest, HealRequest, Impairments,
    ImpairmentsRequest, InjectRequest, OperationRequest, Report, RunAbout, RunService, Service, Status, VariablesFor, VariablesRequest,
    Verdict,
};
use devenv_chaos::{
    DaemonApi, InjectOrder, Inputs, RunError, Scenario, report,
    runs::{self, RunRecord},
};

use super::run_environment::RunEnvironment;
use crate::{
    cli::{
        Outcome,
        exit::ExitStatus,
        failure::{Failure, api_error, internal, usage},
        operation::carry_out,
        printer::{BOLD, paint},
        project,
        session::Session,
    },
    paths::Paths,
};

/// Run a chaos scenario: workloads, faults, checks, and a verdict.
///
/// Starts the scenario's profile if it is not running, and leaves it running. All faults are undone at the end, also after a failure. The
/// verdict is `pass` only if every fault had an observed effect, every workload completed at least one operation, and every check passed.
/// Exit code: 0 for `pass`, 10 for `fail`, 11 for `unknown`, 12 if a fault could not be undone.
///
/// Example: devenv chaos run redis-outage --report out
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The name of a scenario in the project's `chaos/` directory or of a built-in one, or a path if it contains `/` or ends in `.yaml`.
    #[arg(value_name = "FILE")]
    scenario: String,
    /// Seed for random choices. Default: the scenario's own.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
    /// Print the plan without running it.
    #[arg(long)]
    dry_run: bool,
    /// How many times to run the scenario, each time with the next seed.
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// If the scenario fails, search for the smallest timeline that still fails.
    #[arg(long)]
    shrink: bool,
    /// Write `report.html`, `report.json`, `junit.xml` and `journal.ndjson` to this directory.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Run the stored plan of an earlier run, its `plan.json`, again.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["seed", "repeat", "shrink"])]
    plan: Option<PathBuf>,
    /// Allow the profile's host powers without asking; `devenv plan` lists them.
    #[arg(long, short = 'y')]
    yes: bool,
}

/// The largest file that `--plan` reads, in bytes.
const LARGEST_PLAN: u64 = 16 << 20;
/// The time limit to heal after an interruption; afterwards the faults' own durations end them.
const LAST_HEALING: Duration = Duration::from_secs(30);

impl Arguments {
    pub(super) fn injects(&self) -> bool {
        !self.dry_run
    }
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let located = devenv_chaos::find(&arguments.scenario, &session.project()?)
        .map_err(|error| ApiError::new(ErrorCode::InvalidProfile, error.to_string()).hint(error.hint))?;
    let profile = match devenv_chaos::profile_of(&located.shown, &located.bytes) {
        Some(profile) => profile,
        None => project::profile_name_if_running(session, None).await?,
    };
    // Report problems of the scenario itself even if its profile is invalid.
    let loaded = match project::load(session, &profile) {
        Ok(loaded) => loaded,
        Err(failure) => return Err(read(&located, None).err().unwrap_or(failure)),
    };
    let scenario = read(&located, Some(&loaded.chaos_services()))?;
    let seed = arguments.seed.unwrap_or(scenario.seed);
    let plan = match &arguments.plan {
        Some(path) => stored(path, &scenario)?,
        None => devenv_chaos::plan::plan(&scenario, seed),
    };
    if arguments.dry_run {
        session.printer.result(&plan, || serde_json::to_string_pretty(&plan).unwrap_or_default())?;
        return Ok(ExitStatus::SUCCESS);
    }
    loaded.refuse_overridden("devenv chaos run")?;
    let client = session.client().await?;
    let request = project::start_request(session, &profile, &loaded, arguments.yes).await?;
    let _: Status = carry_out(session, &client, OperationRequest::Up(request.clone())).await?;

    let paths = Paths::resolve()?;
    let environment = RunEnvironment::take(&paths, &request.target)?;
    let daemon_api = ClientDaemonApi { session, client: RefCell::new(client), target: request.target };
    let mut worst = ExitStatus::SUCCESS;
    for time in 0..arguments.repeat {
        let plan = if time == 0 { plan.clone() } else { devenv_chaos::plan::plan(&scenario, seed.wrapping_add(u64::from(time))) };
        let (report, directory) = one(&scenario, &plan, &daemon_api, &environment, session).await?;
        let (report, directory) = if arguments.shrink && report.verdict == Verdict::Fail && report.healed {
            smallest(&scenario, (report, directory), &daemon_api, &environment, session).await?
        } else {
            (report, directory)
        };
        if let Some(into) = &arguments.report {
            let into = if arguments.repeat == 1 { into.clone() } else { into.join(format!("run-{}", time + 1)) };
            write(&report, &directory, &into)
                .map_err(|error| internal(&format!("cannot write the report to {}", into.display()), error))?;
        }
        session.printer.result(&report, || report::words(&report))?;
        session.printer.flush()?;
        worst = worse(worst, exit(&report));
    }
    Ok(worst)
}

/// After a signal: whatever this run has injected is healed now and not after its duration.
pub(super) async fn interrupted(session: &Session) {
    session.printer.say("all faults are undone");
    let healing = async {
        let request = HealRequest { target: session.target()?, ids: Vec::new() };
        session.client().await?.heal(&request).await?;
        Ok::<_, Failure>(())
    };
    if !matches!(tokio::time::timeout(LAST_HEALING, healing).await, Ok(Ok(()))) {
        session.printer.say("some faults could not be undone: run `devenv chaos heal` to try again");
    }
}

fn read(located: &devenv_chaos::Located, services: Option<&devenv_chaos::Services>) -> Result<Scenario, Failure> {
    devenv_chaos::read(&located.name, &located.shown, &located.bytes, services).map_err(|report| {
        let mut error = ApiError::new(ErrorCode::InvalidProfile, format!("scenario `{}` is invalid", located.name));
        error.problems = report.problems();
        Failure::Invalid { error, shown: report.render() }
    })
}

/// The plan of an earlier run, which must be one of this scenario.
fn stored(path: &Path, scenario: &Scenario) -> Result<ChaosPlan, ApiError> {
    let text = devenv_files::read_bounded(path, LARGEST_PLAN).map_err(|error| usage(format!("--plan {} {error}", path.display())))?;
    let plan: ChaosPlan =
        serde_json::from_slice(&text).map_err(|error| usage(format!("--plan {} is not a plan: {error}", path.display())))?;
    let same = plan
        .plan
        .iter()
        .map(|planned| (&planned.id, &planned.fault, &planned.on))
        .eq(scenario.timeline.iter().map(|entry| (&entry.id, &entry.fault, &entry.on)));
    if same { Ok(plan) } else { Err(usage(format!("--plan {} is the plan of a different timeline", path.display()))) }
}

/// One run in a directory of its own.
async fn one(
    scenario: &Scenario,
    plan: &ChaosPlan,
    daemon_api: &ClientDaemonApi<'_>,
    environment: &RunEnvironment,
    session: &Session,
) -> Result<(Report, PathBuf), Failure> {
    let failed = |error: io::Error| internal("cannot create a directory for the run", error);
    let (run, directory) = environment.new_run().map_err(failed)?;
    let status = daemon_api.status().await?;
    let record = RunRecord {
        run: run.clone(),
        scenario: scenario.name.clone(),
        seed: plan.seed,
        project: daemon_api.target.project.clone(),
        instance: daemon_api.target.instance.clone(),
        began_at: jiff::Timestamp::now().to_string(),
        pid: std::process::id(),
        end: None,
    };
    runs::begin(&directory, &record).map_err(failed)?;
    let listener = |event: &Event| session.printer.say(report::line(event));
    let inputs = Inputs { scenario, plan, daemon_api, directory: &directory, run: &run, listener: &listener };
    let mut report = devenv_chaos::run(inputs).await.map_err(|error| match error {
        RunError::Daemon(error) => error,
        RunError::Impossible(_, ref refused) => ApiError { message: error.to_string(), ..refused.clone() },
        RunError::FaultsThere(_) => ApiError::new(ErrorCode::Conflict, error.to_string()).hint("run `devenv chaos heal` to undo them"),
        RunError::Journal(ref source) => internal(&error.to_string(), source),
    })?;
    report.directory = Some(directory.display().to_string());
    let ended_at = jiff::Timestamp::now().to_string();
    report.about = Some(about(scenario, &record, &ended_at, status));
    runs::end(&directory, &record, &report, ended_at).map_err(|error| internal("cannot keep the report", error))?;
    Ok((report, directory))
}

fn about(scenario: &Scenario, record: &RunRecord, ended_at: &str, status: Status) -> RunAbout {
    let service = |service: Service| RunService { name: service.name, kind: service.kind, image: service.image };
    RunAbout {
        description: scenario.description.clone(),
        began_at: record.began_at.clone(),
        ended_at: ended_at.to_owned(),
        project: record.project.clone(),
        instance: record.instance.clone(),
        profile: status.profile,
        devenv: env!("CARGO_PKG_VERSION").to_owned(),
        services: status.services.into_iter().map(service).collect(),
    }
}

/// Leaves out entries one by one as long as the rest still fails.
async fn smallest(
    scenario: &Scenario,
    failed: (Report, PathBuf),
    daemon_api: &ClientDaemonApi<'_>,
    environment: &RunEnvironment,
    session: &Session,
) -> Result<(Report, PathBuf), Failure> {
    let (mut smallest, mut failed, mut tried) = (scenario.clone(), failed, Vec::new());
    while let Some(candidate) = devenv_chaos::shrunk(&smallest, &tried) {
        session.printer.say(paint(BOLD, format_args!("without {}", candidate.left_out.join(", "))));
        let smaller = devenv_chaos::without(&smallest, &candidate);
        let plan = devenv_chaos::plan::plan(&smaller, failed.0.seed);
        let attempt = one(&smaller, &plan, daemon_api, environment, session).await?;
        if attempt.0.verdict == Verdict::Fail {
            (smallest, failed) = (smaller, attempt);
        } else {
            tried.push(candidate);
        }
    }
    let left: Vec<&str> = smallest.timeline.iter().map(|entry| entry.id.as_str()).collect();
    session.printer.say(format_args!("smallest timeline that fails: {}", left.join(", ")));
    Ok(failed)
}

fn exit(report: &Report) -> ExitStatus {
    match (report.healed, report.verdict) {
        (false, _) => ExitStatus::NOT_HEALED,
        (true, Verdict::Unknown) => ExitStatus::VERDICT_UNKNOWN,
        (true, Verdict::Fail) => ExitStatus::VERDICT_FAIL,
        (true, Verdict::Pass) => ExitStatus::SUCCESS,
    }
}

fn worse(one: ExitStatus, other: ExitStatus) -> ExitStatus {
    if other.code() > one.code() { other } else { one }
}

fn write(report: &Report, directory: &Path, into: &Path) -> io::Result<()> {
    fs::create_dir_all(into)?;
    let write = |name: &str, content: &[u8]| devenv_files::write_result(&into.join(name), content);
    write("report.json", &serde_json::to_vec_pretty(report)?)?;
    write("report.html", report::html(report).as_bytes())?;
    write("junit.xml", report::junit(report).as_bytes())?;
    write("journal.ndjson", &fs::read(directory.join("journal.ndjson"))?)
}

/// The daemon, restarted if it is lost: the run continues, and the next daemon knows what was injected.
struct ClientDaemonApi<'a> {
    session: &'a Session,
    client: RefCell<Client>,
    target: EnvironmentTarget,
}

impl ClientDaemonApi<'_> {
    fn client(&self) -> Client {
        self.client.borrow().clone()
    }

    fn request(&self, order: &InjectOrder) -> InjectRequest {
        let InjectOrder { id, fault, service, for_ms, parameters, seed } = order.clone();
        InjectRequest { target: self.target.clone(), fault, service, for_ms, parameters, id: Some(id), seed }
    }

    /// For requests that may be repeated.
    async fn again<T>(&self, error: ClientError, ask: impl AsyncFnOnce(Client) -> Result<T, ClientError>) -> Result<T, ApiError> {
        if !matches!(error, ClientError::NotRunning { .. } | ClientError::Lost(_)) {
            return Err(api_error(error));
        }
        let client = self.session.client().await.map_err(|failure| match failure {
            Failure::Told(error) | Failure::Invalid { error, .. } | Failure::Cancelled { error, .. } => error,
            Failure::Signal(_) | Failure::OutputClosed => ApiError::new(ErrorCode::Interrupted, "interrupted"),
        })?;
        self.client.replace(client.clone());
        ask(client).await.map_err(api_error)
    }
}

#[async_trait(?Send)]
impl DaemonApi for ClientDaemonApi<'_> {
    async fn status(&self) -> Result<Status, ApiError> {
        match self.client().status(&self.target).await {
            Ok(status) => Ok(status),
            Err(error) => self.again(error, async |client: Client| client.status(&self.target).await).await,
        }
    }

    async fn variables(&self) -> Result<BTreeMap<String, String>, ApiError> {
        let request = VariablesRequest { target: self.target.clone(), form: VariablesFor::Host, service: None };
        let variables = self.client().variables(&request).await.map_err(api_error)?;
        Ok(variables.variables.into_iter().map(|(name, variable)| (name, variable.value)).collect())
    }

    async fn check(&self, order: &InjectOrder) -> Result<(), ApiError> {
        self.client().check_fault(&self.request(order)).await.map_err(api_error)
    }

    async fn inject(&self, order: &InjectOrder) -> Result<Fault, ApiError> {
        let request = self.request(order);
        match self.client().inject(&request).await {
            Ok(fault) => Ok(fault),
            // The next daemon knows the outcome.
            Err(error) => {
                let known = FaultsRequest { target: self.target.clone(), healed: true };
                let faults = self.again(error, async |client: Client| client.faults(&known).await).await?;
                super::known(faults, |fault| Some(&fault.id) == request.id.as_ref())
            }
        }
    }

    async fn heal(&self, ids: &[String]) -> Result<(), ApiError> {
        let request = HealRequest { target: self.target.clone(), ids: ids.to_vec() };
        match self.client().heal(&request).await {
            Ok(_) => Ok(()),
            Err(error) => self.again(error, async |client: Client| client.heal(&request).await).await.map(drop),
        }
    }

    async fn impairments(&self, services: &[String]) -> Result<Vec<Impairments>, ApiError> {
        let request = ImpairmentsRequest { target: self.target.clone(), services: services.to_vec() };
        match self.client().impairments(&request).await {
            Ok(impairments) => Ok(impairments),
            Err(error) => self.again(error, async |client: Client| client.impairments(&request).await).await,
        }
    }

    async fn faults(&self) -> Result<Vec<Fault>, ApiError> {
        let request = FaultsRequest { target: self.target.clone(), healed: true };
        match self.client().faults(&request).await {
            Ok(faults) => Ok(faults.faults),
            Err(error) => self.again(error, async |client: Client| client.faults(&request).await).await.map(|faults| faults.faults),
        }
    }
}
