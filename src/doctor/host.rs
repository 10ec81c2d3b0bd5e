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
/// The approximate size of the default profile's images and data.
const DISK_WANTED: u64 = 5 * GIBIBYTE;
const DISK_NEEDED: u64 = GIBIBYTE;
/// PostgreSQL, Redis, Kafka and Jaeger at their defaults.
const MEMORY_WANTED: u64 = 2 * GIBIBYTE;
/// One for each watched directory.
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
    checks.push(userland_proxy(&read("/etc/docker/daemon.json"), &engine_commands()));
    checks.push(control_groups(Path::new("/sys/fs/cgroup/cgroup.controllers").exists()));
    checks.push(packet_faults(&read("/proc/sys/kernel/osrelease"), Path::new("/dev/net/tun").exists()));
    checks.push(firewall(&read("/proc/modules"), &read("/proc/kallsyms"), &modules_directory()));
    checks.push(own_disks(rustix::process::geteuid().is_root(), Path::new("/dev/loop-control").exists(), &|name| tool(name).is_some()));
    checks
}

/// The directory, or its nearest existing parent.
fn existing(path: &Path) -> PathBuf {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/")).to_owned()
}

fn directory(name: &str, path: &Path) -> Check {
    let shown = path.display();
    let Ok(metadata) = fs::metadata(path) else {
        let above = existing(path);
        if writable(&above) {
            return ok(name, format!("{shown} does not exist yet, and can be created"));
        }
        return fail(name, format!("{shown} cannot be created: {} is not writable", above.display()), variable_fix(name));
    };
    let uid = rustix::process::getuid().as_raw();
    if metadata.uid() != uid {
        return fail(name, format!("{shown} belongs to user {}", metadata.uid()), variable_fix(name));
    }
    if !writable(path) {
        return fail(name, format!("{shown} is not writable"), format!("chmod u+rwx '{shown}'"));
    }
    if metadata.mode() & 0o077 != 0 {
        return warning(
            name,
            format!("{shown} is accessible to other users (mode {:o})", metadata.mode() & 0o777),
            format!("chmod 700 '{shown}'"),
        );
    }
    ok(name, format!("{shown}, accessible only to this user"))
}

fn variable_fix(name: &str) -> &'static str {
    if name.starts_with("state") {
        "set DEVENV_STATE_DIR to a directory of your own"
    } else {
        "set DEVENV_RUNTIME_DIR to a directory of your own"
    }
}

fn writable(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK).is_ok()
}

fn disk_space(path: &Path, free: u64) -> Check {
    let detail = format!("{} free at {}", gibibytes(free), path.display());
    let fix = "run `devenv gc --all` and `docker system prune` to free space";
    match free {
        ..DISK_NEEDED => fail("disk", detail, fix),
        DISK_NEEDED..DISK_WANTED => warning("disk", detail, fix),
        _ => ok("disk", detail),
    }
}

/// No finding if the kernel does not report it.
fn memory(meminfo: &str) -> Option<Check> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let available = line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024;
    let detail = format!("{} available", gibibytes(available));
    Some(if available < MEMORY_WANTED {
        warning("memory", detail, "close other programs, or set limits with `resources: { memory: … }`")
    } else {
        ok("memory", detail)
    })
}

fn watches(limit: u64) -> Check {
    let detail = format!("{limit} file watches");
    if limit < WATCHES_WANTED {
        let fix = "sysctl fs.inotify.max_user_watches=524288, and add the same to /etc/sysctl.d";
        return warning("inotify", format!("{detail}: devenv may have to poll large projects"), fix);
    }
    ok("inotify", detail)
}

/// The command lines of engines on this machine.
fn engine_commands() -> Vec<String> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let commands = processes.filter_map(|process| fs::read_to_string(process.path().join("cmdline")).ok());
    commands.filter(|command| command.split('\0').next().is_some_and(|program| program.ends_with("dockerd"))).collect()
}

/// Without its proxy Docker forwards ports by firewall rules, which do not apply to `::1`.
fn userland_proxy(configuration: &str, commands: &[String]) -> Check {
    let name = "userland proxy";
    let configured = serde_json::from_str::<serde_json::Value>(configuration).ok().and_then(|all| all.get("userland-proxy")?.as_bool());
    let is_off = commands.iter().any(|command| command.split('\0').any(|word| word == "--userland-proxy=false"));
    if configured != Some(false) && !is_off {
        return ok(name, "enabled: published ports are reachable on both loopback addresses");
    }
    warning(
        name,
        "disabled: published ports are reachable on 127.0.0.1 but not on ::1, which `localhost` may resolve to",
        "remove `\"userland-proxy\": false` from /etc/docker/daemon.json (or dockerd's command line) and restart Docker, or use 127.0.0.1",
    )
}

fn control_groups(second_version: bool) -> Check {
    ok("cgroups", if second_version { "version 2" } else { "version 1 (works, but memory metrics are less precise)" })
}

fn modules_directory() -> PathBuf {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Path::new("/lib/modules").join(release.trim())
}

/// Rules at a device's egress need Linux 5.17; a device of the fault agent's own needs the right to create one.
fn packet_faults(release: &str, tun: bool) -> Check {
    let name = "packet faults";
    let mut numbers = release.split(|byte: char| !byte.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    let missing = match (version < (5, 17), tun) {
        (false, true) => return ok(name, "packets can be duplicated, corrupted and reordered without netem"),
        (true, _) => "the kernel is older than Linux 5.17",
        (false, false) => "/dev/net/tun does not exist",
    };
    let fix = if tun {
        "use a newer kernel; `loss`, `latency` and `reset` work without it"
    } else {
        "`modprobe tun`; `loss`, `latency` and `reset` work without it"
    };
    warning(name, format!("{missing}: the faults `duplicate`, `corrupt` and `reorder` are not available, all others are"), fix)
}

/// Rules that are removed with the process that made them: `nf_tables` of Linux 5.12 or newer.
fn firewall(loaded: &str, symbols: &str, modules: &Path) -> Check {
    let present = loaded.lines().any(|line| line.starts_with("nf_tables "))
        || symbols.contains("nf_tables_newtable")
        || ["ko", "ko.xz", "ko.zst", "ko.gz"].iter().any(|end| modules.join(format!("kernel/net/netfilter/nf_tables.{end}")).exists());
    if present {
        return ok("network faults", "the kernel has nf_tables: network faults are available");
    }
    warning(
        "network faults",
        "the kernel does not show nf_tables: network faults may fail",
        "load the module `nf_tables`, or use a kernel that has it",
    )
}

/// What `storage: { faultable: true }` needs.
fn own_disks(root: bool, loops: bool, has: &dyn Fn(&str) -> bool) -> Check {
    let mut missing = Vec::new();
    if !root {
        missing.push("root".to_owned());
    }
    if !loops {
        missing.push("/dev/loop-control".to_owned());
    }
    missing.extend(["mkfs.ext4", "losetup"].into_iter().filter(|name| !has(name)).map(|name| format!("`{name}`")));
    if missing.is_empty() {
        return ok("faultable disks", "services can have their own disks: `power-cut`, `disk-full` and `disk-read-only` are available");
    }
    warning(
        "faultable disks",
        format!(
            "missing: {}; not available: `power-cut`, `disk-full` and `disk-read-only` need `storage: {{ faultable: true }}`",
            missing.join(", ")
        ),
        "run the daemon as root on the engine's host, with e2fsprogs and util-linux installed",
    )
}

fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

fn gibibytes(bytes: u64) -> String {
    format!("{}.{} GiB", bytes / GIBIBYTE, bytes % GIBIBYTE * 10 / GIBIBYTE)
}

#[cfg(test)]
mod tests {
    use devenv_api::CheckStatus;

    use super::*;

    #[test]
    fn disk_and_memory_are_judged_by_the_free_amount() {
        let path = Path::new("/state");
        let disk = |free| disk_space(path, free).status;
        assert_eq!(
            [disk(GIBIBYTE / 2), disk(3 * GIBIBYTE), disk(9 * GIBIBYTE)],
            [CheckStatus::Fail, CheckStatus::Warning, CheckStatus::Ok]
        );
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
    fn disks_of_their_own_are_judged_by_all_that_they_need() {
        assert_eq!(own_disks(true, true, &|_| true).status, CheckStatus::Ok);
        let check = own_disks(false, true, &|name| name == "losetup");
        assert_eq!(check.status, CheckStatus::Warning);
        assert!(check.detail.starts_with("missing: root, `mkfs.ext4`; not available:"), "{}", check.detail);
    }

    #[test]
    fn a_proxy_is_off_where_the_file_or_the_command_says_so() {
        let off = |file: &str, command: &str| userland_proxy(file, &[command.to_owned()]).status == CheckStatus::Warning;
        assert!(!off("", "/usr/sbin/dockerd\0-H\0fd://"));
        assert!(!off("{\"userland-proxy\": true}", ""));
        assert!(off("{\"userland-proxy\": false}", ""));
        assert!(off("", "/usr/sbin/dockerd\0--userland-proxy=false\0"));
    }

    #[test]
    fn packet_faults_need_a_kernel_that_is_new_enough_and_a_device() {
        assert_eq!(packet_faults("6.1.0-28-amd64\n", true).status, CheckStatus::Ok);
        assert_eq!(packet_faults("5.17.1\n", true).status, CheckStatus::Ok);
        assert!(packet_faults("5.15.167.4-microsoft-standard-WSL2\n", true).detail.contains("older than Linux 5.17"));
        assert!(packet_faults("6.1.0\n", false).detail.contains("/dev/net/tun"));
        assert_eq!(packet_faults("", true).status, CheckStatus::Warning);
    }
}
