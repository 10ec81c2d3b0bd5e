//! Copies of data: whole volumes, verified by checksum, and stored under a key of what they were made from.
//!
//! The caller ensures that nothing writes in the meantime: it stops the service, or syncs its data and pauses it. The
//! reconciler decides when a volume may be copied; this crate only copies.

mod copy;
mod digest;
mod golden;
mod tree;

pub use copy::{Copied, CopyError, CopyProgress, VolumeCopy, copy_tree, copy_tree_unsynced, copy_tree_without, copy_volume, is_ours};
pub use digest::digest_tree;
pub use golden::{GoldenInput, GoldenKey};
pub use tree::size_of;
