//! A line of the service's own log, of this start and not of an earlier one.

use std::time::Duration;

use futures_util::StreamExt;
use regex::Regex;
use tokio::time::{Instant, timeout_at};

use super::{Lines, ProbeFailure, ProbeSuccess};

pub(super) async fn ask(pattern: &str, lines: &Lines, limit: Duration) -> Result<ProbeSuccess, ProbeFailure> {
    let pattern =
        Regex::new(pattern).map_err(|error| ProbeFailure::silent(format!("`{pattern}` is not a valid regular expression: {error}")))?;
    let until = Instant::now() + limit;
    let mut lines = lines();
    let mut last = None;
    while let Ok(Some(line)) = timeout_at(until, lines.next()).await {
        if pattern.is_match(&line) {
            return Ok(ProbeSuccess::of(format!("logged `{}`", line.trim())));
        }
        last = Some(line);
    }
    Err(match last {
        Some(line) => ProbeFailure::said(format!("no line matches `{pattern}` yet; the last one is `{}`", line.trim())),
        None => ProbeFailure::silent("it has logged nothing yet"),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::stream;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_matching_line_is_the_receipt_and_otherwise_the_last_line_is_reported() {
        let lines: Lines = Arc::new(|| stream::iter(["starting", "listening on 80"].map(str::to_owned)).chain(stream::pending()).boxed());
        let limit = Duration::from_secs(2);
        assert_eq!(ask("listening on \\d+", &lines, limit).await.unwrap().evidence, "logged `listening on 80`");
        assert_eq!(ask("open", &lines, limit).await.unwrap_err().what, "no line matches `open` yet; the last one is `listening on 80`");
        let nothing: Lines = Arc::new(|| stream::empty().boxed());
        assert!(!ask("open", &nothing, limit).await.unwrap_err().answered);
        assert!(ask("(", &nothing, limit).await.unwrap_err().what.contains("not a valid regular expression"));
    }
}
