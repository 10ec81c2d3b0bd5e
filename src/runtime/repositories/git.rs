//! Runs the user's own `git`, with the user's keys. It never asks a question, takes no transport that runs programs, and gets the user
//! and password of an address through its environment, which other users of the machine cannot read, and not in its arguments,
//! which they can. Only the module above calls it.

use std::process::Stdio;

use percent_encoding::percent_decode_str;
use tokio::{process::Command, time::Instant};

/// The transports that Git may use.
pub(super) const TRANSPORTS: &str = "https:http:ssh:git";
/// Gives Git the user and the password, and stores neither. Git runs it by `sh`, which has both in its environment.
const HELPER: &str = r#"!f() { test "$1" = get && printf 'username=%s\npassword=%s\n' "$DEVENV_GIT_USER" "$DEVENV_GIT_PASSWORD"; }; f"#;

/// Where a repository is: the address without the user of HTTP, and that user.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) url: String,
    login: Option<Login>,
}

#[derive(Debug, PartialEq, Eq)]
struct Login {
    /// The scheme and the host: no other host gets the password, as after a redirect.
    site: String,
    user: String,
    /// A token may stand in the place of the user, without a password.
    password: Option<String>,
}

impl Remote {
    pub(super) fn of(address: &str) -> Result<Self, String> {
        let as_it_is = Self { url: address.to_owned(), login: None };
        let Some((scheme, rest)) = address.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https")) else {
            return Ok(as_it_is);
        };
        let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let Some((login, host)) = authority.rsplit_once('@') else { return Ok(as_it_is) };
        let (user, password) = login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
        let plain = |text: &str| {
            let text = percent_decode_str(text).decode_utf8().ok().filter(|text| !text.chars().any(char::is_control));
            text.map(String::from).ok_or_else(|| "the user or the password in its address is no text in one line".to_owned())
        };
        let login = Login { site: format!("{scheme}://{host}"), user: plain(user)?, password: password.map(plain).transpose()? };
        Ok(Self { url: format!("{scheme}://{host}{path}"), login: Some(login) })
    }

    /// The variables with which Git logs in there.
    fn variables(&self) -> Vec<(String, String)> {
        let Some(Login { site, user, password }) = &self.login else { return Vec::new() };
        let mut settings = vec![("username", user.as_str())];
        if password.is_some() {
            // The address has the last word: neither is another password asked for, nor is this one stored.
            settings.push(("helper", ""));
        }
        settings.push(("helper", HELPER));
        let first = std::env::var("GIT_CONFIG_COUNT").ok().and_then(|count| count.parse::<usize>().ok()).unwrap_or(0);
        let mut variables = vec![
            ("GIT_CONFIG_COUNT".to_owned(), (first + settings.len()).to_string()),
            ("DEVENV_GIT_USER".to_owned(), user.clone()),
            ("DEVENV_GIT_PASSWORD".to_owned(), password.clone().unwrap_or_default()),
        ];
        for (index, (name, value)) in (first..).zip(settings) {
            variables.push((format!("GIT_CONFIG_KEY_{index}"), format!("credential.{site}.{name}")));
            variables.push((format!("GIT_CONFIG_VALUE_{index}"), value.to_owned()));
        }
        variables
    }
}

/// How Git is run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Git {
    pub(super) transports: &'static str,
}

impl Git {
    /// What Git prints; its last words if it fails. It is ended at the deadline.
    pub(super) async fn run(self, words: &[&str], remote: Option<&Remote>, deadline: Instant) -> Result<String, String> {
        let mut command = Command::new("git");
        command
            .args(words)
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ALLOW_PROTOCOL", self.transports)
            .env("LC_ALL", "C")
            .envs(remote.map(Remote::variables).unwrap_or_default())
            .stdin(Stdio::null())
            .kill_on_drop(true);
        if std::env::var_os("GIT_SSH_COMMAND").is_none() {
            command.env("GIT_SSH_COMMAND", "ssh -o BatchMode=yes");
        }
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            command.env_remove(name);
        }
        let began = Instant::now();
        let output = tokio::time::timeout_at(deadline, command.output()).await;
        let output = output.map_err(|_| format!("git did not end within {} s", began.elapsed().as_secs()))?;
        let output = output.map_err(|error| format!("cannot run git, which fetches repositories: {error}"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let last: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        Err(format!("git: {}", last[last.len().saturating_sub(3)..].join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_of_an_address_is_taken_out_of_it() {
        let parts = |address: &str| {
            let Remote { url, login } = Remote::of(address).unwrap();
            (url, login.map(|login| (login.site, login.user, login.password)))
        };
        let login = |site: &str, user: &str, password: Option<&str>| Some((site.to_owned(), user.to_owned(), password.map(str::to_owned)));
        assert_eq!(
            parts("https://ada:p%40ss@example.org:8443/a.git"),
            ("https://example.org:8443/a.git".to_owned(), login("https://example.org:8443", "ada", Some("p@ss")))
        );
        assert_eq!(
            parts("http://token@example.org/a.git"),
            ("http://example.org/a.git".to_owned(), login("http://example.org", "token", None))
        );
        for address in ["https://example.org/a@b.git", "ssh://git@example.org/a", "git@example.org:team/a.git", "git://example.org/a"] {
            assert_eq!(parts(address), (address.to_owned(), None));
        }
        assert!(Remote::of("https://ada:a%0Ahost=b@example.org/a.git").unwrap_err().contains("in one line"));
    }
}
