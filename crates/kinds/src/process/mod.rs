//! A program on the host.

mod fields;
mod rules;

use crate::capability::{FileField, FileUse, ServiceKind, abilities};

pub use fields::Process;

/// The name in profiles and records.
pub const NAME: &str = "process";

/// The kind itself.
pub struct ProcessKind;

pub(crate) const KIND: ProcessKind = ProcessKind;

impl ServiceKind for ProcessKind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        include_str!("docs.md")
    }

    abilities!(rules);

    fn files(&self) -> &'static [FileField] {
        const FILES: &[FileField] = &[FileField { path: &["directory"], used_for: FileUse::Needed }];
        FILES
    }
}
