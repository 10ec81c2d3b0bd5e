//! PURE: where the time of `up` went, from the events that it followed; [`waterfall`] shows it as text.
//!
//! The daemon says in each event that ends a service's start what its parts were; this adds what each service waited for, and which of
//! them decided how long all of it took.

mod waterfall;

use devenv_api::{Condition, Event, PhaseTiming, Service, ServiceTimings, StartPhase, Timings};
use indexmap::IndexMap;
use jiff::Timestamp;

pub(super) use waterfall::waterfall;

/// Times are whole milliseconds, and an event comes a little later than what it is about.
const ROUNDING_MS: u64 = 5;

/// What the events of one command have said so far.
pub(super) struct HeardEvents {
    began: Timestamp,
    /// When the daemon began with the services, in milliseconds since then.
    asked_ms: Option<u64>,
    services: IndexMap<String, Heard>,
}

#[derive(Default)]
struct Heard {
    phases: Vec<PhaseTiming>,
    ready_ms: Option<u64>,
}

impl HeardEvents {
    pub(super) fn since(began: Timestamp) -> Self {
        Self { began, asked_ms: None, services: IndexMap::new() }
    }

    pub(super) fn event(&mut self, event: &Event) {
        let at = event.time.parse::<Timestamp>().map_or(0, |time| time.duration_since(self.began).as_millis().max(0) as u64);
        if event.kind == "environment.up-asked" {
            self.asked_ms.get_or_insert(at);
        }
        // Before that they are about something else.
        let (Some(asked), Some(service)) = (self.asked_ms, &event.service) else { return };
        let phases = event.data.get("phases").cloned().and_then(|phases| serde_json::from_value::<Vec<PhaseTiming>>(phases).ok());
        let is_ready = matches!(event.kind.as_str(), "service.ready" | "service.completed");
        if phases.is_none() && !is_ready {
            return;
        }
        let heard = self.services.entry(service.clone()).or_default();
        let shifted = |part: PhaseTiming| PhaseTiming { from_ms: part.from_ms + asked, to_ms: part.to_ms + asked, ..part };
        heard.phases.extend(phases.into_iter().flatten().map(shifted));
        heard.ready_ms = is_ready.then_some(at);
    }

    /// `services`: all of the environment, with what they depend on.
    pub(super) fn timings(mut self, services: &[Service], total_ms: u64) -> Timings {
        let mut all: Vec<ServiceTimings> = services
            .iter()
            .map(|service| {
                let Heard { phases, ready_ms } = self.services.swap_remove(&service.name).unwrap_or_default();
                ServiceTimings { name: service.name.clone(), phases, ready_ms, waited_for: None }
            })
            .collect();
        let waits: Vec<Option<String>> =
            services.iter().zip(&all).map(|(service, timings)| waited_for(service, timings, &all).map(str::to_owned)).collect();
        for (timings, waited_for) in all.iter_mut().zip(waits) {
            timings.waited_for = waited_for;
        }
        all.sort_by_key(|timings| timings.ready_ms.unwrap_or(u64::MAX));
        let critical_path = critical_path(&all);
        Timings { total_ms, asked_ms: self.asked_ms.unwrap_or(total_ms), services: all, critical_path }
    }
}

/// The dependency that was the last to let it start, if everything else about it was done by then.
fn waited_for<'a>(service: &'a Service, timings: &ServiceTimings, all: &[ServiceTimings]) -> Option<&'a str> {
    let start = timings.phases.iter().position(|part| part.phase == StartPhase::Started)?;
    let started = timings.phases[start].from_ms;
    let own = start.checked_sub(1).map_or(0, |before| timings.phases[before].to_ms);
    let held = |(name, condition): (&'a String, &Condition)| {
        let dependency = all.iter().find(|timings| timings.name == *name)?;
        let at = match condition {
            Condition::Ready | Condition::Completed => ready_at(dependency)?,
            Condition::Started => dependency.phases.iter().find(|part| part.phase == StartPhase::Started)?.to_ms,
        };
        (at <= started + ROUNDING_MS && at + ROUNDING_MS >= own).then_some((at, name.as_str()))
    };
    service.depends_on.iter().filter_map(held).max().map(|(_, name)| name)
}

/// By the clock of its phases, which is that of the dependent's: an event may come later, when the machine is busy.
fn ready_at(timings: &ServiceTimings) -> Option<u64> {
    let ready = timings.ready_ms?;
    Some(timings.phases.last().map_or(ready, |last| last.to_ms))
}

/// The chain of waiting that ends with the service that was ready last, in the order of time.
fn critical_path(all: &[ServiceTimings]) -> Vec<String> {
    let mut path = Vec::new();
    let mut next = all.iter().filter(|timings| !timings.phases.is_empty()).max_by_key(|timings| timings.ready_ms);
    while let Some(timings) = next
        && !path.contains(&timings.name)
    {
        path.push(timings.name.clone());
        next = timings.waited_for.as_ref().and_then(|name| all.iter().find(|timings| timings.name == *name));
    }
    path.reverse();
    path
}

#[cfg(test)]
pub(super) mod tests {
    use devenv_api::ServiceState;
    use serde_json::json;

    use super::*;

    fn began() -> Timestamp {
        "2026-11-28T10:00:00.000000Z".parse().unwrap()
    }

    fn event(at_ms: i64, service: Option<&str>, kind: &str, data: serde_json::Value) -> Event {
        let time = began() + jiff::SignedDuration::from_millis(at_ms);
        let service = service.map(str::to_owned);
        Event { sequence: 1, time: format!("{time:.6}"), environment: "e".into(), service, kind: kind.into(), message: String::new(), data }
    }

    fn service(name: &str, depends_on: &[(&str, Condition)]) -> Service {
        let depends_on = depends_on.iter().map(|(name, condition)| ((*name).to_owned(), *condition)).collect();
        Service { depends_on, ..Service::new(name, "container", ServiceState::Ready) }
    }

    pub(in crate::cli::timings) fn example() -> Timings {
        let mut heard = HeardEvents::since(began());
        let part = |phase: &str, from_ms: u64, to_ms: u64| json!({ "phase": phase, "from_ms": from_ms, "to_ms": to_ms });
        for event in [
            // Of another command.
            event(10, Some("db"), "service.ready", json!({ "phases": [part("answered", 0, 5)] })),
            event(100, None, "environment.up-asked", json!({})),
            event(
                350,
                Some("cache"),
                "service.ready",
                json!({ "phases": [part("created", 0, 50), part("started", 50, 200), part("answered", 200, 250)] }),
            ),
            event(
                900,
                Some("db"),
                "service.ready",
                json!({ "phases": [part("created", 0, 50), part("started", 50, 200), part("answered", 200, 700), part("scripts", 700, 799)] }),
            ),
            event(
                1400,
                Some("migrate"),
                "service.completed",
                json!({ "phases": [part("created", 0, 50), part("started", 801, 1000), part("ran", 1000, 1300)] }),
            ),
            event(
                2000,
                Some("api"),
                "service.ready",
                json!({ "phases": [part("created", 0, 20), part("started", 1302, 1400), part("answered", 1400, 1900)] }),
            ),
        ] {
            heard.event(&event);
        }
        let services = [
            service("api", &[("db", Condition::Ready), ("cache", Condition::Ready), ("migrate", Condition::Completed)]),
            service("db", &[]),
            service("cache", &[]),
            service("migrate", &[("db", Condition::Ready)]),
            service("old", &[]),
        ];
        heard.timings(&services, 2010)
    }

    #[test]
    fn the_chain_of_waiting_that_ends_last_is_the_critical_path() {
        let timings = example();
        assert_eq!(timings.critical_path, ["db", "migrate", "api"]);
        let waits: Vec<_> = timings.services.iter().map(|service| (service.name.as_str(), service.waited_for.as_deref())).collect();
        assert_eq!(waits, [("cache", None), ("db", None), ("migrate", Some("db")), ("api", Some("migrate")), ("old", None)]);
        assert_eq!(timings.asked_ms, 100);
        assert_eq!(timings.services[1].phases[0], PhaseTiming { phase: StartPhase::Created, from_ms: 100, to_ms: 150 });
    }

    #[test]
    fn an_event_that_comes_late_changes_nothing_about_who_waited_for_whom() {
        let mut heard = HeardEvents::since(began());
        let phases = |from: u64, to: u64| json!({ "phases": [{ "phase": "started", "from_ms": from, "to_ms": to }] });
        heard.event(&event(0, None, "environment.up-asked", json!({})));
        heard.event(&event(80, Some("db"), "service.ready", phases(0, 50)));
        heard.event(&event(100, Some("api"), "service.ready", phases(51, 90)));
        let timings = heard.timings(&[service("api", &[("db", Condition::Ready)]), service("db", &[])], 100);
        assert_eq!(timings.critical_path, ["db", "api"]);
    }

    #[test]
    fn a_service_whose_own_image_took_longest_waited_for_nobody() {
        let mut heard = HeardEvents::since(began());
        heard.event(&event(0, None, "environment.up-asked", json!({})));
        heard.event(&event(50, Some("db"), "service.ready", json!({ "phases": [{ "phase": "started", "from_ms": 0, "to_ms": 50 }] })));
        let built =
            json!({ "phases": [{ "phase": "built", "from_ms": 0, "to_ms": 900 }, { "phase": "started", "from_ms": 900, "to_ms": 990 }] });
        heard.event(&event(1000, Some("api"), "service.ready", built));
        let timings = heard.timings(&[service("api", &[("db", Condition::Ready)]), service("db", &[])], 1000);
        assert_eq!(timings.critical_path, ["api"]);
    }
}
