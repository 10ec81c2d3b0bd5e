//! Finds the cause of a service's failure from the evidence. Pure, and silent when unsure.
//!
//! The reconciler calls [`diagnose`] once a service has failed for good. Causes are tried from the most to the least specific,
//! a kind's own after those of any service; an entry requires the exact text that its cause is known to leave, because a wrong diagnosis is worse than none.

mod table;

use crate::capability::{Cause, Place, ServiceKind};
use table::{FIRST, LAST};

/// What is known about a failure.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// The kind's name, as in the profile.
    pub kind: String,
    pub service: String,
    pub exit_code: Option<i64>,
    pub out_of_memory: bool,
    /// The last lines of its log, oldest first.
    pub log: Vec<String>,
    /// The last failures of its probe, oldest first.
    pub probe: Vec<String>,
    /// The engine's message when it started the service.
    pub engine: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    pub cause: String,
    /// What to do, as a sentence that names the command or the line of the profile.
    pub fix: String,
}

/// The most specific known cause, if any.
pub fn diagnose(evidence: &Evidence) -> Option<Diagnosis> {
    if evidence.out_of_memory {
        return Some(Diagnosis {
            cause: format!("the kernel killed `{}` because it exceeded its memory limit", evidence.service),
            fix: format!("raise `services.{0}.resources.memory`, or reduce the memory usage of `{0}`", evidence.service),
        });
    }
    let own = crate::find(&evidence.kind).map_or(&[][..], ServiceKind::causes);
    FIRST.iter().chain(own).chain(LAST).find_map(|cause| cause.diagnose(evidence)).or_else(|| by_exit_code(evidence))
}

impl Cause {
    fn diagnose(&self, evidence: &Evidence) -> Option<Diagnosis> {
        // The newest line first: an older log line may belong to a cause that has been fixed.
        let line = self.lines(evidence).into_iter().rev().find(|line| self.fits(line))?;
        let fill = |text: &str| {
            let rest = self.words.first().and_then(|word| line.get(line.to_ascii_lowercase().find(word)? + word.len()..));
            let mut text = text.replace("{service}", &evidence.service).replace("{rest}", rest.unwrap_or("?").trim());
            for (place, quoted) in ["{1}", "{2}"].iter().zip(quoted(line).chain(std::iter::repeat("?"))) {
                text = text.replace(place, quoted);
            }
            text
        };
        Some(Diagnosis { cause: fill(self.cause), fix: fill(self.fix) })
    }

    fn lines<'a>(&self, evidence: &'a Evidence) -> Vec<&'a str> {
        let log = evidence.log.iter().filter(|_| matches!(self.place, Place::Log | Place::Anywhere));
        let probe = evidence.probe.iter().filter(|_| matches!(self.place, Place::Probe | Place::Anywhere));
        let engine = evidence.engine.iter().filter(|_| matches!(self.place, Place::Engine | Place::Anywhere));
        log.chain(probe).chain(engine).map(String::as_str).collect()
    }

    fn fits(&self, line: &str) -> bool {
        let line = line.to_lowercase();
        self.words.iter().all(|word| line.contains(word)) && !self.without.iter().any(|word| line.contains(word))
    }
}

/// Exit codes that have a meaning even without text.
fn by_exit_code(evidence: &Evidence) -> Option<Diagnosis> {
    let service = &evidence.service;
    let (cause, fix) = match evidence.exit_code? {
        126 => (
            format!("the command of `{service}` exists but cannot be executed"),
            "make the file executable (`chmod +x`), and check that the image contains the interpreter in its first line".to_owned(),
        ),
        127 => (
            format!("the command of `{service}` was not found"),
            format!("check `command` of `{service}`, and that the image or the PATH contains the program"),
        ),
        137 => (
            format!("`{service}` was killed by SIGKILL, although the engine reports no lack of memory"),
            "check whether the machine ran out of memory (`dmesg`), or whether someone killed it".to_owned(),
        ),
        139 => (
            format!("`{service}` crashed with a segmentation fault"),
            "use an image for this machine's CPU architecture, or another version".to_owned(),
        ),
        _ => return None,
    };
    Some(Diagnosis { cause, fix })
}

/// The text in quotes. An apostrophe is not a quote.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        let start = rest.find(['"', '`'])?;
        let quote = rest[start..].chars().next()?;
        let inside = &rest[start + 1..];
        let end = inside.find(quote)?;
        rest = &inside[end + 1..];
        Some(&inside[..end])
    })
}

#[cfg(test)]
mod tests;
