//! A container of the product, from any image.

mod describe;
mod fields;
mod options;
mod ports;
mod rules;

use crate::capability::{FileField, FileUse, ServiceKind, abilities};

pub use fields::Container;

/// As profiles and records name it.
pub const NAME: &str = "container";

/// The kind itself.
pub struct ContainerKind;

pub(crate) const KIND: ContainerKind = ContainerKind;

impl ServiceKind for ContainerKind {
    fn name(&self) -> &'static str {
        NAME
    }

    fn docs(&self) -> &'static str {
        include_str!("docs.md")
    }

    abilities!(rules);

    fn files(&self) -> &'static [FileField] {
        const FILES: &[FileField] = &[
            FileField { path: &["build", "context"], used_for: FileUse::Needed },
            FileField { path: &["volumes", "*", "source"], used_for: FileUse::Mounted },
            FileField { path: &["config_files", "*", "file"], used_for: FileUse::Needed },
            FileField { path: &["secret_files", "*", "file"], used_for: FileUse::Needed },
        ];
        FILES
    }
}
