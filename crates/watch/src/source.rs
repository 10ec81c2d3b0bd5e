//! The thread that receives file events and reports changes.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender},
    time::{Duration, Instant},
};

use notify::{
    EventKind,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind, RemoveKind, RenameMode},
};
use tokio::sync::{mpsc, oneshot};

use super::{
    Change, Extent, FeedbackLoop, Observation, Rule,
    breaker::{Activity, Breaker},
    debounce::{Debounce, Mark},
    filter::Filter,
    limits::Watches,
    tree::Tree,
};
use devenv_processes as process;

/// How often directories without a watch are looked at.
const POLL: Duration = Duration::from_secs(1);
/// Polling takes at most this part of the time.
const POLL_SHARE: u32 = 20;
/// A file that is empty and open is about to be written; but some are left so.
const EMPTY: Duration = Duration::from_millis(500);
/// A lock of git's that is older was left behind by one that died.
const STALE_LOCK: Duration = Duration::from_secs(30);
/// Who has a file open is asked of so many at once: to ask takes milliseconds.
const ASKED_OF: usize = 16;
/// Between looks at events while first bytes are being read.
const READING: Duration = Duration::from_millis(5);

pub(super) enum Message {
    Touched {
        path: PathBuf,
        mark: Mark,
        at: Instant,
        may_be_directory: bool,
    },
    /// The kernel could not keep up, and what was lost is unknown.
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
    /// Reads all first bytes now, and then says so.
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
    /// The work before it: when it began and ended.
    before: Option<(Instant, Instant)>,
}

impl Work {
    fn activity(&self, at: Instant) -> Activity {
        match self.ended {
            Some(ended) if at > ended => Activity::Running { round: self.began, since: at - ended },
            _ if at >= self.began => Activity::Starting,
            // The event is older than the work that it may have caused.
            _ => match self.before {
                Some((round, ended)) if at > ended => Activity::Running { round, since: at - ended },
                _ => Activity::Unknown,
            },
        }
    }
}

struct Watched {
    rule: Rule,
    filter: Filter,
    tree: Tree,
    debounce: Debounce,
    breaker: Breaker,
    /// Roots that do not exist now.
    missing: Vec<PathBuf>,
    project: PathBuf,
    /// Directories above roots, watched for the roots' sake.
    above: HashSet<PathBuf>,
    /// An ignore file changed.
    stale_filter: bool,
}

struct Source {
    watched: Vec<Watched>,
    watches: Watches,
    work: HashMap<String, Work>,
    observations: mpsc::Sender<Observation>,
    next_poll: Instant,
    told_limit: usize,
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
        Source { watched: Vec::new(), watches, work: HashMap::new(), observations, next_poll: Instant::now() + POLL, told_limit: 0 };
    // For ignore files and for roots that come into being.
    source.watches.add(project);
    for rule in rules {
        let watched = Watched::new(project, rule, &mut source.watches);
        source.watched.push(watched);
    }
    let files = source.watched.iter().map(|watched| watched.tree.files()).sum();
    let extent = Extent { directories: source.watches.count(), polled: source.watches.polled().len(), files };
    if source.tell_limit().is_err() || ready.send(extent).is_err() {
        return;
    }
    source.listen(&inbox);
}

/// Nobody takes observations any more.
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
        // Reading, permissions and times change nothing; a rename's two halves come by themselves.
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
                    self.hear(message);
                    Ok(())
                }
                Err(RecvTimeoutError::Timeout) if unread && wake.is_none_or(|wake| wake > Instant::now()) => {
                    self.read_some();
                    Ok(())
                }
                Err(RecvTimeoutError::Timeout) => {
                    // On a machine that is out of breath the quiet may be that of the thread which hears the kernel.
                    self.watches.drain();
                    while let Ok(message) = inbox.try_recv() {
                        if matches!(message, Message::Stop) {
                            return;
                        }
                        self.hear(message);
                    }
                    self.look()
                }
            };
            if result.is_err() {
                return;
            }
        }
    }

    fn hear(&mut self, message: Message) {
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
                self.work.insert(service, Work { marker, began: at, ended: None, before });
            }
            Message::WorkEnds { service, at } => {
                if let Some(work) = self.work.get_mut(&service) {
                    work.ended = Some(at);
                }
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

    /// Looks at what is due.
    fn look(&mut self) -> Result<(), Abandoned> {
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
                self.tell(index, began, changed)?;
            }
        }
        self.tell_limit()
    }

    fn tell(&mut self, index: usize, began: Instant, changed: Vec<PathBuf>) -> Result<(), Abandoned> {
        let watched = &mut self.watched[index];
        let (service, rule) = (watched.rule.service.clone(), watched.rule.index);
        let work = self.work.get(&service);
        let activity = work.map_or(Activity::Unknown, |work| work.activity(began));
        let holder = |path: &Path| process::has_open_for_writing(work?.marker.as_deref()?, path);
        let few = changed.len() <= ASKED_OF;
        let verdict = watched.breaker.judge(began, changed, activity, |path| few && holder(path).is_some());
        if !verdict.broken.is_empty() {
            let writer = verdict.broken.iter().take(ASKED_OF).find_map(|path| holder(path));
            let (service, paths) = (service.clone(), verdict.broken);
            let while_running = activity != Activity::Starting;
            self.send(Observation::FeedbackLoop(FeedbackLoop { service, rule, paths, writer, while_running }))?;
        }
        if !verdict.changed.is_empty() {
            self.send(Observation::Changed(Change { service, rule, paths: verdict.changed }))?;
        }
        Ok(())
    }

    fn tell_limit(&mut self) -> Result<(), Abandoned> {
        let polled = self.watches.polled().len();
        // Once, and again when it has become much worse.
        if polled > self.told_limit * 2
            && let Some(limited) = self.watches.limited()
        {
            self.told_limit = polled;
            return self.send(Observation::Limited(limited));
        }
        Ok(())
    }

    fn send(&self, observation: Observation) -> Result<(), Abandoned> {
        self.observations.blocking_send(observation).map_err(|_| Abandoned)
    }
}

impl Watched {
    fn new(project: &Path, rule: Rule, watches: &mut Watches) -> Self {
        let filter = Filter::new(project, &rule.ignore, &rule.paths);
        let mut watched = Self {
            rule,
            filter,
            tree: Tree::default(),
            debounce: Debounce::default(),
            breaker: Breaker::default(),
            missing: Vec::new(),
            project: project.to_owned(),
            above: HashSet::new(),
            stale_filter: false,
        };
        watched.missing.clone_from(&watched.rule.paths);
        let found = watched.find_roots(watches);
        watched.tree.note(found);
        watched
    }

    /// Takes in the roots that exist by now.
    fn find_roots(&mut self, watches: &mut Watches) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for root in std::mem::take(&mut self.missing) {
            self.watch_above(&root, watches);
            if fs::symlink_metadata(&root).is_ok() {
                found.extend(self.tree.add_root(&root, &mut self.filter, watches));
            } else {
                self.missing.push(root);
            }
        }
        found
    }

    /// A root comes and goes with the directories above it.
    fn watch_above(&mut self, root: &Path, watches: &mut Watches) {
        let existing: Vec<&Path> = root.ancestors().skip(1).filter(|above| above.is_dir()).collect();
        let nearest = existing.first().copied();
        for above in existing.into_iter().filter(|above| Some(*above) == nearest || above.starts_with(&self.project)) {
            if self.above.insert(above.to_owned()) {
                watches.add(above);
            } else {
                watches.renew(above);
            }
        }
    }

    fn touch(&mut self, path: &Path, mark: Mark, at: Instant, may_be_directory: bool, watches: &mut Watches) {
        if self.rule.paths.iter().any(|root| root.starts_with(path)) {
            self.touch_roots(path, mark, at, watches);
        }
        if path.file_name().is_some_and(Filter::is_ignore_file) {
            self.stale_filter = true;
            self.debounce.touch(at, path.to_owned(), mark);
            return;
        }
        let Some(path) = self.tree.known_as(path, &self.filter) else { return };
        // A new directory gets its watch now; what is in it already is found by looking.
        if may_be_directory && path.is_dir() {
            for file in self.tree.scan(&path, &mut self.filter, watches) {
                self.debounce.touch(at, file, Mark::Settled);
            }
        }
        self.debounce.touch(at, path, mark);
    }

    /// Something happened to a root, or above it.
    fn touch_roots(&mut self, path: &Path, mark: Mark, at: Instant, watches: &mut Watches) {
        let mut touched = self.find_roots(watches);
        for root in self.rule.paths.clone().into_iter().filter(|root| root.starts_with(path)) {
            if self.tree.has_directory(&root) {
                if root.is_dir() {
                    self.watch_above(&root, watches);
                    touched.extend(self.tree.scan(&root, &mut self.filter, watches));
                }
                self.debounce.touch(at, root, mark);
            }
        }
        for file in touched {
            self.debounce.touch(at, file, Mark::Settled);
        }
    }

    /// Scans for changes that no event reported, in all directories or in some.
    fn rescan(&mut self, now: Instant, watches: &mut Watches, some: Option<&[PathBuf]>) {
        let directories: Vec<PathBuf> = match some {
            Some(some) => some.iter().filter(|path| self.tree.has_directory(path)).cloned().collect(),
            None => self.tree.directories().cloned().collect(),
        };
        let mut touched = self.find_roots(watches);
        for directory in directories {
            if directory.is_dir() {
                touched.extend(self.tree.scan_one(&directory, &mut self.filter, watches));
            } else {
                touched.push(directory);
            }
        }
        for path in touched {
            self.debounce.touch(now, path, Mark::Settled);
        }
    }

    /// Whether there is a sign that the writer is not done, which outweighs the quiet.
    fn is_unfinished(&self, now: Instant) -> bool {
        let empty = |path: &Path| fs::metadata(path).is_ok_and(|data| data.is_file() && data.len() == 0);
        if !self.debounce.waited(now, EMPTY) && self.debounce.open().any(empty) {
            return true;
        }
        let lock = self.filter.git_lock.as_ref().and_then(|lock| fs::metadata(lock).ok()?.modified().ok());
        !self.debounce.waited(now, STALE_LOCK) && lock.is_some_and(|at| at.elapsed().is_ok_and(|age| age < STALE_LOCK))
    }

    /// What differs from before among the touched paths.
    fn changes(&mut self, watches: &mut Watches) -> Vec<PathBuf> {
        let mut changed = Vec::new();
        for path in self.debounce.take() {
            if !path.file_name().is_some_and(Filter::is_ignore_file) {
                changed.extend(self.tree.look(&path, &mut self.filter, watches));
            }
        }
        for root in &self.rule.paths {
            // A root that has gone is waited for.
            if !self.missing.contains(root) && !root.exists() {
                self.missing.push(root.clone());
            }
        }
        if !self.missing.is_empty() {
            for file in self.find_roots(watches) {
                changed.extend(self.tree.look(&file, &mut self.filter, watches));
            }
        }
        if std::mem::take(&mut self.stale_filter) {
            self.refilter(watches);
        }
        changed.sort_unstable();
        changed.dedup();
        changed
    }

    /// Other files count from now on. Which do is no change of the files.
    fn refilter(&mut self, watches: &mut Watches) {
        self.filter = Filter::new(&self.project, &self.rule.ignore, &self.rule.paths);
        let mut old = std::mem::take(&mut self.tree);
        self.missing.clone_from(&self.rule.paths);
        let found = self.find_roots(watches);
        self.tree.note(found);
        self.tree.inherit(&old);
        old.release(watches);
    }
}
