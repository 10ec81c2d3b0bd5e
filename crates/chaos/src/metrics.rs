//! The figures that conditions look at, as they are now.

use std::{path::Path, time::Duration};

use super::{
    condition::{Condition, FigureName},
    stats::{ok_ratio, percentile},
    workers::WorkerPool,
};

/// What is known of a figure: `None` if nothing is, or not for long enough.
pub(crate) fn read(condition: &Condition, pool: &WorkerPool, working_for: Duration, directory: &Path) -> Option<f64> {
    let owner = &condition.figure.owner;
    let worker = || pool.workers.iter().find(|worker| worker.workload.name == *owner);
    let samples = || worker().filter(|_| working_for >= condition.over).map(|worker| worker.recorder.stats.last(condition.over));
    match condition.figure.name {
        FigureName::OkRatio => ok_ratio(&samples()?),
        FigureName::Rate => {
            let done = samples()?.iter().filter(|sample| sample.ok).count();
            Some(done as f64 / condition.over.as_secs_f64())
        }
        FigureName::Errors => Some(samples()?.iter().filter(|sample| !sample.ok).count() as f64),
        FigureName::P99 => percentile(&samples()?, 0.99),
        FigureName::Outstanding => Some(worker()?.work.outstanding().unwrap_or(0) as f64),
        FigureName::Ready => Some(if pool.seen.get(owner)?.answers().answers() { 1.0 } else { 0.0 }),
        FigureName::DiskFree => {
            let disk = rustix::fs::statvfs(directory).ok()?;
            Some(disk.f_bavail as f64 * disk.f_frsize as f64)
        }
        FigureName::MemoryFree => memory_available(&std::fs::read_to_string("/proc/meminfo").ok()?),
    }
}

pub(crate) fn holds(condition: &Condition, pool: &WorkerPool, working_for: Duration, directory: &Path) -> bool {
    read(condition, pool, working_for, directory).is_some_and(|figure| condition.holds(figure))
}

fn memory_available(meminfo: &str) -> Option<f64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok().map(|kibibytes| kibibytes * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn available_memory_is_read_in_bytes() {
        assert_eq!(memory_available("MemTotal: 9 kB\nMemAvailable:   2048 kB\n"), Some(2_097_152.0));
        assert_eq!(memory_available(""), None);
    }
}
