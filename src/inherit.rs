//! PURE except [`of_this_process`]: which variables of a shell the processes of an environment inherit.
//!
//! The command line sends those of the shell that runs `up`; the daemon stores them with the
//! environment (`runtime/inherited.rs`). Without them a process would get those of whichever shell first started the daemon.

use std::ffi::OsString;

use devenv_api::ShellVariables;

/// They describe a terminal or a login session, and mean nothing to a process that outlives it.
const OF_A_SESSION: [&str; 38] = [
    "ALACRITTY_LOG",
    "ALACRITTY_SOCKET",
    "ALACRITTY_WINDOW_ID",
    "COLUMNS",
    "GNOME_TERMINAL_SCREEN",
    "GNOME_TERMINAL_SERVICE",
    "GPG_TTY",
    "INVOCATION_ID",
    "ITERM_SESSION_ID",
    "JOURNAL_STREAM",
    "KITTY_LISTEN_ON",
    "KITTY_PID",
    "KITTY_WINDOW_ID",
    "KONSOLE_DBUS_SERVICE",
    "KONSOLE_DBUS_SESSION",
    "KONSOLE_DBUS_WINDOW",
    "LINES",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LISTEN_PID",
    "NOTIFY_SOCKET",
    "OLDPWD",
    "PWD",
    "SHLVL",
    "SSH_CLIENT",
    "SSH_CONNECTION",
    "SSH_TTY",
    "STY",
    "TERM_SESSION_ID",
    "TMUX",
    "TMUX_PANE",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "WEZTERM_PANE",
    "WINDOWID",
    "WT_SESSION",
    "XDG_SESSION_ID",
    "_",
];
/// devenv's own settings and markers concern the command that was given, not what it starts.
const OURS: &str = "DEVENV_";
/// Except those by which a process finds the daemon that started it.
const PLACES: [&str; 3] = ["DEVENV_CONFIG_DIR", "DEVENV_RUNTIME_DIR", "DEVENV_STATE_DIR"];

/// Those of the shell in which this command was run.
pub(crate) fn of_this_process() -> ShellVariables {
    filtered(std::env::vars_os())
}

/// A variable that is not UTF-8 is left out: no process of a service ever gets one.
pub(crate) fn filtered(variables: impl IntoIterator<Item = (OsString, OsString)>) -> ShellVariables {
    let text = |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    let kept = |(name, _): &(String, String)| {
        let name = name.as_str();
        PLACES.contains(&name) || !(name.starts_with(OURS) || OF_A_SESSION.contains(&name))
    };
    ShellVariables(variables.into_iter().filter_map(text).filter(kept).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn variables_of_a_terminal_and_of_devenv_are_not_inherited_and_others_are() {
        let variable = |name: &str, value: &str| (OsString::from(name), OsString::from(value));
        let shell = [
            variable("PATH", "/opt/node/bin:/usr/bin"),
            variable("HOME", "/home/ada"),
            variable("LANG", "C.UTF-8"),
            variable("VIRTUAL_ENV", "/p/.venv"),
            variable("TOKEN", "new"),
            variable("DEVENV_MARKER", "another's"),
            variable("DEVENV_INSTANCE", "another"),
            variable("DEVENV_STATE_DIR", "/s"),
            variable("TMUX", "/tmp/tmux-0/default,1,0"),
            variable("PWD", "/p"),
            (OsString::from("NOT_UTF_8"), OsString::from_vec(vec![0xff])),
        ];
        let names: Vec<String> = filtered(shell).0.into_keys().collect();
        assert_eq!(names, ["DEVENV_STATE_DIR", "HOME", "LANG", "PATH", "TOKEN", "VIRTUAL_ENV"]);
    }

    #[test]
    fn a_terminals_variables_are_listed_once_and_in_order() {
        assert!(OF_A_SESSION.is_sorted());
    }
}
