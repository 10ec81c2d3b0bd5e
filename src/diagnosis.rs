//! x
pub(crate) struct Evidence { pub(crate) kind: String, pub(crate) exit_code: Option<i64>, pub(crate) out_of_memory: bool, pub(crate) lines: Vec<String>, pub(crate) probes: Vec<String>, pub(crate) engine: Option<String> }
pub(crate) struct Diagnosis { pub(crate) cause: String, pub(crate) fix: String }
pub(crate) fn diagnose(_: &Evidence) -> Option<Diagnosis> { None }
