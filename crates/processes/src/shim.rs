//! The process shim: a small program that owns one program of the user, its descendants and its output.
//!
//! Theory of operation. Four kinds of threads share [`Shared`]: one reads the output, one reaps, one accepts on the
//! control socket (with one for each connection), and the first waits for the end. As a subreaper the process shim becomes the
//! parent of every process that its program leaves behind, so "no children left" means exactly "all processes have ended".
//! Plain threads and blocking calls: a process shim must be small, start at once, and survive anything but SIGKILL.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io::{self, BufRead, BufReader, PipeReader, Write},
    net::Shutdown,
    os::{
        fd::AsFd,
        unix::{net::UnixStream, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, WaitStatus, kill_process_group, set_child_subreaper, setsid, wait, waitid};

use super::{
    MARKER, command, control,
    limit::{self, Limited},
    output::{self, pump},
    protocol::{Answer, Ending, Exit, Launch, LaunchError, Reply, Request, State},
    signal::Signal,
    tree::{self, Process},
};
use devenv_logs::Logs;

/// The grace of leftover processes before they are killed, when the program has ended by itself.
const LEFTOVERS: Duration = Duration::from_secs(2);
/// The time limit for killed processes to end. One that hangs in the kernel longer is given up.
const KILL_DEADLINE: Duration = Duration::from_secs(5);
/// How often leftovers are listed until none of them disappears in the meantime.
const NAMING_ATTEMPTS: usize = 10;
/// How many leftovers are named; the rest is counted.
const NAMED_LEFTOVERS: usize = 3;
/// Wakes the threads that wait for the exit.
const FAREWELL: Duration = Duration::from_millis(500);
/// The stack size, enough for any thread of a process shim.
const STACK: usize = 256 * 1024;

#[derive(Debug)]
struct Shared {
    tree_state: Mutex<TreeState>,
    changed: Condvar,
    /// The program, which leads its process group.
    group: Pid,
    directory: PathBuf,
    limited: Limited,
    state: State,
}

#[derive(Debug, Default)]
struct TreeState {
    /// The program's own exit; its descendants may still run.
    exit: Option<Exit>,
    tree_ended: bool,
    /// Stop requests in progress.
    stopping: usize,
    /// Which signal each process has been sent by a stop: a second one of the same kind makes many programs end at once.
    signalled: BTreeSet<(Process, i32)>,
    /// The processes that were left when the program had ended by itself: names and process ids.
    left: Vec<String>,
    /// Killing did not help.
    given_up: bool,
    /// Everything has ended and the state is written.
    finished: Option<Exit>,
    /// Connections that wait for a reply.
    waiting: usize,
}

/// Returns `None` unless the arguments are those of a process shim.
pub fn main_if_asked(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    if arguments.next()? != "shim" || arguments.next()? != "--directory" {
        return None;
    }
    let directory = PathBuf::from(arguments.next()?);
    // The daemon has got the error; nothing reads a process shim's own output.
    Some(if main(&directory).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What `devenv process shim --directory DIR` does, with the launch on standard input, which is a socket. Returns when the
/// program and all its descendants have ended.
pub fn main(directory: &Path) -> Result<(), LaunchError> {
    let mut daemon = io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from).map_err(shim_error)?;
    let launched = read_launch(&daemon).and_then(|launch| start(directory, launch));
    let answer = match &launched {
        Ok((shared, _)) => Answer::Started(shared.state.clone()),
        Err(error) => Answer::Failed(error.clone()),
    };
    // The daemon may be gone already; the next one reads the directory.
    let _ = answer_line(&mut daemon, &answer);
    let _ = daemon.shutdown(Shutdown::Both);
    let (shared, streams) = launched?;
    keep(&shared, streams).map_err(shim_error)
}

fn shim_error(error: impl Into<io::Error>) -> LaunchError {
    LaunchError::Shim(error.into().to_string())
}

fn read_launch(daemon: &UnixStream) -> Result<Launch, LaunchError> {
    serde_json::from_reader(daemon).map_err(shim_error)
}

fn answer_line(socket: &mut UnixStream, answer: &impl serde::Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    socket.write_all(&line)
}

struct Streams {
    stdout: PipeReader,
    stderr: PipeReader,
    log: devenv_logs::Writer,
    listener: std::os::unix::net::UnixListener,
}

fn start(directory: &Path, launch: Launch) -> Result<(Arc<Shared>, Streams), LaunchError> {
    // It fails only for a session leader, which needs no session.
    let _ = setsid();
    set_child_subreaper(Some(rustix::process::getpid())).map_err(shim_error)?;
    let shim = Process::of(std::process::id()).ok_or_else(|| LaunchError::Shim("/proc is not mounted".to_owned()))?;
    let listener = control::listen(directory).map_err(shim_error)?;
    let log = Logs::new(&launch.logs).writer(&launch.service).map_err(shim_error)?;
    let (stdout, stdout_writer) = output::pipe().map_err(shim_error)?;
    let (stderr, stderr_writer) = output::pipe().map_err(shim_error)?;

    let (name, arguments) = launch.command.split_first().ok_or(LaunchError::EmptyCommand)?;
    let path = launch.variables.iter().rfind(|(name, _)| name == "PATH").map(|(_, value)| value.as_str());
    let program = command::find(name, &launch.directory, path)?;
    let started_at = Timestamp::now();
    let limited = limit::prepare(&launch, path)?;
    let mut command = match &limited {
        // systemd makes the group, and replaces itself with the program.
        Limited::ByScope(scope) => {
            let mut command = Command::new(&scope.program);
            command.args(&scope.arguments).arg(&program);
            command
        }
        Limited::Not | Limited::ByGroup(_) => {
            let mut command = Command::new(&program);
            command.arg0(name);
            command
        }
    };
    command
        .args(arguments)
        .current_dir(&launch.directory)
        .env_clear()
        .envs(launch.variables.iter().map(|(name, value)| (name, value)))
        .env(MARKER, &launch.marker)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(stdout_writer)
        .stderr(stderr_writer);
    let spawned = match &limited {
        Limited::ByGroup(group) => group.start_in(|| command.spawn()).map_err(LaunchError::NotLimited)?,
        Limited::Not | Limited::ByScope(_) => command.spawn(),
    };
    let child = spawned.map_err(|error| {
        limited.end();
        command::refusal(&program, &error)
    })?;
    // The ends of the pipes that it holds for the program would keep them open.
    drop(command);

    let state = State {
        marker: launch.marker,
        service: launch.service,
        run: launch.run,
        shim,
        pid: child.id(),
        started_at,
        exit: None,
        left: Vec::new(),
        out_of_memory: false,
    };
    // Without this file a later daemon could not find the program; but it runs, and this daemon knows it.
    let _ = state.write(directory);
    let group =
        Pid::from_raw(child.id().cast_signed()).ok_or_else(|| LaunchError::Shim("a child has an id until it is awaited".to_owned()))?;
    let shared = Shared { tree_state: Mutex::default(), changed: Condvar::new(), group, directory: directory.to_owned(), limited, state };
    Ok((Arc::new(shared), Streams { stdout, stderr, log, listener }))
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().stack_size(STACK).spawn(work)
}

fn keep(shared: &Arc<Shared>, streams: Streams) -> io::Result<()> {
    let Streams { stdout, stderr, log, listener } = streams;
    let (ended, end) = io::pipe()?;
    let run = shared.state.run;
    let output = spawn(move || pump(stdout, stderr, ended, log, run))?;
    let reaper = Arc::clone(shared);
    spawn(move || reaper.reap())?;
    let control = Arc::clone(shared);
    spawn(move || {
        for socket in listener.incoming().flatten() {
            let shared = Arc::clone(&control);
            // Without a thread there is no answer, and the daemon asks again.
            let _ = spawn(move || shared.serve(socket));
        }
    })?;

    let exit = shared.await_end();
    tree::sweep(&shared.state.marker);
    drop(end);
    // Write the last lines to the log before the exit is reported.
    let _ = output.join();
    let left = std::mem::take(&mut shared.lock().left);
    let out_of_memory = shared.limited.end();
    let state = State { exit: Some(exit), left, out_of_memory, ..shared.state.clone() };
    let _ = state.write(&shared.directory);
    // The daemon may start the next process shim in this directory as soon as it learns of the exit.
    control::remove(&shared.directory);
    let mut tree_state = shared.lock();
    tree_state.finished = Some(exit);
    shared.changed.notify_all();
    let farewell = Instant::now() + FAREWELL;
    while tree_state.waiting > 0 && Instant::now() < farewell {
        tree_state = shared.wait(tree_state, Some(farewell));
    }
    Ok(())
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, TreeState> {
        self.tree_state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Waits for a change, or until the deadline.
    fn wait<'a>(&self, tree_state: MutexGuard<'a, TreeState>, deadline: Option<Instant>) -> MutexGuard<'a, TreeState> {
        match deadline {
            None => self.changed.wait(tree_state).unwrap_or_else(std::sync::PoisonError::into_inner),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(Instant::now());
                self.changed.wait_timeout(tree_state, left).unwrap_or_else(std::sync::PoisonError::into_inner).0
            }
        }
    }

    /// Reaps every child until there is none left. A child is first only looked at, and reaped under the lock: as long
    /// as the lock is held, the program's id cannot be reused.
    fn reap(&self) {
        loop {
            match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Ok(_) => {
                    let mut tree_state = self.lock();
                    loop {
                        match wait(WaitOptions::NOHANG) {
                            Ok(Some((pid, status))) if pid == self.group => {
                                tree_state.exit = Some(Exit { ending: ending(status), at: Timestamp::now() });
                            }
                            Ok(Some(_)) | Err(rustix::io::Errno::INTR) => {}
                            Ok(None) => break,
                            Err(_) => {
                                // Reported together with the program's own exit, so that the list of leftovers is complete.
                                tree_state.tree_ended = true;
                                break;
                            }
                        }
                    }
                    self.changed.notify_all();
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => {
                    self.lock().tree_ended = true;
                    self.changed.notify_all();
                    return;
                }
            }
        }
    }

    /// Waits for the program to exit, and then ends every process that it left behind.
    fn await_end(&self) -> Exit {
        let mut tree_state = self.lock();
        while tree_state.exit.is_none() && !tree_state.given_up {
            tree_state = self.wait(tree_state, None);
        }
        if !tree_state.tree_ended && tree_state.stopping == 0 {
            drop(tree_state);
            self.lock().left = leftovers();
            self.stop(Signal::TERM, LEFTOVERS);
            tree_state = self.lock();
        }
        while !tree_state.tree_ended && !tree_state.given_up {
            tree_state = self.wait(tree_state, None);
        }
        tree_state.exit.unwrap_or_else(|| Exit { ending: Ending::Lost, at: Timestamp::now() })
    }

    /// Asks all processes to end, waits for the grace, and kills the rest. The grace is for all of them: a wrapper that ends
    /// at once does not shorten it for the program that it has started. No process gets the signal twice, however many stop
    /// requests there are.
    fn stop(&self, signal: Signal, grace: Duration) {
        let deadline = Instant::now() + grace;
        let number = signal.raw().as_raw();
        let mut tree_state = self.lock();
        tree_state.stopping += 1;
        if tree_state.exit.is_none() && tree_state.signalled.iter().all(|(_, sent)| *sent != number) {
            // It may have just ended; and a stopped process would not handle the signal.
            let _ = self.signal_group(signal).and_then(|()| self.signal_group(Signal::CONT));
            let group = self.group.as_raw_nonzero().get().cast_unsigned();
            let members = tree::descendants(std::process::id()).into_iter().filter(|process| process.group() == Some(group));
            tree_state.signalled.extend(members.map(|process| (process, number)));
        }
        while tree_state.exit.is_none() && Instant::now() < deadline {
            tree_state = self.wait(tree_state, Some(deadline));
        }
        if !tree_state.tree_ended && Instant::now() < deadline {
            // Processes that left the group have not received it yet.
            for process in tree::descendants(std::process::id()) {
                if tree_state.signalled.insert((process, number)) {
                    process.signal(signal);
                    process.signal(Signal::CONT);
                }
            }
            while !tree_state.tree_ended && Instant::now() < deadline {
                tree_state = self.wait(tree_state, Some(deadline));
            }
        }
        let deadline = Instant::now() + KILL_DEADLINE;
        while !tree_state.tree_ended && Instant::now() < deadline {
            drop(tree_state);
            for process in tree::descendants(std::process::id()) {
                process.kill();
            }
            // Another round finds processes that were forked in the meantime.
            tree_state = self.wait(self.lock(), Some(Instant::now() + Duration::from_millis(20)));
        }
        tree_state.given_up = !tree_state.tree_ended;
        tree_state.stopping -= 1;
        self.changed.notify_all();
    }

    /// Call it with the lock held and the program not reaped.
    fn signal_group(&self, signal: Signal) -> rustix::io::Result<()> {
        kill_process_group(self.group, signal.raw())
    }

    fn serve(&self, socket: UnixStream) {
        let Ok(mut writer) = socket.try_clone() else { return };
        let mut line = String::new();
        if BufReader::new(socket).read_line(&mut line).is_err() {
            return;
        }
        let reply = match serde_json::from_str(&line) {
            Ok(Request::Status) => Reply::State(self.state.clone()),
            Ok(Request::Signal { signal }) => {
                let tree_state = self.lock();
                if tree_state.exit.is_some() {
                    Reply::Refused("it has exited".to_owned())
                } else {
                    self.signal_group(signal).map_or_else(|error| Reply::Refused(error.to_string()), |()| Reply::Done)
                }
            }
            Ok(Request::Stop { signal, grace_ms }) => {
                self.lock().waiting += 1;
                self.stop(signal, Duration::from_millis(grace_ms));
                self.finished()
            }
            Ok(Request::Follow) => {
                self.lock().waiting += 1;
                self.finished()
            }
            Err(error) => Reply::Refused(error.to_string()),
        };
        let ended = matches!(reply, Reply::Ended(_));
        // The client may have disconnected.
        let _ = answer_line(&mut writer, &reply);
        if ended {
            self.lock().waiting -= 1;
            self.changed.notify_all();
        }
    }

    fn finished(&self) -> Reply {
        let mut tree_state = self.lock();
        loop {
            if let Some(exit) = tree_state.finished {
                return Reply::Ended(exit);
            }
            tree_state = self.wait(tree_state, None);
        }
    }
}

/// Names the processes below this one. One that forks to become a daemon may end before its name is read: then its
/// child is listed.
fn leftovers() -> Vec<String> {
    let left = (0..NAMING_ATTEMPTS).map(|_| tree::descendants(std::process::id())).map(|left| {
        let named = left.iter().filter_map(|process| Some(format!("{} (process {})", process.name()?, process.pid)));
        (left.len(), named.collect::<Vec<_>>())
    });
    let Some((count, mut named)) = left.into_iter().find(|(count, named)| *count == 0 || *count == named.len()) else {
        return vec!["processes that fork again and again".to_owned()];
    };
    if count > NAMED_LEFTOVERS {
        named.truncate(NAMED_LEFTOVERS);
        named.push(format!("{} more", count - NAMED_LEFTOVERS));
    }
    named
}

fn ending(status: WaitStatus) -> Ending {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => Ending::Code(code),
        (None, Some(signal)) => Ending::Signal(signal),
        (None, None) => Ending::Lost,
    }
}
