//! The thread that receives file events and reports changes.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender},
    time::{Duration, Instant},
};

use notify::{
    EventKind,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind, RenameMode},
};
use tokio::sync::{mpsc, oneshot};

use super::{Change, Extent, FeedbackLoop, Observation, Rule, breaker::Activity, debounce::Mark, limits::Watches, watched::Watched};
use devenv_processes::{self as process, Written};

/// How often directories without a watch are polled.
const POLL: Duration = Duration::from_secs(1);
/// Polling takes at most this fraction of the time.
const POLL_SHARE: u32 = 20;
/// The most files for which the writer is looked up at once: each look-up takes milliseconds.
const MOST_LOOKED_UP: usize = 16;
/// Between checks for events while first bytes are being read.
const READING: Duration = Duration::from_millis(5);

pub(super) enum Message {
    Touched {
        path: PathBuf,
        mark: Mark,
        at: Instant,
        may_be_directory: bool,
    },
    /// The kernel could not keep up, and events were lost.
    Overflow,
    WorkBegins {
        service: String,
        marker: Option<String>,
        at: Instant,
    },
    WorkEnds {
        service: String,
        at: Instant,
    },
    Waits {
        service: String,
    },
    /// Reads all first bytes now, and then reports on `done`.
    #[cfg(test)]
    ReadAll {
        done: Sender<()>,
    },
    Stop,
}

/// A build or start of a service.
#[derive(Debug)]
struct Work {
    marker: Option<String>,
    began: Instant,
    ended: Option<Instant>,
    /// When the previous build or start began and ended.
    before: Option<(Instant, Instant)>,
    /// What the service's processes had written when it ended or files changed, whichever was later.
    written: Option<Written>,
}

impl Work {
    /// Looks at what the service's processes have written. Returns whether they may have written one of the files since the last look.
    fn may_have_written(&mut self, paths: &[PathBuf]) -> bool {
        let before = std::mem::replace(&mut self.written, self.marker.as_deref().and_then(Written::by));
        if self.written.is_some() {
            write_back(paths.to_vec());
        }
        match (before, self.written) {
            (Some(before), Some(now)) => paths.iter().any(|path| now.may_include(path, before)),
            _ => true,
        }
    }

    fn activity(&self, at: Instant) -> Activity {
        match self.ended {
            Some(ended) if at > ended => Activity::Running { round: self.began, since: at - ended },
            _ if at >= self.began => Activity::Starting,
            // The event is older than the build that it may have caused.
            _ => match self.before {
                Some((round, ended)) if at > ended => Activity::Running { round, since: at - ended },
                _ => Activity::Unknown,
            },
        }
    }
}

/// Has the system write the files to the disk, in the background. The kernel counts a page when it first has something to write back:
/// so the next write to the same page counts too.
fn write_back(paths: Vec<PathBuf>) {
    // Without a thread, a loop is found later.
    let _ = std::thread::Builder::new().name("write-back".to_owned()).spawn(move || {
        for path in paths {
            let _ = devenv_files::open_regular(&path).map(|file| file.sync_data());
        }
    });
}

struct Source {
    watched: Vec<Watched>,
    watches: Watches,
    work: HashMap<String, Work>,
    observations: mpsc::Sender<Observation>,
    next_poll: Instant,
    reported_limit: usize,
}

pub(super) fn run(
    project: &Path,
    rules: Vec<Rule>,
    limit: Option<usize>,
    (events, inbox): (Sender<Message>, Receiver<Message>),
    observations: mpsc::Sender<Observation>,
    ready: oneshot::Sender<Extent>,
) {
    let watches = Watches::new(move |event: notify::Result<notify::Event>| pass_on(&events, event), limit);
    let mut source =
        Source { watched: Vec::new(), watches, work: HashMap::new(), observations, next_poll: Instant::now() + POLL, reported_limit: 0 };
    // For ignore files and for roots that are created later.
    source.watches.add(project);
    for rule in rules {
        let watched = Watched::new(project, rule, &mut source.watches);
        source.watched.push(watched);
    }
    let files = source.watched.iter().map(|watched| watched.tree.files()).sum();
    let extent = Extent { directories: source.watches.count(), polled: source.watches.polled().len(), files };
    if source.report_limit().is_err() || ready.send(extent).is_err() {
        return;
    }
    source.listen(&inbox);
}

/// The receiver of observations is gone.
struct Abandoned;

fn pass_on(events: &Sender<Message>, event: notify::Result<notify::Event>) {
    let at = Instant::now();
    // Fails only when the thread is ending.
    let send = |message| drop(events.send(message));
    let Ok(event) = event else { return send(Message::Overflow) };
    if event.need_rescan() {
        return send(Message::Overflow);
    }
    let (mark, may_be_directory) = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => (Mark::Settled, false),
        EventKind::Create(CreateKind::Folder) | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => (Mark::Settled, true),
        EventKind::Create(_) | EventKind::Modify(ModifyKind::Data(_)) => (Mark::Open, false),
        EventKind::Remove(RemoveKind::Folder | RemoveKind::File | RemoveKind::Any | RemoveKind::Other)
        | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => (Mark::Gone, false),
        // Reads, permissions and times change nothing; the two halves of a rename arrive as events of their own.
        _ => return,
    };
    for path in event.paths {
        send(Message::Touched { path, mark, at, may_be_directory });
    }
}

impl Source {
    fn listen(&mut self, inbox: &Receiver<Message>) {
        loop {
            let now = Instant::now();
            let unread = self.watched.iter_mut().any(|watched| !watched.tree.is_read());
            let mut wake = self.watched.iter().flat_map(|watched| [watched.debounce.due(), watched.breaker.due()]).flatten().min();
            if !self.watches.polled().is_empty() {
                wake = Some(wake.map_or(self.next_poll, |wake| wake.min(self.next_poll)));
            }
            let received = if unread && wake.is_none_or(|wake| wake > now) {
                inbox.recv_timeout(Duration::ZERO)
            } else if let Some(wake) = wake {
                inbox.recv_timeout(wake.saturating_duration_since(now))
            } else {
                inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            let result = match received {
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(message) => {
                    self.handle(message);
                    Ok(())
                }
                Err(RecvTimeoutError::Timeout) if unread && wake.is_none_or(|wake| wake > Instant::now()) => {
                    self.read_some();
                    Ok(())
                }
                Err(RecvTimeoutError::Timeout) => {
                    // On an overloaded machine the quiet may be that of the thread which reads the kernel's events.
                    self.watches.drain();
                    while let Ok(message) = inbox.try_recv() {
                        if matches!(message, Message::Stop) {
                            return;
                        }
                        self.handle(message);
                    }
                    self.handle_due()
                }
            };
            if result.is_err() {
                return;
            }
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Touched { path, mark, at, may_be_directory } => {
                for watched in &mut self.watched {
                    watched.touch(&path, mark, at, may_be_directory, &mut self.watches);
                }
            }
            Message::Overflow => {
                let now = Instant::now();
                for watched in &mut self.watched {
                    watched.rescan(now, &mut self.watches, None);
                }
            }
            Message::WorkBegins { service, marker, at } => {
                let before = self.work.get(&service).and_then(|work| Some((work.began, work.ended?)));
                self.work.insert(service, Work { marker, began: at, ended: None, before, written: None });
            }
            Message::WorkEnds { service, at } => {
                if let Some(work) = self.work.get_mut(&service) {
                    work.ended = Some(at);
                    work.written = work.marker.as_deref().and_then(Written::by);
                }
            }
            Message::Waits { service } => {
                self.work.remove(&service);
            }
            #[cfg(test)]
            Message::ReadAll { done } => {
                for watched in &mut self.watched {
                    while watched.tree.read_one() {}
                }
                let _ = done.send(());
            }
            Message::Stop => {}
        }
    }

    /// Reads first bytes for a while.
    fn read_some(&mut self) {
        let until = Instant::now() + READING;
        for watched in &mut self.watched {
            while Instant::now() < until && watched.tree.read_one() {}
        }
    }

    /// Handles what is due.
    fn handle_due(&mut self) -> Result<(), Abandoned> {
        let now = Instant::now();
        if !self.watches.polled().is_empty() && now >= self.next_poll {
            let polled: Vec<PathBuf> = self.watches.polled().iter().cloned().collect();
            for watched in &mut self.watched {
                watched.rescan(now, &mut self.watches, Some(&polled));
            }
            let took = now.elapsed();
            self.next_poll = Instant::now() + POLL.max(took * POLL_SHARE);
        }
        for index in 0..self.watched.len() {
            let watched = &mut self.watched[index];
            let doubted = watched.breaker.doubted(now);
            if !doubted.is_empty() {
                let (service, rule) = (watched.rule.service.clone(), watched.rule.index);
                self.send(Observation::Changed(Change { service, rule, paths: doubted }))?;
            }
            let watched = &mut self.watched[index];
            if watched.debounce.due().is_none_or(|due| due > now) {
                continue;
            }
            if watched.is_unfinished(now) {
                watched.debounce.postpone(now);
                continue;
            }
            let began = watched.debounce.began().unwrap_or(now);
            let changed = watched.changes(&mut self.watches);
            if !changed.is_empty() {
                self.report(index, began, changed)?;
            }
        }
        self.report_limit()
    }

    fn report(&mut self, index: usize, began: Instant, changed: Vec<PathBuf>) -> Result<(), Abandoned> {
        let watched = &mut self.watched[index];
        let (service, rule) = (watched.rule.service.clone(), watched.rule.index);
        let few = changed.len() <= MOST_LOOKED_UP;
        let mut activity = self.work.get(&service).map_or(Activity::Unknown, |work| work.activity(began));
        if let (Activity::Running { .. }, Some(work)) = (activity, self.work.get_mut(&service))
            && few
            && !work.may_have_written(&changed)
        {
            activity = Activity::Unknown;
        }
        let work = self.work.get(&service);
        let holder = |path: &Path| process::has_open_for_writing(work?.marker.as_deref()?, path);
        let verdict = watched.breaker.judge(began, changed, activity, |path| few && holder(path).is_some());
        if !verdict.broken.is_empty() {
            let writer = verdict.broken.iter().take(MOST_LOOKED_UP).find_map(|path| holder(path));
            let (service, paths) = (service.clone(), verdict.broken);
            let while_running = activity != Activity::Starting;
            self.send(Observation::FeedbackLoop(FeedbackLoop { service, rule, paths, writer, while_running }))?;
        }
        if !verdict.changed.is_empty() {
            self.send(Observation::Changed(Change { service, rule, paths: verdict.changed }))?;
        }
        Ok(())
    }

    fn report_limit(&mut self) -> Result<(), Abandoned> {
        let polled = self.watches.polled().len();
        // Report it once, and again when it has become much worse.
        if polled > self.reported_limit * 2
            && let Some(limited) = self.watches.limited()
        {
            self.reported_limit = polled;
            return self.send(Observation::Limited(limited));
        }
        Ok(())
    }

    fn send(&self, observation: Observation) -> Result<(), Abandoned> {
        self.observations.blocking_send(observation).map_err(|_| Abandoned)
    }
}
