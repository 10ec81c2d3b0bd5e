//! Limits of a running container, set in its control group: the engine can set a limit where there was none, and not take it away
//! again.
//!
//! The engine does not know of it, so `docker inspect` shows the same before, during and after the fault. Possible where the control
//! groups are this host's and may be written. Called by the injection and undoing of `cpu` and `memory`.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where the kernel shows them.
const ROOT: &str = "/sys/fs/cgroup";
/// Microseconds: in each period a group gets its quota of processor time.
const PERIOD: u64 = 100_000;

/// No engine's ids are shorter.
const SHORTEST_ID: usize = 32;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Limits {
    pub(super) cpus: Option<f64>,
    pub(super) memory: Option<u64>,
}

/// The control group of one container.
#[derive(Debug, PartialEq)]
pub(super) enum Group {
    /// One hierarchy for all.
    Unified(PathBuf),
    /// One for each controller.
    Separate { cpu: PathBuf, memory: PathBuf },
}

impl Group {
    /// That of a container's first process, if it is to be seen and written from here. The number alone may be another's, where the
    /// engine is on another machine.
    pub(super) fn of(container: &str, pid: u32) -> Option<Self> {
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
    pub(super) fn limit(&self, limits: Limits) -> io::Result<()> {
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
    pub(super) fn limits(&self) -> Limits {
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
    pub(super) fn lift(&self, cpus: bool, memory: bool) -> io::Result<()> {
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
}
