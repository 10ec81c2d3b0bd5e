use std::{thread, time::Duration};

use devenv_api::LogStream::{self, Stderr, Stdout};
use jiff::{Timestamp, ToSpan};

use super::*;

fn logs() -> (tempfile::TempDir, Logs) {
    let directory = tempfile::tempdir().unwrap();
    let logs = Logs::new(directory.path().join("logs"));
    (directory, logs)
}

fn at(nanosecond: i64) -> Timestamp {
    "2026-11-03T09:00:00Z".parse::<Timestamp>().unwrap() + nanosecond.nanoseconds()
}

fn write(logs: &Logs, service: &str, lines: &[(i64, LogStream, &str)]) {
    let mut writer = logs.writer(service).unwrap();
    for (time, stream, text) in lines {
        writer.push(at(*time), 1, *stream, text.as_bytes());
    }
    writer.flush().unwrap();
}

fn texts(logs: &Logs, query: Query) -> Vec<String> {
    logs.history(query).unwrap().map(|line| line.unwrap().text).collect()
}

async fn collect(follower: &mut Follower, count: usize) -> Vec<String> {
    let mut lines = Vec::new();
    while lines.len() < count {
        let more = tokio::time::timeout(Duration::from_secs(20), follower.next()).await.expect("lines within the deadline").unwrap();
        lines.extend(more.into_iter().map(|line| line.text));
    }
    lines
}

#[test]
fn a_log_is_readable_by_its_owner_alone() {
    let (directory, logs) = logs();
    write(&logs, "db", &[(1, Stdout, "password=x")]);
    for entry in std::fs::read_dir(directory.path().join("logs")).unwrap() {
        let entry = entry.unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&entry.metadata().unwrap().permissions());
        assert_eq!(mode & 0o077, 0, "{}", entry.path().display());
    }
}

#[test]
fn history_is_in_the_order_of_time_over_services_and_in_written_order_within_one() {
    let (_directory, logs) = logs();
    write(&logs, "api", &[(1, Stdout, "a1"), (5, Stderr, "a5"), (4, Stdout, "a4 written later"), (9, Stdout, "a9")]);
    write(&logs, "db", &[(2, Stdout, "d2"), (6, Stdout, "d6")]);
    assert_eq!(texts(&logs, Query::default()), ["a1", "d2", "a5", "a4 written later", "d6", "a9"]);
    assert_eq!(texts(&logs, Query { services: vec!["db".to_owned()], ..Query::default() }), ["d2", "d6"]);
    assert_eq!(texts(&logs, Query { since: Some(at(5)), ..Query::default() }), ["a5", "d6", "a9"]);
    assert_eq!(
        texts(&logs, Query { grep: Some(Regex::new("^[ad]\\d$").unwrap()), since: Some(at(2)), ..Query::default() }),
        ["d2", "a5", "d6", "a9"]
    );
}

#[test]
fn a_service_without_a_log_has_an_empty_history() {
    let (_directory, logs) = logs();
    assert_eq!(texts(&logs, Query::default()), Vec::<String>::new());
    assert_eq!(texts(&logs, Query { services: vec!["api".to_owned()], ..Query::default() }), Vec::<String>::new());
    assert!(logs.tail("api", None, 10).unwrap().is_empty());
    assert!(logs.crash("api").unwrap().is_empty());
}

#[test]
fn rotation_keeps_a_hundred_thousand_lines_and_drops_the_oldest_segments() {
    let (_directory, logs) = logs();
    let mut writer = logs.writer("api").unwrap().with_segments_of(500_000);
    let total = 150_000;
    for index in 0..total {
        writer.push(at(index), 1, Stdout, format!("line {index}").as_bytes());
        if index % 500 == 499 {
            writer.flush().unwrap();
        }
    }
    drop(writer);
    let lines = texts(&logs, Query::default());
    assert!(lines.len() >= 100_000 && lines.len() < total as usize, "{} lines", lines.len());
    let first = total as usize - lines.len();
    let in_order = lines.iter().enumerate().all(|(offset, line)| *line == format!("line {}", first + offset));
    assert!(in_order, "a gap or a double");
    // A time skips whole segments, and still nothing of it is missed.
    let late = texts(&logs, Query { since: Some(at(total - 7)), ..Query::default() });
    assert_eq!(late.len(), 7);
}

#[test]
fn several_writers_of_one_log_lose_and_mix_nothing_over_rotations() {
    let (_directory, logs) = logs();
    thread::scope(|scope| {
        for writer in 0..4 {
            let logs = logs.clone();
            scope.spawn(move || {
                let mut output = logs.writer("api").unwrap().with_segments_of(20_000);
                for index in 0..2000 {
                    output.push(at(index), writer + 1, Stdout, format!("{index}").as_bytes());
                    if index % 7 == 0 {
                        output.flush().unwrap();
                    }
                }
            });
        }
    });
    let mut next = [0; 4];
    for line in logs.history(Query::default()).unwrap() {
        let line = line.unwrap();
        let expected = &mut next[line.run as usize - 1];
        assert_eq!(line.text, expected.to_string());
        *expected += 1;
    }
    // Fewer lines than may be dropped: all are there.
    assert_eq!(next, [2000; 4]);
}

#[test]
fn half_a_line_of_a_killed_writer_spoils_nothing() {
    let (_directory, logs) = logs();
    write(&logs, "api", &[(1, Stdout, "whole")]);
    let path = segment::path(logs.directory(), "api", 1);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.extend_from_slice(b"2026-11-03T09:00:0");
    std::fs::write(&path, bytes).unwrap();
    write(&logs, "api", &[(2, Stdout, "next")]);
    assert_eq!(texts(&logs, Query::default()), ["whole", "next"]);
}

#[tokio::test]
async fn following_goes_on_exactly_where_history_ended() {
    let (_directory, logs) = logs();
    let total = 30_000;
    let writing = {
        let logs = logs.clone();
        thread::spawn(move || {
            let mut writer = logs.writer("api").unwrap().with_segments_of(60_000);
            for index in 0..total {
                writer.push(at(index), 1, Stdout, index.to_string().as_bytes());
                if index % 50 == 49 {
                    writer.flush().unwrap();
                }
            }
        })
    };
    tokio::time::sleep(Duration::from_millis(5)).await;
    let mut follower = logs.follow(Query::default()).unwrap();
    let lines = collect(&mut follower, total as usize).await;
    let expected: Vec<String> = (0..total).map(|index| index.to_string()).collect();
    assert!(lines == expected, "{} lines, not each once and in order", lines.len());
    assert!(follower.is_live());
    writing.join().unwrap();
}

#[test]
fn a_long_log_beside_finished_ones_is_read_as_fast_as_alone() {
    let (_directory, logs) = logs();
    let mut writer = logs.writer("api").unwrap();
    (0..50_000).for_each(|index| writer.push(at(index), 1, Stdout, b"line"));
    writer.flush().unwrap();
    // The quickest of several: on a busy machine any one may be interrupted.
    let time = |query: Query| {
        let once = |_| {
            let began = std::time::Instant::now();
            assert!(logs.history(query.clone()).unwrap().count() >= 50_000);
            began.elapsed()
        };
        (0..5).map(once).min().unwrap()
    };
    let alone = time(Query { services: vec!["api".to_owned()], ..Query::default() });
    for index in 0..10 {
        write(&logs, &format!("done{index}"), &[(0, Stdout, "done")]);
    }
    let beside = time(Query::default());
    assert!(beside < alone * 8 + Duration::from_millis(200), "alone {alone:?}, beside ten others {beside:?}");
}

#[tokio::test]
async fn a_follower_sees_services_whose_log_begins_later() {
    let (_directory, logs) = logs();
    let mut follower = logs.follow(Query::default()).unwrap();
    write(&logs, "api", &[(1, Stdout, "first")]);
    assert_eq!(collect(&mut follower, 1).await, ["first"]);
    write(&logs, "worker", &[(2, Stdout, "second")]);
    assert_eq!(collect(&mut follower, 1).await, ["second"]);
    let mut late = logs.follow(Query { services: vec!["worker".to_owned()], ..Query::default() }).unwrap();
    assert_eq!(collect(&mut late, 1).await, ["second"]);
}

#[test]
fn a_containers_log_is_resumed_without_loss_and_without_doubles() {
    let (_directory, logs) = logs();
    assert!(logs.resume("db").unwrap().is_none());
    // The engine's log, with lines of equal time stamps, and one before an older one.
    let engine = [
        (0, Stdout, "long ago"),
        (5_000_000_000, Stdout, "a"),
        (5_000_000_001, Stdout, "b"),
        (5_000_000_001, Stdout, "c"),
        (5_000_000_001, Stderr, "d"),
        (4_999_999_999, Stderr, "e"),
        (5_000_000_002, Stdout, "f"),
        (5_000_000_002, Stdout, "g"),
    ];
    for stored in 1..=engine.len() {
        let (_directory, logs) = self::logs();
        write(&logs, "db", &engine[..stored]);
        let mut resume = logs.resume("db").unwrap().unwrap();
        let missing: Vec<_> = engine
            .iter()
            .filter(|(time, _, _)| at(*time) >= resume.since())
            .copied()
            .collect::<Vec<_>>()
            .into_iter()
            .filter(|(time, stream, _)| resume.is_new(at(*time), *stream))
            .collect();
        write(&logs, "db", &missing);
        let text: String = texts(&logs, Query::default()).concat();
        assert_eq!(text, "long agoabcdefg", "cut after {stored}");
    }
}

#[test]
fn the_end_of_a_crashed_run_is_kept() {
    let (_directory, logs) = logs();
    let mut writer = logs.writer("api").unwrap();
    for run in 1..=3 {
        for index in 0..300 {
            writer.push(at(index), run, Stderr, format!("{run} {index}").as_bytes());
        }
    }
    writer.flush().unwrap();
    logs.pin_crash("api", 2).unwrap();
    let crash = logs.crash("api").unwrap();
    assert_eq!(crash.len(), 200);
    assert_eq!((crash[0].text.as_str(), crash[199].text.as_str()), ("2 100", "2 299"));
    let tail: Vec<String> = logs.tail("api", None, 2).unwrap().into_iter().map(|line| line.text).collect();
    assert_eq!(tail, ["3 298", "3 299"]);
}
