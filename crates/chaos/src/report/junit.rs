//! The report as JUnit: a case for each fault that has to be witnessed, each check, and the verdict.

use std::fmt::Write;

use devenv_api::{Report, Verdict};

use super::escaped;

pub fn junit(report: &Report) -> String {
    let mut cases: Vec<(String, Verdict, String)> = Vec::new();
    for fault in &report.faults {
        let witness = fault.witness.as_ref();
        let verdict = if witness.is_some_and(|witness| witness.observed) { Verdict::Pass } else { Verdict::Unknown };
        cases.push((format!("{} bites", fault.id), verdict, witness.map(|witness| witness.what.clone()).unwrap_or_default()));
    }
    cases.extend(report.checks.iter().map(|check| (check.name.clone(), check.verdict, check.detail.clone())));
    let healed = if report.healed { Verdict::Pass } else { Verdict::Fail };
    cases.push(("healed".to_owned(), healed, "every fault is undone".to_owned()));
    cases.push(("verdict".to_owned(), report.verdict, report.reason.clone().unwrap_or_default()));

    let count = |verdict| cases.iter().filter(|(_, of, _)| *of == verdict).count();
    let mut text = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\">",
        escaped(&report.scenario),
        cases.len(),
        count(Verdict::Fail),
        count(Verdict::Unknown)
    );
    let _ = writeln!(text, "  <properties><property name=\"seed\" value=\"{}\"/></properties>", report.seed);
    for (name, verdict, detail) in &cases {
        let (name, detail) = (escaped(name), escaped(detail));
        let class = escaped(&report.scenario);
        let _ = match verdict {
            Verdict::Pass => writeln!(text, "  <testcase classname=\"{class}\" name=\"{name}\"/>"),
            // A run that says nothing is no success: an error, as a test that could not be run.
            Verdict::Unknown => {
                writeln!(text, "  <testcase classname=\"{class}\" name=\"{name}\"><error message=\"{detail}\"/></testcase>")
            }
            Verdict::Fail => writeln!(text, "  <testcase classname=\"{class}\" name=\"{name}\"><failure message=\"{detail}\"/></testcase>"),
        };
    }
    text.push_str("</testsuite>\n");
    text
}
