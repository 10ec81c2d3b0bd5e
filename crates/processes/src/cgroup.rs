//! Control groups: limits of a host process, and of a running container.
//!
//! A process shim makes a group for its program, if the profile limits it ([`Group::make`]), and starts the program in it. The
//! faults `cpu` and `memory` limit a running container in its own group ([`Group::of`]), because the engine can set a limit where
//! there was none, and not take it away again; the engine does not know of it, so `docker inspect` shows the same before, during
//! and after the fault. Possible where the groups are this host's and may be written.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Where the kernel shows them.
const ROOT: &str = "/sys/fs/cgroup";
/// Microseconds: in each period a group gets its quota of processor time.
const PERIOD: u64 = 100_000;

/// Of the names of groups that were made here; the id of the process shim follows.
const PREFIX: &str = "devenv-";

/// No engine's ids are shorter.
const SHORTEST_ID: usize = 32;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Limits {
    pub cpus: Option<f64>,
    pub memory: Option<u64>,
}

/// A control group of its own: that of a container, or one that was made for a program.
#[derive(Debug, PartialEq)]
pub enum Group {
    /// One hierarchy for all.
    Unified(PathBuf),
    /// One for each controller.
    Separate { cpu: PathBuf, memory: PathBuf },
}

impl Group {
    /// That of a container's first process, if it is to be seen and written from here. The number alone may be another's, where the
    /// engine is on another machine.
    pub fn of(container: &str, pid: u32) -> Option<Self> {
        let lines = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        let group = Self::found(&lines, Path::new(ROOT), Path::is_dir)?;
        let is_its = |directory: &Path| {
            if container.len() < SHORTEST_ID || !directory.to_string_lossy().contains(container) {
                return false;
            }
            let members = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
            members.lines().any(|line| line.parse() == Ok(pid))
        };
        let writable = |path: PathBuf| fs::OpenOptions::new().write(true).open(path).is_ok();
        let good = match &group {
            Self::Unified(directory) => is_its(directory) && writable(directory.join("memory.max")) && writable(directory.join("cpu.max")),
            Self::Separate { cpu, memory } => {
                is_its(memory) && is_its(cpu) && writable(memory.join("memory.limit_in_bytes")) && writable(cpu.join("cpu.cfs_quota_us"))
            }
        };
        good.then_some(group)
    }

    /// Makes a group with these limits for a program of this process. The error says why that is impossible here.
    pub fn make(limits: Limits) -> Result<Self, String> {
        let lines = fs::read_to_string("/proc/self/cgroup").map_err(|error| format!("cannot read /proc/self/cgroup: {error}"))?;
        Self::make_below(&lines, Path::new(ROOT), limits)
    }

    fn make_below(lines: &str, root: &Path, limits: Limits) -> Result<Self, String> {
        let own =
            Self::found(lines, root, Path::is_dir).ok_or_else(|| format!("the control groups are not mounted at {}", root.display()))?;
        let name = format!("{PREFIX}{}", std::process::id());
        let make = |parent: &Path| {
            remove_empty(parent);
            let directory = parent.join(&name);
            match fs::create_dir(&directory) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    Err(format!("cannot make the control group {}: {error}", directory.display()))
                }
                _ => Ok(directory),
            }
        };
        let made = match &own {
            Self::Separate { cpu, memory } => {
                let memory = make(memory)?;
                match make(cpu) {
                    Ok(cpu) => Self::Separate { cpu, memory },
                    Err(reason) => {
                        // It is empty.
                        let _ = fs::remove_dir(memory);
                        return Err(reason);
                    }
                }
            }
            Self::Unified(directory) => Self::Unified(make(&delegated(directory, root, limits)?)?),
        };
        match made.limit(limits) {
            Ok(()) => Ok(made),
            Err(error) => {
                made.remove();
                Err(format!("cannot set the limits of the control group {}: {error}", made.directories()[0].display()))
            }
        }
    }

    /// Runs `start` while this process is a member of the group, so that what it starts is one from its first instruction on. For a
    /// process without other threads.
    pub fn start_in<T>(&self, start: impl FnOnce() -> T) -> Result<T, String> {
        let lines = fs::read_to_string("/proc/self/cgroup").map_err(|error| format!("cannot read /proc/self/cgroup: {error}"))?;
        let home = Self::found(&lines, Path::new(ROOT), Path::is_dir).ok_or("its own control group is not visible")?;
        self.join().inspect_err(|_| drop(home.join()))?;
        let started = start();
        home.join()?;
        Ok(started)
    }

    fn join(&self) -> Result<(), String> {
        self.directories().into_iter().try_for_each(|directory| {
            fs::write(directory.join("cgroup.procs"), std::process::id().to_string())
                .map_err(|error| format!("cannot enter the control group {}: {error}", directory.display()))
        })
    }

    /// Whether the kernel has killed a process of the group because of its memory limit.
    pub fn ran_out_of_memory(&self) -> bool {
        let file = match self {
            Self::Unified(directory) => directory.join("memory.events"),
            Self::Separate { memory, .. } => memory.join("memory.oom_control"),
        };
        let events = fs::read_to_string(file).unwrap_or_default();
        events.lines().filter_map(|line| line.strip_prefix("oom_kill ")).any(|count| count.trim() != "0")
    }

    /// Removes a group that was made, once its processes have ended.
    pub fn remove(&self) {
        for directory in self.directories() {
            // The next group that is made there removes it otherwise.
            let _ = fs::remove_dir(directory);
        }
    }

    fn directories(&self) -> Vec<&PathBuf> {
        match self {
            Self::Unified(directory) => vec![directory],
            Self::Separate { cpu, memory } => vec![memory, cpu],
        }
    }

    /// From the lines of `/proc/PID/cgroup`: `number:controllers:path`.
    fn found(lines: &str, root: &Path, exists: impl Fn(&Path) -> bool) -> Option<Self> {
        let path_of = |wanted: &str| {
            lines.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (controllers, path) = (parts.next()?, parts.next()?);
                controllers
                    .split(',')
                    .any(|controller| controller == wanted)
                    .then(|| (controllers.to_owned(), path.trim_start_matches('/')))
            })
        };
        let separate = |wanted: &str| {
            let (controllers, path) = path_of(wanted)?;
            [wanted, controllers.as_str()].into_iter().map(|mounted| root.join(mounted).join(path)).find(|path| exists(path))
        };
        match (separate("cpu"), separate("memory")) {
            (Some(cpu), Some(memory)) => Some(Self::Separate { cpu, memory }),
            _ => path_of("").map(|(_, path)| root.join(path)).filter(|path| exists(&path.join(""))).map(Self::Unified),
        }
    }

    /// Sets what is given, and leaves the rest.
    pub fn limit(&self, limits: Limits) -> io::Result<()> {
        if let Some(cpus) = limits.cpus {
            let quota = ((cpus * PERIOD as f64) as u64).max(1_000);
            match self {
                Self::Unified(directory) => fs::write(directory.join("cpu.max"), format!("{quota} {PERIOD}"))?,
                Self::Separate { cpu, .. } => {
                    fs::write(cpu.join("cpu.cfs_period_us"), PERIOD.to_string())?;
                    fs::write(cpu.join("cpu.cfs_quota_us"), quota.to_string())?;
                }
            }
        }
        if let Some(bytes) = limits.memory {
            let bytes = bytes.to_string();
            match self {
                Self::Unified(directory) => {
                    fs::write(directory.join("memory.max"), &bytes)?;
                    optional(fs::write(directory.join("memory.swap.max"), "0"))?;
                }
                Self::Separate { memory, .. } => {
                    fs::write(memory.join("memory.limit_in_bytes"), &bytes)?;
                    // Refused where swap is not counted.
                    optional(fs::write(memory.join("memory.memsw.limit_in_bytes"), &bytes))?;
                }
            }
        }
        Ok(())
    }

    /// What the group is limited to now.
    pub fn limits(&self) -> Limits {
        let read = |directory: &Path, name: &str| fs::read_to_string(directory.join(name)).unwrap_or_default();
        let (quota, period, memory) = match self {
            Self::Unified(directory) => {
                let cpu = read(directory, "cpu.max");
                let (quota, period) = cpu.trim().split_once(' ').unwrap_or_default();
                (quota.to_owned(), period.to_owned(), read(directory, "memory.max"))
            }
            Self::Separate { cpu, memory } => {
                (read(cpu, "cpu.cfs_quota_us"), read(cpu, "cpu.cfs_period_us"), read(memory, "memory.limit_in_bytes"))
            }
        };
        let figure = |text: &str| text.trim().parse::<u64>().ok();
        let cpus =
            figure(&quota).zip(figure(&period)).filter(|(_, period)| *period > 0).map(|(quota, period)| quota as f64 / period as f64);
        // The first version knows no word for no limit, only a figure that no machine has.
        Limits { cpus, memory: figure(&memory).filter(|bytes| *bytes < 1 << 60) }
    }

    /// Takes these limits away.
    pub fn lift(&self, cpus: bool, memory: bool) -> io::Result<()> {
        match self {
            Self::Unified(directory) => {
                if cpus {
                    fs::write(directory.join("cpu.max"), format!("max {PERIOD}"))?;
                }
                if memory {
                    optional(fs::write(directory.join("memory.swap.max"), "max"))?;
                    fs::write(directory.join("memory.max"), "max")?;
                }
            }
            Self::Separate { cpu, memory: of_memory } => {
                if cpus {
                    fs::write(cpu.join("cpu.cfs_quota_us"), "-1")?;
                }
                if memory {
                    // The limit for both is never below that for memory.
                    optional(fs::write(of_memory.join("memory.memsw.limit_in_bytes"), "-1"))?;
                    fs::write(of_memory.join("memory.limit_in_bytes"), "-1")?;
                }
            }
        }
        Ok(())
    }
}

/// The nearest ancestor of a group of this process that may hold groups with such limits: the kernel lets a group that has processes
/// itself have none.
fn delegated(own: &Path, root: &Path, limits: Limits) -> Result<PathBuf, String> {
    let needed: Vec<&str> = [("memory", limits.memory.is_some()), ("cpu", limits.cpus.is_some())]
        .into_iter()
        .filter(|(_, is)| *is)
        .map(|(name, _)| name)
        .collect();
    let mut reason = format!("the control group {} holds processes itself", own.display());
    for directory in own.ancestors().skip(usize::from(own != root)).take_while(|directory| directory.starts_with(root)) {
        let control = directory.join("cgroup.subtree_control");
        let offered = || fs::read_to_string(&control).unwrap_or_default();
        for name in needed.iter().filter(|name| !offered().split_whitespace().any(|offered| offered == **name)) {
            if let Err(error) = fs::write(&control, format!("+{name}")) {
                reason = format!("the control group {} cannot limit `{name}`: {error}", directory.display());
            }
        }
        let offered = offered();
        if needed.iter().any(|name| !offered.split_whitespace().any(|offered| offered == *name)) {
            continue;
        }
        match fs::OpenOptions::new().write(true).open(directory.join("cgroup.procs")) {
            Ok(_) => return Ok(directory.to_owned()),
            Err(error) => reason = format!("the control group {} does not belong to this user: {error}", directory.display()),
        }
    }
    Err(reason)
}

/// Removes the groups of process shims that were killed.
fn remove_empty(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok()) else { continue };
        if !Path::new("/proc").join(pid.to_string()).exists() {
            // Refused if it has processes.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Of a file that not every kernel has.
fn optional(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound || error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_in_either_version_of_control_groups() {
        let root = Path::new("/sys/fs/cgroup");
        let first = "4:memory:/docker/a\n1:cpu,cpuacct:/docker/a\n0::/docker/a\n";
        let found = Group::found(first, root, |path| !path.starts_with(root.join("cpu")) || path.starts_with(root.join("cpu,cpuacct")));
        assert_eq!(found, Some(Group::Separate { cpu: root.join("cpu,cpuacct/docker/a"), memory: root.join("memory/docker/a") }));
        let second = "0::/system.slice/docker-a.scope\n";
        assert_eq!(Group::found(second, root, |_| true), Some(Group::Unified(root.join("system.slice/docker-a.scope"))));
        assert_eq!(Group::found(second, root, |_| false), None);
    }

    #[test]
    fn the_group_of_a_process_that_is_not_the_containers_is_left_alone() {
        assert_eq!(Group::of(&"a".repeat(64), std::process::id()), None);
        assert_eq!(Group::of("", std::process::id()), None);
    }

    #[test]
    fn limits_are_set_and_taken_away_again() {
        let directory = tempfile::tempdir().unwrap();
        let read = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap();
        let unified = Group::Unified(directory.path().to_owned());
        unified.limit(Limits { cpus: Some(0.5), memory: Some(1 << 20) }).unwrap();
        assert_eq!((read("cpu.max"), read("memory.max")), ("50000 100000".to_owned(), "1048576".to_owned()));
        assert_eq!(unified.limits(), Limits { cpus: Some(0.5), memory: Some(1 << 20) });
        unified.lift(true, true).unwrap();
        assert_eq!(unified.limits(), Limits::default());
        assert_eq!(
            (read("cpu.max"), read("memory.max"), read("memory.swap.max")),
            ("max 100000".to_owned(), "max".to_owned(), "max".to_owned())
        );
        let separate = Group::Separate { cpu: directory.path().to_owned(), memory: directory.path().to_owned() };
        separate.limit(Limits { cpus: Some(0.25), memory: None }).unwrap();
        assert_eq!(read("cpu.cfs_quota_us"), "25000");
        assert_eq!(separate.limits().cpus, Some(0.25));
        separate.lift(true, true).unwrap();
        assert_eq!((read("cpu.cfs_quota_us"), read("memory.limit_in_bytes")), ("-1".to_owned(), "-1".to_owned()));
    }

    #[test]
    fn a_group_for_a_program_is_made_where_the_user_may_make_one_and_removed_with_its_leftovers() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let (slice, own) = (root.join("user.slice"), root.join("user.slice/shell.scope"));
        fs::create_dir_all(&own).unwrap();
        let limits = Limits { cpus: Some(0.5), memory: Some(1 << 20) };
        let lines = "0::/user.slice/shell.scope\n";
        let refused = Group::make_below(lines, root, limits).unwrap_err();
        assert!(refused.contains("cgroup") || refused.contains("control group"), "{refused}");
        fs::write(slice.join("cgroup.subtree_control"), "cpu memory pids").unwrap();
        fs::write(slice.join("cgroup.procs"), "").unwrap();
        // No process has this id.
        fs::create_dir(slice.join("devenv-4194999")).unwrap();
        let made = Group::make_below(lines, root, limits).unwrap();
        let directory = slice.join(format!("devenv-{}", std::process::id()));
        assert_eq!(made, Group::Unified(directory.clone()));
        assert_eq!(fs::read_to_string(directory.join("memory.max")).unwrap(), "1048576");
        assert!(!slice.join("devenv-4194999").exists());
        fs::write(directory.join("memory.events"), "low 0\noom 1\noom_kill 1\n").unwrap();
        assert!(made.ran_out_of_memory());
    }
}
