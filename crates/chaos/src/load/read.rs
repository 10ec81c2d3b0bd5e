//! PURE: from the text of a load file to a [`Load`], with every problem reported at its position.

use std::time::Duration;

use devenv_profile::{Report, reading::Reading};
use devenv_spec::Period;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    Load,
    budget::Budget,
    ramp::{Ramp, Stage},
};
use crate::{
    document::WorkloadDocument,
    validate::{Services, Workloads},
};

/// More users than the shapes of products ask for; beyond that the client is what is measured.
const MOST_CLIENTS: u32 = 2000;
/// The time between two points of a plot bounds the report's size.
const LONGEST: Duration = Duration::from_hours(1);

/// A load test: workloads, how long, and what their figures have to keep.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LoadFile")]
struct Document {
    /// What the load test is about, in one line.
    #[serde(default)]
    description: Option<String>,
    /// The profile that it runs on. Default: the profile that the environment runs, else `default`.
    #[serde(default)]
    #[expect(dead_code, reason = "it is parsed on its own, before the other fields can be checked")]
    profile: Option<String>,
    /// The workloads of scenarios, by name. One without a `rate` sends the next operation as soon as it is answered.
    workload: IndexMap<String, WorkloadDocument>,
    /// How long it runs.
    r#for: Period,
    /// Stages that change the number of clients of every workload, one after another.
    #[serde(default)]
    ramp: Vec<StageDocument>,
    /// Limits by `WORKLOAD.FIGURE`: `rows.p95: "< 20ms"`.
    #[serde(default)]
    budgets: IndexMap<String, String>,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct StageDocument {
    /// The number of clients at the end of the stage.
    to: u32,
    /// How long the stage takes.
    over: Period,
}

/// The profile that a load file names, read before anything else is checked.
pub fn profile_of(shown: &str, bytes: &[u8]) -> Option<String> {
    Reading::of::<Document>(shown, bytes, "load file").root.get("profile")?.text().map(str::to_owned)
}

/// Without the profile's services, names of services are not checked.
pub fn read(name: &str, shown: &str, bytes: &[u8], services: Option<&Services>) -> Result<Load, Report> {
    let mut reading = Reading::of::<Document>(shown, bytes, "load file");
    let Some(document) = reading.typed::<Document>() else { return Err(reading.report()) };
    let root = reading.root.clone();
    let findings = &mut reading.findings;
    let written = Workloads { root: &root, documents: &document.workload, services, rate: f64::INFINITY, most_clients: MOST_CLIENTS };
    let workloads = written.read(findings);
    let lasting = document.r#for.duration();
    if lasting.is_zero() || lasting > LONGEST {
        let at = root.get("for").map_or(root.span, |node| node.span);
        findings.error(at, "out-of-range", format!("`for` must be from 1 ms to {} m", LONGEST.as_secs() / 60));
    }
    let mut stages = Vec::new();
    for (stage, node) in document.ramp.iter().zip(root.get("ramp").into_iter().flat_map(devenv_profile::reading::Node::items)) {
        if stage.to > MOST_CLIENTS {
            findings.error(node.span, "out-of-range", format!("`to` must be at most {MOST_CLIENTS}"));
        }
        stages.push(Stage { to: stage.to, over: stage.over.duration() });
    }
    let names: Vec<&str> = document.workload.keys().map(String::as_str).collect();
    let mut budgets = Vec::new();
    for (name, text) in &document.budgets {
        let entry = root.get("budgets").and_then(|budgets| budgets.entry(name));
        match Budget::parse(name, text, &names) {
            Ok(budget) => budgets.push(budget),
            Err(invalid) => {
                findings.error(entry.map_or(root.span, |entry| entry.key), "bad-budget", invalid.message).hint(invalid.hint);
            }
        }
    }
    if reading.findings.has_errors() {
        return Err(reading.report());
    }
    Ok(Load { name: name.to_owned(), description: document.description, workloads, lasting, ramp: Ramp(stages), budgets })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::ServiceFacts;

    const FILE: &str = "profile: l\nworkload:\n  rows: { postgres-rows: { service: db, database: app, clients: 8, rate: 200/s } }\n  \
                        free: { postgres-rows: { service: db, database: app } }\nfor: 5s\nramp: [{ to: 500, over: 2s }]\nbudgets:\n  rows.p95: \"< 2s\"\n";

    fn services() -> Services {
        let facts = ServiceFacts { kind: "postgres".to_owned(), databases: vec!["app".to_owned()] };
        Services(IndexMap::from([("db".to_owned(), facts)]))
    }

    #[test]
    fn a_load_file_names_workloads_a_time_and_budgets() {
        assert_eq!(profile_of("l.yaml", FILE.as_bytes()).as_deref(), Some("l"));
        let load = read("l", "l.yaml", FILE.as_bytes(), Some(&services())).unwrap_or_else(|report| panic!("{}", report.render()));
        assert_eq!((load.workloads[0].clients, load.workloads[0].rate), (8, 200.0));
        assert!(load.workloads[1].rate.is_infinite());
        assert_eq!((load.lasting, load.ramp.most(8), load.budgets.len()), (Duration::from_secs(5), 500, 1));
    }

    #[test]
    fn every_problem_of_a_load_file_is_told_with_its_place() {
        let wrong = FILE
            .replace("rows.p95", "row.p95")
            .replace("for: 5s", "for: 2h")
            .replace("database: app, clients: 8", "database: app, clients: 0");
        let report = read("l", "l.yaml", wrong.as_bytes(), Some(&services())).unwrap_err();
        let problems: Vec<(u32, String)> = report.problems().into_iter().map(|problem| (problem.line, problem.code)).collect();
        assert_eq!(
            problems,
            [(3, "bad-value".to_owned()), (5, "out-of-range".to_owned()), (8, "bad-budget".to_owned())],
            "{}",
            report.render()
        );
        let unknown = FILE.replace("service: db", "service: dbb");
        assert!(read("l", "l.yaml", unknown.as_bytes(), Some(&services())).unwrap_err().render().contains("`dbb`"));
    }
}
