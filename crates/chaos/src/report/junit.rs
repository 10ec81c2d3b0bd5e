//! The report as JUnit: a case for each fault that has to be witnessed, each check, and the verdict.

use devenv_api::{Report, Verdict};
use quick_junit::{NonSuccessKind, Property, TestCase, TestCaseStatus, TestSuite};

pub fn junit(report: &Report) -> String {
    let mut suite = TestSuite::new(report.scenario.as_str());
    suite.add_property(Property::new("seed", report.seed.to_string()));
    let mut add = |name: &str, verdict, detail: &str| {
        let mut case = TestCase::new(name, status(verdict, detail));
        case.set_classname(report.scenario.as_str());
        suite.add_test_case(case);
    };
    for fault in &report.faults {
        let witness = fault.witness.as_ref();
        let verdict = if witness.is_some_and(|witness| witness.observed) { Verdict::Pass } else { Verdict::Unknown };
        add(&format!("{} bites", fault.id), verdict, witness.map_or("", |witness| &witness.what));
    }
    for check in &report.checks {
        add(&check.name, check.verdict, &check.detail);
    }
    add("healed", if report.healed { Verdict::Pass } else { Verdict::Fail }, "every fault is undone");
    add("verdict", report.verdict, report.reason.as_deref().unwrap_or_default());

    let mut document = quick_junit::Report::new(report.scenario.as_str());
    document.add_test_suite(suite);
    document.to_string().expect("text in memory can always be written")
}

fn status(verdict: Verdict, detail: &str) -> TestCaseStatus {
    let kind = match verdict {
        Verdict::Pass => return TestCaseStatus::success(),
        // A run with an unknown verdict is not a success: an error, like a test that could not be run.
        Verdict::Unknown => NonSuccessKind::Error,
        Verdict::Fail => NonSuccessKind::Failure,
    };
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(detail);
    status
}
