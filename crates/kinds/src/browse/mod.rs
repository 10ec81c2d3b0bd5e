//! Looks into running servers: what they hold, rows of it, traces. The generic part: which kind answers, limits and deadlines.
//!
//! `environment::browse` of the root calls it. A kind's own part is `browse.rs` in its folder.

#[cfg(all(test, feature = "docker-tests"))]
mod real_tests;

use std::time::Duration;

use devenv_api::{AlertRule, Column, DataGroup, MetricSeries, Outline, Produced, Rows, Sort, Traces};
use devenv_spec::{Probe, ServiceSpec};
use tokio::time::timeout;

pub use crate::capability::{Browse, BrowseError, MetricsQuery, NewRecord, ProvisionContext, ReadQuery, RowsPage, TraceQuery};
use crate::capability::{MetricHistory, ServiceKind, TraceSource};

/// The most rows of one answer.
pub const MOST_ROWS: u32 = 500;
/// The most traces of one answer.
pub const MOST_TRACES: u32 = 100;
/// The most metrics of one question about the past.
const MOST_METRICS: usize = 100;
const LONGEST_PAST: Duration = Duration::from_hours(24 * 7);
/// The most items of one group of an outline.
pub(crate) const MOST_ITEMS: usize = 1000;
/// The rows beyond which no page begins: servers of queues and keys read everything before it.
pub const LAST_OFFSET: u64 = 1_000_000;
/// The time that a server gives one statement.
pub const STATEMENT: Duration = Duration::from_secs(5);
/// Longer values are cut, so that a page of them stays within the limit of an answer.
pub(crate) const LONGEST_VALUE: usize = 16 << 10;
/// The most bytes of one answer, in values.
pub(crate) const LARGEST_ANSWER: usize = 8 << 20;
/// Longer than a statement takes, so that the server's own message arrives.
const LIMIT: Duration = Duration::from_secs(8);

pub async fn outline(service: &ServiceSpec, filter: Option<&str>, cx: &ProvisionContext) -> Result<Outline, BrowseError> {
    let kind = browsed(service)?;
    let groups = in_time(kind.outline(service, filter.filter(|text| !text.is_empty()), cx)).await?;
    Ok(Outline { groups: groups.into_iter().map(bounded).collect() })
}

pub async fn rows(service: &ServiceSpec, page: &RowsPage, cx: &ProvisionContext) -> Result<Rows, BrowseError> {
    let kind = browsed(service)?;
    let mut page = page.clone();
    page.limit = page.limit.clamp(1, MOST_ROWS);
    page.filter = page.filter.filter(|text| !text.is_empty());
    if page.offset > LAST_OFFSET {
        return Err(BrowseError::Refused(format!("the offset is beyond {LAST_OFFSET}")));
    }
    in_time(kind.rows(service, &page, cx)).await.map(cut)
}

pub async fn query(service: &ServiceSpec, query: &ReadQuery, cx: &ProvisionContext) -> Result<Rows, BrowseError> {
    let kind = browsed(service)?;
    let mut query = query.clone();
    query.limit = query.limit.clamp(1, MOST_ROWS);
    query.time = query.time.min(STATEMENT);
    in_time(kind.query(service, &query, cx)).await.map(cut)
}

pub async fn produce(service: &ServiceSpec, record: &NewRecord, cx: &ProvisionContext) -> Result<Produced, BrowseError> {
    in_time(browsed(service)?.produce(service, record, cx)).await
}

/// The traces of the first of these services that collects traces; `None` if none does.
pub async fn traces<'a>(services: impl IntoIterator<Item = &'a ServiceSpec>, query: &TraceQuery) -> Option<Result<Traces, BrowseError>> {
    let found = services.into_iter().find_map(|service| Some((service, kind_of(service, ServiceKind::trace_source)?)));
    let (service, source): (&ServiceSpec, &dyn TraceSource) = found?;
    let mut query = query.clone();
    query.limit = query.limit.clamp(1, MOST_TRACES);
    Some(in_time(source.traces(service, &query)).await)
}

/// The past of metrics, from the first of these services that keeps it; `None` if none does.
pub async fn metric_series<'a>(
    services: impl IntoIterator<Item = &'a ServiceSpec>,
    query: &MetricsQuery,
) -> Option<Result<Vec<MetricSeries>, BrowseError>> {
    let (service, history) = keeps_metrics(services)?;
    let mut query = query.clone();
    query.names.truncate(MOST_METRICS);
    query.over = query.over.min(LONGEST_PAST);
    Some(in_time(history.series(service, &query)).await)
}

/// The alert rules of the first of these services that has some; `None` if none can.
pub async fn alert_rules<'a>(services: impl IntoIterator<Item = &'a ServiceSpec>) -> Option<Result<Vec<AlertRule>, BrowseError>> {
    let (service, history) = keeps_metrics(services)?;
    Some(in_time(history.alert_rules(service)).await)
}

fn keeps_metrics<'a>(services: impl IntoIterator<Item = &'a ServiceSpec>) -> Option<(&'a ServiceSpec, &'static dyn MetricHistory)> {
    services.into_iter().find_map(|service| Some((service, kind_of(service, ServiceKind::metric_history)?)))
}

/// Gives spans to the first of these services that collects traces; `None` if none of them does.
pub async fn collect<'a>(
    services: impl IntoIterator<Item = &'a ServiceSpec>,
    request: &serde_json::Value,
) -> Option<Result<(), BrowseError>> {
    let found = services.into_iter().find_map(|service| Some((service, kind_of(service, ServiceKind::trace_source)?)));
    let (service, source): (&ServiceSpec, &dyn TraceSource) = found?;
    Some(in_time(source.collect(service, request)).await)
}

fn browsed(service: &ServiceSpec) -> Result<&'static dyn Browse, BrowseError> {
    kind_of(service, ServiceKind::browse).ok_or(BrowseError::Unsupported("show its data"))
}

/// The ability of the service's own kind, or of the kind of server that its probe recognises in a container.
fn kind_of<T: ?Sized>(service: &ServiceSpec, ability: impl Fn(&'static dyn ServiceKind) -> Option<&'static T>) -> Option<&'static T> {
    let probed = match &service.probe {
        Probe::OfKind(probe) => Some(probe.kind.as_str()),
        _ => None,
    };
    [Some(service.kind.as_str()), probed].into_iter().flatten().find_map(|name| ability(crate::find(name)?))
}

async fn in_time<T>(work: impl Future<Output = Result<T, BrowseError>>) -> Result<T, BrowseError> {
    timeout(LIMIT, work).await.unwrap_or(Err(BrowseError::Late(LIMIT)))
}

fn bounded(mut group: DataGroup) -> DataGroup {
    if group.items.len() > MOST_ITEMS {
        group.items.truncate(MOST_ITEMS);
        group.more = true;
    }
    group
}

/// Cuts long values and what is beyond the limit of an answer, and says so.
fn cut(mut rows: Rows) -> Rows {
    let (mut size, mut is_cut) = (0, false);
    let mut whole = 0;
    for row in &mut rows.rows {
        for value in row.iter_mut().flatten() {
            if value.len() > LONGEST_VALUE {
                let end = (0..=LONGEST_VALUE).rev().find(|end| value.is_char_boundary(*end)).unwrap_or(0);
                value.truncate(end);
                value.push('…');
                is_cut = true;
            }
            size += value.len();
        }
        if size > LARGEST_ANSWER {
            break;
        }
        whole += 1;
    }
    let mut notes: Vec<String> = rows.message.take().into_iter().collect();
    if whole < rows.rows.len() {
        rows.rows.truncate(whole);
        rows.more = true;
        notes.push(format!("the rows beyond {} MiB are left out", LARGEST_ANSWER >> 20));
    }
    if is_cut {
        notes.push(format!("values longer than {} KiB are cut", LONGEST_VALUE >> 10));
    }
    rows.message = (!notes.is_empty()).then(|| notes.join("; "));
    rows
}

/// Filters and sorts the rows, and takes the page out of them. `more`: there are more than these anyway.
pub(crate) fn paged(names: &[&str], mut rows: Vec<Vec<Option<String>>>, page: &RowsPage, more: bool) -> Rows {
    if let Some(wanted) = &page.filter {
        rows.retain(|row| row.iter().flatten().any(|value| value.contains(wanted.as_str())));
    }
    if let Some(Sort { column, descending }) = &page.sort
        && let Some(index) = names.iter().position(|name| name == column)
    {
        // Numbers by their value: shorter ones first.
        let key = |row: &Vec<Option<String>>| {
            let value = row.get(index).cloned().flatten().unwrap_or_default();
            let number = value.parse::<i64>().ok();
            (number.is_none(), number, value)
        };
        rows.sort_by_cached_key(key);
        if *descending {
            rows.reverse();
        }
    }
    rows.drain(..rows.len().min(page.offset as usize));
    let more = more || rows.len() > page.limit as usize;
    rows.truncate(page.limit as usize);
    let columns = names.iter().map(|name| Column { name: (*name).to_owned(), kind: None }).collect();
    Rows { columns, rows, more, message: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_between_characters_and_the_answer_says_so() {
        let column = Column { name: "a".to_owned(), kind: None };
        let rows = vec![vec![Some("ä".repeat(LONGEST_VALUE))], vec![None]];
        let rows = cut(Rows { columns: vec![column], rows, more: false, message: Some("first".to_owned()) });
        let value = rows.rows[0][0].as_ref().unwrap();
        assert!(value.len() <= LONGEST_VALUE + 3 && value.ends_with('…'));
        assert_eq!(rows.message.as_deref(), Some("first; values longer than 16 KiB are cut"));
        assert!(!rows.more);
    }

    #[test]
    fn an_answer_is_bounded_whatever_its_rows_contain() {
        let row = vec![Some("x".repeat(LONGEST_VALUE)); 4];
        let rows = cut(Rows { columns: Vec::new(), rows: vec![row; 300], more: false, message: None });
        assert!(rows.more && rows.rows.len() < 130, "{}", rows.rows.len());
        assert!(rows.message.unwrap().contains("left out"));
    }

    #[test]
    fn rows_are_filtered_sorted_by_number_and_paged() {
        let page = |offset, filter: Option<&str>, sort: Option<Sort>| RowsPage {
            group: "topics".to_owned(),
            item: "orders".to_owned(),
            offset,
            limit: 2,
            filter: filter.map(str::to_owned),
            sort,
        };
        let rows = || ["9", "10", "2", "x"].map(|text| vec![Some(text.to_owned())]).to_vec();
        let shown = |rows: Rows| (rows.rows.into_iter().flatten().flatten().collect::<Vec<_>>(), rows.more);
        let sort = Some(Sort { column: "n".to_owned(), descending: false });
        assert_eq!(shown(paged(&["n"], rows(), &page(0, None, sort.clone()), false)), (vec!["2".to_owned(), "9".to_owned()], true));
        assert_eq!(shown(paged(&["n"], rows(), &page(2, None, sort), false)), (vec!["10".to_owned(), "x".to_owned()], false));
        assert_eq!(shown(paged(&["n"], rows(), &page(0, Some("1"), None), false)), (vec!["10".to_owned()], false));
        assert_eq!(shown(paged(&["n"], rows(), &page(9, None, None), false)), (Vec::new(), false));
    }
}
