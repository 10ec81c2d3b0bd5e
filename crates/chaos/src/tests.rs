//! Files that do not hold, and whole runs against a daemon that is a script: the work is a command, so no server is needed.

use std::{cell::RefCell, collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use devenv_api::{ApiError, ErrorCode, Fault, Impairments, Phase, Report, Service, ServiceState, Status, Verdict, Witness};

use super::{
    DaemonApi, InjectOrder, Inputs, Services, plan, run,
    scenario::Scenario,
    validate::{ServiceFacts, read},
};

fn services() -> Services {
    let facts = |kind: &str, databases: &[&str]| ServiceFacts {
        kind: kind.to_owned(),
        databases: databases.iter().map(|name| (*name).to_owned()).collect(),
    };
    Services([("db".to_owned(), facts("postgres", &["app"])), ("cache".to_owned(), facts("redis", &[]))].into_iter().collect())
}

/// `line:column: message`, one a line.
fn problems_of(text: &str) -> String {
    let Err(report) = read("s", "s.yaml", text.as_bytes(), Some(&services())) else { return "holds".to_owned() };
    let lines: Vec<String> = report
        .problems()
        .iter()
        .map(|problem| {
            format!(
                "{}:{}: {}{}",
                problem.line,
                problem.column,
                problem.message,
                problem.hint.as_ref().map(|hint| format!(" / {hint}")).unwrap_or_default()
            )
        })
        .collect();
    lines.join("\n")
}

const GOOD: &str = "\
workload:
  keys: { redis-keys: { service: cache, clients: 2, rate: 200/s } }
  rows: { postgres-rows: { service: db, database: app } }
steady: { keys.ok-ratio: \">= 0.999 over 3s\" }
timeline:
  - { id: one, at: 2s, fault: kill, on: cache }
  - { id: two, after: one.recovered + 1s, for: 2s, fault: latency, on: db, set: { delay: 60ms } }
stop-if: [ \"host.disk-free < 2GiB\" ]
checks:
  rows.lost: { max: 0 }
  keys.lost: { max-window: 1s }
  one.recovery: { max: 30s }
  db.available: { min: 99%, except: [two] }
";

#[test]
fn a_scenario_with_every_sort_of_field_holds() {
    assert_eq!(problems_of(GOOD), "holds");
}

#[test]
fn every_typing_error_is_reported_at_its_position_with_a_suggestion() {
    let known: String = crate::workload::kinds().map(|kind| format!("`{}`, ", kind.name())).collect();
    let redis_key = format!("2:11: unknown field `redis-key` in `keys` / did you mean `redis-keys`? (expected {known}`http` or `command`)");
    let cases = [
        ("fault: kill", "fault: kil", "6:31: unknown fault `kil` / did you mean `kill`? run `devenv chaos faults` to list them"),
        ("on: cache }", "on: cash }", "6:41: the profile has no service `cash` / expected `db` or `cache`"),
        ("delay: 60ms", "dely: 60ms", "7:83: the fault `latency` has no parameter `dely` / did you mean `delay`?"),
        ("delay: 60ms", "delay: much", "7:90: `delay` of the fault `latency` is `much`, but must be a duration such as `80ms`"),
        ("after: one.recovered", "after: on.recovered", "7:23: the timeline has no entry `on` / did you mean `one`?"),
        (
            "after: one.recovered",
            "after: one.healthy",
            "7:23: `healthy` is not an event of an entry / expected `injected`, `healed` or `recovered`",
        ),
        ("after: one.recovered", "after: two.recovered", "7:23: `two` waits for itself: two"),
        (
            "at: 2s",
            "at: 2s, when: keys.rate > 3",
            "6:11: `one` needs exactly one of `at`, `after` and `when` / `at: 2s`, `after: other.recovered + 3s` or `when: \"jobs.outstanding > 100\"`",
        ),
        ("rate: 200/s", "rate: fast", "2:59: `rate` must be a number of operations per second, but is `fast` / write it as `400/s`"),
        ("service: db", "service: cache", "3:37: `postgres-rows` is for `postgres`, but `cache` is of kind `redis`"),
        ("database: app", "database: ap", "3:51: `db` has no database `ap` / did you mean `app`?"),
        ("rows.lost", "row.lost", "10:3: unknown workload `row` / did you mean `rows`?"),
        ("rows.lost", "rows.lots", "10:3: `lots` cannot be checked / did you mean `lost`?"),
        (
            "rows.lost: { max: 0 }",
            "rows.lost: {}",
            "10:3: `rows.lost` needs `max` or `max-window` / write `{ max: 0 }` or `{ max-window: 1s }`",
        ),
        ("one.recovery", "on.recovery", "12:3: the timeline has no entry `on` / did you mean `one`?"),
        ("disk-free", "disk-fre", "8:12: `host` has no metric `disk-fre` / did you mean `disk-free`?"),
        ("redis-keys:", "redis-key:", &redis_key),
    ];
    let wrongly: Vec<String> = cases
        .iter()
        .map(|(right, wrong, expected)| (problems_of(&GOOD.replacen(right, wrong, 1)), expected))
        .filter(|(problems_of, expected)| problems_of != *expected)
        .map(|(problems_of, expected)| format!("{expected}\n{problems_of}\n"))
        .collect();
    assert!(wrongly.is_empty(), "{}", wrongly.join("\n"));
    let both = problems_of(&GOOD.replace("fault: kill", "fault: kil").replace("rows.lost", "rows.lots"));
    assert_eq!(both.lines().count(), 2, "{both}");
    assert!(problems_of("").contains("`scenario` needs `workload`"), "{}", problems_of(""));
}

#[test]
fn a_problem_is_rendered_with_its_file_line_and_column() {
    let report = read("s", "chaos/s.yaml", GOOD.replace("fault: kill", "fault: kil").as_bytes(), None).unwrap_err();
    assert!(anstream::adapter::strip_str(&report.render()).to_string().contains("chaos/s.yaml:6:31"));
}

/// A daemon with one service, which does what the script of the test says.
struct Scripted {
    witnessed: bool,
    /// The service that no fault can be injected in.
    impossible: Option<String>,
    refuses: bool,
    /// Healing is asked for and nothing heals.
    stuck: bool,
    /// Faults are called healed, and the service is still paused.
    leaves_paused: bool,
    faults: RefCell<Vec<Fault>>,
    heals: RefCell<Vec<String>>,
}

fn scripted() -> Scripted {
    Scripted {
        witnessed: true,
        impossible: None,
        refuses: false,
        stuck: false,
        leaves_paused: false,
        faults: RefCell::default(),
        heals: RefCell::default(),
    }
}

fn now() -> String {
    format!("{:.6}", jiff::Timestamp::now())
}

#[async_trait(?Send)]
impl DaemonApi for Scripted {
    async fn impairments(&self, services: &[String]) -> Result<Vec<Impairments>, ApiError> {
        let paused = self.leaves_paused && !self.faults.borrow().is_empty();
        let stands = |service: &String| Impairments {
            service: service.clone(),
            runs: true,
            paused,
            cpus: None,
            memory: None,
            rules: Some(Vec::new()),
            disks: Vec::new(),
        };
        Ok(services.iter().map(stands).collect())
    }

    async fn status(&self) -> Result<Status, ApiError> {
        let service = Service::new("job", "process", ServiceState::Ready);
        let faults = self.faults.borrow().iter().filter(|fault| fault.healed_at.is_none()).cloned().collect();
        Ok(Status {
            environment: "e".to_owned(),
            project: "/p".to_owned(),
            instance: "default".to_owned(),
            profile: None,
            phase: Phase::Ready,
            services: vec![service],
            elapsed_ms: None,
            drift: Vec::new(),
            faults,
            operations: Vec::new(),
            overridden: Vec::new(),
            project_gone: false,
            subnet: None,
            timings: None,
        })
    }

    async fn variables(&self) -> Result<BTreeMap<String, String>, ApiError> {
        Ok(BTreeMap::new())
    }

    async fn check(&self, order: &InjectOrder) -> Result<(), ApiError> {
        match self.impossible.as_deref() {
            Some(service) if service == order.service => Err(ApiError::new(ErrorCode::Usage, "the kernel is too old")),
            _ => Ok(()),
        }
    }

    async fn inject(&self, order: &InjectOrder) -> Result<Fault, ApiError> {
        if self.refuses {
            return Err(ApiError::new(ErrorCode::Failed, "the kernel has no such thing"));
        }
        let fault = Fault {
            id: order.id.clone(),
            fault: order.fault.clone(),
            service: order.service.clone(),
            parameters: serde_json::Value::Null,
            injected_at: now(),
            heals_at: None,
            witness: Some(Witness { observed: self.witnessed, what: "it was looked at".to_owned(), after_ms: Some(1) }),
            healed_at: None,
        };
        self.faults.borrow_mut().push(fault.clone());
        Ok(fault)
    }

    async fn heal(&self, ids: &[String]) -> Result<(), ApiError> {
        self.heals.borrow_mut().extend(ids.iter().cloned());
        if !self.stuck {
            for fault in self.faults.borrow_mut().iter_mut().filter(|fault| ids.contains(&fault.id)) {
                fault.healed_at.get_or_insert_with(now);
            }
        }
        Ok(())
    }

    async fn faults(&self) -> Result<Vec<Fault>, ApiError> {
        Ok(self.faults.borrow().clone())
    }
}

fn of_commands(command: &str, rest: &str) -> Scenario {
    let text = format!(
        "deadline: 20s\nworkload: {{ work: {{ command: {{ service: job, command: [{command}], rate: 50/s }} }} }}\n\
         timeline:\n  - {{ id: first, at: 100ms, for: 200ms, fault: latency, on: job }}\n{rest}"
    );
    read("s", "s.yaml", text.as_bytes(), None).unwrap_or_else(|report| panic!("{}", report.render()))
}

async fn ran(scenario: &Scenario, daemon_api: &Scripted) -> Report {
    let directory = tempfile::tempdir().unwrap();
    let plan = plan::plan(scenario, 1);
    let inputs = Inputs { scenario, plan: &plan, daemon_api, directory: directory.path(), run: "abc", listener: &|_| {} };
    let report = tokio::time::timeout(Duration::from_mins(1), run(inputs)).await.unwrap().unwrap();
    let stored: devenv_api::ChaosPlan = serde_json::from_slice(&std::fs::read(directory.path().join("plan.json")).unwrap()).unwrap();
    assert_eq!(stored, plan);
    report
}

fn kinds(report: &Report) -> Vec<&str> {
    report.timeline.iter().map(|event| event.kind.as_str()).collect()
}

#[tokio::test]
async fn a_tested_run_passes_and_each_action_is_journaled_before_it_is_taken() {
    let scenario = of_commands(
        "\"true\"",
        "  - { id: second, after: first.recovered + 50ms, fault: kill, on: job }\nchecks: { first.recovery: { max: 5s }, mine: { command: [\"true\"] } }\n",
    );
    let report = ran(&scenario, &scripted()).await;
    assert_eq!((report.verdict, report.healed, report.reason.as_deref()), (Verdict::Pass, true, None));
    let expected = [
        "run.planned",
        "timeline.began",
        "fault.injecting",
        "fault.injected",
        "fault.healed",
        "fault.recovered",
        "fault.injecting",
        "fault.injected",
        "fault.recovered",
        "run.healed",
        "run.as-before",
        "timeline.ended",
        "run.judged",
    ];
    assert_eq!(kinds(&report), expected);
    assert_eq!(report.faults.iter().map(|fault| fault.id.as_str()).collect::<Vec<_>>(), ["first", "second"]);
    assert!(report.faults.iter().all(|fault| fault.healed_at.is_some()));
    assert_eq!(report.recovery.iter().map(|recovery| recovery.ready_ms).collect::<Vec<_>>(), [Some(0.0), Some(0.0)]);
    assert!(report.recovery[0].heal_ms.is_some_and(|heal| (190.0..2000.0).contains(&heal)));
}

#[tokio::test]
async fn nothing_is_started_for_a_timeline_that_cannot_be_run() {
    let scenario = of_commands("\"true\"", "");
    let (plan, directory) = (plan::plan(&scenario, 1), tempfile::tempdir().unwrap());
    let daemon_api = Scripted { impossible: Some("job".to_owned()), ..scripted() };
    let inputs =
        Inputs { scenario: &scenario, plan: &plan, daemon_api: &daemon_api, directory: directory.path(), run: "abc", listener: &|_| {} };
    assert_eq!(run(inputs).await.unwrap_err().to_string(), "first: the kernel is too old; the run was not started");
    assert!(daemon_api.faults.borrow().is_empty() && std::fs::read_dir(directory.path()).unwrap().next().is_none());
}

#[tokio::test]
async fn a_fault_without_effect_or_not_injected_and_a_workload_that_always_failed_prove_nothing() {
    let scenario = of_commands("\"true\"", "  - { id: second, after: first.recovered, fault: kill, on: job }\n");
    let report = ran(&scenario, &Scripted { witnessed: false, ..scripted() }).await;
    assert_eq!(report.verdict, Verdict::Unknown);
    assert_eq!(report.reason.as_deref(), Some("the effect of `first` was not observed: it was looked at; `second` was not injected"));
    let report = ran(&scenario, &Scripted { refuses: true, ..scripted() }).await;
    assert_eq!(report.reason.as_deref(), Some("`first` cannot be injected: the kernel has no such thing; `second` was not injected"));
    let report = ran(&of_commands("\"false\"", ""), &scripted()).await;
    assert_eq!(report.verdict, Verdict::Unknown);
    assert!(report.reason.unwrap().starts_with("no operation of the workload `work` was acknowledged (exited with exit status: 1)"));
}

#[tokio::test]
async fn faults_that_are_called_healed_are_not_if_a_service_is_not_as_it_was_before() {
    let report = ran(&of_commands("\"true\"", ""), &Scripted { leaves_paused: true, ..scripted() }).await;
    assert!(!report.healed);
    assert_eq!(report.reason.as_deref(), Some("`job: paused was false and is true` cannot be undone"));
}

#[tokio::test]
async fn a_stop_condition_ends_the_run_and_heals_active_faults() {
    let text = "    # no host has so much\nstop-if: [ \"work.rate > 0\" ]\n";
    let mut scenario = of_commands("\"true\"", text);
    scenario.timeline[0].lasting = Some(Duration::from_mins(10));
    let daemon_api = scripted();
    let report = ran(&scenario, &daemon_api).await;
    assert_eq!(report.verdict, Verdict::Unknown);
    assert!(report.reason.unwrap().starts_with("stopped because `work.rate > 0` is true"));
    assert!(report.healed);
    assert_eq!(*daemon_api.heals.borrow(), ["first-abc"]);
}

#[tokio::test]
async fn a_lasting_fault_is_healed_at_the_end_and_an_unmet_check_fails() {
    let mut scenario = of_commands("\"true\"", "checks: { mine: { command: [\"false\"] } }\n");
    scenario.timeline[0].lasting = None;
    let daemon_api = scripted();
    let report = ran(&scenario, &daemon_api).await;
    assert_eq!((report.verdict, report.reason.as_deref()), (Verdict::Fail, Some("mine: the command exited with 1")));
    assert!(report.recovery[0].heal_ms.is_some_and(|heal| heal >= 5000.0));
    assert_eq!(*daemon_api.heals.borrow(), ["first-abc"]);
}
