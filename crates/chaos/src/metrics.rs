//! The current values of the metrics that conditions use.

use std::{path::Path, time::Duration};

use super::{
    condition::{Condition, MetricName},
    stats::{ok_ratio, percentile},
    workers::WorkerPool,
};

/// The value of a metric. `None` if it is not known, or not for long enough.
pub(crate) fn read(condition: &Condition, pool: &WorkerPool, working_for: Duration, directory: &Path) -> Option<f64> {
    let owner = &condition.metric.owner;
    let worker = || pool.workers.iter().find(|worker| worker.workload.name == *owner);
    let samples = || worker().filter(|_| working_for >= condition.over).map(|worker| worker.recorder.stats.last(condition.over));
    match condition.metric.name {
        MetricName::OkRatio => ok_ratio(&samples()?),
        MetricName::Rate => {
            let done = samples()?.iter().filter(|sample| sample.ok).count();
            Some(done as f64 / condition.over.as_secs_f64())
        }
        MetricName::Errors => Some(samples()?.iter().filter(|sample| !sample.ok).count() as f64),
        MetricName::P99 => percentile(&samples()?, 0.99),
        MetricName::Outstanding => Some(worker()?.work.outstanding().unwrap_or(0) as f64),
        MetricName::Ready => Some(if pool.seen.get(owner)?.answers().answers() { 1.0 } else { 0.0 }),
        MetricName::DiskFree => {
            let disk = rustix::fs::statvfs(directory).ok()?;
            Some(disk.f_bavail as f64 * disk.f_frsize as f64)
        }
        MetricName::MemoryFree => memory_available(&std::fs::read_to_string("/proc/meminfo").ok()?),
    }
}

pub(crate) fn holds(condition: &Condition, pool: &WorkerPool, working_for: Duration, directory: &Path) -> bool {
    read(condition, pool, working_for, directory).is_some_and(|value| condition.holds(value))
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
