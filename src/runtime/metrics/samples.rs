//! Samples of an environment for its page and its history: those of the environment, of its services, and of their servers.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use devenv_api::{MetricSeries, Sample, ServiceState};
use devenv_kinds::metrics::{Page, PageSample};
use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::MetricsServer;
use crate::store::Goal;

/// Between two rounds of the history.
const EVERY: Duration = Duration::from_secs(20);
/// A round takes at most this share of the time, because the next one comes later if a round takes long.
const SHARE: u32 = 50;
const LATEST: Duration = Duration::from_mins(5);

impl MetricsServer {
    /// Everything that can be measured now; `None` if the environment is not up.
    pub(crate) async fn samples(&self) -> Option<Vec<Sample>> {
        let mut found = of_page("", &self.of_environment().await?);
        let status = self.handle.status();
        let ready = status.services.iter().filter(|service| service.state == ServiceState::Ready);
        for (name, page) in join_all(ready.map(|service| async { (&service.name, self.of_service(&service.name).await) })).await {
            found.extend(page.iter().flat_map(|page| of_page(name, page)));
        }
        self.keep(&found);
        Some(found)
    }

    /// What was measured within the last hour, of the metrics with these names.
    pub(crate) fn past(&self, names: &[String], over: Duration) -> Vec<MetricSeries> {
        let history = self.history.lock().expect("no code panics while it holds this lock");
        history.series(names, now() - over.as_secs_f64())
    }

    /// Measures once in a while as long as the environment is up, so that a page shows the time before it was opened.
    pub(crate) async fn remember(self: Arc<Self>, stop: CancellationToken) {
        let mut pause = EVERY;
        let rounds = async {
            loop {
                sleep(pause).await;
                let begun = Instant::now();
                if self.handle.views().borrow().goal == Goal::Up && self.is_due() {
                    self.samples().await;
                }
                pause = (begun.elapsed() * SHARE).clamp(EVERY, LATEST);
            }
        };
        // Both are cancel-safe: a round that is not finished leaves nothing.
        tokio::select! {
            () = stop.cancelled() => {}
            () = rounds => {}
        }
    }

    /// A page that is open measures more often than the history needs.
    fn keep(&self, samples: &[Sample]) {
        if self.is_due() {
            self.history.lock().expect("no code panics while it holds this lock").add(now(), samples);
        }
    }

    fn is_due(&self) -> bool {
        let newest = self.history.lock().expect("no code panics while it holds this lock").newest();
        // Timers are never early, but clocks differ.
        newest.is_none_or(|newest| (now() - newest).abs() >= EVERY.as_secs_f64() - 1.0)
    }
}

fn now() -> f64 {
    Timestamp::now().as_millisecond() as f64 / 1000.0
}

/// A sample's own label `service` says which service it is about.
fn of_page(service: &str, page: &Page) -> Vec<Sample> {
    let sample = |(name, sample): (&'static str, &PageSample)| {
        let mut labels: BTreeMap<String, String> = sample.labels.iter().cloned().collect();
        let service = labels.remove("service").unwrap_or_else(|| service.to_owned());
        Sample { service, name: name.to_owned(), labels, value: sample.value, unit: unit(name).map(str::to_owned) }
    };
    // JSON has no other numbers.
    page.samples().filter(|(_, sample)| sample.value.is_finite()).map(sample).collect()
}

/// By the end of a metric's name, as Prometheus writes it.
fn unit(name: &str) -> Option<&'static str> {
    let name = name.strip_suffix("_total").unwrap_or(name);
    ["bytes", "seconds", "ratio"].into_iter().find(|unit| name.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_names_its_service_and_its_unit() {
        let mut page = Page::default();
        page.gauge("devenv_service_memory_bytes", "M.", &[("service", "db")], 7.0);
        page.counter("devenv_service_cpu_seconds_total", "C.", &[("service", "db")], f64::NAN);
        page.gauge("pg_up", "U.", &[], 1.0);
        let found: Vec<_> = of_page("web", &page).into_iter().map(|sample| (sample.service, sample.name, sample.unit)).collect();
        let of = |service: &str, name: &str, unit: Option<&str>| (service.to_owned(), name.to_owned(), unit.map(str::to_owned));
        assert_eq!(found, [of("db", "devenv_service_memory_bytes", Some("bytes")), of("web", "pg_up", None)]);
        assert_eq!(unit("devenv_service_cpu_seconds_total"), Some("seconds"));
    }
}
