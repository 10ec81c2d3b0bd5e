//! Copies of data: volumes copied whole, checked by checksum, and kept under a key of what they were made from.
//!
//! The caller makes sure that nothing writes in the meantime: it stops the service, or syncs its data and pauses it. Who
//! may be copied when is the reconciler's to decide; here is only how.

mod copy;
mod digest;
mod golden;
mod tree;

pub use copy::{Copied, CopyError, VolumeCopy, copy_tree, copy_tree_unsynced, copy_tree_without, copy_volume, is_ours};
pub use digest::digest_tree;
pub use golden::{GoldenInput, GoldenKey};
pub use tree::size_of;
