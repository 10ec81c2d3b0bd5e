//! Checks which parts of devenv may name which others.
//!
//! Cargo enforces the dependencies between crates; [`rules`] holds what Cargo cannot express, [`cycles`] finds modules that depend on
//! one another, [`homes`] methods outside of their type's module. The first two work on [`source::Source`],
//! a crate's parsed modules with every path that they name, nested imports
//! and macros included. Code under `cfg(test)` is left out. Nothing here runs outside of tests.

pub mod cycles;
pub mod homes;
pub mod rules;
pub mod source;
#[cfg(test)]
mod tests;
