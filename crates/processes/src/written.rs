//! How much the processes with a marker have written, by the kernel's count: whether they can have written a file that changed.
//!
//! The watcher of files asks. Where the kernel does not count (a file system in memory or on a network, a process of another user),
//! the answer is that they may have.

use std::{fs, path::Path};

use super::tree::marked;

/// Magic numbers of file systems for which the kernel counts what a process writes when it writes it.
const COUNTED: [u64; 5] = [
    0xef53,      // ext2, ext3, ext4
    0x5846_5342, // XFS
    0x9123_683e, // Btrfs
    0xf2f5_2010, // F2FS
    0x794c_7630, // overlayfs
];

/// Bytes that the processes with a marker have written so far, and those of their ended children that they have waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// To anything: files, pipes, terminals, devices.
    all: u64,
    /// To files on disks, in whole pages.
    to_disks: u64,
}

impl Written {
    /// Reads the counters of all processes whose marker begins with `prefix`. `None` if there is no such process, or one that must not
    /// be read. Blocks.
    pub fn by(prefix: &str) -> Option<Self> {
        let processes = marked(prefix);
        if processes.is_empty() {
            return None;
        }
        processes.iter().try_fold(Self { all: 0, to_disks: 0 }, |sum, (process, _)| {
            let text = fs::read_to_string(format!("/proc/{}/io", process.pid)).ok()?;
            let counter = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
            Some(Self { all: sum.all + counter("wchar:")?, to_disks: sum.to_disks + counter("write_bytes:")? })
        })
    }

    /// Whether the processes may have written the file since `before`.
    pub fn may_include(self, path: &Path, before: Self) -> bool {
        self.to_disks != before.to_disks || (self.all != before.all && !is_counted(path))
    }
}

fn is_counted(path: &Path) -> bool {
    let directory = path.parent().unwrap_or(path);
    rustix::fs::statfs(directory).is_ok_and(|system| COUNTED.iter().any(|magic| i128::from(system.f_type) == i128::from(*magic)))
}
