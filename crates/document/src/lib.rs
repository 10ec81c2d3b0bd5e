//! A text as a tree of values with places, and the problems that are found in it.
//!
//! Pure: `yaml` and `env_file` read texts, `interpolate` fills in variables, `diagnostic` shows problems to people. The profile and
//! compose crates merge and check such trees; each kind checks what its own fields mean.

pub mod diagnostic;
pub mod env_file;
pub mod interpolate;
pub mod source;
pub mod spelling;
pub mod tree;
pub mod value;
pub mod yaml;
