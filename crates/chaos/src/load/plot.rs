//! PURE: a load test as one self-contained HTML page: budgets, figures, and operations and latency over time.

use std::fmt::Write;

use devenv_api::LoadReport;

use super::Loaded;
use crate::report::{chart, escaped};

pub fn html(loaded: &Loaded) -> String {
    let Loaded { report, courses } = loaded;
    let mut page = chart::head(&report.name, report.verdict);
    if let Some(description) = &report.description {
        let _ = writeln!(page, "<p>{}</p>", escaped(description));
    }
    let _ = writeln!(page, "<p>Began {}, took {:.1} s.</p>", escaped(&report.began_at), report.duration_ms as f64 / 1000.0);
    budgets(&mut page, report);
    figures(&mut page, report);
    page.push_str("<h2>Course</h2>\n");
    let courses = courses.iter().map(|(name, course)| (name.as_str(), course.tenths.as_slice(), course.latency_ms.as_slice()));
    chart::courses(&mut page, &courses.collect::<Vec<_>>());
    page.push_str("</body></html>\n");
    page
}

fn budgets(page: &mut String, report: &LoadReport) {
    page.push_str("<h2>Budgets</h2>\n<div class=\"scroll\"><table><tr><th>Budget</th><th>Limit</th><th>Measured</th><th></th></tr>\n");
    for budget in &report.budgets {
        let word = if budget.holds { "pass" } else { "fail" };
        let _ = writeln!(
            page,
            "<tr><td><code>{}</code></td><td>{}</td><td class=\"n\">{}</td><td class=\"{word}\">{word}</td></tr>",
            escaped(&budget.name),
            escaped(&budget.budget),
            escaped(&budget.measured)
        );
    }
    page.push_str("</table></div>\n");
}

fn figures(page: &mut String, report: &LoadReport) {
    page.push_str(
        "<h2>Figures</h2>\n<div class=\"scroll\"><table><tr><th>Workload</th><th>on</th><th>succeeded</th><th>errors</th><th>rate</th>\
         <th>p50</th><th>p95</th><th>p99</th><th>max</th></tr>\n",
    );
    for (name, figures) in &report.figures {
        let _ = write!(
            page,
            "<tr><td><code>{}</code> ({})</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td><td class=\"n\">{:.1}/s</td>",
            escaped(name),
            escaped(&figures.kind),
            escaped(figures.service.as_deref().unwrap_or("–")),
            figures.count,
            figures.errors,
            figures.rate
        );
        for time in [figures.p50_ms, figures.p95_ms, figures.p99_ms, figures.max_ms] {
            let _ = write!(page, "<td class=\"n\">{}</td>", time.map_or_else(|| "–".to_owned(), |time| format!("{time:.2} ms")));
        }
        page.push_str("</tr>\n");
        if let Some(trouble) = &figures.trouble {
            let _ = writeln!(page, "<tr><td colspan=\"9\">last error of <code>{}</code>: {}</td></tr>", escaped(name), escaped(trouble));
        }
    }
    page.push_str(
        "</table></div>\n<p>Latency counts from when an operation was due, not from when it was sent. Operations that were due and could not \
         be sent before the end are errors.</p>\n",
    );
}

#[cfg(test)]
mod tests {
    use devenv_api::{LoadBudget, LoadFigures, Verdict};
    use indexmap::IndexMap;

    use super::*;
    use crate::load::Course;

    #[test]
    fn the_page_shows_budgets_figures_and_plots_and_escapes_what_is_foreign() {
        let figures = LoadFigures {
            kind: "http".to_owned(),
            service: Some("api".to_owned()),
            count: 3,
            errors: 1,
            rate: 1.5,
            p50_ms: Some(1.0),
            p95_ms: Some(2.0),
            p99_ms: None,
            max_ms: Some(2.0),
            trouble: Some("<script>".to_owned()),
        };
        let budget = LoadBudget { name: "pages.p95".to_owned(), budget: "< 1ms".to_owned(), measured: "2.000 ms".to_owned(), holds: false };
        let report = LoadReport {
            name: "peak".to_owned(),
            description: None,
            verdict: Verdict::Fail,
            began_at: "2026-01-01T00:00:00Z".to_owned(),
            duration_ms: 2000,
            figures: IndexMap::from([("pages".to_owned(), figures)]),
            budgets: vec![budget],
        };
        let course = Course { tenths: vec![(2, 0), (1, 1)], latency_ms: vec![Some((1.0, 2.0)), None] };
        let page = html(&Loaded { report, courses: IndexMap::from([("pages".to_owned(), course)]) });
        for text in ["peak: fail", "pages.p95", "&lt; 1ms", "2.00 ms", "<svg", "&lt;script&gt;"] {
            assert!(page.contains(text), "{text}: {page}");
        }
        assert!(!page.contains("<script"));
    }
}
