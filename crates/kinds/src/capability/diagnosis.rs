//! Causes of failures, each recognised by the text that it leaves. Pure data.

/// One cause that can be recognised by its text.
#[derive(Debug, Clone, Copy)]
pub struct Cause {
    pub place: Place,
    /// All of these are in one line, in lower case; the comparison ignores case.
    pub words: &'static [&'static str],
    /// None of these are in that line, in lower case.
    pub without: &'static [&'static str],
    /// `{service}` is the service, `{1}` and `{2}` the text in the line's first and second pair of quotes, `{rest}`
    /// what follows the first of the words.
    pub cause: &'static str,
    /// The remedy, as a sentence that names the command or the line of the profile.
    pub fix: &'static str,
}

/// The source of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The service's own output.
    Log,
    /// The failures of its probe.
    Probe,
    /// The engine's message when it started the service.
    Engine,
    /// Any of these: programs and engines report the same system error.
    Anywhere,
}

impl Cause {
    pub const fn new(place: Place, words: &'static [&'static str], cause: &'static str, fix: &'static str) -> Self {
        Self { place, words, without: &[], cause, fix }
    }
}
