//! PURE: from a scenario's text to a [`Scenario`], with every problem reported at its position.

mod claims;
mod faults;
mod workloads;

use std::{collections::BTreeMap, time::Duration};

use indexmap::IndexMap;

use super::{
    condition::{Condition, InvalidCondition, Owner},
    document::{Document, EntryDocument},
    scenario::{Entry, Moment, Scenario, Start},
};
use devenv_faults::Undoing;
use devenv_kinds::faults as fault;
use devenv_profile::{
    Report,
    reading::{self, Findings, Node, Reading, Span, did_you_mean, one_of},
};
use devenv_spec::Period;
use faults::{fault_holds, fault_names, text_of};
pub(crate) use workloads::{Workloads, rate};

/// The services of the profile that a scenario runs on: their kinds and databases.
#[derive(Debug, Clone, Default)]
pub struct Services(pub IndexMap<String, ServiceFacts>);

#[derive(Debug, Clone, Default)]
pub struct ServiceFacts {
    pub kind: String,
    pub databases: Vec<String>,
}

const DEADLINE: Duration = Duration::from_mins(5);
/// Enough to notice the shortest outage, and little enough for a laptop.
const RATE: f64 = 100.0;
const MOST_CLIENTS: u32 = 256;
/// The seed of a scenario that names none, so that each run of it is the same.
const SEED: u64 = 1;

/// The profile that a scenario names, read before anything else is checked.
pub fn profile_of(shown: &str, bytes: &[u8]) -> Option<String> {
    Reading::of::<Document>(shown, bytes, "scenario").root.get("profile")?.text().map(str::to_owned)
}

/// Without the profile's services, names of services are not checked.
pub fn read(name: &str, shown: &str, bytes: &[u8], services: Option<&Services>) -> Result<Scenario, Report> {
    let mut reading = Reading::of::<Document>(shown, bytes, "scenario");
    let Some(document) = reading.typed::<Document>() else {
        // Report problems of the faults too, even if other parts of the file are invalid.
        let root = reading.root.clone();
        fault_names(&root, &mut reading.findings);
        return Err(reading.report());
    };
    let root = reading.root.clone();
    let mut validator = Validator { root: &root, document: &document, services, findings: &mut reading.findings };
    let scenario = validator.scenario(name);
    if reading.findings.has_errors() { Err(reading.report()) } else { Ok(scenario) }
}

struct Validator<'a> {
    root: &'a Node,
    document: &'a Document,
    services: Option<&'a Services>,
    findings: &'a mut Findings,
}

impl Validator<'_> {
    fn scenario(&mut self, name: &str) -> Scenario {
        let document = self.document;
        let written =
            Workloads { root: self.root, documents: &document.workload, services: self.services, rate: RATE, most_clients: MOST_CLIENTS };
        let workloads = written.read(self.findings);
        let timeline = self.timeline();
        let steady = self.steady();
        let stop_if = self.stop_if();
        let checks = self.checks(&workloads);
        Scenario {
            name: name.to_owned(),
            description: document.description.clone(),
            seed: document.seed.unwrap_or(SEED),
            deadline: document.deadline.map_or(DEADLINE, Period::duration),
            workloads,
            steady,
            timeline,
            stop_if,
            checks,
        }
    }

    fn no_service(&mut self, name: &str, at: Span) {
        workloads::no_service(self.services, name, at, self.findings);
    }

    fn timeline(&mut self) -> Vec<Entry> {
        let root = self.root;
        let nodes: Vec<&Node> = root.get("timeline").into_iter().flat_map(Node::items).collect();
        if self.document.timeline.is_empty() {
            let at = root.entry("timeline").map_or(root.span, |entry| entry.key);
            self.findings.error(at, "empty", "`timeline` must contain at least one fault");
        }
        let mut entries: Vec<Entry> = Vec::new();
        for (node, document) in nodes.iter().zip(&self.document.timeline) {
            let at = |field: &str| node.get(field).map_or(node.span, |node| node.span);
            name_is_one(&document.id, at("id"), self.findings);
            if entries.iter().any(|entry| entry.id == document.id) {
                self.findings.error(at("id"), "duplicate-id", format!("the id `{}` is already used by an earlier entry", document.id));
            }
            if self.document.workload.contains_key(&document.id) {
                self.findings
                    .error(at("id"), "duplicate-id", format!("`{}` is also the name of a workload", document.id))
                    .hint("checks refer to both by name");
            }
            entries.push(self.entry(node, document));
        }
        self.circles(&nodes, &entries);
        entries
    }

    fn entry(&mut self, node: &Node, document: &EntryDocument) -> Entry {
        let at = |field: &str| node.get(field).map_or(node.span, |node| node.span);
        if let Some(services) = self.services
            && !services.0.contains_key(&document.on)
        {
            self.no_service(&document.on, at("on"));
        }
        let parameters: BTreeMap<String, String> =
            document.set.0.iter().filter_map(|(name, value)| Some((name.clone(), text_of(value)?))).collect();
        for (name, value) in &document.set.0 {
            if text_of(value).is_none() {
                let span = node.get("set").and_then(|set| set.entry(name)).map_or(node.span, |entry| entry.key);
                self.findings.error(span, "wrong-type", format!("`{name}` must be a value or a list of values"));
            }
        }
        fault_holds(node, &document.fault, &parameters, document.lasting.map(Period::duration), self.findings);
        let kind = fault::find(&document.fault);
        let ends_itself = parameters.contains_key("restart-after") || parameters.get("restore").is_some_and(|restore| restore == "true");
        Entry {
            id: document.id.clone(),
            start: self.start(node, document),
            lasting: document.lasting.map(Period::duration),
            spread: document.spread.map_or(Duration::ZERO, Period::duration),
            fault: document.fault.clone(),
            undone_by: kind.map_or(Undoing::Nothing, fault::FaultKind::undone_by),
            ends_itself,
            on: document.on.clone(),
            parameters,
        }
    }

    fn start(&mut self, node: &Node, document: &EntryDocument) -> Start {
        let said = [document.at.is_some(), document.after.is_some(), document.when.is_some()];
        if said.iter().filter(|said| **said).count() != 1 {
            self.findings
                .error(
                    node.get("id").map_or(node.span, |node| node.span),
                    "no-start",
                    format!("`{}` needs exactly one of `at`, `after` and `when`", document.id),
                )
                .hint("`at: 2s`, `after: other.recovered + 3s` or `when: \"jobs.outstanding > 100\"`");
        }
        if let Some(text) = &document.after {
            let span = node.get("after").map_or(node.span, |node| node.span);
            return match self.after(text, span) {
                Some((id, moment, delay)) => Start::After { id, moment, delay },
                None => Start::At(Duration::ZERO),
            };
        }
        if let Some(text) = &document.when {
            let span = node.get("when").map_or(node.span, |node| node.span);
            return match Condition::parse(text, |name| self.owner(name)) {
                Ok(condition) => Start::When(condition),
                Err(invalid) => {
                    tell(&invalid, span, self.findings);
                    Start::At(Duration::ZERO)
                }
            };
        }
        Start::At(document.at.map_or(Duration::ZERO, Period::duration))
    }

    /// `ID.recovered + 3s`
    fn after(&mut self, text: &str, span: Span) -> Option<(String, Moment, Duration)> {
        let (event, delay) = text.split_once('+').map_or((text, None), |(event, delay)| (event, Some(delay)));
        let delay = match delay.map(|delay| delay.trim().parse::<Period>()) {
            None => Duration::ZERO,
            Some(Ok(delay)) => delay.duration(),
            Some(Err(error)) => {
                self.findings.error(span, "bad-duration", error.to_string());
                return None;
            }
        };
        let known = || Moment::ALL.iter().map(|(word, _)| *word);
        let Some((id, word)) = event.trim().split_once('.') else {
            let message = format!("`after` must be an event of another entry, but is `{}`", event.trim());
            self.findings.error(span, "bad-value", message).hint("write it as `ID.recovered + 3s`");
            return None;
        };
        if !self.document.timeline.iter().any(|entry| entry.id == id) {
            let ids = || self.document.timeline.iter().map(|entry| entry.id.as_str());
            let hint = did_you_mean(id, ids()).unwrap_or_else(|| format!("expected {}", one_of(ids())));
            self.findings.error(span, "unknown-id", format!("the timeline has no entry `{id}`")).hint(hint);
            return None;
        }
        let Some((_, moment)) = Moment::ALL.iter().find(|(known, _)| *known == word) else {
            let hint = did_you_mean(word, known()).unwrap_or_else(|| format!("expected {}", one_of(known())));
            self.findings.error(span, "unknown-event", format!("`{word}` is not an event of an entry")).hint(hint);
            return None;
        };
        Some((id.to_owned(), *moment, delay))
    }

    /// Entries that wait for one another never begin.
    fn circles(&mut self, nodes: &[&Node], entries: &[Entry]) {
        for (node, entry) in nodes.iter().zip(entries) {
            let mut seen = vec![entry.id.as_str()];
            let mut next = entry;
            while let Start::After { id, .. } = &next.start {
                let Some(before) = entries.iter().find(|entry| entry.id == *id) else { break };
                if before.id == entry.id {
                    let span = node.get("after").map_or(node.span, |node| node.span);
                    self.findings.error(span, "after-cycle", format!("`{}` waits for itself: {}", entry.id, seen.join(" -> ")));
                    break;
                }
                if seen.contains(&before.id.as_str()) {
                    break;
                }
                seen.push(&before.id);
                next = before;
            }
        }
    }

    fn owner(&self, name: &str) -> Option<Owner> {
        if self.document.workload.contains_key(name) {
            return Some(Owner::Workload);
        }
        match self.services {
            Some(services) => services.0.contains_key(name).then_some(Owner::Service),
            None => Some(Owner::Service),
        }
    }

    fn steady(&mut self) -> Vec<Condition> {
        let mut conditions = Vec::new();
        for (metric, rest) in &self.document.steady {
            match Condition::of(metric, rest, |name| self.owner(name)) {
                Ok(condition) => conditions.push(condition),
                Err(invalid) => {
                    let entry = self.root.get("steady").and_then(|steady| steady.entry(metric));
                    tell(&invalid, entry.map_or(self.root.span, |entry| entry.key), self.findings);
                }
            }
        }
        conditions
    }

    fn stop_if(&mut self) -> Vec<Condition> {
        let nodes = self.root.get("stop-if").into_iter().flat_map(Node::items);
        let mut conditions = Vec::new();
        for (text, node) in self.document.stop_if.iter().zip(nodes) {
            match Condition::parse(text, |name| self.owner(name)) {
                Ok(condition) => conditions.push(condition),
                Err(invalid) => tell(&invalid, node.span, self.findings),
            }
        }
        conditions
    }

    fn no_entry(&mut self, id: &str, at: Span) {
        let ids = || self.document.timeline.iter().map(|entry| entry.id.as_str());
        let hint = did_you_mean(id, ids()).unwrap_or_else(|| format!("expected {}", one_of(ids())));
        self.findings.error(at, "unknown-id", format!("the timeline has no entry `{id}`")).hint(hint);
    }
}

/// Names stand before a dot in checks and conditions.
fn name_is_one(name: &str, at: Span, findings: &mut Findings) {
    let good = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if !good || name == "host" {
        findings
            .error(at, "bad-name", format!("`{name}` is not a valid name"))
            .hint("a name consists of a-z, 0-9 and `-`, starts with a letter, and is not `host`");
    }
}

fn tell(invalid: &InvalidCondition, span: Span, findings: &mut Findings) {
    findings.error(span, "bad-condition", invalid.message.clone()).maybe_hint(invalid.hint.clone());
}

/// The path or name that messages show.
pub(crate) fn shown(path: &std::path::Path) -> String {
    reading::shown(path)
}
