//! PURE: budgets: `rows.p95: "< 20ms"`, compared with the figures of a load test.

use devenv_api::{LoadBudget, LoadFigures};
use indexmap::IndexMap;

use crate::validate::rate;

/// A limit for one figure of one workload.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Budget {
    /// As written: `rows.p95`.
    pub(super) name: String,
    pub(super) text: String,
    workload: String,
    figure: Figure,
    comparison: Comparison,
    /// Milliseconds, operations, operations per second, or a fraction.
    limit: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Figure {
    P50,
    P95,
    P99,
    Max,
    Rate,
    Count,
    Errors,
    /// Of all operations.
    ErrorShare,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    AtMost,
    More,
    AtLeast,
}

const FIGURES: &[(&str, Figure)] = &[
    ("p50", Figure::P50),
    ("p95", Figure::P95),
    ("p99", Figure::P99),
    ("max", Figure::Max),
    ("rate", Figure::Rate),
    ("count", Figure::Count),
    ("errors", Figure::Errors),
];

/// What is wrong with a budget, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidBudget {
    pub(super) message: String,
    pub(super) hint: String,
}

impl Budget {
    /// `workloads`: the names that exist.
    pub(super) fn parse(name: &str, text: &str, workloads: &[&str]) -> Result<Self, InvalidBudget> {
        let invalid = |message: String, hint: &str| InvalidBudget { message, hint: hint.to_owned() };
        let known = "the figures are p50, p95, p99, max, rate, count and errors";
        let (workload, word) =
            name.split_once('.').ok_or_else(|| invalid(format!("`{name}` is not a budget"), "write it as `WORKLOAD.p95`"))?;
        if !workloads.contains(&workload) {
            let hint = format!("the workloads are {}", workloads.join(", "));
            return Err(invalid(format!("there is no workload `{workload}`"), &hint));
        }
        let figure = FIGURES.iter().find(|(known, _)| *known == word);
        let (_, figure) = figure.ok_or_else(|| invalid(format!("`{word}` is not a figure of a workload"), known))?;
        let (comparison, rest) = comparison(text.trim())
            .ok_or_else(|| invalid(format!("`{text}` is not a limit"), "a limit begins with `<`, `<=`, `>` or `>=`, such as `< 20ms`"))?;
        let (figure, limit) = limit(*figure, rest.trim()).ok_or_else(|| {
            let example = match figure {
                Figure::P50 | Figure::P95 | Figure::P99 | Figure::Max => "`< 20ms`: the units are us, ms, s and m",
                Figure::Rate => "`> 100/s`",
                Figure::Count => "`> 1000`",
                Figure::Errors | Figure::ErrorShare => "`< 1%`, or `<= 0` for a number of operations",
            };
            invalid(format!("`{text}` is not a limit for `{word}`"), &format!("write it like {example}"))
        })?;
        Ok(Self { name: name.to_owned(), text: text.to_owned(), workload: workload.to_owned(), figure, comparison, limit })
    }

    /// A figure that does not exist keeps no budget.
    pub(super) fn judged(&self, figures: &IndexMap<String, LoadFigures>) -> LoadBudget {
        let value = figures.get(&self.workload).and_then(|figures| self.figure.of(figures));
        let holds = value.is_some_and(|value| match self.comparison {
            Comparison::Less => value < self.limit,
            Comparison::AtMost => value <= self.limit,
            Comparison::More => value > self.limit,
            Comparison::AtLeast => value >= self.limit,
        });
        let measured = value.map_or_else(|| "no operation succeeded".to_owned(), |value| self.figure.shown(value));
        LoadBudget { name: self.name.clone(), budget: self.text.clone(), measured, holds }
    }
}

impl Figure {
    fn of(self, figures: &LoadFigures) -> Option<f64> {
        let all = figures.count + figures.errors;
        match self {
            Self::P50 => figures.p50_ms,
            Self::P95 => figures.p95_ms,
            Self::P99 => figures.p99_ms,
            Self::Max => figures.max_ms,
            Self::Rate => Some(figures.rate),
            Self::Count => Some(figures.count as f64),
            Self::Errors => Some(figures.errors as f64),
            Self::ErrorShare => (all > 0).then(|| figures.errors as f64 / all as f64),
        }
    }

    fn shown(self, value: f64) -> String {
        match self {
            Self::P50 | Self::P95 | Self::P99 | Self::Max => format!("{value:.3} ms"),
            Self::Rate => format!("{value:.1}/s"),
            Self::Count | Self::Errors => format!("{value:.0}"),
            Self::ErrorShare => format!("{:.2}%", value * 100.0),
        }
    }
}

fn comparison(text: &str) -> Option<(Comparison, &str)> {
    // The longer signs first.
    let signs = [("<=", Comparison::AtMost), (">=", Comparison::AtLeast), ("<", Comparison::Less), (">", Comparison::More)];
    signs.into_iter().find_map(|(sign, comparison)| Some((comparison, text.strip_prefix(sign)?)))
}

/// In the unit of the figure; a percentage of errors is another figure than their number.
fn limit(figure: Figure, text: &str) -> Option<(Figure, f64)> {
    let limit = match figure {
        Figure::P50 | Figure::P95 | Figure::P99 | Figure::Max => {
            let end = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let unit = match text[end..].trim() {
                "us" | "µs" => 0.001,
                "ms" => 1.0,
                "s" => 1000.0,
                "m" => 60_000.0,
                _ => return None,
            };
            (figure, number(&text[..end])? * unit)
        }
        Figure::Rate => (figure, rate(text)?),
        Figure::Count => (figure, number(text)?),
        Figure::Errors | Figure::ErrorShare => match text.strip_suffix('%') {
            Some(share) => (Figure::ErrorShare, number(share.trim())? / 100.0),
            None => (Figure::Errors, number(text)?),
        },
    };
    Some(limit)
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures() -> IndexMap<String, LoadFigures> {
        let figures = LoadFigures {
            kind: "http".to_owned(),
            service: None,
            count: 990,
            errors: 10,
            rate: 99.0,
            p50_ms: Some(1.0),
            p95_ms: Some(20.0),
            p99_ms: None,
            max_ms: Some(1500.0),
            trouble: None,
        };
        IndexMap::from([("rows".to_owned(), figures)])
    }

    #[test]
    fn budgets_are_compared_in_the_unit_of_their_figure() {
        for (name, text, holds, measured) in [
            ("rows.p50", "< 2ms", true, "1.000 ms"),
            ("rows.p95", "< 20ms", false, "20.000 ms"),
            ("rows.p95", "<= 20 ms", true, "20.000 ms"),
            ("rows.p50", "< 1us", false, "1.000 ms"),
            ("rows.max", "<1.6s", true, "1500.000 ms"),
            ("rows.p99", "< 1m", false, "no operation succeeded"),
            ("rows.rate", ">= 90/s", true, "99.0/s"),
            ("rows.count", "> 990", false, "990"),
            ("rows.errors", "<= 10", true, "10"),
            ("rows.errors", "< 1%", false, "1.00%"),
        ] {
            let judged = Budget::parse(name, text, &["rows"]).unwrap().judged(&figures());
            assert_eq!((judged.holds, judged.measured.as_str()), (holds, measured), "{name} {text}");
        }
    }

    #[test]
    fn what_is_no_budget_is_refused_with_an_example() {
        for (name, text) in [
            ("rows", "< 1ms"),
            ("other.p95", "< 1ms"),
            ("rows.p42", "< 1ms"),
            ("rows.p95", "1ms"),
            ("rows.p95", "< 1"),
            ("rows.p95", "< soon"),
            ("rows.rate", "> 100"),
            ("rows.errors", "< -1"),
        ] {
            assert!(Budget::parse(name, text, &["rows"]).is_err(), "{name} {text}");
        }
    }
}
