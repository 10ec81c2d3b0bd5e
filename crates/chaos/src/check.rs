//! PURE: decides whether a check of the scenario holds, from what was counted.

use std::{collections::HashMap, time::Duration};

use devenv_api::{CheckResult, Recovery, Verdict};
use serde_json::{Map, Value, json};

use super::{
    consistency::Consistency,
    recovery::Answers,
    scenario::{Check, Claim},
};

/// The results that checks are compared with.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// By workload; an error says why its data could not be read back.
    pub consistencies: HashMap<String, Result<Consistency, String>>,
    pub recoveries: Vec<Recovery>,
    /// By service: when it answered, from the start of the timeline to its end.
    pub answers: HashMap<String, Answers>,
    pub span_us: (u64, u64),
    /// By fault id: the time from injection to recovery, in microseconds of the run.
    pub affected_us: HashMap<String, (u64, u64)>,
    /// By check: how its command ended.
    pub commands: HashMap<String, Result<i32, String>>,
}

pub(crate) fn check(check: &Check, evidence: &Evidence) -> CheckResult {
    let outcome = match &check.claim {
        Claim::Lost { workload, most, window } => evidence.consistency(workload).map(|consistency| lost(consistency, *most, *window)),
        Claim::Holes { workload, most } => evidence
            .consistency(workload)
            .map(|consistency| count("holes", "older ones are missing while newer ones exist", consistency, consistency.holes, *most)),
        Claim::Duplicates { workload, most } => evidence
            .consistency(workload)
            .map(|consistency| count("duplicates", "exist more than once", consistency, consistency.duplicates, *most)),
        Claim::Unexpected { workload, most } => evidence.consistency(workload).map(|consistency| {
            count("unexpected", "exist although they were refused or never sent", consistency, consistency.unexpected, *most)
        }),
        Claim::Recovery { id, most } => recovery(id, *most, evidence),
        Claim::Available { service, least, except } => available(service, *least, except, evidence),
        Claim::Command { .. } => command(&check.name, evidence),
    };
    let (verdict, detail, figures) = outcome.unwrap_or_else(|why| (Verdict::Unknown, why, Map::new()));
    CheckResult { name: check.name.clone(), verdict, detail, figures }
}

type Outcome = (Verdict, String, Map<String, Value>);

impl Evidence {
    fn consistency(&self, workload: &str) -> Result<&Consistency, String> {
        match self.consistencies.get(workload) {
            Some(Ok(consistency)) => Ok(consistency),
            Some(Err(why)) => Err(format!("the data that `{workload}` wrote cannot be read back: {why}")),
            None => Err(format!("`{workload}` was not read back")),
        }
    }
}

fn lost(consistency: &Consistency, most: Option<u64>, window: Option<Duration>) -> Outcome {
    let window_ms = consistency.window_us as f64 / 1000.0;
    let within = window.is_none_or(|window| consistency.window_us <= window.as_micros() as u64);
    let few = most.is_none_or(|most| consistency.lost <= most);
    let mut words = vec![format!("{} of {} acknowledged operations were lost", consistency.lost, consistency.acknowledged)];
    if consistency.lost > 0 {
        words.push(format!("those of {window_ms:.0} ms"));
        words.extend(consistency.first_lost.map(|(client, sequence)| format!("first number {sequence} of client {client}")));
    }
    words.extend(most.filter(|_| !few).map(|most| format!("with at most {most} allowed")));
    words.extend(window.filter(|_| !within).map(|window| format!("with at most {} ms allowed", window.as_millis())));
    (holds(within && few), words.join(", "), figures(consistency))
}

fn count(name: &str, words: &str, consistency: &Consistency, found: u64, most: u64) -> Outcome {
    let bound = if found > most { format!(", with at most {most} allowed") } else { String::new() };
    let mut figures = figures(consistency);
    figures.insert(name.to_owned(), found.into());
    (holds(found <= most), format!("{found} {words}{bound}"), figures)
}

fn figures(consistency: &Consistency) -> Map<String, Value> {
    let value = json!({
        "attempted": consistency.attempted,
        "acknowledged": consistency.acknowledged,
        "failed": consistency.failed,
        "unknown": consistency.unknown,
        "appeared": consistency.appeared,
        "lost": consistency.lost,
        "window_ms": consistency.window_us as f64 / 1000.0,
        "holes": consistency.holes,
        "duplicates": consistency.duplicates,
        "unexpected": consistency.unexpected,
    });
    match value {
        Value::Object(figures) => figures,
        _ => Map::new(),
    }
}

fn recovery(id: &str, most: Duration, evidence: &Evidence) -> Result<Outcome, String> {
    let Some(recovery) = evidence.recoveries.iter().find(|recovery| recovery.fault == id) else {
        return Err(format!("`{id}` was not injected"));
    };
    let limit = most.as_secs_f64() * 1000.0;
    let mut figures = Map::new();
    figures.insert("max_ms".to_owned(), limit.into());
    Ok(match recovery.ready_ms {
        Some(ready) => {
            figures.insert("ready_ms".to_owned(), ready.into());
            let from_heal = recovery.heal_ms.filter(|heal| *heal > 0.0 && *heal < ready);
            let from_heal = from_heal.map(|heal| format!(", {:.0} ms after the fault was undone", ready - heal)).unwrap_or_default();
            let bound = if ready > limit { format!(", with at most {limit:.0} ms allowed") } else { String::new() };
            (holds(ready <= limit), format!("ready {ready:.0} ms after the fault{from_heal}{bound}"), figures)
        }
        None => (Verdict::Fail, "not ready again before the run ended".to_owned(), figures),
    })
}

fn available(service: &str, least: f64, except: &[String], evidence: &Evidence) -> Result<Outcome, String> {
    let answers = evidence.answers.get(service).ok_or_else(|| format!("`{service}` has no probe that could measure its availability"))?;
    let spans: Vec<(u64, u64)> = except.iter().filter_map(|id| evidence.affected_us.get(id)).copied().collect();
    let share = answers.share(evidence.span_us.0, evidence.span_us.1, &spans);
    let mut figures = Map::new();
    figures.insert("share".to_owned(), share.into());
    Ok((holds(share >= least), format!("answered {:.2} % of the time, required are {:.2} %", share * 100.0, least * 100.0), figures))
}

fn command(name: &str, evidence: &Evidence) -> Result<Outcome, String> {
    match evidence.commands.get(name) {
        Some(Ok(code)) => {
            Ok((holds(*code == 0), format!("the command exited with {code}"), Map::from_iter([("code".to_owned(), (*code).into())])))
        }
        Some(Err(why)) => Err(format!("the command cannot be run: {why}")),
        None => Err("the command was not run".to_owned()),
    }
}

fn holds(good: bool) -> Verdict {
    if good { Verdict::Pass } else { Verdict::Fail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(claim: Claim, evidence: &Evidence) -> String {
        let result = check(&Check { name: "x".to_owned(), claim }, evidence);
        format!("{}: {}", result.verdict, result.detail)
    }

    #[test]
    fn claims_hold_or_say_by_how_much_they_do_not() {
        let consistency =
            Consistency { acknowledged: 100, lost: 3, window_us: 1_200_000, first_lost: Some((1, 9)), holes: 1, ..Consistency::default() };
        let recovery = Recovery {
            fault: "cut".to_owned(),
            service: "cache".to_owned(),
            fault_at: String::new(),
            first_error_ms: Some(3.0),
            heal_ms: Some(500.0),
            ready_ms: Some(740.0),
            ok_ms: None,
            baseline_ms: None,
        };
        let evidence = Evidence {
            consistencies: [("keys".to_owned(), Ok(consistency)), ("gone".to_owned(), Err("refused".to_owned()))].into(),
            recoveries: vec![recovery],
            ..Evidence::default()
        };
        let lost = |most, window: Option<u64>| Claim::Lost { workload: "keys".to_owned(), most, window: window.map(Duration::from_millis) };
        let words = "3 of 100 acknowledged operations were lost, those of 1200 ms, first number 9 of client 1";
        assert_eq!(checked(lost(None, Some(2000)), &evidence), format!("pass: {words}"));
        assert_eq!(checked(lost(Some(0), None), &evidence), format!("fail: {words}, with at most 0 allowed"));
        assert_eq!(checked(lost(None, Some(1000)), &evidence), format!("fail: {words}, with at most 1000 ms allowed"));
        assert!(checked(Claim::Holes { workload: "keys".to_owned(), most: 0 }, &evidence).starts_with("fail: 1 "));
        assert!(
            checked(Claim::Lost { workload: "gone".to_owned(), most: Some(0), window: None }, &evidence)
                .starts_with("unknown: the data that `gone`")
        );
        let recovery = |most| Claim::Recovery { id: "cut".to_owned(), most: Duration::from_millis(most) };
        assert_eq!(checked(recovery(1000), &evidence), "pass: ready 740 ms after the fault, 240 ms after the fault was undone");
        assert_eq!(
            checked(recovery(700), &evidence),
            "fail: ready 740 ms after the fault, 240 ms after the fault was undone, with at most 700 ms allowed"
        );
        assert!(checked(Claim::Recovery { id: "x".to_owned(), most: Duration::ZERO }, &evidence).starts_with("unknown: "));
    }
}
