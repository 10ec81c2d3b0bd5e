//! The built binary, where it needs no daemon.
