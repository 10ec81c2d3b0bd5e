//! Checks which parts of devenv may name which others.
//!
//! Cargo enforces the arrows between crates; [`rules`] holds what Cargo cannot express, [`cycles`] finds modules that need
//! one another, [`homes`] methods that are away from their type. The first two work on [`source::Source`], a crate's parsed modules with every path that they name, nested imports
//! and macros included. Code under `cfg(test)` is left out. Nothing here runs outside of tests.

pub mod cycles;
pub mod homes;
pub mod rules;
pub mod source;
#[cfg(test)]
mod tests;
