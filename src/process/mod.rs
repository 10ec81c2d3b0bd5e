//! host processes
