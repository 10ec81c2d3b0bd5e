//! The report as one HTML page: no script, no other file, readable in dark mode.

use std::fmt::Write;

use devenv_api::{Report, RunAbout, Verdict};

use super::{
    Span,
    chart::{Axis, CHART, GAP, MARGIN, ROW, WIDTH, chart, head, latency, short, ticks},
    escaped, spans, zero,
};

pub fn html(report: &Report) -> String {
    let mut page = head(&report.scenario, report.verdict);
    let healed = if report.healed { "all faults are undone" } else { "<span class=\"fail\">some faults are not undone</span>" };
    if let Some(about) = &report.about {
        self::about(&mut page, about);
    }
    let _ = writeln!(page, "<p>Seed {}; {healed}; services were probed every {} ms.</p>", report.seed, report.prober_period_ms);
    if let Some(reason) = &report.reason {
        let _ = writeln!(page, "<p class=\"reason\">{}</p>", escaped(reason).replace("; ", "<br>"));
    }
    page.push_str("<h2>Timeline</h2>\n");
    drawing(&mut page, report);
    checks(&mut page, report);
    recovery(&mut page, report);
    workloads(&mut page, report);
    events(&mut page, report);
    page.push_str("</body></html>\n");
    page
}

/// What was run, when and on what.
fn about(page: &mut String, about: &RunAbout) {
    if let Some(description) = &about.description {
        let _ = writeln!(page, "<p>{}</p>", escaped(description));
    }
    let time = |text: &str| text.parse::<jiff::Timestamp>();
    let began = time(&about.began_at).map_or_else(|_| about.began_at.clone(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
    let took = time(&about.began_at).ok().zip(time(&about.ended_at).ok()).map(|(began, ended)| ended.duration_since(began).as_secs());
    let took = took.map(|seconds| format!(", took {seconds} s")).unwrap_or_default();
    let profile = about.profile.as_ref().map(|profile| format!(", profile {profile}")).unwrap_or_default();
    let instance = if about.instance == "default" { String::new() } else { format!(", instance {}", about.instance) };
    page.push_str("<dl>");
    for (name, value) in
        [("Run", format!("{began}{took}")), ("Project", format!("{}{instance}{profile}", about.project)), ("devenv", about.devenv.clone())]
    {
        let _ = write!(page, "<dt>{name}</dt><dd>{}</dd>", escaped(&value));
    }
    for service in &about.services {
        let image = service.image.as_ref().map(|image| format!(", {image}")).unwrap_or_default();
        let _ = write!(page, "<dt>{}</dt><dd>{}{}</dd>", escaped(&service.name), escaped(&service.kind), escaped(&image));
    }
    page.push_str("</dl>\n");
}

/// Faults as bars and as bands behind what the workloads did: operations and latency, on one time axis.
fn drawing(page: &mut String, report: &Report) {
    let spans = spans(report);
    let lead_ms = lead_ms(report);
    let longest = report.workloads.iter().map(|workload| workload.tenths.len()).max().unwrap_or_default() as f64 * 100.0 - lead_ms;
    let last = spans.iter().filter_map(|span| span.ready_ms.or(span.healed_ms)).fold(longest, f64::max).max(1000.0);
    let axis = Axis { from: -lead_ms, to: last };
    let height = 24.0 + ROW * spans.len() as f64 + (CHART + GAP) * charts(report) as f64 + 8.0;
    let _ = writeln!(
        page,
        "<div class=\"scroll\"><svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"faults and operations over time\">"
    );
    ticks(page, &axis, height);
    let mut y = 24.0;
    let top = y + ROW * spans.len() as f64;
    for span in &spans {
        let (from, to) = (axis.x(span.from_ms), axis.x(span.healed_ms.unwrap_or(span.from_ms)));
        let _ = writeln!(
            page,
            "<rect x=\"{from:.1}\" y=\"{top:.0}\" width=\"{:.1}\" height=\"{:.0}\" fill=\"var(--band)\" opacity=\".16\"/>",
            (to - from).max(2.0),
            height - top
        );
    }
    for span in &spans {
        bar(page, span, &axis, y);
        y += ROW;
    }
    for workload in &report.workloads {
        chart(page, &workload.name, &workload.tenths, lead_ms, &axis, y);
        y += CHART + GAP;
        if !workload.latency_ms.is_empty() {
            latency(page, &workload.latency_ms, lead_ms, &axis, y);
            y += CHART + GAP;
        }
    }
    page.push_str(
        "</svg></div>\n<p>Orange: fault active. Red: service not ready. Below, for each tenth of a second: acknowledged operations, \
        and failed ones in red; then the latency of the acknowledged ones, on a logarithmic scale: the median as a line, the slowest as \
        dots.</p>\n",
    );
}

/// The number of charts below the faults.
fn charts(report: &Report) -> usize {
    report.workloads.iter().map(|workload| if workload.latency_ms.is_empty() { 1 } else { 2 }).sum()
}

fn bar(page: &mut String, span: &Span<'_>, axis: &Axis, y: f64) {
    let name = escaped(span.id);
    let tooltip = format!(
        "{} {} on {} at {:.2} s: {}",
        name,
        escaped(span.fault),
        escaped(span.service),
        span.from_ms / 1000.0,
        escaped(span.witness)
    );
    let _ = writeln!(
        page,
        "<g><title>{tooltip}</title><text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>",
        MARGIN - 8.0,
        y + 13.0,
        short(span.id)
    );
    let healed = span.healed_ms.unwrap_or(span.from_ms);
    let ready = span.ready_ms.unwrap_or(axis.to).max(span.from_ms);
    for (from, to, colour, top, height) in
        [(span.from_ms, healed, "#e69500", y + 2.0, 16.0), (span.from_ms, ready, "#d32f2f", y + 14.0, 4.0)]
    {
        let (from, to) = (axis.x(from), axis.x(to));
        let _ = writeln!(
            page,
            "<rect x=\"{from:.1}\" y=\"{top:.0}\" width=\"{:.1}\" height=\"{height:.0}\" fill=\"{colour}\" rx=\"1\"/>",
            (to - from).max(2.0)
        );
    }
    page.push_str("</g>\n");
}

/// How long the workloads ran before the timeline began.
fn lead_ms(report: &Report) -> f64 {
    let first = report.timeline.first().and_then(|event| event.time.parse::<jiff::Timestamp>().ok());
    first.map_or(0.0, |first| zero(report).duration_since(first).as_secs_f64() * 1000.0).max(0.0)
}

fn checks(page: &mut String, report: &Report) {
    page.push_str("<h2>Checks</h2>\n<div class=\"scroll\"><table><tr><th>Check</th><th>Verdict</th><th></th></tr>\n");
    for check in &report.checks {
        let _ = writeln!(
            page,
            "<tr><td><code>{}</code></td><td class=\"{1}\">{1}</td><td>{2}</td></tr>",
            escaped(&check.name),
            check.verdict,
            escaped(&check.detail)
        );
    }
    page.push_str("</table></div>\n");
}

fn recovery(page: &mut String, report: &Report) {
    page.push_str(
        "<h2>Recovery</h2>\n<div class=\"scroll\"><table><tr><th>Fault</th><th>Service</th><th>Effect seen after</th><th>First \
            error</th><th>Undone</th><th>Ready</th><th>Work resumed</th><th>Full speed</th></tr>\n",
    );
    for recovery in &report.recovery {
        let span = spans(report);
        let witness = span.iter().find(|span| span.id == recovery.fault).map_or("", |span| span.witness);
        let _ = write!(
            page,
            "<tr><td><code>{}</code></td><td>{}</td><td>{}</td>",
            escaped(&recovery.fault),
            escaped(&recovery.service),
            escaped(witness)
        );
        for time in [recovery.first_error_ms, recovery.heal_ms, recovery.ready_ms, recovery.ok_ms, recovery.baseline_ms] {
            let _ = write!(page, "<td class=\"n\">{}</td>", time.map_or_else(|| "–".to_owned(), |time| format!("{time:.0} ms")));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</table></div>\n");
}

fn workloads(page: &mut String, report: &Report) {
    page.push_str(
        "<h2>Workloads</h2>\n<div class=\"scroll\"><table><tr><th>Workload</th><th>on</th><th>attempted</th><th>acknowledged</th><th>refused</th><th>unknown</th><th>p50</th><th>p99</th></tr>\n",
    );
    for workload in &report.workloads {
        let class = if workload.acknowledged == 0 { Verdict::Unknown.as_str() } else { "" };
        let time = |time: Option<f64>| time.map_or_else(|| "–".to_owned(), |time| format!("{time:.1} ms"));
        let _ = writeln!(
            page,
            "<tr class=\"{class}\"><td><code>{}</code> ({})</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escaped(&workload.name),
            escaped(&workload.kind),
            escaped(&workload.service),
            workload.attempted,
            workload.acknowledged,
            workload.failed,
            workload.unknown,
            time(workload.p50_ms),
            time(workload.p99_ms)
        );
    }
    page.push_str("</table></div>\n");
}

fn events(page: &mut String, report: &Report) {
    page.push_str("<h2>Journal</h2>\n<div class=\"scroll\"><table>\n");
    for event in &report.timeline {
        let at = event.data.get("at_ms").and_then(serde_json::Value::as_i64);
        let at = at.map(|at| format!("{:+.2} s", at as f64 / 1000.0)).unwrap_or_default();
        let _ = writeln!(
            page,
            "<tr><td class=\"n\">{at}</td><td><code>{}</code></td><td>{}</td></tr>",
            escaped(&event.kind),
            escaped(&event.message)
        );
    }
    page.push_str("</table></div>\n");
}
