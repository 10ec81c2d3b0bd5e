//! Why a service is not in the requested state, with everything that is known. Pure.

use super::state::Failure;

/// Everything known at the moment of giving up.
#[derive(Debug, Clone, Default)]
pub(crate) struct Evidence {
    /// A short description: `did not become ready within 60 s`.
    pub(crate) what: String,
    /// The results of the last probes, oldest first.
    pub(crate) probes: Vec<String>,
    /// The last lines of its log.
    pub(crate) lines: Vec<String>,
    pub(crate) exit: Option<Exit>,
    /// A known cause, and what to do about it.
    pub(crate) diagnosis: Option<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) code: i64,
    pub(crate) out_of_memory: bool,
    pub(crate) error: Option<String>,
}

impl Exit {
    /// `exit code 137 (SIGKILL), out of memory`.
    pub(crate) fn describe(&self) -> String {
        let mut text = format!("exit code {}", self.code);
        if let Some(signal) = signal_name(self.code) {
            text.push_str(&format!(" ({signal})"));
        }
        if self.out_of_memory {
            text.push_str(", out of memory");
        }
        if let Some(error) = self.error.as_deref().filter(|error| !error.is_empty()) {
            text.push_str(&format!(": {error}"));
        }
        text
    }
}

fn signal_name(code: i64) -> Option<&'static str> {
    Some(match code - 128 {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        _ => return None,
    })
}

impl Evidence {
    pub(crate) fn of(what: impl Into<String>) -> Self {
        Self { what: what.into(), ..Self::default() }
    }

    pub(crate) fn into_failure(self) -> Failure {
        let mut reason = self.what.clone();
        if let Some(exit) = &self.exit
            && !reason.contains("exit code")
        {
            reason.push_str(&format!(": {}", exit.describe()));
        }
        let mut hint = None;
        if let Some((cause, fix)) = self.diagnosis {
            reason.push_str(&format!(": {cause}"));
            hint = Some(fix);
        } else if let Some(probe) = self.probes.last() {
            reason.push_str(&format!(": {probe}"));
        }
        let mut detail = String::new();
        section(&mut detail, "last probes", &self.probes);
        section(&mut detail, "last log lines", &self.lines);
        Failure { reason, detail, hint }
    }
}

fn section(detail: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    detail.push_str(title);
    detail.push_str(":\n");
    for line in lines {
        detail.push_str("  ");
        detail.push_str(line);
        detail.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_reports_probe_log_exit_and_cause() {
        let failure = Evidence {
            what: "ended before it was ready".into(),
            probes: vec!["connection refused".into()],
            lines: vec!["FATAL:  could not map anonymous shared memory".into()],
            exit: Some(Exit { code: 137, out_of_memory: true, error: None }),
            diagnosis: Some(("shared_buffers is larger than the memory".into(), "lower it".into())),
        }
        .into_failure();
        assert_eq!(
            failure.reason,
            "ended before it was ready: exit code 137 (SIGKILL), out of memory: shared_buffers is larger than the memory"
        );
        assert_eq!(failure.hint.as_deref(), Some("lower it"));
        assert_eq!(
            failure.detail,
            "last probes:\n  connection refused\nlast log lines:\n  FATAL:  could not map anonymous shared memory\n"
        );
    }
}
