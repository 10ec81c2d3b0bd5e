//! PURE: the timings as text: a row for each service, with a letter for what it did at each time.

use std::fmt::Write;

use devenv_api::{ServiceTimings, StartPhase, Timings};

use crate::cli::{
    printer::{BOLD, DIM, paint},
    table::{columns, duration},
};

/// The rows' heading, their bars, and what is between two parts.
const COMMAND: char = '=';
const WAITED: char = '.';
/// No bar is narrower or wider.
const BAR: (usize, usize) = (20, 80);

/// In at most this many columns, if names are not too long.
pub(in crate::cli) fn waterfall(timings: &Timings, width: usize) -> String {
    let longest = |text: fn(&ServiceTimings) -> usize| timings.services.iter().map(text).max().unwrap_or_default();
    let names = longest(|service| service.name.len()).max("SERVICE".len()) + 2;
    let waits = longest(|service| service.waited_for.as_ref().map_or(0, String::len)).max("WAITED FOR".len());
    // Two spaces after each column, and the time.
    let bar = width.saturating_sub(names + 2 + 10 + 2 + waits).clamp(BAR.0, BAR.1);
    let scale = Scale { total: timings.total_ms.max(1), bar };
    let head = format!("{:<left$}{:>right$}", "0", duration(timings.total_ms), left = bar / 2, right = bar - bar / 2);
    let before =
        [String::from("(before)"), duration(timings.asked_ms), scale.line(|at| (at < timings.asked_ms).then_some(COMMAND)), String::new()];
    let rows = timings.services.iter().map(|service| {
        let is_critical = timings.critical_path.contains(&service.name);
        let name = if is_critical { format!("{} *", service.name) } else { service.name.clone() };
        let ready = match service.ready_ms {
            Some(ready) => duration(ready),
            None if service.phases.is_empty() => "unchanged".to_owned(),
            None => "not ready".to_owned(),
        };
        [name, ready, scale.line(|at| letter_at(service, at)), service.waited_for.clone().unwrap_or_default()]
    });
    let mut text = columns(["SERVICE", "READY AT", head.as_str(), "WAITED FOR"], std::iter::once(before).chain(rows));
    let _ = write!(text, "\n{}", paint(DIM, legend(timings)));
    if !timings.critical_path.is_empty() {
        let _ = write!(text, "\n{} {}", paint(BOLD, "* critical path:"), path(timings));
    }
    text
}

struct Scale {
    total: u64,
    /// In columns.
    bar: usize,
}

impl Scale {
    /// A character for the middle of each column's time.
    fn line(&self, letter: impl Fn(u64) -> Option<char>) -> String {
        let at = |column: usize| (2 * column as u64 + 1) * self.total / (2 * self.bar as u64);
        (0..self.bar).map(|column| letter(at(column)).unwrap_or(' ')).collect::<String>().trim_end().to_owned()
    }
}

fn letter_at(service: &ServiceTimings, at: u64) -> Option<char> {
    let (first, last) = (service.phases.first()?, service.phases.last()?);
    if let Some(part) = service.phases.iter().find(|part| (part.from_ms..part.to_ms).contains(&at)) {
        return Some(letter(part.phase));
    }
    (first.from_ms <= at && at < last.to_ms).then_some(WAITED)
}

fn letter(phase: StartPhase) -> char {
    match phase {
        StartPhase::Pulled => 'i',
        StartPhase::Built => 'b',
        StartPhase::Stopped => 'h',
        StartPhase::Removed => 'd',
        StartPhase::Created => 'c',
        StartPhase::Started => 's',
        StartPhase::Swapped => 'w',
        StartPhase::Answered => 'a',
        StartPhase::Provisioned => 'p',
        StartPhase::Scripts => 'x',
        StartPhase::Proven => 'r',
        StartPhase::Ran => '#',
    }
}

fn words(phase: StartPhase) -> &'static str {
    match phase {
        StartPhase::Pulled => "image looked for and pulled",
        StartPhase::Built => "image built",
        StartPhase::Stopped => "stopped",
        StartPhase::Removed => "removed",
        StartPhase::Created => "created",
        StartPhase::Started => "started",
        StartPhase::Swapped => "swapped",
        StartPhase::Answered => "until it answered",
        StartPhase::Provisioned => "provisioned",
        StartPhase::Scripts => "scripts",
        StartPhase::Proven => "proof",
        StartPhase::Ran => "ran",
    }
}

/// Only what occurs.
fn legend(timings: &Timings) -> String {
    let occurs = |phase: &StartPhase| timings.services.iter().flat_map(|service| &service.phases).any(|part| part.phase == *phase);
    let parts = StartPhase::ALL.into_iter().filter(occurs).map(|phase| format!("{} {}", letter(phase), words(phase)));
    let ends = [format!("{WAITED} waited"), format!("{COMMAND} before the services: profile, daemon, earlier operations")];
    parts.chain(ends).collect::<Vec<_>>().join(", ")
}

/// `db (created 31 ms, started 240 ms), api (…)`.
fn path(timings: &Timings) -> String {
    let of = |name: &String| {
        let service = timings.services.iter().find(|service| service.name == *name)?;
        let parts = service.phases.iter().map(|part| format!("{} {}", words(part.phase), duration(part.to_ms - part.from_ms)));
        Some(format!("{name} ({})", parts.collect::<Vec<_>>().join(", ")))
    };
    timings.critical_path.iter().filter_map(of).collect::<Vec<_>>().join(", then ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::timings::tests::example;

    #[test]
    fn a_waterfall_has_a_row_for_each_service_and_marks_what_decided() {
        let text = anstream::adapter::strip_str(&waterfall(&example(), 80)).to_string();
        insta::assert_snapshot!(text, @r"
        SERVICE    READY AT   0                                         2.0 s  WAITED FOR
        (before)   100 ms     ==
        cache      350 ms       ccsssa
        db *       900 ms       ccsssaaaaaaaaaaaaxx
        migrate *  1.4 s        cc.................sssss#######                db
        api *      2.0 s        c..............................ssaaaaaaaaaaaa  migrate
        old        unchanged
        c created, s started, a until it answered, x scripts, # ran, . waited, = before the services: profile, daemon, earlier operations
        * critical path: db (created 50 ms, started 150 ms, until it answered 500 ms, scripts 99 ms), then migrate (created 50 ms, started 199 ms, ran 300 ms), then api (created 20 ms, started 98 ms, until it answered 500 ms)
        ");
    }

    #[test]
    fn a_narrow_terminal_gets_a_narrow_bar() {
        let text = anstream::adapter::strip_str(&waterfall(&example(), 20)).to_string();
        assert!(text.lines().take(6).all(|line| line.len() <= 60), "{text}");
    }
}
