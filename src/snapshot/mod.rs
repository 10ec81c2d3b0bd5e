//! Copies of data.
