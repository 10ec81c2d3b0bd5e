//! Causes of failures, each known by the words it leaves. Pure data.

/// One cause that leaves words behind.
#[derive(Debug, Clone, Copy)]
pub struct Cause {
    pub place: Place,
    /// All of these in one line, in small letters; the case does not matter.
    pub words: &'static [&'static str],
    /// None of these in that line, in small letters.
    pub without: &'static [&'static str],
    /// `{service}` is the service, `{1}` and `{2}` the text in the line's first and second pair of quotes, `{rest}`
    /// what follows the first of the words.
    pub cause: &'static str,
    /// What to do, as a sentence that names the command or the line of the profile.
    pub fix: &'static str,
}

/// Where the words are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The service's own output.
    Log,
    /// The failures of its probe.
    Probe,
    /// What the engine said when it was to be started.
    Engine,
    /// Any of these: programs and engines report the same error of the system.
    Anywhere,
}

impl Cause {
    pub const fn new(place: Place, words: &'static [&'static str], cause: &'static str, fix: &'static str) -> Self {
        Self { place, words, without: &[], cause, fix }
    }
}
