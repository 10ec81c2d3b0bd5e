//! PURE: what the pages of scenarios and of load tests share: their head, and charts of operations and latency over time.

use std::fmt::Write;

use devenv_api::Verdict;

use super::escaped;

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

pub(super) const WIDTH: f64 = 1000.0;
/// The width of the names at the left of the chart.
pub(super) const MARGIN: f64 = 130.0;
pub(super) const ROW: f64 = 26.0;
pub(super) const CHART: f64 = 56.0;
/// Between two charts, for the name of the lower one.
pub(super) const GAP: f64 = 18.0;
/// Characters of a name that fit in the margin.
const LONGEST_NAME: usize = 19;

/// The page up to its heading.
pub(crate) fn head(title: &str, verdict: Verdict) -> String {
    let title = escaped(title);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{title}: {verdict}</title><style>{STYLE}</style></head><body>\n<h1>{title}: <span class=\"{verdict}\">{verdict}</span></h1>\n"
    )
}

/// The course of one workload: its name, the operations that succeeded and failed in each tenth of a second, and their latency, as median
/// and maximum in milliseconds.
pub(crate) type Course<'a> = (&'a str, &'a [(u32, u32)], &'a [Option<(f64, f64)>]);

/// Operations and latency of workloads, on one time axis that begins at zero.
pub(crate) fn courses(page: &mut String, courses: &[Course<'_>]) {
    let longest = courses.iter().map(|(_, tenths, _)| tenths.len()).max().unwrap_or_default() as f64 * 100.0;
    let axis = Axis { from: 0.0, to: longest.max(1000.0) };
    let height = 24.0 + (CHART + GAP) * 2.0 * courses.len() as f64 + 8.0;
    let _ = writeln!(
        page,
        "<div class=\"scroll\"><svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=\"img\" aria-label=\"operations and latency over time\">"
    );
    ticks(page, &axis, height);
    let mut y = 24.0;
    for (name, tenths, latencies) in courses {
        chart(page, name, tenths, 0.0, &axis, y);
        latency(page, latencies, 0.0, &axis, y + CHART + GAP);
        y += 2.0 * (CHART + GAP);
    }
    page.push_str(
        "</svg></div>\n<p>For each tenth of a second: operations that succeeded, and failed ones in red; then the latency, on a \
         logarithmic scale: the median as a line, the slowest as dots.</p>\n",
    );
}

/// The seconds of the time axis.
pub(super) fn ticks(page: &mut String, axis: &Axis, height: f64) {
    let step = step(axis.to - axis.from);
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
}

pub(super) struct Axis {
    pub(super) from: f64,
    pub(super) to: f64,
}

impl Axis {
    pub(super) fn x(&self, at_ms: f64) -> f64 {
        MARGIN + (at_ms - self.from) / (self.to - self.from) * (WIDTH - MARGIN - 10.0)
    }
}

pub(super) fn chart(page: &mut String, name: &str, tenths: &[(u32, u32)], lead_ms: f64, axis: &Axis, y: f64) {
    let most = f64::from(tenths.iter().map(|(good, bad)| good + bad).max().unwrap_or(1).max(1));
    let _ = writeln!(
        page,
        "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text><text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{:.0}/s</text>",
        MARGIN - 8.0,
        y + CHART - 4.0,
        short(name),
        MARGIN - 8.0,
        y + 12.0,
        most * 10.0
    );
    let width = ((WIDTH - MARGIN - 10.0) / (axis.to - axis.from) * 100.0).max(0.6);
    let mut paths = [String::new(), String::new()];
    for (index, (good, bad)) in tenths.iter().enumerate() {
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
pub(super) fn latency(page: &mut String, course: &[Option<(f64, f64)>], lead_ms: f64, axis: &Axis, y: f64) {
    let known = course.iter().flatten();
    let (low, high) = known.fold((f64::MAX, 0.0_f64), |(low, high), (median, slowest)| (low.min(*median), high.max(*slowest)));
    let (low, high) = (low.clamp(0.01, 1e9), high.clamp(0.02, 1e9));
    let height = |ms: f64| y + CHART - CHART * (ms.clamp(low, high) / low).ln() / (high / low).ln().max(0.1);
    let (right, base) = (MARGIN - 8.0, y + CHART - 4.0);
    for (text, at) in [(format!("{high:.0} ms"), y + 12.0), (format!("latency {low:.1} ms"), base)] {
        let _ = writeln!(page, "<text x=\"{right:.0}\" y=\"{at:.0}\" text-anchor=\"end\">{text}</text>");
    }
    let (mut line, mut dots, mut is_drawing) = (String::new(), String::new(), false);
    for (index, latency) in course.iter().enumerate() {
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
pub(super) fn short(name: &str) -> String {
    if name.chars().count() <= LONGEST_NAME {
        return escaped(name);
    }
    escaped(&name.chars().take(LONGEST_NAME - 1).chain(['…']).collect::<String>())
}

/// A round number of seconds between two ticks, so that there are about ten.
fn step(span_ms: f64) -> f64 {
    let wanted = span_ms / 10.0;
    [500.0, 1000.0, 2000.0, 5000.0, 10_000.0, 20_000.0, 60_000.0, 120_000.0].into_iter().find(|step| *step >= wanted).unwrap_or(300_000.0)
}
