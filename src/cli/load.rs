//! `devenv load`: a load test with budgets.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use devenv_api::{ApiError, ErrorCode, LoadReport, OperationRequest, Status, VariablesFor, VariablesRequest, Verdict};
use devenv_chaos::load::{self, Loaded};
use devenv_kinds::capability::Variables;

use super::{
    Outcome,
    exit::ExitStatus,
    failure::{Failure, internal},
    operation::carry_out,
    printer::{BAD, GOOD, WARN, paint},
    project,
    session::Session,
    table,
};

/// Run a load test: workloads at a rate or with a number of clients, and budgets for what they measure.
///
/// Starts the profile of the file if it is not running, and leaves it running. Latency counts from when an operation was due, so that
/// operations that a slow answer delays count as slow. What the workloads create is removed at the end. Exit code: 0 if every budget
/// holds, 10 if one does not, 11 if no operation succeeded and the file has no budgets.
///
/// Example: devenv load load/peak.yaml --report out
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The path of a load file, relative to the current directory, then to the project.
    file: String,
    /// Write `report.html` and `report.json` to this directory.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// Allow the profile's host powers without asking; `devenv plan` lists them.
    #[arg(long, short = 'y')]
    yes: bool,
}

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    let located = devenv_chaos::find_file(&arguments.file, &session.project()?).map_err(|error| {
        ApiError::new(ErrorCode::InvalidProfile, format!("the load file {} does not exist or cannot be read", error.name)).hint(error.hint)
    })?;
    let profile = match load::profile_of(&located.shown, &located.bytes) {
        Some(profile) => profile,
        None => project::profile_name_if_running(session, None).await?,
    };
    // Report problems of the file itself even if its profile is invalid.
    let loaded = match project::load(session, &profile) {
        Ok(loaded) => loaded,
        Err(failure) => return Err(read(&located, None).err().unwrap_or(failure)),
    };
    let test = read(&located, Some(&loaded.chaos_services()))?;
    loaded.refuse_overridden("devenv load")?;
    let client = session.client().await?;
    let request = project::start_request(session, &profile, &loaded, arguments.yes).await?;
    let target = request.target.clone();
    let _: Status = carry_out(session, &client, OperationRequest::Up(request)).await?;
    let variables = client.variables(&VariablesRequest { target, form: VariablesFor::Host, service: None }).await?;
    let variables: BTreeMap<String, String> = variables.variables.into_iter().map(|(name, variable)| (name, variable.value)).collect();
    let run: String = std::iter::repeat_with(|| char::from(b'a' + rand::random_range(0..26))).take(6).collect();
    let loaded = load::run(&test, &Variables(variables), &run).await.map_err(|error| {
        ApiError::new(ErrorCode::Failed, error.to_string()).hint("run `devenv status` to see whether the service is ready")
    })?;
    if let Some(into) = &arguments.report {
        write(&loaded, into).map_err(|error| internal(&format!("cannot write the report to {}", into.display()), error))?;
    }
    session.printer.result(&loaded.report, || words(&loaded.report))?;
    Ok(match loaded.report.verdict {
        Verdict::Pass => ExitStatus::SUCCESS,
        Verdict::Fail => ExitStatus::VERDICT_FAIL,
        Verdict::Unknown => ExitStatus::VERDICT_UNKNOWN,
    })
}

fn read(located: &devenv_chaos::Located, services: Option<&devenv_chaos::Services>) -> Result<load::Load, Failure> {
    load::read(&located.name, &located.shown, &located.bytes, services).map_err(|report| {
        let mut error = ApiError::new(ErrorCode::InvalidProfile, format!("the load file {} is invalid", located.shown));
        error.problems = report.problems();
        Failure::Invalid { error, shown: report.render() }
    })
}

fn write(loaded: &Loaded, into: &Path) -> io::Result<()> {
    std::fs::create_dir_all(into)?;
    let write = |name: &str, content: &[u8]| devenv_files::write_result(&into.join(name), content);
    write("report.json", &serde_json::to_vec_pretty(&loaded.report)?)?;
    write("report.html", load::html(loaded).as_bytes())
}

fn words(report: &LoadReport) -> String {
    let time = |time: Option<f64>| time.map_or_else(|| "-".to_owned(), |time| format!("{time:.2} ms"));
    let rows = report.figures.iter().map(|(name, figures)| {
        let numbers = [figures.count.to_string(), figures.errors.to_string(), format!("{:.1}/s", figures.rate)];
        let [count, errors, rate] = numbers;
        [name.clone(), count, errors, rate, time(figures.p50_ms), time(figures.p95_ms), time(figures.p99_ms), time(figures.max_ms)]
    });
    let mut lines = vec![table::columns(["WORKLOAD", "SUCCEEDED", "ERRORS", "RATE", "P50", "P95", "P99", "MAX"], rows)];
    for (name, trouble) in report.figures.iter().filter_map(|(name, figures)| Some((name, figures.trouble.as_ref()?))) {
        lines.push(format!("last error of {name}: {trouble}"));
    }
    for budget in &report.budgets {
        let word = if budget.holds { paint(GOOD, "pass") } else { paint(BAD, "fail") };
        lines.push(format!("{word}  {} {} (measured: {})", budget.name, budget.budget, budget.measured));
    }
    let style = match report.verdict {
        Verdict::Pass => GOOD,
        Verdict::Fail => BAD,
        Verdict::Unknown => WARN,
    };
    lines.push(format!("verdict: {}", paint(style, report.verdict)));
    lines.join("\n")
}
