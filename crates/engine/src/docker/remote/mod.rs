//! Engines on other machines: a private unix socket here, each of whose connections goes to the engine over TLS or ssh.
//!
//! # Theory of operation
//!
//! Both HTTP clients talk to the socket, so neither knows how the engine is reached: over TLS, verified by the certificates of Docker's
//! own configuration (`tls`), or through the user's own `ssh` to `docker system dial-stdio` at the far end (`ssh`). A task accepts
//! connections as long as the [`Bridge`] exists. Nothing is retried here: a connection that fails is closed, and its reason is kept, so
//! that the error of the request says why. Who follows the engine's events retries, with a back-off.
//!
//! The socket is in a directory that only its user enters. Those of killed processes are removed by the next one.

mod ssh;
mod tls;

use std::{
    fmt, io,
    os::{fd::AsFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    task::JoinSet,
};
use tokio_util::task::AbortOnDropHandle;

use crate::EngineError;

pub(super) use ssh::SshAddress;
pub(super) use tls::Certificates;

/// For a connection to be made, in which ssh also logs in.
const CONNECT: Duration = Duration::from_secs(20);
/// The pause after a connection could not be accepted.
const RETRY: Duration = Duration::from_millis(10);
/// How often a stream whose input has ended is checked for a client that has left.
const LOOK: Duration = Duration::from_secs(1);
/// Of the directories, before the number of the process.
const PREFIX: &str = "devenv-engine-";

/// An engine on another machine.
#[derive(Debug)]
pub(super) struct Remote {
    way: Way,
    /// Why the last connection failed, until one succeeds.
    trouble: Mutex<Option<String>>,
    /// How many connections broke instead of ending.
    breaks: AtomicU64,
}

#[derive(Debug, PartialEq, Eq)]
enum Way {
    Tls { address: String, certificates: Certificates },
    Ssh { address: SshAddress, configuration: Option<PathBuf> },
}

/// Both directions of a connection. Closing the second one shows the engine the end of the input.
type Halves = (Box<dyn AsyncRead + Send + Unpin>, Box<dyn AsyncWrite + Send + Unpin>);

impl PartialEq for Remote {
    fn eq(&self, other: &Self) -> bool {
        self.way == other.way
    }
}

impl Eq for Remote {}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.way {
            Way::Tls { address, .. } => write!(f, "tcp://{address}"),
            Way::Ssh { address, .. } => write!(f, "{address}"),
        }
    }
}

impl Remote {
    /// `address` is `HOST:PORT`.
    pub(super) fn over_tls(address: String, certificates: Certificates) -> Self {
        Self { way: Way::Tls { address, certificates }, trouble: Mutex::default(), breaks: AtomicU64::new(0) }
    }

    /// With the configuration file that is passed to `ssh`, else the user's own.
    pub(super) fn over_ssh(address: SshAddress, configuration: Option<PathBuf>) -> Self {
        Self { way: Way::Ssh { address, configuration }, trouble: Mutex::default(), breaks: AtomicU64::new(0) }
    }

    /// Why there is no connection, if the last one failed.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().expect("no code panics while it holds this lock").clone()
    }

    /// How many connections broke instead of ending. A stream that ends while this changes may not be whole.
    pub(super) fn breaks(&self) -> u64 {
        self.breaks.load(Ordering::Acquire)
    }

    fn broke(&self) {
        self.breaks.fetch_add(1, Ordering::AcqRel);
    }

    fn note(&self, trouble: Option<String>) {
        if let Some(reason) = &trouble {
            tracing::debug!(engine = %self, reason, "A connection to the engine failed.");
        }
        *self.trouble.lock().expect("no code panics while it holds this lock") = trouble;
    }
}

/// The socket, as long as it exists.
pub(super) struct Bridge {
    directory: tempfile::TempDir,
    _serving: AbortOnDropHandle<()>,
}

impl Bridge {
    pub(super) async fn open(remote: Arc<Remote>) -> Result<Self, EngineError> {
        let fail = |reason: String| EngineError::Unreachable { endpoint: remote.to_string(), reason };
        let begin = || {
            let all = std::env::temp_dir();
            remove_left(&all);
            let directory = private_directory(&all)?;
            let listener = UnixListener::bind(socket_in(directory.path()))?;
            Ok((directory, listener))
        };
        let begun: io::Result<_> = begin();
        let (directory, listener) = begun.map_err(|error| fail(format!("cannot create a socket for it: {error}")))?;
        let link = match &remote.way {
            Way::Tls { address, certificates } => Link::Tls(tls::Link::new(address, certificates).map_err(fail)?),
            Way::Ssh { address, configuration } => {
                Link::Ssh(ssh::Link::new(address, configuration.as_deref(), directory.path()).await.map_err(fail)?)
            }
        };
        let serving = AbortOnDropHandle::new(tokio::spawn(serve(listener, Arc::new(link), remote.clone())));
        Ok(Self { directory, _serving: serving })
    }

    pub(super) fn socket(&self) -> PathBuf {
        socket_in(self.directory.path())
    }
}

/// For its user alone, whatever the umask is.
fn private_directory(all: &Path) -> io::Result<tempfile::TempDir> {
    let prefix = format!("{PREFIX}{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).permissions(std::fs::Permissions::from_mode(0o700)).tempdir_in(all)
}

fn socket_in(directory: &Path) -> PathBuf {
    directory.join("s")
}

/// How connections are made.
enum Link {
    Tls(tls::Link),
    Ssh(ssh::Link),
}

/// Removes the directories of processes that were killed.
fn remove_left(all: &Path) {
    let Ok(entries) = std::fs::read_dir(all) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next()?.parse::<i32>().ok());
        let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) else { continue };
        // Another user's is refused by the system.
        if rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Never returns; all connections are closed when it is dropped.
async fn serve(listener: UnixListener, link: Arc<Link>, remote: Arc<Remote>) {
    let mut connections = JoinSet::new();
    loop {
        // Cancel-safe: a connection is either taken or stays in the kernel's queue.
        tokio::select! {
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((near, _)) => drop(connections.spawn(carry(near, link.clone(), remote.clone()))),
                // Most likely there are no file descriptors left; some will be free soon.
                Err(_) => tokio::time::sleep(RETRY).await,
            },
        }
    }
}

async fn carry(near: UnixStream, link: Arc<Link>, remote: Arc<Remote>) {
    let near = Arc::new(near);
    let carried = match link.as_ref() {
        Link::Tls(link) => match tokio::time::timeout(CONNECT, link.connect()).await {
            Ok(Ok(far)) => match pump(&near, far, &remote).await {
                Ended::Left | Ended::Closed { answered: true } => Ok(()),
                Ended::Closed { answered: false } => Err(UNANSWERED.to_owned()),
                Ended::Broke(reason) => {
                    remote.broke();
                    Err(reason)
                }
            },
            Ok(Err(reason)) => Err(reason),
            Err(_) => Err(format!("no connection within {} s", CONNECT.as_secs())),
        },
        Link::Ssh(link) => match link.connect() {
            Ok((mut child, far)) => match pump(&near, far, &remote).await {
                Ended::Left => Ok(()),
                // Its pipe is closed in the same way whether the engine closed the connection or ssh was cut off.
                Ended::Closed { answered } if child.succeeded().await => {
                    if answered {
                        Ok(())
                    } else {
                        Err(UNANSWERED.to_owned())
                    }
                }
                Ended::Closed { answered: false } => Err(child.reason(UNANSWERED).await),
                Ended::Closed { answered: true } => {
                    remote.broke();
                    Err(child.reason("the connection broke").await)
                }
                Ended::Broke(reason) => {
                    remote.broke();
                    Err(child.reason(&reason).await)
                }
            },
            Err(reason) => Err(reason),
        },
    };
    if let Err(reason) = carried {
        remote.note(Some(reason));
    }
    // Last: who sees the end finds the reason.
    let _ = rustix::net::shutdown(near.as_fd(), rustix::net::Shutdown::Both);
}

const UNANSWERED: &str = "the connection was closed before an answer";

/// How a connection ended.
enum Ended {
    /// The client has closed both directions, or does not want the rest.
    Left,
    /// The engine has closed it, as far as can be seen.
    Closed { answered: bool },
    /// It was cut off.
    Broke(String),
}

async fn pump(near: &Arc<UnixStream>, (mut far_read, mut far_write): Halves, remote: &Remote) -> Ended {
    let (mut near_read, mut near_write) = (Shared(near.clone()), Shared(near.clone()));
    let up = async {
        // Either side may break off; the other direction shows it.
        let _ = tokio::io::copy(&mut near_read, &mut far_write).await;
        let _ = far_write.shutdown().await;
        drop(far_write);
        until_left(near).await;
        Ended::Left
    };
    let down = async {
        let mut buffer = vec![0; 64 << 10];
        let mut answered = false;
        loop {
            match far_read.read(&mut buffer).await {
                Ok(0) => break Ended::Closed { answered },
                Ok(count) => {
                    if !std::mem::replace(&mut answered, true) {
                        remote.note(None);
                    }
                    if near_write.write_all(&buffer[..count]).await.is_err() {
                        break Ended::Left;
                    }
                }
                Err(error) => break Ended::Broke(tls::explained(&error)),
            }
        }
    };
    tokio::select! {
        ended = up => ended,
        ended = down => ended,
    }
}

/// Returns when the client has closed both directions, which no read shows once the first is closed.
async fn until_left(near: &UnixStream) {
    loop {
        let mut look = [PollFd::new(near, PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut look, Some(&now)).is_ok_and(|found| found > 0) && look[0].revents().contains(PollFlags::HUP) {
            return;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A stream that is read and written by two futures of one task.
struct Shared(Arc<UnixStream>);

impl AsyncRead for Shared {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        loop {
            std::task::ready!(self.0.poll_read_ready(cx))?;
            match self.0.try_read(buffer.initialize_unfilled()) {
                Ok(count) => {
                    buffer.advance(count);
                    return std::task::Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return std::task::Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Shared {
    fn poll_write(self: std::pin::Pin<&mut Self>, cx: &mut std::task::Context<'_>, bytes: &[u8]) -> std::task::Poll<io::Result<usize>> {
        loop {
            std::task::ready!(self.0.poll_write_ready(cx))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                written => return std::task::Poll::Ready(written),
            }
        }
    }

    fn poll_flush(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(rustix::net::shutdown(self.0.as_fd(), rustix::net::Shutdown::Write)?))
    }
}

#[cfg(test)]
mod tests;
