//! Why a service failed, told from what it left behind: pure, and silent rather than wrong.
//!
//! The reconciler calls [`diagnose`] once a service has given up. One table, from the most telling evidence to the least;
//! an entry needs the very words that its cause is known to leave, because a wrong diagnosis costs more than none.

mod table;

use table::TABLE;

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
    /// What the engine said when it was to be started.
    pub engine: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    pub cause: String,
    /// What to do, as a sentence that names the command or the line of the profile.
    pub fix: String,
}

/// One cause that leaves words behind.
struct Matcher {
    /// A kind's name, or empty for all.
    kind: &'static str,
    place: Place,
    /// All of these in one line; the case does not matter.
    words: &'static [&'static str],
    /// `{service}` is the service, `{1}` and `{2}` what stands in the line's first and second pair of quotes, `{rest}`
    /// what follows the first of the words.
    cause: &'static str,
    fix: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Log,
    Probe,
    Engine,
    /// Wherever it is said: programs and engines report the same error of the system.
    Anywhere,
}

/// The most telling cause, if there is one that is known.
pub fn diagnose(evidence: &Evidence) -> Option<Diagnosis> {
    if evidence.out_of_memory {
        return Some(Diagnosis {
            cause: format!("the kernel killed `{}` because it used more memory than it was given", evidence.service),
            fix: format!("raise `services.{0}.resources.memory`, or have `{0}` use less", evidence.service),
        });
    }
    TABLE.iter().find_map(|matcher| matcher.diagnose(evidence)).or_else(|| by_exit_code(evidence))
}

impl Matcher {
    fn diagnose(&self, evidence: &Evidence) -> Option<Diagnosis> {
        if !(self.kind.is_empty() || self.kind == evidence.kind) {
            return None;
        }
        // The newest line first: a kept log may hold causes that were mended since.
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
        // What PostgreSQL writes with this mark is the affair of a client of its own.
        if self.kind == "postgres" && self.place == Place::Log && line.contains("error:  ") {
            return false;
        }
        self.words.iter().all(|word| line.contains(word))
    }
}

/// Codes that say something although no word was left.
fn by_exit_code(evidence: &Evidence) -> Option<Diagnosis> {
    let service = &evidence.service;
    let (cause, fix) = match evidence.exit_code? {
        126 => (
            format!("the command of `{service}` is there and cannot be executed"),
            "make the file executable (`chmod +x`), and check that the interpreter in its first line is in the image".to_owned(),
        ),
        127 => (
            format!("the command of `{service}` was not found"),
            format!("check `command` of `{service}`, and that the image or the PATH holds the program"),
        ),
        137 => (
            format!("`{service}` was killed by SIGKILL, and the engine knows of no lack of memory"),
            "see whether the machine as a whole ran out of memory (`dmesg`), or whether somebody killed it".to_owned(),
        ),
        139 => (
            format!("`{service}` crashed with a segmentation fault"),
            "run another version of the image, one that is made for this machine's processor".to_owned(),
        ),
        _ => return None,
    };
    Some(Diagnosis { cause, fix })
}

/// What stands in quotes; an apostrophe is none.
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
