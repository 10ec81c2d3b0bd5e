//! What a scan finds in a script: the types that the modules which apply scripts read.

use std::ops::Range;

/// What was found in a whole script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Scan {
    /// The first thing that cannot run in a transaction of ours: its line and its words.
    pub refuses: Option<(u64, String)>,
    /// A `BEGIN;` first and a `COMMIT;` last with no other transaction between: the bytes of both.
    pub wrapper: Option<[Range<u64>; 2]>,
    /// The first thing that a script of an owner may not say: its line and its words.
    pub reaches: Option<(u64, String)>,
    /// The first thing that a dump from elsewhere may not say besides, but a script may: its line and its words.
    pub leaves: Option<(u64, String)>,
    /// The lines of `COPY … FROM stdin` and of the end of its data.
    pub copies: Vec<Range<u64>>,
    /// What is wrong with it as a whole, and the line.
    pub fault: Option<(u64, String)>,
    /// The last statement lacks its semicolon, or COPY data their last line, which psql forgives at the end of a file.
    pub end: End,
    /// Files that it reads while it runs.
    pub files: Vec<Named>,
    /// It has to be a file of its own: it reads psql's own input, or psql has to see where it ends.
    pub needs_its_end: bool,
    /// The last line has no end.
    pub cut_line: bool,
    pub lines: u64,
    /// After decompression.
    pub bytes: u64,
}

/// What is missing at the end of a script.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum End {
    #[default]
    Complete,
    /// A semicolon.
    Statement,
    /// The line `\.`.
    Rows,
}

/// A file that is named in a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    pub line: u64,
    pub path: String,
    pub role: Role,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// `\i`: a script, found from the directory in which psql runs.
    Script,
    /// `\ir`: a script, found from the directory of the script that names it.
    ScriptBeside,
    /// `\copy … from 'file'`.
    Rows,
}

/// How the session is set where the script begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Session {
    pub standard_strings: bool,
    pub encoding: String,
}

impl Default for Session {
    fn default() -> Self {
        Self { standard_strings: true, encoding: "UTF8".to_owned() }
    }
}
