//! The service under test would be here.
