//! Tests that need no container engine: the shape of the code, and the real binary where it needs no daemon.

mod architecture;
mod cli;
