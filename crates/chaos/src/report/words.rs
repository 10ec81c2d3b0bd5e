//! The report on a terminal.

use std::fmt::Write;

use anstyle::{AnsiColor, Style};
use devenv_api::{Event, Report, Verdict};

use super::spans;

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();

/// An event during the run: `+2.00 s  cut: power-cut is active on cache`.
pub fn line(event: &Event) -> String {
    let at = event.data.get("at_ms").and_then(serde_json::Value::as_i64);
    let at = at.map_or_else(|| " ".repeat(10), |at| format!("{:+8.2} s", at as f64 / 1000.0));
    format!("{DIM}{at}{DIM:#}  {}", event.message)
}

pub fn words(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(text, "{BOLD}{}{BOLD:#} (seed {}): {}", report.scenario, report.seed, painted(report.verdict));
    if let Some(reason) = &report.reason {
        let _ = writeln!(text, "  {}", reason.replace("; ", "\n  "));
    }
    if !report.healed {
        let bad = AnsiColor::Red.on_default().bold();
        let _ = writeln!(text, "  {bad}not undone{bad:#}: `devenv chaos status` shows the active faults, `devenv chaos heal` undoes them");
    }
    let _ = writeln!(text, "\n{BOLD}Faults{BOLD:#}");
    for span in spans(report) {
        let recovery = report.recovery.iter().find(|recovery| recovery.fault == span.id);
        let times = recovery.map(|recovery| {
            [
                ("first error", recovery.first_error_ms),
                ("healed", recovery.heal_ms),
                ("ready", recovery.ready_ms),
                ("work resumed", recovery.ok_ms),
                ("full speed", recovery.baseline_ms),
            ]
            .into_iter()
            .filter_map(|(what, at)| at.map(|at| format!("{what} {at:.0} ms")))
            .collect::<Vec<_>>()
            .join(", ")
        });
        let seen = if span.observed { "witnessed" } else { "effect not observed" };
        let _ =
            writeln!(text, "  {} {} on {} at {:.2} s: {seen}: {}", span.id, span.fault, span.service, span.from_ms / 1000.0, span.witness);
        let _ = writeln!(text, "    {}", times.filter(|times| !times.is_empty()).unwrap_or_else(|| "no client noticed".to_owned()));
    }
    let _ = writeln!(text, "\n{BOLD}Workloads{BOLD:#}");
    for workload in &report.workloads {
        let quick =
            workload.p50_ms.zip(workload.p99_ms).map(|(p50, p99)| format!(", p50 {p50:.1} ms, p99 {p99:.1} ms")).unwrap_or_default();
        let _ = writeln!(
            text,
            "  {} ({}): {} acknowledged, {} refused, {} unknown{quick}",
            workload.name, workload.kind, workload.acknowledged, workload.failed, workload.unknown
        );
    }
    let _ = writeln!(text, "\n{BOLD}Checks{BOLD:#}");
    for check in &report.checks {
        let _ = writeln!(text, "  {} {}: {}", painted(check.verdict), check.name, check.detail);
    }
    let _ = write!(text, "\nServices were probed every {} ms.", report.prober_period_ms);
    if let Some(directory) = &report.directory {
        let _ = write!(text, " The journal and the operation logs are in {directory}.");
    }
    text
}

fn painted(verdict: Verdict) -> String {
    let style = match verdict {
        Verdict::Pass => AnsiColor::Green.on_default(),
        Verdict::Fail => AnsiColor::Red.on_default().bold(),
        Verdict::Unknown => AnsiColor::Yellow.on_default(),
    };
    format!("{style}{verdict}{style:#}")
}
