//! `devenv logs`: the output of services.

use devenv_api::{ApiError, Client, LogsRequest};
use futures_util::StreamExt;
use jiff::{Timestamp, civil, tz::TimeZone};

use super::{
    Outcome,
    args::period,
    exit::ExitStatus,
    failure::{Failure, usage},
    log_line::Lines,
    session::Session,
};

/// Show the logs of services, ordered by time.
///
/// Prints all stored lines unless you pass `--since`.
///
/// Example: devenv logs -f --since 5m --grep 'ERROR|WARN' api worker
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The services to show. Default: all.
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// Keep running, and print new lines as they arrive.
    #[arg(long, short)]
    follow: bool,
    /// Show only lines since this time: an age such as `5m`, or a time such as `2026-11-20T10:00:00Z` or `10:00` (today).
    #[arg(long, value_name = "DURATION|TIME")]
    since: Option<String>,
    /// Show only lines until this time, written as for `--since`.
    #[arg(long, value_name = "DURATION|TIME", conflicts_with = "follow")]
    until: Option<String>,
    /// Show only so many of the last lines.
    #[arg(long, short = 'n', value_name = "COUNT")]
    tail: Option<usize>,
    /// Begin each line with its time, in UTC.
    #[arg(long, short)]
    timestamps: bool,
    /// Show only lines that match this regular expression.
    #[arg(long, value_name = "REGEX")]
    grep: Option<String>,
    /// Show the log lines before each service's last crash instead. They are kept separately.
    #[arg(long, conflicts_with_all = ["follow", "since", "until", "tail"])]
    crash: bool,
}

const AT_ONCE: usize = 512;

pub(super) async fn run(arguments: &Arguments, session: &Session) -> Outcome {
    if let Some(pattern) = &arguments.grep {
        regex::Regex::new(pattern).map_err(|error| usage(format!("--grep: {error}")))?;
    }
    let time = |text: &Option<String>| text.as_deref().map(|text| since(text, Timestamp::now(), &TimeZone::system())).transpose();
    let (since, until) = (time(&arguments.since)?, time(&arguments.until)?);
    let request = LogsRequest {
        target: session.target()?,
        services: arguments.services.clone(),
        follow: arguments.follow,
        since: since.map(|time| format!("{time:.6}")),
        grep: arguments.grep.clone(),
        crash: arguments.crash,
        tail: arguments.tail,
        until: until.map(|time| format!("{time:.6}")),
    };
    let client = session.client().await?;
    print(&client, &request, arguments.timestamps, session).await?;
    Ok(ExitStatus::SUCCESS)
}

/// Prints lines until they end; also used by `up --attach`.
pub(super) async fn stream(client: &Client, request: &LogsRequest, session: &Session) -> Result<(), Failure> {
    print(client, request, false, session).await
}

async fn print(client: &Client, request: &LogsRequest, timestamps: bool, session: &Session) -> Result<(), Failure> {
    let mut lines = client.logs(request).await?.ready_chunks(AT_ONCE);
    let mut rendered = Lines::default();
    while let Some(chunk) = lines.next().await {
        for line in chunk {
            let line = line?;
            session
                .printer
                .result(&line, || if timestamps { format!("{} {}", line.time, rendered.render(&line)) } else { rendered.render(&line) })?;
        }
        session.printer.flush()?;
    }
    Ok(())
}

/// A duration ago, a time stamp, a local date and time, or a local time today.
fn since(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, ApiError> {
    if let Ok(ago) = period(text) {
        return now.checked_sub(ago).map_err(|_| usage(format!("--since {text}: too far in the past")));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let today = now.to_zoned(zone.clone()).date();
    let local = text.parse::<civil::DateTime>().or_else(|_| text.parse::<civil::Time>().map(|time| today.to_datetime(time)));
    local.and_then(|local| local.to_zoned(zone.clone())).map(|zoned| zoned.timestamp()).map_err(|_| {
        usage(format!("--since {text}: neither a duration nor a time"))
            .hint("write a duration such as `5m`, or a time such as `2026-11-20T10:00:00Z`, `2026-11-20 10:00` or `10:00`")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_takes_durations_and_times() {
        let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let cases = [
            ("5m", "2026-11-20T11:55:00Z"),
            ("24h", "2026-11-19T12:00:00Z"),
            ("2026-11-20T10:00:00.5Z", "2026-11-20T10:00:00.5Z"),
            ("2026-11-20T10:00:00+02:00", "2026-11-20T08:00:00Z"),
            ("2026-11-20 10:00", "2026-11-20T09:00:00Z"),
            ("10:30", "2026-11-20T09:30:00Z"),
        ];
        for (text, expected) in cases {
            assert_eq!(since(text, now, &zone).unwrap().to_string(), expected, "{text}");
        }
        assert!(since("yesterday", now, &zone).is_err());
    }
}
