//! Other files of devenv that people write, such as scenarios, read with the care that profiles get: every problem at
//! once, each with its line and column, and a nearest name for what is not known.

use schemars::{JsonSchema, SchemaGenerator};
use serde::de::DeserializeOwned;

use super::{
    check, convert,
    load::Report,
    shape::{self, Shape},
    source::Sources,
    yaml::{self, Parsed},
};

pub use super::{
    find::shown,
    source::{Findings, Span},
    spelling::{did_you_mean, one_of},
    tree::Node,
};

/// One file, parsed and compared with the shape of its type.
pub struct Reading {
    pub root: Node,
    pub findings: Findings,
    sources: Sources,
    shape: Shape,
}

impl Reading {
    /// `shown` is how people know the file, `noun` what they call its content. Whether it is right is in `findings`.
    pub fn of<T: JsonSchema>(shown: &str, bytes: &[u8], noun: &str) -> Self {
        let mut sources = Sources::default();
        let mut findings = Findings::default();
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let file = sources.add(shown, String::from_utf8_lossy(bytes));
        if let Err(error) = std::str::from_utf8(bytes) {
            let at = error.valid_up_to();
            let span = sources.span(file, at, at + '\u{fffd}'.len_utf8());
            findings.error(span, "not-utf8", "the file is not UTF-8").hint("save the file as UTF-8");
        }
        let shape = shape::of_schema(&SchemaGenerator::default().into_root_schema_for::<T>().to_value());
        let Parsed { root, complete, .. } = yaml::parse(&sources, file, &mut findings);
        check::against(&root, noun, &shape, complete, &mut findings);
        if let (true, Shape::Record(record)) = (complete, &shape) {
            check::missing(&root, noun, root.span, record, &mut findings);
        }
        Self { root, findings, sources, shape }
    }

    /// The content as its type; `None` after reporting a problem.
    pub fn typed<T: DeserializeOwned>(&mut self) -> Option<T> {
        if self.findings.has_errors() {
            return None;
        }
        match serde_json::from_value(convert::json(&self.root, &self.shape)) {
            Ok(typed) => Some(typed),
            Err(error) => {
                let span = self.root.span;
                self.findings.error(span, "invalid", format!("the file is invalid: {error}"));
                None
            }
        }
    }

    pub fn report(mut self) -> Report {
        self.findings.sort();
        Report::new(self.findings, self.sources)
    }
}
