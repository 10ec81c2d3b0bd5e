//! An S3-compatible store.

mod backup;
mod browse;
mod fields;
mod provision;
mod rules;
pub mod spec;

use crate::capability::{ServiceKind, abilities};

pub use fields::S3;

/// The name in profiles and records.
pub const NAME: &str = "s3";

/// The kind itself.
pub struct S3Kind;

pub(crate) const KIND: S3Kind = S3Kind;

impl ServiceKind for S3Kind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        include_str!("docs.md")
    }

    abilities!(rules, provisions, backups, browse);
}
