//! `devenv doctor`: checks this machine.

use devenv_api::{CheckStatus, Doctor};

use super::{
    Outcome,
    exit::ExitStatus,
    printer::{BAD, DIM, GOOD, WARN, paint},
    project,
    session::Session,
};
use crate::{
    doctor::{Subject, examine},
    paths::Paths,
};

/// Check this machine for problems, and show how to fix them.
///
/// Does not need the daemon. Exit code: 3 if no container engine answers, 1 if another check fails.
///
/// Example: devenv doctor
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {}

pub(super) async fn run(_: &Arguments, session: &Session) -> Outcome {
    let subject = Subject { paths: Paths::resolve()?, engine: session.engine(), images: project::images_of_default(session) };
    let (doctor, engine_answers) = examine(&subject).await;
    session.printer.result(&doctor, || words(&doctor))?;
    let failed = doctor.checks.iter().any(|check| check.status == CheckStatus::Fail);
    Ok(match (engine_answers, failed) {
        (false, _) => ExitStatus::NO_ENGINE,
        (true, true) => ExitStatus::FAILED,
        (true, false) => ExitStatus::SUCCESS,
    })
}

fn words(doctor: &Doctor) -> String {
    let mut lines = Vec::new();
    for check in &doctor.checks {
        let (style, word) = match check.status {
            CheckStatus::Ok => (GOOD, "ok"),
            CheckStatus::Warning => (WARN, "warning"),
            CheckStatus::Fail => (BAD, "fail"),
        };
        lines.push(format!("{} {}: {}", paint(style, format_args!("{word:7}")), check.name, check.detail));
        if let Some(fix) = &check.fix {
            lines.push(format!("        {} {fix}", paint(DIM, "fix:")));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use devenv_api::Check;

    use super::*;

    #[test]
    fn a_check_that_fails_comes_with_its_fix() {
        let check = |name: &str, status, fix: Option<&str>| Check {
            name: name.to_owned(),
            status,
            detail: "so and so".to_owned(),
            fix: fix.map(str::to_owned),
        };
        let doctor = Doctor { checks: vec![check("engine", CheckStatus::Fail, Some("start it")), check("disk", CheckStatus::Ok, None)] };
        insta::assert_snapshot!(anstream::adapter::strip_str(&words(&doctor)).to_string(), @r"
        fail    engine: so and so
                fix: start it
        ok      disk: so and so
        ");
    }
}
