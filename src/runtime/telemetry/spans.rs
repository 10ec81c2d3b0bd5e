//! PURE: makes traces of operations and reloads from what an environment reports: when an operation began and ended, and its events.
//!
//! A trace of an operation has a span for each service that did something meanwhile, with the parts of its start below it, as the event
//! that ends a start names them. A reload or a restart that no operation asked for is a chain of events, each the cause of the next: its
//! spans are the times between them.

use std::collections::{HashMap, VecDeque};

use devenv_api::Operation;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::event::Event;

/// Beyond these the oldest events are forgotten: enough for an `up` of hundreds of services.
const MOST_EVENTS: usize = 4096;
const MOST_SPANS: usize = 4096;
/// The most events that are shown on one span.
const MOST_NOTES: usize = 64;
/// The longest text of a span, in characters.
const LONGEST_TEXT: usize = 500;
/// Shorter waits are not shown. The duration of an operation is in whole milliseconds, so its last event may seem to come after it.
const SHORTEST_WAIT: SignedDuration = SignedDuration::from_millis(2);

/// The events after which a service is as it was asked to be, or does not go on by itself.
const ENDS: &[&str] = &[
    "service.ready",
    "service.completed",
    "service.swapped",
    "service.signalled",
    "service.synced",
    "service.failed",
    "service.crash-loop",
    "service.reload-failed",
    "service.build-failed",
    "service.sync-failed",
    "service.run-failed",
];

/// What is known so far.
#[derive(Debug, Default)]
pub(super) struct Observer {
    /// Operations that have begun, by their ids.
    running: HashMap<String, Operation>,
    /// Of services, in the order of their numbers.
    recent: VecDeque<Event>,
}

/// A tree of spans; the first is the root.
#[derive(Debug)]
pub(super) struct Trace {
    id: String,
    spans: Vec<Span>,
}

#[derive(Debug)]
struct Span {
    /// The position of the span that contains it.
    parent: Option<usize>,
    name: String,
    from: Timestamp,
    to: Timestamp,
    attributes: Vec<(&'static str, String)>,
    /// What happened meanwhile.
    notes: Vec<(Timestamp, String)>,
    failure: Option<String>,
}

/// One part of a service's start. Times are milliseconds from a moment that all parts of one event share.
#[derive(Debug, Deserialize)]
struct Part {
    phase: String,
    from_ms: i64,
    to_ms: i64,
}

impl Observer {
    /// An operation began or ended.
    pub(super) fn operation(&mut self, operation: Operation, now: Timestamp) -> Option<Trace> {
        if !operation.state.has_ended() {
            self.running.insert(operation.id.clone(), operation);
            return None;
        }
        self.running.remove(&operation.id);
        let asked: Timestamp = operation.asked_at.parse().ok()?;
        let started = operation.started_at.as_deref().and_then(|time| time.parse().ok()).unwrap_or(asked);
        let to = operation.duration_ms.map_or(now, |duration| started + milliseconds(duration.cast_signed())).max(asked);
        let state = operation.state.as_str();
        let succeeded = state == "succeeded";
        let root = Span {
            attributes: vec![
                ("devenv.operation", operation.id.clone()),
                ("devenv.state", state.to_owned()),
                ("devenv.asked_by", operation.asked_by.command.clone()),
            ],
            failure: (!succeeded).then(|| operation.message.clone().unwrap_or_else(|| state.to_owned())),
            ..Span::new(None, operation.kind.as_str(), asked, to)
        };
        let mut spans = vec![root];
        if started.duration_since(asked) >= SHORTEST_WAIT {
            spans.push(Span::new(Some(0), "wait for other operations", asked, started));
        }
        let mut services: Vec<(&str, Vec<&Event>)> = Vec::new();
        // An operation that runs at the same time on another service is seen too: it shares the machine.
        let meanwhile = |at: Timestamp| at >= started && at <= to + SHORTEST_WAIT;
        for event in self.recent.iter().filter(|event| time(event).is_some_and(meanwhile)) {
            let Some(name) = event.service.as_deref() else { continue };
            match services.iter_mut().find(|(known, _)| *known == name) {
                Some((_, events)) => events.push(event),
                None => services.push((name, vec![event])),
            }
        }
        for (name, events) in services {
            add_service(&mut spans, name, &events);
        }
        spans.truncate(MOST_SPANS);
        Some(Trace { id: operation.id, spans })
    }

    /// Something happened.
    pub(super) fn event(&mut self, event: Event) -> Option<Trace> {
        event.service.as_ref()?;
        if self.recent.len() == MOST_EVENTS {
            self.recent.pop_front();
        }
        let is_end = ENDS.contains(&event.kind.as_str()) && self.running.is_empty();
        self.recent.push_back(event);
        is_end.then(|| self.chain()).flatten()
    }

    /// The trace of what led to the last event, unless somebody asked for it: then an operation shows it.
    fn chain(&self) -> Option<Trace> {
        let mut chain = vec![self.recent.back()?];
        while let Some(cause) = chain.last()?.data.get("cause").and_then(Value::as_u64) {
            // What is not of a service was asked for.
            let position = self.recent.binary_search_by_key(&cause, |event| event.sequence).ok()?;
            // A cause always comes before its effect, so this ends.
            let found = self.recent.get(position).filter(|found| found.sequence < chain.last().map_or(0, |event| event.sequence))?;
            // What came before is another story: the start of what has crashed now.
            if ENDS.contains(&found.kind.as_str()) {
                break;
            }
            chain.push(found);
        }
        chain.reverse();
        let (first, last) = (chain[0], chain[chain.len() - 1]);
        if chain.len() < 2 || first.kind.ends_with("-asked") {
            return None;
        }
        let service = last.service.as_deref().unwrap_or_default();
        let what = if first.kind == "service.changed" { "reload of" } else { "restart of" };
        let (from, to) = (time(first)?, time(last)?);
        let root = Span {
            attributes: vec![("devenv.service", service.to_owned())],
            notes: vec![(from, first.message.clone())],
            failure: failure(last),
            ..Span::new(None, &format!("{what} {service}"), from, to)
        };
        let mut spans = vec![root];
        for pair in chain.windows(2) {
            let attributes = pair[1].service.iter().map(|service| ("devenv.service", service.clone())).collect();
            let step = Span::new(Some(0), step(&pair[1].kind), time(pair[0])?, time(pair[1])?);
            let at = step.to;
            spans.push(Span { attributes, notes: vec![(at, pair[1].message.clone())], failure: failure(pair[1]), ..step });
        }
        spans.truncate(MOST_SPANS);
        // The numbers of an environment that was removed begin again.
        Some(Trace { id: format!("{}/{}", last.sequence, last.time), spans })
    }
}

/// The span of a service, and below it the parts of its starts.
fn add_service(spans: &mut Vec<Span>, name: &str, events: &[&Event]) {
    let parent = spans.len();
    let attributes = || vec![("devenv.service", name.to_owned())];
    let at = |event: &Event| time(event).unwrap_or(Timestamp::UNIX_EPOCH);
    let (Some(first), Some(last)) = (events.first(), events.last()) else { return };
    let mut from = at(first);
    let mut parts = Vec::new();
    for event in events {
        let phases =
            event.data.get("phases").cloned().and_then(|phases| serde_json::from_value::<Vec<Part>>(phases).ok()).unwrap_or_default();
        // The event is emitted when the last part has ended.
        let end = phases.iter().map(|part| part.to_ms).max().unwrap_or(0);
        let before = |ms: i64| at(event) - milliseconds(end.saturating_sub(ms).max(0));
        for part in phases {
            let span = Span::new(Some(parent), &part.phase, before(part.from_ms).max(spans[0].from), before(part.to_ms).max(spans[0].from));
            from = from.min(span.from);
            parts.push(Span { attributes: attributes(), ..span });
        }
    }
    let notes = events.iter().map(|event| (at(event), event.message.clone())).take(MOST_NOTES).collect();
    let failure = events.iter().rev().find_map(|event| failure(event));
    spans.push(Span { attributes: attributes(), notes, failure, ..Span::new(Some(0), name, from, at(last)) });
    spans.extend(parts);
}

impl Span {
    fn new(parent: Option<usize>, name: &str, from: Timestamp, to: Timestamp) -> Self {
        let (attributes, notes) = (Vec::new(), Vec::new());
        Self { parent, name: name.to_owned(), from, to: to.max(from), attributes, notes, failure: None }
    }
}

impl Trace {
    /// As a request of the OpenTelemetry protocol, in JSON.
    pub(super) fn request(&self, environment: &str) -> Value {
        let trace = &digest(environment, &self.id, None)[..32];
        let id = |position: usize| digest(environment, &self.id, Some(position))[..16].to_owned();
        let text = |key: &str, value: &str| json!({ "key": key, "value": { "stringValue": cut(value) } });
        let shown = |(position, span): (usize, &Span)| {
            let attributes: Vec<Value> = span.attributes.iter().map(|(key, value)| text(key, value)).collect();
            let notes: Vec<Value> =
                span.notes.iter().map(|(at, message)| json!({ "timeUnixNano": nanoseconds(*at), "name": cut(message) })).collect();
            let mut shown = json!({
                "traceId": trace, "spanId": id(position), "name": span.name, "kind": 1,
                "startTimeUnixNano": nanoseconds(span.from), "endTimeUnixNano": nanoseconds(span.to),
                "attributes": attributes, "events": notes,
            });
            if let Some(parent) = span.parent {
                shown["parentSpanId"] = id(parent).into();
            }
            if let Some(failure) = &span.failure {
                shown["status"] = json!({ "code": 2, "message": cut(failure) });
            }
            shown
        };
        let spans: Vec<Value> = self.spans.iter().enumerate().map(shown).collect();
        let resource =
            [text("service.name", "devenv"), text("service.version", env!("CARGO_PKG_VERSION")), text("devenv.environment", environment)];
        json!({ "resourceSpans": [{ "resource": { "attributes": resource }, "scopeSpans": [{ "scope": { "name": "devenv" }, "spans": spans }] }] })
    }
}

/// The part of a kind of event that says what was done.
fn step(kind: &str) -> &str {
    kind.strip_prefix("service.").unwrap_or(kind)
}

fn failure(event: &Event) -> Option<String> {
    let failed = event.kind.ends_with("failed") || event.kind == "service.crash-loop";
    failed.then(|| event.message.clone())
}

fn time(event: &Event) -> Option<Timestamp> {
    event.time.parse().ok()
}

fn milliseconds(count: i64) -> SignedDuration {
    // No span is longer than a year, whatever a record says.
    SignedDuration::from_millis(count.clamp(0, 366 * 24 * 3_600_000))
}

fn nanoseconds(at: Timestamp) -> String {
    at.as_nanosecond().to_string()
}

fn cut(text: &str) -> String {
    text.chars().take(LONGEST_TEXT).collect()
}

fn digest(environment: &str, trace: &str, span: Option<usize>) -> String {
    hex::encode(Sha256::digest(format!("{environment}\n{trace}\n{span:?}")))
}

#[cfg(test)]
mod tests {
    use devenv_api::{AskedBy, OperationKind, OperationState};

    use super::*;

    fn at(ms: i64) -> Timestamp {
        "2026-11-28T10:00:00.000000Z".parse::<Timestamp>().unwrap() + SignedDuration::from_millis(ms)
    }

    fn event(sequence: u64, ms: i64, service: &str, kind: &str, data: Value) -> Event {
        let (time, message) = (format!("{:.6}", at(ms)), format!("{service}: {kind}"));
        Event { sequence, time, environment: "e".into(), service: Some(service.into()), kind: kind.into(), message, data }
    }

    fn operation(state: OperationState, started: Option<i64>, duration: Option<u64>) -> Operation {
        Operation {
            id: "up-1".into(),
            kind: OperationKind::Up,
            environment: Some("e".into()),
            state,
            asked_by: AskedBy { command: "devenv up".into(), ..AskedBy::default() },
            asked_at: at(0).to_string(),
            started_at: started.map(|ms| at(ms).to_string()),
            duration_ms: duration,
            progress: None,
            message: (state == OperationState::Failed).then(|| "db: it exited".into()),
        }
    }

    /// Name, parent, and when it began and ended.
    fn shown(trace: &Trace) -> Vec<(String, Option<usize>, i64, i64)> {
        let since = |time: Timestamp| time.duration_since(at(0)).as_millis() as i64;
        trace.spans.iter().map(|span| (span.name.clone(), span.parent, since(span.from), since(span.to))).collect()
    }

    fn span(name: &str, parent: Option<usize>, from: i64, to: i64) -> (String, Option<usize>, i64, i64) {
        (name.to_owned(), parent, from, to)
    }

    #[test]
    fn an_operation_is_a_waterfall_of_its_services_and_the_parts_of_their_starts() {
        let mut observer = Observer::default();
        assert!(observer.operation(operation(OperationState::Running, Some(5), None), at(5)).is_none());
        observer.event(event(1, 1, "old", "service.stopped", Value::Null));
        observer.event(event(2, 20, "db", "service.created", Value::Null));
        observer.event(event(3, 30, "web", "service.created", Value::Null));
        let phases = json!([{ "phase": "created", "from_ms": 2, "to_ms": 12 }, { "phase": "answered", "from_ms": 12, "to_ms": 92 }]);
        observer.event(event(4, 100, "db", "service.ready", json!({ "phases": phases })));
        let trace = observer.operation(operation(OperationState::Succeeded, Some(5), Some(120)), at(999)).unwrap();
        assert_eq!(
            shown(&trace),
            [
                span("up", None, 0, 125),
                span("wait for other operations", Some(0), 0, 5),
                span("db", Some(0), 10, 100),
                span("created", Some(2), 10, 20),
                span("answered", Some(2), 20, 100),
                span("web", Some(0), 30, 30),
            ]
        );
        assert!(trace.spans.iter().all(|span| span.failure.is_none()));
    }

    #[test]
    fn a_failed_operation_and_its_failed_service_are_errors() {
        let mut observer = Observer::default();
        observer.event(event(1, 20, "db", "service.failed", Value::Null));
        let trace = observer.operation(operation(OperationState::Failed, Some(1), Some(50)), at(51)).unwrap();
        let failures: Vec<_> = trace.spans.iter().map(|span| span.failure.as_deref()).collect();
        assert_eq!(failures, [Some("db: it exited"), Some("db: service.failed")]);
    }

    #[test]
    fn a_reload_is_the_chain_from_the_saved_file_to_the_ready_service() {
        let mut observer = Observer::default();
        let mut quiet = |event| assert!(observer.event(event).is_none());
        quiet(event(1, 0, "web", "service.changed", Value::Null));
        quiet(event(2, 40, "web", "service.stopped", json!({ "cause": 1 })));
        quiet(event(3, 41, "db", "service.unhealthy", Value::Null));
        quiet(event(4, 60, "web", "service.started", json!({ "cause": 2 })));
        let trace = observer.event(event(5, 200, "web", "service.ready", json!({ "cause": 4 }))).unwrap();
        assert_eq!(
            shown(&trace),
            [
                span("reload of web", None, 0, 200),
                span("stopped", Some(0), 0, 40),
                span("started", Some(0), 40, 60),
                span("ready", Some(0), 60, 200)
            ]
        );
    }

    #[test]
    fn a_restart_begins_with_the_crash_and_not_with_the_start_before_it() {
        let mut observer = Observer::default();
        let mut quiet = |event| assert!(observer.event(event).is_none());
        quiet(event(9, 0, "web", "service.restart-asked", Value::Null));
        quiet(event(10, 10, "web", "service.stopped", json!({ "cause": 9 })));
        quiet(event(13, 50, "web", "service.ready", json!({ "cause": 10 })));
        quiet(event(14, 500, "web", "service.ended", json!({ "cause": 13 })));
        quiet(event(15, 510, "web", "service.restarting", json!({ "cause": 14 })));
        quiet(event(16, 600, "web", "service.started", json!({ "cause": 15 })));
        let trace = observer.event(event(17, 700, "web", "service.ready", json!({ "cause": 16 }))).unwrap();
        let names: Vec<_> = trace.spans.iter().map(|span| span.name.as_str()).collect();
        assert_eq!(names, ["restart of web", "restarting", "started", "ready"]);
    }

    #[test]
    fn what_an_operation_has_asked_for_is_not_traced_twice() {
        let mut observer = Observer::default();
        observer.event(event(2, 40, "web", "service.restart-asked", Value::Null));
        assert!(observer.event(event(3, 60, "web", "service.ready", json!({ "cause": 2 }))).is_none());
        // Of the environment, whose events are not kept.
        assert!(observer.event(event(5, 70, "web", "service.ready", json!({ "cause": 4 }))).is_none());
        observer.operation(operation(OperationState::Running, Some(80), None), at(80));
        observer.event(event(6, 90, "web", "service.stopped", Value::Null));
        assert!(observer.event(event(7, 99, "web", "service.ready", json!({ "cause": 6 }))).is_none());
    }

    #[test]
    fn causes_and_times_that_cannot_be_are_refused_without_end_or_panic() {
        let mut observer = Observer::default();
        assert!(observer.event(event(1, 0, "web", "service.ready", json!({ "cause": 1 }))).is_none());
        assert!(observer.event(event(2, 0, "web", "service.ready", json!({ "cause": "x" }))).is_none());
        let strange = json!([{ "phase": "x", "from_ms": i64::MIN, "to_ms": i64::MAX }]);
        observer.event(event(3, 10, "web", "service.ready", json!({ "phases": strange })));
        let trace = observer.operation(operation(OperationState::Succeeded, None, Some(u64::MAX)), at(20)).unwrap();
        assert!(trace.spans.iter().all(|span| span.from <= span.to && span.from >= at(0)));
        for sequence in 10..20_000 {
            observer.event(event(sequence, 20, "web", "service.ready", Value::Null));
        }
        assert!(observer.recent.len() <= MOST_EVENTS);
        assert!(
            observer.operation(operation(OperationState::Succeeded, Some(0), Some(50)), at(20)).unwrap().spans[1].notes.len() <= MOST_NOTES
        );
    }

    #[test]
    fn the_request_has_ids_of_the_right_length_and_names_parents() {
        let mut observer = Observer::default();
        observer.event(event(1, 20, "db", "service.ready", Value::Null));
        let trace = observer.operation(operation(OperationState::Succeeded, Some(0), Some(50)), at(50)).unwrap();
        let request = trace.request("e");
        let spans = request.pointer("/resourceSpans/0/scopeSpans/0/spans").unwrap().as_array().unwrap();
        assert_eq!(spans.len(), 2);
        assert!(spans.iter().all(|span| span["traceId"].as_str().unwrap().len() == 32 && span["spanId"].as_str().unwrap().len() == 16));
        assert_eq!((spans[0].get("parentSpanId"), &spans[1]["parentSpanId"]), (None, &spans[0]["spanId"]));
        assert_eq!(spans[0]["endTimeUnixNano"], "1795860000050000000");
        assert_ne!(request, trace.request("f"));
    }
}
