//! The report as one HTML page: no script, no other file, readable in dark mode.

use std::fmt::Write;

use devenv_api::{Report, RunAbout, Verdict, WorkloadResult};

use super::{Span, escaped, spans, zero};

const STYLE: &str = "\
:root{color-scheme:light dark;--ground:#fff;--ink:#1c2321;--good:#1a6b3c;--bad:#b3261e;--open:#855400;--band:#e69500;--line:#8884;--soft:#8882;--plot:#2b5fa8}\
@media(prefers-color-scheme:dark){:root{--ground:#121615;--ink:#e4eae7;--good:#77d39a;--bad:#ff9a90;--open:#e3b45c;--plot:#8bb8f5}}\
*{box-sizing:border-box}body{font:15px/1.5 system-ui,sans-serif;max-width:1080px;margin:2em auto;padding:0 1em;background:var(--ground);color:var(--ink);overflow-wrap:anywhere}\
h1{font-size:1.5em}h2{font-size:1.1em;margin-top:2em}\
dl{display:grid;grid-template-columns:fit-content(40%) minmax(0,1fr);gap:.2em 1em}dt{opacity:.75}dd{margin:0}\
.scroll{overflow-x:auto;max-width:100%}\
table{border-collapse:collapse;width:100%;overflow-wrap:normal}th,td{text-align:left;padding:.3em .6em;border-bottom:1px solid var(--line);vertical-align:top}\
td.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}\
.pass{color:var(--good)}.fail{color:var(--bad);font-weight:bold}.unknown{color:var(--open);font-weight:bold}\
svg{display:block;width:100%;min-width:620px;height:auto;font:11px system-ui,sans-serif}svg text{fill:currentColor}\
.reason{border-left:4px solid var(--bad);padding:.2em 1em;background:var(--soft)}\
code{font-size:.92em}";

const WIDTH: f64 = 1000.0;
/// The width of the names at the left of the chart.
const MARGIN: f64 = 130.0;
const ROW: f64 = 26.0;
const CHART: f64 = 56.0;
/// Between two charts, for the name of the lower one.
const GAP: f64 = 18.0;
/// Characters of a name that fit in the margin.
const LONGEST_NAME: usize = 19;

pub fn html(report: &Report) -> String {
    let mut page = String::new();
    let title = escaped(&report.scenario);
    // Writing to a string cannot fail.
    let _ = write!(
        page,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}: {verdict}</title><style>{STYLE}</style></head><body>\n<h1>{title}: <span class=\"{verdict}\">{verdict}</span></h1>\n",
        verdict = report.verdict
    );
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
    let step = step(last + lead_ms);
    let mut tick = (axis.from / step).ceil() * step;
    while tick <= axis.to {
        let x = axis.x(tick);
        let _ = writeln!(
            page,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"16\" y2=\"{height:.0}\" stroke=\"var(--line)\"/><text x=\"{x:.1}\" y=\"11\" text-anchor=\"middle\">{:.0} s</text>",
            tick / 1000.0
        );
        tick += step;
    }
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
        chart(page, workload, lead_ms, &axis, y);
        y += CHART + GAP;
        if !workload.latency_ms.is_empty() {
            latency(page, workload, lead_ms, &axis, y);
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

struct Axis {
    from: f64,
    to: f64,
}

impl Axis {
    fn x(&self, at_ms: f64) -> f64 {
        MARGIN + (at_ms - self.from) / (self.to - self.from) * (WIDTH - MARGIN - 10.0)
    }
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

fn chart(page: &mut String, workload: &WorkloadResult, lead_ms: f64, axis: &Axis, y: f64) {
    let most = f64::from(workload.tenths.iter().map(|(good, bad)| good + bad).max().unwrap_or(1).max(1));
    let _ = writeln!(
        page,
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text><text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{:.0}/s</text>",
        MARGIN - 8.0,
        y + CHART - 4.0,
        short(&workload.name),
        MARGIN - 8.0,
        y + 12.0,
        most * 10.0
    );
    let width = ((WIDTH - MARGIN - 10.0) / (axis.to - axis.from) * 100.0).max(0.6);
    let mut paths = [String::new(), String::new()];
    for (index, (good, bad)) in workload.tenths.iter().enumerate() {
        let x = axis.x(index as f64 * 100.0 - lead_ms);
        let (good, bad) = (f64::from(*good) / most * CHART, f64::from(*bad) / most * CHART);
        if good > 0.0 {
            let _ = write!(paths[0], "M{x:.1} {:.1}v{:.1}", y + CHART, -good);
        }
        if bad > 0.0 {
            let _ = write!(paths[1], "M{x:.1} {:.1}v{:.1}", y + CHART - good, -bad.max(3.0));
        }
    }
    for (path, colour) in paths.iter().zip(["#4caf50", "#d32f2f"]) {
        if !path.is_empty() {
            let _ = writeln!(page, "<path d=\"{path}\" stroke=\"{colour}\" stroke-width=\"{width:.2}\" fill=\"none\"/>");
        }
    }
    let _ =
        writeln!(page, "<line x1=\"{MARGIN}\" x2=\"{:.0}\" y1=\"{1:.1}\" y2=\"{1:.1}\" stroke=\"var(--line)\"/>", WIDTH - 10.0, y + CHART);
}

/// From the fastest to the slowest of the workload. A line ends where nothing succeeded.
fn latency(page: &mut String, workload: &WorkloadResult, lead_ms: f64, axis: &Axis, y: f64) {
    let known = workload.latency_ms.iter().flatten();
    let (low, high) = known.fold((f64::MAX, 0.0_f64), |(low, high), (median, slowest)| (low.min(*median), high.max(*slowest)));
    let (low, high) = (low.clamp(0.01, 1e9), high.clamp(0.02, 1e9));
    let height = |ms: f64| y + CHART - CHART * (ms.clamp(low, high) / low).ln() / (high / low).ln().max(0.1);
    let (right, base) = (MARGIN - 8.0, y + CHART - 4.0);
    for (text, at) in [(format!("{high:.0} ms"), y + 12.0), (format!("latency {low:.1} ms"), base)] {
        let _ = writeln!(page, "<text x=\"{right:.0}\" y=\"{at:.0}\" text-anchor=\"end\">{text}</text>");
    }
    let (mut line, mut dots, mut is_drawing) = (String::new(), String::new(), false);
    for (index, latency) in workload.latency_ms.iter().enumerate() {
        let x = axis.x(index as f64 * 100.0 - lead_ms);
        if let Some((median, slowest)) = latency {
            let _ = write!(line, "{}{x:.1} {:.1}", if is_drawing { 'L' } else { 'M' }, height(*median));
            let _ = write!(dots, "M{x:.1} {:.1}h.1", height(*slowest));
        }
        is_drawing = latency.is_some();
    }
    let path = |d: &str, width: f64, opacity: f64| {
        format!(
            "<path d=\"{d}\" stroke=\"var(--plot)\" stroke-width=\"{width}\" opacity=\"{opacity}\" stroke-linecap=\"round\" fill=\"none\"/>\n"
        )
    };
    page.push_str(&path(&line, 1.5, 1.0));
    page.push_str(&path(&dots, 2.5, 0.5));
    let _ =
        writeln!(page, "<line x1=\"{MARGIN}\" x2=\"{:.0}\" y1=\"{1:.1}\" y2=\"{1:.1}\" stroke=\"var(--line)\"/>", WIDTH - 10.0, y + CHART);
}

/// A name for the margin.
fn short(name: &str) -> String {
    if name.chars().count() <= LONGEST_NAME {
        return escaped(name);
    }
    escaped(&name.chars().take(LONGEST_NAME - 1).chain(['…']).collect::<String>())
}

/// How long the workloads ran before the timeline began.
fn lead_ms(report: &Report) -> f64 {
    let first = report.timeline.first().and_then(|event| event.time.parse::<jiff::Timestamp>().ok());
    first.map_or(0.0, |first| zero(report).duration_since(first).as_secs_f64() * 1000.0).max(0.0)
}

/// A round number of seconds between two ticks, so that there are about ten.
fn step(span_ms: f64) -> f64 {
    let wanted = span_ms / 10.0;
    [500.0, 1000.0, 2000.0, 5000.0, 10_000.0, 20_000.0, 60_000.0, 120_000.0].into_iter().find(|step| *step >= wanted).unwrap_or(300_000.0)
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
