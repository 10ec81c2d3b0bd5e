//! The machine itself: directories, disk, memory, kernel limits and features. Reads `/proc` and `/sys`, changes nothing.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use devenv_api::Check;

use super::{fail, ok, warning};
use crate::paths::Paths;

const GIBIBYTE: u64 = 1 << 30;
/// Images and data of the default profile take about this much.
const DISK_WANTED: u64 = 5 * GIBIBYTE;
const DISK_NEEDED: u64 = GIBIBYTE;
/// PostgreSQL, Redis, Kafka and Jaeger at their defaults.
const MEMORY_WANTED: u64 = 2 * GIBIBYTE;
/// One for each directory that is watched.
const WATCHES_WANTED: u64 = 65_536;

pub(super) fn checks(paths: &Paths) -> Vec<Check> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut checks = vec![directory("state directory", &paths.state), directory("runtime directory", &paths.runtime)];
    if let Ok(disk) = rustix::fs::statvfs(existing(&paths.state)) {
        checks.push(disk_space(&paths.state, disk.f_bavail * disk.f_frsize));
    }
    if !cfg!(target_os = "linux") {
        return checks;
    }
    checks.extend(memory(&read("/proc/meminfo")));
    checks.push(watches(read("/proc/sys/fs/inotify/max_user_watches").trim().parse().unwrap_or(0)));
    checks.push(control_groups(Path::new("/sys/fs/cgroup/cgroup.controllers").exists()));
    checks.push(packet_loss(&read("/proc/modules"), &read("/proc/kallsyms"), &modules_directory()));
    checks.push(tool("nft", "partitions inside a network are made with it", "install the package `nftables`"));
    checks
}

/// The directory, or the nearest above it that is there.
fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn directory(name: &str, path: &Path) -> Check {
    let shown = path.display();
    let Ok(metadata) = fs::metadata(path) else {
        let above = existing(path);
        if writable(&above) {
            return ok(name, format!("{shown} is not there yet, and can be made"));
        }
        return fail(name, format!("{shown} cannot be made: {} is not writable", above.display()), variable_fix(name));
    };
    let uid = rustix::process::getuid().as_raw();
    if metadata.uid() != uid {
        return fail(name, format!("{shown} belongs to user {}", metadata.uid()), variable_fix(name));
    }
    if !writable(path) {
        return fail(name, format!("{shown} is not writable"), format!("chmod u+rwx '{shown}'"));
    }
    if metadata.mode() & 0o077 != 0 {
        return warning(name, format!("{shown} is open to others (mode {:o})", metadata.mode() & 0o777), format!("chmod 700 '{shown}'"));
    }
    ok(name, format!("{shown}, for this user alone"))
}

fn variable_fix(name: &str) -> &'static str {
    if name.starts_with("state") { "set DEVENV_STATE_DIR to a directory of your own" } else { "set DEVENV_RUNTIME_DIR to a directory of your own" }
}

fn writable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok()
}

fn disk_space(path: &Path, free: u64) -> Check {
    let detail = format!("{} free at {}", gibibytes(free), path.display());
    let fix = "`devenv gc --all` and `docker system prune` make room";
    match free {
        ..DISK_NEEDED => fail("disk", detail, fix),
        DISK_NEEDED..DISK_WANTED => warning("disk", detail, fix),
        _ => ok("disk", detail),
    }
}

/// Nothing is said where the kernel does not say.
fn memory(meminfo: &str) -> Option<Check> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let available = line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024;
    let detail = format!("{} available", gibibytes(available));
    Some(if available < MEMORY_WANTED {
        warning("memory", detail, "close something, or give services less by `resources: { memory: … }`")
    } else {
        ok("memory", detail)
    })
}

fn watches(limit: u64) -> Check {
    let detail = format!("{limit} file watches");
    if limit < WATCHES_WANTED {
        let fix = "sysctl fs.inotify.max_user_watches=524288, and the same in /etc/sysctl.d";
        return warning("inotify", format!("{detail}: large projects may not be watched whole"), fix);
    }
    ok("inotify", detail)
}

fn control_groups(second_version: bool) -> Check {
    ok("cgroups", if second_version { "version 2" } else { "version 1 (works; memory figures are coarser)" })
}

fn modules_directory() -> PathBuf {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Path::new("/lib/modules").join(release.trim())
}

/// `netem` is built in, loaded, or a module that can be.
fn packet_loss(loaded: &str, symbols: &str, modules: &Path) -> Check {
    let present = loaded.lines().any(|line| line.starts_with("sch_netem "))
        || symbols.contains("netem_enqueue")
        || ["ko", "ko.xz", "ko.zst", "ko.gz"].iter().any(|end| modules.join(format!("kernel/net/sched/sch_netem.{end}")).exists());
    if present {
        return ok("netem", "the kernel has it: the faults `duplicate`, `corrupt` and `reorder` can be injected");
    }
    warning(
        "netem",
        "the kernel has none: the faults `duplicate`, `corrupt` and `reorder` are not available, all others are",
        "if it matters, load `sch_netem` or use a kernel that has it",
    )
}

fn tool(name: &str, purpose: &str, fix: &str) -> Check {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).map(|directory| directory.join(name)).find(|path| path.is_file());
    match found {
        Some(path) => ok(name, path.display().to_string()),
        None => warning(name, format!("not found; {purpose}"), fix),
    }
}

fn gibibytes(bytes: u64) -> String {
    format!("{}.{} GiB", bytes / GIBIBYTE, bytes % GIBIBYTE * 10 / GIBIBYTE)
}

#[cfg(test)]
mod tests {
    use devenv_api::CheckStatus;

    use super::*;

    #[test]
    fn disk_and_memory_are_judged_by_what_is_left() {
        let path = Path::new("/state");
        let disk = |free| disk_space(path, free).status;
        assert_eq!([disk(GIBIBYTE / 2), disk(3 * GIBIBYTE), disk(9 * GIBIBYTE)], [CheckStatus::Fail, CheckStatus::Warning, CheckStatus::Ok]);
        let check = memory("MemTotal:  100 kB\nMemAvailable:    1048576 kB\n").unwrap();
        assert_eq!((check.status, check.detail.as_str()), (CheckStatus::Warning, "1.0 GiB available"));
        assert_eq!(memory("nothing of use"), None);
    }

    #[test]
    fn a_directory_open_to_others_comes_with_the_command_that_closes_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state");
        assert_eq!(directory("state directory", &path).status, CheckStatus::Ok);
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let check = directory("state directory", &path);
        assert_eq!(check.status, CheckStatus::Warning);
        assert_eq!(check.fix, Some(format!("chmod 700 '{}'", path.display())));
    }

    #[test]
    fn netem_is_found_in_every_place_where_it_may_be() {
        let nowhere = Path::new("/nonexistent");
        assert_eq!(packet_loss("", "", nowhere).status, CheckStatus::Warning);
        assert_eq!(packet_loss("sch_netem 20480 0 - Live 0x0\n", "", nowhere).status, CheckStatus::Ok);
        assert_eq!(packet_loss("", "0000 t netem_enqueue\n", nowhere).status, CheckStatus::Ok);
    }
}
