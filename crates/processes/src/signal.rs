//! Signals by name, as profiles write them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A signal that may be sent to a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Signal(rustix::process::Signal);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a signal: write a name such as `SIGTERM`, `SIGINT`, `SIGHUP`, `SIGQUIT`, `SIGUSR1` or `SIGUSR2`")]
pub struct UnknownSignal(String);

const NAMES: [(&str, rustix::process::Signal); 13] = {
    use rustix::process::Signal as S;
    [
        ("SIGTERM", S::TERM),
        ("SIGINT", S::INT),
        ("SIGHUP", S::HUP),
        ("SIGQUIT", S::QUIT),
        ("SIGKILL", S::KILL),
        ("SIGUSR1", S::USR1),
        ("SIGUSR2", S::USR2),
        ("SIGCONT", S::CONT),
        ("SIGSTOP", S::STOP),
        ("SIGTSTP", S::TSTP),
        ("SIGALRM", S::ALARM),
        ("SIGWINCH", S::WINCH),
        ("SIGABRT", S::ABORT),
    ]
};

/// Signals that ask a program for something, and that a shell or `nohup` may leave ignored.
const REQUESTS: [rustix::process::Signal; 9] = {
    use rustix::process::Signal as S;
    [S::HUP, S::INT, S::QUIT, S::TERM, S::USR1, S::USR2, S::ALARM, S::WINCH, S::TSTP]
};

/// Sees to it that programs do not inherit ignored signals: `nohup devenv up` would start a daemon whose services never get a
/// SIGHUP. A signal with a handler is back at its default in a program that is started. Called before each start, on the runtime.
pub(super) fn stop_ignoring() {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok()).unwrap_or_default();
    for signal in REQUESTS.into_iter().map(rustix::process::Signal::as_raw).filter(|signal| mask & (1 << (signal - 1)) != 0) {
        // The handler stays when its stream is dropped.
        if let Err(error) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::from_raw(signal)) {
            tracing::warn!(signal, %error, "services will ignore a signal that this process was started to ignore");
        }
    }
}

impl Signal {
    pub const TERM: Self = Self(rustix::process::Signal::TERM);
    pub const KILL: Self = Self(rustix::process::Signal::KILL);

    pub(super) const CONT: Self = Self(rustix::process::Signal::CONT);

    pub(super) fn raw(self) -> rustix::process::Signal {
        self.0
    }
}

impl FromStr for Signal {
    type Err = UnknownSignal;

    /// `SIGTERM`, or `TERM`.
    fn from_str(text: &str) -> Result<Self, UnknownSignal> {
        NAMES
            .iter()
            .find(|(name, _)| *name == text || name.strip_prefix("SIG") == Some(text))
            .map(|(_, signal)| Self(*signal))
            .ok_or_else(|| UnknownSignal(text.to_owned()))
    }
}

impl TryFrom<String> for Signal {
    type Error = UnknownSignal;

    fn try_from(text: String) -> Result<Self, UnknownSignal> {
        text.parse()
    }
}

impl From<Signal> for String {
    fn from(signal: Signal) -> Self {
        signal.to_string()
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, signal)| *signal == self.0) {
            Some((name, _)) => f.pad(name),
            None => write!(f, "signal {}", self.0.as_raw()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_known_by_its_name_with_and_without_sig() {
        assert_eq!("SIGTERM".parse(), Ok(Signal::TERM));
        assert_eq!("KILL".parse(), Ok(Signal::KILL));
        assert_eq!("SIGHUP".parse::<Signal>().unwrap().to_string(), "SIGHUP");
        assert_eq!("SIGFOO".parse::<Signal>(), Err(UnknownSignal("SIGFOO".to_owned())));
    }
}
