//! PURE: conditions such as `jobs.ok-ratio >= 0.999 over 3s` or `host.disk-free < 2GiB`.

use std::{fmt, time::Duration};

use devenv_profile::reading::{did_you_mean, one_of};
use devenv_spec::{Period, Size};

/// A metric compared with a value.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    pub metric: Metric,
    pub comparison: Comparison,
    pub value: f64,
    /// The window up to now. For metrics without a window, the current value is taken.
    pub over: Duration,
    /// As written in the file.
    pub text: String,
}

/// A metric: `jobs.rate`, `cache.ready`, `host.disk-free`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// A workload, a service or `host`.
    pub owner: String,
    pub name: MetricName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricName {
    /// The fraction of the operations that ended which were acknowledged.
    OkRatio,
    /// Operations acknowledged per second.
    Rate,
    /// Operations that did not succeed.
    Errors,
    /// The 99th percentile of latency, in milliseconds.
    P99,
    /// Jobs accepted and not yet completed.
    Outstanding,
    /// 1 if the service is ready, else 0.
    Ready,
    /// Bytes free on the disk of the state directory.
    DiskFree,
    /// Bytes of memory available.
    MemoryFree,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    AtLeast,
    AtMost,
    Above,
    Below,
    Equal,
    Unlike,
}

/// The sort of owner of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Workload,
    Service,
    Host,
}

/// An invalid condition: the problem and a hint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct InvalidCondition {
    pub message: String,
    pub hint: Option<String>,
}

/// 99.9 % and 0.999 are equal, although their bits differ.
const HAIR: f64 = 1e-9;
/// The window of ratios and rates if none is given.
const OVER: Duration = Duration::from_secs(1);

const FIGURES: &[(&str, MetricName, Owner)] = &[
    ("ok-ratio", MetricName::OkRatio, Owner::Workload),
    ("rate", MetricName::Rate, Owner::Workload),
    ("errors", MetricName::Errors, Owner::Workload),
    ("p99", MetricName::P99, Owner::Workload),
    ("outstanding", MetricName::Outstanding, Owner::Workload),
    ("ready", MetricName::Ready, Owner::Service),
    ("disk-free", MetricName::DiskFree, Owner::Host),
    ("memory-free", MetricName::MemoryFree, Owner::Host),
];

/// The longer operators first: `>=` begins with `>`.
const COMPARISONS: &[(&str, Comparison)] = &[
    (">=", Comparison::AtLeast),
    ("<=", Comparison::AtMost),
    ("==", Comparison::Equal),
    ("!=", Comparison::Unlike),
    (">", Comparison::Above),
    ("<", Comparison::Below),
];

impl Condition {
    /// Parses `METRIC >= VALUE over DURATION`; `owner` resolves names.
    pub fn parse(text: &str, owner: impl Fn(&str) -> Option<Owner>) -> Result<Self, InvalidCondition> {
        let text = text.trim();
        let at = text.find(['<', '>', '=', '!']).ok_or_else(|| InvalidCondition {
            message: format!("`{text}` has no comparison"),
            hint: Some("write it as `jobs.rate >= 100` or `host.disk-free < 2GiB`".to_owned()),
        })?;
        Self::of(text[..at].trim(), &text[at..], owner)
    }

    /// The metric and the rest as two strings, as in `steady`. A bare `true` or value means equality.
    pub fn of(metric: &str, rest: &str, owner: impl Fn(&str) -> Option<Owner>) -> Result<Self, InvalidCondition> {
        let metric = Metric::parse(metric, owner)?;
        let rest = rest.trim();
        let (comparison, value) = COMPARISONS
            .iter()
            .find_map(|(sign, comparison)| Some((*comparison, rest.strip_prefix(sign)?)))
            .unwrap_or((Comparison::Equal, rest));
        let (value, over) = match value.split_once(" over ") {
            None => (value.trim(), OVER),
            Some((value, over)) => {
                let over: Period = over.trim().parse().map_err(|_| InvalidCondition {
                    message: format!("`{}` is not a duration", over.trim()),
                    hint: Some("write it as `over 3s`".to_owned()),
                })?;
                (value.trim(), over.duration().max(Duration::from_millis(100)))
            }
        };
        let number = number(value).ok_or_else(|| InvalidCondition {
            message: format!("`{value}` is not a value to compare with"),
            hint: Some("a value is a number, `true`, `99.9%`, a size such as `2GiB` or a duration such as `80ms`".to_owned()),
        })?;
        Ok(Self { text: format!("{metric} {rest}"), metric, comparison, value: number, over })
    }

    pub fn holds(&self, metric: f64) -> bool {
        match self.comparison {
            Comparison::AtLeast => metric >= self.value - HAIR,
            Comparison::AtMost => metric <= self.value + HAIR,
            Comparison::Above => metric > self.value,
            Comparison::Below => metric < self.value,
            Comparison::Equal => (metric - self.value).abs() < HAIR,
            Comparison::Unlike => (metric - self.value).abs() >= HAIR,
        }
    }
}

impl Metric {
    fn parse(text: &str, owner: impl Fn(&str) -> Option<Owner>) -> Result<Self, InvalidCondition> {
        let Some((who, name)) = text.split_once('.') else {
            return Err(InvalidCondition {
                message: format!("`{text}` is not a metric"),
                hint: Some("a metric is `WORKLOAD.rate`, `SERVICE.ready` or `host.disk-free`".to_owned()),
            });
        };
        let whose = if who == "host" { Some(Owner::Host) } else { owner(who) };
        let Some(whose) = whose else {
            return Err(InvalidCondition { message: format!("`{who}` is not a workload, a service or `host`"), hint: None });
        };
        let known = || FIGURES.iter().filter(|(_, _, of)| *of == whose).map(|(name, _, _)| *name);
        match FIGURES.iter().find(|(known, _, of)| *known == name && *of == whose) {
            Some((_, found, _)) => Ok(Self { owner: who.to_owned(), name: *found }),
            None => Err(InvalidCondition {
                message: format!("`{who}` has no metric `{name}`"),
                hint: Some(did_you_mean(name, known()).unwrap_or_else(|| format!("expected {}", one_of(known())))),
            }),
        }
    }
}

/// A number, a boolean, a percentage, a size in bytes or a duration in milliseconds.
fn number(text: &str) -> Option<f64> {
    match text {
        "true" => return Some(1.0),
        "false" => return Some(0.0),
        _ => {}
    }
    if let Some(percent) = text.strip_suffix('%') {
        return percent.trim().parse::<f64>().ok().map(|percent| percent / 100.0);
    }
    if let Ok(size) = text.parse::<Size>() {
        return Some(size.bytes() as f64);
    }
    if let Ok(period) = text.parse::<Period>() {
        return Some(period.duration().as_secs_f64() * 1000.0);
    }
    text.strip_suffix("/s").unwrap_or(text).parse().ok().filter(|number: &f64| number.is_finite())
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = FIGURES.iter().find(|(_, name, _)| *name == self.name).map_or("", |(text, _, _)| *text);
        write!(f, "{}.{name}", self.owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str) -> Option<Owner> {
        match name {
            "jobs" => Some(Owner::Workload),
            "cache" => Some(Owner::Service),
            _ => None,
        }
    }

    #[test]
    fn conditions_read_as_they_are_written() {
        for (text, value, over, holds, fails) in [
            ("host.disk-free < 2GiB", 2_147_483_648.0, 1000, 1e9, 3e9),
            ("jobs.ok-ratio >= 99.9% over 3s", 0.999, 3000, 0.999, 0.99),
            ("jobs.p99 <= 80ms", 80.0, 1000, 80.0, 81.0),
            ("cache.ready == true", 1.0, 1000, 1.0, 0.0),
            ("jobs.outstanding > 50000", 50000.0, 1000, 50001.0, 50000.0),
        ] {
            let condition = Condition::parse(text, owner).unwrap();
            assert!((condition.value - value).abs() < 1e-9, "{text}");
            assert_eq!(condition.over, Duration::from_millis(over), "{text}");
            assert!(condition.holds(holds) && !condition.holds(fails), "{text}");
            assert_eq!(condition.text, text);
        }
        assert!(Condition::of("cache.ready", "true", owner).unwrap().holds(1.0));
    }

    #[test]
    fn an_invalid_condition_is_reported_with_the_valid_ones() {
        let problem = |text: &str| {
            let error = Condition::parse(text, owner).unwrap_err();
            format!("{} / {}", error.message, error.hint.unwrap_or_default())
        };
        assert_eq!(problem("jobs.rat > 1"), "`jobs` has no metric `rat` / did you mean `rate`?");
        assert_eq!(problem("host.ready > 1"), "`host` has no metric `ready` / expected `disk-free` or `memory-free`");
        assert_eq!(problem("jbos.rate > 1"), "`jbos` is not a workload, a service or `host` / ");
        assert!(problem("jobs.rate > soon").starts_with("`soon` is not a value"));
        assert!(problem("jobs.rate").starts_with("`jobs.rate` has no comparison"));
    }
}
