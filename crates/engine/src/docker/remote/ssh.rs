//! Connections through the user's own `ssh`, to `docker system dial-stdio` at the far end.
//!
//! The user's configuration, agent and keys decide, so what `ssh HOST` can do works here. It never asks: without a terminal a question
//! would wait forever. If the configuration shares no connections itself (`ControlMaster`), they are shared here, so that a login
//! is not repeated for every stream.

use std::{
    fmt,
    path::Path,
    process::Stdio,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWrite},
    process::{Child, ChildStderr, ChildStdin, Command},
};
use tokio_util::task::AbortOnDropHandle;

use super::Halves;

/// For `ssh` to report its configuration, which it does without the network.
const CONFIGURATION: Duration = Duration::from_secs(10);
/// For its last words, after its output has ended.
const WORDS: Duration = Duration::from_secs(2);
/// The most of its messages that is kept, in bytes.
const KEPT: usize = 4096;
/// A shared connection without a stream stays this long, in seconds.
const PERSIST: u32 = 30;

/// `USER@HOST:PORT`, of which only the host is required.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct SshAddress {
    user: Option<String>,
    host: String,
    port: Option<u16>,
}

impl SshAddress {
    /// Of what follows `ssh://`. What `ssh` would take for an option, or a shell for more than a word, is refused.
    pub(in super::super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.strip_suffix('/').unwrap_or(text);
        let (user, rest) = text.rsplit_once('@').map_or((None, text), |(user, rest)| (Some(user), rest));
        if user.is_some_and(|user| user.contains(':')) {
            return Err("a password in the address is not used: give ssh a key".to_owned());
        }
        let (host, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, Some(port.strip_prefix(':').ok_or("it is not an address of the form ssh://USER@HOST:PORT")?)),
            None => rest.rsplit_once(':').map_or((rest, None), |(host, port)| (host, Some(port))),
        };
        for (what, word) in [("user", user), ("host", Some(host))] {
            let Some(word) = word else { continue };
            if word.is_empty() {
                return Err(format!("its {what} is empty"));
            }
            if word.starts_with('-') {
                return Err(format!("its {what} begins with `-`, which ssh would take for an option"));
            }
            if what == "host" && word.contains('/') {
                return Err("a path after the host is not supported: the far end's own `docker` selects the engine there".to_owned());
            }
            if !word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-:%".contains(&byte) || !byte.is_ascii()) {
                return Err(format!("its {what} contains a character that no {what} has"));
            }
        }
        let port = match port {
            None => None,
            Some(port) => Some(port.parse().ok().filter(|port| *port > 0).ok_or(format!("`{port}` is not a port"))?),
        };
        Ok(Self { user: user.map(str::to_owned), host: host.to_owned(), port })
    }
}

impl fmt::Display for SshAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ssh://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}@")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)?;
        } else {
            f.write_str(&self.host)?;
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// Makes connections.
pub(super) struct Link {
    arguments: Vec<String>,
}

impl Link {
    /// `directory` is for the socket of a shared connection.
    pub(super) async fn new(address: &SshAddress, configuration: Option<&Path>, directory: &Path) -> Result<Self, String> {
        let mut words = Vec::new();
        if let Some(file) = configuration {
            // ssh itself reports no file that does not exist by its name alone.
            std::fs::metadata(file).map_err(|error| format!("DEVENV_SSH_CONFIG names {}: {error}", file.display()))?;
            words.extend(["-F".to_owned(), file.display().to_string()]);
        }
        if let Some(user) = &address.user {
            words.extend(["-l".to_owned(), user.clone()]);
        }
        if let Some(port) = address.port {
            words.extend(["-p".to_owned(), port.to_string()]);
        }
        let set = configured(&words, &address.host).await?;
        Ok(Self { arguments: arguments(words, &set, &address.host, &directory.join("%C")) })
    }

    /// Starts `ssh`. Dropping the first value ends it.
    pub(super) fn connect(&self) -> Result<(Running, Halves), String> {
        let mut command = Command::new("ssh");
        command.args(&self.arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        // Ctrl-C in a terminal is for the command, which ends its connections itself.
        command.process_group(0);
        let mut child = command.spawn().map_err(not_started)?;
        let (Some(input), Some(output), Some(words)) = (child.stdin.take(), child.stdout.take(), child.stderr.take()) else {
            return Err("ssh has no pipes".to_owned());
        };
        let said = Arc::new(Mutex::new(Vec::new()));
        let listening = AbortOnDropHandle::new(tokio::spawn(listen(words, said.clone())));
        Ok((Running { child, said, listening }, (Box::new(output), Box::new(Input(Some(input))))))
    }
}

fn not_started(error: std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "the program `ssh` was not found: install an OpenSSH client".to_owned(),
        _ => format!("cannot start `ssh`: {error}"),
    }
}

/// What the user's configuration says, as `ssh` itself resolves it: one option a line.
async fn configured(words: &[String], host: &str) -> Result<String, String> {
    let mut command = Command::new("ssh");
    command.arg("-G").args(words).args(["--", host]).stdin(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(CONFIGURATION, command.output()).await {
        Ok(output) => output.map_err(not_started)?,
        Err(_) => return Err("ssh did not report its configuration in time".to_owned()),
    };
    if !output.status.success() {
        return Err(format!("ssh: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command line. Options that the user has set are left as they are.
fn arguments(words: Vec<String>, set: &str, host: &str, control: &Path) -> Vec<String> {
    let value = |name: &str| set.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap_or_default();
    let mut options = vec!["BatchMode=yes".to_owned()];
    if value("loglevel") == "INFO" {
        // Its words are for people who want to know why it failed.
        options.push("LogLevel=ERROR".to_owned());
    }
    if matches!(value("connecttimeout"), "" | "none" | "0") {
        options.push("ConnectTimeout=15".to_owned());
    }
    if matches!(value("serveraliveinterval"), "" | "0") {
        options.extend(["ServerAliveInterval=10".to_owned(), "ServerAliveCountMax=3".to_owned()]);
    }
    if matches!(value("controlpath"), "" | "none") {
        options.extend([
            "ControlMaster=auto".to_owned(),
            format!("ControlPath={}", control.display()),
            format!("ControlPersist={PERSIST}"),
        ]);
    }
    let mut arguments = vec!["-T".to_owned()];
    arguments.extend(words);
    arguments.extend(options.into_iter().flat_map(|option| ["-o".to_owned(), option]));
    arguments.extend(["--", host, "docker", "system", "dial-stdio"].map(str::to_owned));
    arguments
}

/// A running `ssh`.
pub(super) struct Running {
    child: Child,
    said: Arc<Mutex<Vec<u8>>>,
    listening: AbortOnDropHandle<()>,
}

impl Running {
    /// Whether it has ended by itself, and well, after its output has.
    pub(super) async fn succeeded(&mut self) -> bool {
        tokio::time::timeout(WORDS, self.child.wait()).await.ok().and_then(Result::ok).is_some_and(|status| status.success())
    }

    /// Why it ended, in its own words; `otherwise` if it has none.
    pub(super) async fn reason(&mut self, otherwise: &str) -> String {
        let status = tokio::time::timeout(WORDS, self.child.wait()).await;
        // A shared connection in the background keeps the pipe open, so its end need not come.
        let _ = tokio::time::timeout(WORDS / 4, &mut self.listening).await;
        let said = self.said.lock().expect("no code panics while it holds this lock").clone();
        let said = String::from_utf8_lossy(&said).trim().replace(['\r', '\n'], " ");
        let code = status.ok().and_then(Result::ok).and_then(|status| status.code());
        match (said.is_empty(), code) {
            (true, _) => format!("ssh: {otherwise}"),
            (false, Some(127)) => format!("ssh: {said} (the far end needs the program `docker` in its PATH)"),
            (false, _) => format!("ssh: {said}"),
        }
    }
}

/// Keeps the beginning of its messages, and reads the rest.
async fn listen(mut words: ChildStderr, said: Arc<Mutex<Vec<u8>>>) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = words.read(&mut buffer).await {
        let mut said = said.lock().expect("no code panics while it holds this lock");
        let room = KEPT.saturating_sub(said.len()).min(count);
        said.extend_from_slice(&buffer[..room]);
    }
}

/// The input of `ssh`, which is closed by a shutdown: the pipe's own does nothing.
struct Input(Option<ChildStdin>);

impl AsyncWrite for Input {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        match &mut self.0 {
            Some(input) => std::pin::Pin::new(input).poll_write(cx, bytes),
            None => std::task::Poll::Ready(Err(std::io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(mut self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
        match &mut self.0 {
            Some(input) => std::pin::Pin::new(input).poll_flush(cx),
            None => std::task::Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<std::io::Result<()>> {
        self.0 = None;
        std::task::Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_perhaps_a_user_and_a_port() {
        for text in ["box", "me@box", "me@box:2222", "[::1]:22", "10.0.0.7", "deploy@big-box.example.com"] {
            assert_eq!(SshAddress::parse(text).unwrap().to_string(), format!("ssh://{text}"));
        }
        for (text, words) in [
            ("", "host is empty"),
            ("-oProxyCommand=touch /tmp/x", "begins with `-`"),
            ("-l@box", "begins with `-`"),
            ("me:secret@box", "a password"),
            ("box/var/run/docker.sock", "a path after the host"),
            ("box:port", "is not a port"),
            ("box;reboot", "contains a character"),
            ("$(reboot)", "contains a character"),
        ] {
            let reason = SshAddress::parse(text).unwrap_err();
            assert!(reason.contains(words), "{text}: {reason}");
        }
    }

    #[test]
    fn what_the_user_has_configured_is_left_as_it_is() {
        let control = Path::new("/tmp/d/%C");
        let alone =
            arguments(vec!["-p".to_owned(), "22".to_owned()], "controlpath none\nserveraliveinterval 0\n", "box", control).join(" ");
        assert!(alone.starts_with("-T -p 22 -o BatchMode=yes"), "{alone}");
        for option in ["ConnectTimeout=15", "ServerAliveInterval=10", "ControlMaster=auto", "ControlPath=/tmp/d/%C"] {
            assert!(alone.contains(option), "{alone}");
        }
        assert!(alone.ends_with("-- box docker system dial-stdio"), "{alone}");
        let set = "controlpath /home/me/.ssh/%C\nserveraliveinterval 5\nconnecttimeout 3\n";
        let configured = arguments(Vec::new(), set, "box", control).join(" ");
        assert_eq!(configured, "-T -o BatchMode=yes -- box docker system dial-stdio");
    }

    #[tokio::test]
    async fn a_configuration_that_does_not_exist_is_named() {
        let address = SshAddress::parse("box").unwrap();
        let found = Link::new(&address, Some(Path::new("/nonexistent/config")), Path::new("/tmp")).await;
        assert!(found.err().unwrap().contains("DEVENV_SSH_CONFIG names /nonexistent/config"));
    }
}
