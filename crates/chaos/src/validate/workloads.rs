//! The workloads of a scenario or of a load file.

use indexmap::IndexMap;

use super::{Services, name_is_one};
use crate::{
    document::WorkloadDocument,
    scenario::{Task, Workload},
    workload,
};
use devenv_kinds::capability::WorkloadKind;
use devenv_profile::reading::{Findings, Node, Span, did_you_mean, one_of};

/// Workloads as they are written, and what they are checked by.
pub(crate) struct Workloads<'a> {
    /// The document around them.
    pub(crate) root: &'a Node,
    pub(crate) documents: &'a IndexMap<String, WorkloadDocument>,
    pub(crate) services: Option<&'a Services>,
    /// Of workloads that name none: operations per second.
    pub(crate) rate: f64,
    pub(crate) most_clients: u32,
}

impl Workloads<'_> {
    pub(crate) fn read(&self, findings: &mut Findings) -> Vec<Workload> {
        let root = self.root;
        if self.documents.is_empty() {
            let at = root.entry("workload").map_or(root.span, |entry| entry.key);
            findings.error(at, "empty", "`workload` must not be empty").hint("a run without a workload proves nothing");
        }
        let mut workloads = Vec::new();
        for (name, document) in self.documents {
            let Some(entry) = root.get("workload").and_then(|workloads| workloads.entry(name)) else { continue };
            name_is_one(name, entry.key, findings);
            let fields = entry.node.get(document.name());
            let field = |field: &str| fields.and_then(|fields| fields.get(field)).map_or(entry.key, |node| node.span);
            if let Some(service) = document.service() {
                self.works_on(service, document, field("service"), findings);
            }
            if let (Some(service), true) = (document.service(), document.kind().is_some_and(WorkloadKind::is_in_database)) {
                self.database(service, document, field("database"), findings);
            }
            let (clients, most) = (document.clients().unwrap_or(1), self.most_clients);
            if clients == 0 || clients > most {
                findings.error(field("clients"), "bad-value", format!("`clients` must be from 1 to {most}, but is {clients}"));
            }
            let rate = match document.rate().map(rate) {
                None => self.rate,
                Some(Some(rate)) => rate,
                Some(None) => {
                    findings
                        .error(
                            field("rate"),
                            "bad-value",
                            format!("`rate` must be a number of operations per second, but is `{}`", document.rate().unwrap_or_default()),
                        )
                        .hint("write it as `400/s`");
                    0.0
                }
            };
            if document.command().is_some_and(|of| of.command.is_empty()) {
                findings.error(field("command"), "empty-command", "`command` must not be empty");
            }
            workloads.push(Workload {
                name: name.clone(),
                service: document.service().map(str::to_owned),
                clients,
                rate,
                task: task(document),
            });
        }
        workloads
    }

    fn works_on(&self, service: &str, document: &WorkloadDocument, at: Span, findings: &mut Findings) {
        let Some(services) = self.services else { return };
        let Some(facts) = services.0.get(service) else {
            no_service(self.services, service, at, findings);
            return;
        };
        let kinds: Vec<&str> = document.kind().map(|kind| workload::works_on(kind.name()).collect()).unwrap_or_default();
        if !kinds.is_empty() && !kinds.contains(&facts.kind.as_str()) {
            let kind = document.name();
            let message = format!("`{kind}` is for {}, but `{service}` is of kind `{}`", one_of(kinds), facts.kind);
            findings.error(at, "not-for-this-kind", message);
        }
    }

    fn database(&self, service: &str, document: &WorkloadDocument, at: Span, findings: &mut Findings) {
        let Some(facts) = self.services.and_then(|services| services.0.get(service)) else { return };
        if facts.databases.is_empty() && !workload::works_on(document.name()).any(|kind| kind == facts.kind) {
            return;
        }
        let known = || facts.databases.iter().map(String::as_str);
        match document.database() {
            Some(name) if !known().any(|known| known == name) => {
                let hint = did_you_mean(name, known()).unwrap_or_else(|| format!("expected {}", one_of(known())));
                findings.error(at, "unknown-database", format!("`{service}` has no database `{name}`")).hint(hint);
            }
            None if facts.databases.is_empty() => {
                findings.error(at, "unknown-database", format!("`{service}` has no database"));
            }
            _ => {}
        }
    }
}

pub(super) fn no_service(services: Option<&Services>, name: &str, at: Span, findings: &mut Findings) {
    let known: Vec<&str> = services.into_iter().flat_map(|services| services.0.keys()).map(String::as_str).collect();
    let hint = did_you_mean(name, known.iter().copied()).unwrap_or_else(|| format!("expected {}", one_of(known)));
    findings.error(at, "unknown-service", format!("the profile has no service `{name}`")).hint(hint);
}

fn task(document: &WorkloadDocument) -> Task {
    if let Some(of) = document.http() {
        return Task::Http { path: of.path.unwrap_or_else(|| "/".to_owned()), status: of.status.unwrap_or(200) };
    }
    match document.command() {
        Some(of) => Task::Command { command: of.command },
        None => Task::OfKind(document.of_kind().clone()),
    }
}

/// `400/s`, `90/m`
pub(crate) fn rate(text: &str) -> Option<f64> {
    let (number, unit) = text.split_once('/')?;
    let number: f64 = number.trim().parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)?;
    match unit.trim() {
        "s" => Some(number),
        "m" => Some(number / 60.0),
        _ => None,
    }
}
