//! The `checks` of a scenario.

use super::Validator;
use devenv_profile::reading::{Node, Span, did_you_mean, one_of};
use devenv_spec::Period;

use crate::{
    document::CheckDocument,
    scenario::{Check, Claim, Workload},
};

impl Validator<'_> {
    pub(super) fn checks(&mut self, workloads: &[Workload]) -> Vec<Check> {
        let root = self.root;
        let mut checks = Vec::new();
        for (name, document) in &self.document.checks {
            let Some(entry) = root.get("checks").and_then(|checks| checks.entry(name)) else { continue };
            let claim = self.claim(name, document, workloads, entry.key, &entry.node);
            checks.extend(claim.map(|claim| Check { name: name.clone(), claim }));
        }
        checks
    }

    fn claim(&mut self, name: &str, document: &CheckDocument, workloads: &[Workload], key: Span, node: &Node) -> Option<Claim> {
        if let Some(command) = &document.command {
            if command.is_empty() {
                self.findings.error(key, "empty-command", "`command` must not be empty");
            }
            return Some(Claim::Command { command: command.clone() });
        }
        let Some((owner, what)) = name.split_once('.') else {
            self.findings
                .error(key, "unknown-check", format!("`{name}` is not a check"))
                .hint("a check is `WORKLOAD.lost`, `.holes`, `.duplicates`, `.unexpected`, `ID.recovery`, `SERVICE.available`, or has a `command`");
            return None;
        };
        let known = ["lost", "holes", "duplicates", "unexpected", "recovery", "available"];
        if !known.contains(&what) {
            let hint = did_you_mean(what, known).unwrap_or_else(|| format!("expected {}", one_of(known)));
            self.findings.error(key, "unknown-check", format!("`{what}` cannot be checked")).hint(hint);
            return None;
        }
        let at = |field: &str| node.get(field).map_or(key, |node| node.span);
        match what {
            "recovery" => {
                if !self.document.timeline.iter().any(|entry| entry.id == owner) {
                    self.no_entry(owner, key);
                }
                let most = document.max.as_deref().and_then(|max| max.parse::<Period>().ok());
                if most.is_none() {
                    self.findings
                        .error(at("max"), "bad-duration", format!("`{name}` needs a duration as `max`"))
                        .hint("write `{ max: 30s }`");
                }
                Some(Claim::Recovery { id: owner.to_owned(), most: most?.duration() })
            }
            "available" => {
                if self.services.is_some_and(|services| !services.0.contains_key(owner)) {
                    self.no_service(owner, key);
                }
                for id in document
                    .except
                    .iter()
                    .filter(|id| !self.document.timeline.iter().any(|entry| entry.id == **id))
                    .cloned()
                    .collect::<Vec<_>>()
                {
                    self.no_entry(&id, at("except"));
                }
                let share = document.min.as_deref().and_then(share);
                if share.is_none() {
                    self.findings
                        .error(at("min"), "bad-value", format!("`{name}` needs a percentage as `min`"))
                        .hint("write `{ min: 99% }`");
                }
                Some(Claim::Available { service: owner.to_owned(), least: share?, except: document.except.clone() })
            }
            _ => self.count(name, owner, what, document, workloads, (key, at("max"))),
        }
    }

    fn count(
        &mut self,
        name: &str,
        owner: &str,
        what: &str,
        document: &CheckDocument,
        workloads: &[Workload],
        (key, at): (Span, Span),
    ) -> Option<Claim> {
        let Some(workload) = workloads.iter().find(|workload| workload.name == owner) else {
            let names = || workloads.iter().map(|workload| workload.name.as_str());
            let hint = did_you_mean(owner, names()).unwrap_or_else(|| format!("expected {}", one_of(names())));
            self.findings.error(key, "unknown-workload", format!("unknown workload `{owner}`")).hint(hint);
            return None;
        };
        if !workload.task.keeps() {
            let message = format!("`{}` stores nothing that can be read back", workload.task.kind());
            self.findings.error(key, "unknown-check", message).hint("use a check with a `command`");
        }
        let most = match document.max.as_deref().map(str::parse::<u64>) {
            None => None,
            Some(Ok(most)) => Some(most),
            Some(Err(_)) => {
                self.findings.error(at, "bad-value", format!("`max` of `{name}` must be a whole number")).hint("write `{ max: 0 }`");
                return None;
            }
        };
        let workload = owner.to_owned();
        let window = document.max_window.map(Period::duration);
        if what == "lost" {
            if most.is_none() && window.is_none() {
                self.findings
                    .error(key, "missing-field", format!("`{name}` needs `max` or `max-window`"))
                    .hint("write `{ max: 0 }` or `{ max-window: 1s }`");
            }
            return Some(Claim::Lost { workload, most, window });
        }
        if window.is_some() {
            self.findings.error(key, "bad-value", format!("`max-window` is only for `lost`, not for `{what}`"));
        }
        let Some(most) = most else {
            self.findings.error(key, "missing-field", format!("`{name}` needs `max`")).hint("write `{ max: 0 }`");
            return None;
        };
        Some(match what {
            "holes" => Claim::Holes { workload, most },
            "duplicates" => Claim::Duplicates { workload, most },
            _ => Claim::Unexpected { workload, most },
        })
    }
}

/// `99.5%`, `0.995`
fn share(text: &str) -> Option<f64> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim().parse::<f64>().ok()? / 100.0,
        None => text.parse().ok()?,
    };
    (0.0..=1.0).contains(&share).then_some(share)
}
