//! A profile's text as a tree of values with places, and the problems that are found in it.
//!
//! Pure data. The profile crate reads, merges and checks such trees; each kind checks what its own fields mean.

pub mod source;
pub mod spelling;
pub mod tree;
pub mod value;
