//! Text as a tree of values with positions, and the problems that are found in it.
//!
//! Pure: `yaml` and `env_file` parse texts, `interpolate` expands variables, `diagnostic` renders problems. The profile and
//! compose crates merge and check such trees; each kind checks its own fields.

pub mod diagnostic;
pub mod env_file;
pub mod interpolate;
pub mod source;
pub mod spelling;
pub mod tree;
pub mod value;
pub mod yaml;
