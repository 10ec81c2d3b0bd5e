//! PURE: a report as text for a terminal, as JUnit for CI, and as one self-contained HTML page.

pub(crate) mod chart;
mod html;
mod junit;
mod words;

pub use html::html;
pub use junit::junit;
pub use words::{line, words};

use devenv_api::Report;
#[cfg(test)]
pub(crate) use tests::sample;

/// What happened to one fault, for a table or a chart. Milliseconds of the timeline.
struct Span<'a> {
    id: &'a str,
    fault: &'a str,
    service: &'a str,
    from_ms: f64,
    healed_ms: Option<f64>,
    ready_ms: Option<f64>,
    witness: &'a str,
    observed: bool,
}

fn spans(report: &Report) -> Vec<Span<'_>> {
    let zero = zero(report);
    let ms = |time: &str| time.parse::<jiff::Timestamp>().ok().map(|at| at.duration_since(zero).as_secs_f64() * 1000.0);
    let span = |fault: &'_ devenv_api::Fault| -> Option<(f64, Option<f64>, Option<f64>)> {
        let recovery = report.recovery.iter().find(|recovery| recovery.fault == fault.id);
        let from = ms(recovery.map_or(fault.injected_at.as_str(), |recovery| recovery.fault_at.as_str()))?;
        Some((
            from,
            recovery.and_then(|recovery| recovery.heal_ms).map(|after| from + after),
            recovery.and_then(|recovery| recovery.ready_ms).map(|after| from + after),
        ))
    };
    report
        .faults
        .iter()
        .filter_map(|fault| {
            let (from_ms, healed_ms, ready_ms) = span(fault)?;
            Some(Span {
                id: &fault.id,
                fault: &fault.fault,
                service: &fault.service,
                from_ms,
                healed_ms,
                ready_ms,
                witness: fault.witness.as_ref().map_or("", |witness| &witness.what),
                observed: fault.witness.as_ref().is_some_and(|witness| witness.observed),
            })
        })
        .collect()
}

/// The start of the timeline, or of the run if it never reached the timeline.
fn zero(report: &Report) -> jiff::Timestamp {
    let began = report.timeline.iter().find(|event| event.kind == "timeline.began").or(report.timeline.first());
    began.and_then(|event| event.time.parse().ok()).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
}

pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // XML does not allow control characters.
            c if c.is_control() && c != '\n' && c != '\t' => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use devenv_api::{CheckResult, Event, Fault, Recovery, RunAbout, RunService, Verdict, Witness, WorkloadResult};
    use serde_json::json;

    use super::*;

    pub(crate) fn sample() -> Report {
        let event = |sequence, time: &str, kind: &str, service: Option<&str>, message: &str, at_ms: i64| Event {
            sequence,
            time: format!("2026-11-20T10:00:{time}Z"),
            environment: "e".to_owned(),
            service: service.map(str::to_owned),
            kind: kind.to_owned(),
            message: message.to_owned(),
            data: json!({ "at_ms": at_ms }),
        };
        Report {
            scenario: "jobs".to_owned(),
            seed: 7,
            verdict: Verdict::Fail,
            healed: true,
            reason: Some("jobs.lost: 3 of 900 acknowledged operations were lost".to_owned()),
            timeline: vec![
                event(1, "00.000000", "timeline.began", None, "the timeline starts", 0),
                event(2, "02.000000", "fault.injected", Some("cache"), "cut: power-cut is on cache: <gone>", 2000),
                event(3, "02.740000", "fault.recovered", Some("cache"), "cut: cache has recovered", 2740),
            ],
            faults: vec![Fault {
                id: "cut".to_owned(),
                fault: "power-cut".to_owned(),
                service: "cache".to_owned(),
                parameters: json!({ "restart-after": "500ms" }),
                injected_at: "2026-11-20T10:00:02.000000Z".to_owned(),
                heals_at: None,
                witness: Some(Witness { observed: true, what: "the run <ended>".to_owned(), after_ms: Some(120) }),
                healed_at: Some("2026-11-20T10:00:02.500000Z".to_owned()),
            }],
            checks: vec![
                CheckResult {
                    name: "jobs.lost".to_owned(),
                    verdict: Verdict::Fail,
                    detail: "3 of 900 acknowledged operations were lost".to_owned(),
                    figures: serde_json::Map::new(),
                },
                CheckResult {
                    name: "cut.recovery".to_owned(),
                    verdict: Verdict::Pass,
                    detail: "ready 740 ms after the fault".to_owned(),
                    figures: serde_json::Map::new(),
                },
            ],
            recovery: vec![Recovery {
                fault: "cut".to_owned(),
                service: "cache".to_owned(),
                fault_at: "2026-11-20T10:00:02.000000Z".to_owned(),
                first_error_ms: Some(3.2),
                heal_ms: Some(500.0),
                ready_ms: Some(740.0),
                ok_ms: Some(760.0),
                baseline_ms: None,
            }],
            workloads: vec![WorkloadResult {
                name: "jobs".to_owned(),
                kind: "redis-jobs".to_owned(),
                service: "cache".to_owned(),
                attempted: 910,
                acknowledged: 900,
                failed: 0,
                unknown: 10,
                p50_ms: Some(0.4),
                p99_ms: Some(2.0),
                tenths: vec![(20, 0), (20, 0), (0, 5), (20, 0)],
                latency_ms: vec![Some((0.4, 1.0)), Some((0.5, 2.0)), None, Some((0.4, 900.0))],
            }],
            plan: None,
            prober_period_ms: 20,
            directory: None,
            about: Some(RunAbout {
                description: Some("The cache loses <power>.".to_owned()),
                began_at: "2026-11-20T09:59:58.000000Z".to_owned(),
                ended_at: "2026-11-20T10:00:09.400000Z".to_owned(),
                project: "/home/me/shop".to_owned(),
                instance: "default".to_owned(),
                profile: Some("shop".to_owned()),
                devenv: "0.1.0".to_owned(),
                services: vec![RunService { name: "cache".to_owned(), kind: "redis".to_owned(), image: Some("redis:7.4.1".to_owned()) }],
            }),
        }
    }

    #[test]
    fn a_report_reads_in_a_terminal() {
        insta::assert_snapshot!(anstream::adapter::strip_str(&words(&sample())).to_string(), @r"
        jobs (seed 7): fail
          jobs.lost: 3 of 900 acknowledged operations were lost

        Faults
          cut power-cut on cache at 2.00 s: witnessed: the run <ended>
            first error 3 ms, healed 500 ms, ready 740 ms, work resumed 760 ms

        Workloads
          jobs (redis-jobs): 900 acknowledged, 0 refused, 10 unknown, p50 0.4 ms, p99 2.0 ms

        Checks
          fail jobs.lost: 3 of 900 acknowledged operations were lost
          pass cut.recovery: ready 740 ms after the fault

        Services were probed every 20 ms.
        ");
    }

    #[test]
    fn continuous_integration_reads_every_check_and_fault_as_a_case() {
        insta::assert_snapshot!(junit(&sample()), @r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites name="jobs" tests="5" skipped="0" failures="2" errors="0">
            <testsuite name="jobs" tests="5" skipped="0" errors="0" failures="2">
                <properties>
                    <property name="seed" value="7"/>
                </properties>
                <testcase name="cut bites" classname="jobs"/>
                <testcase name="jobs.lost" classname="jobs">
                    <failure message="3 of 900 acknowledged operations were lost"/>
                </testcase>
                <testcase name="cut.recovery" classname="jobs"/>
                <testcase name="healed" classname="jobs"/>
                <testcase name="verdict" classname="jobs">
                    <failure message="jobs.lost: 3 of 900 acknowledged operations were lost"/>
                </testcase>
            </testsuite>
        </testsuites>
        "#);
    }

    #[test]
    fn the_page_says_what_was_run_when_and_on_what_and_plots_latency() {
        let page = html(&sample());
        for part in
            ["The cache loses &lt;power&gt;.", "2026-11-20 09:59:58 UTC", "11 s", "/home/me/shop", "0.1.0", "redis:7.4.1", "latency"]
        {
            assert!(page.contains(part), "{part}");
        }
        // A report of a former version says nothing of it.
        let former = html(&Report { about: None, ..sample() });
        assert!(former.contains("jobs.lost") && !former.contains("redis:7.4.1"));
    }

    #[test]
    fn the_page_is_self_contained_and_escapes_foreign_markup() {
        let page = html(&sample());
        for outside in ["http://", "https://", "src=", "<link", "@import", "url("] {
            assert!(!page.replace("http://www.w3.org/2000/svg", "").contains(outside), "{outside}");
        }
        assert!(page.contains("<svg") && page.contains("jobs.lost") && page.contains("&lt;gone&gt;") && !page.contains("<gone>"));
    }
}
