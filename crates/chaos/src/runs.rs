//! The runs that are kept on disk, each in a directory of its own with its `run.json`, and its `report.json` when it has ended.
//!
//! `devenv chaos run` writes them; the daemon's page lists and reads them. A run is under way as long as the process that
//! carries it out lives, whatever becomes of the daemon meanwhile.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use devenv_api::{Report, Verdict};
use serde::{Deserialize, Serialize};

const RECORD: &str = "run.json";
const REPORT: &str = "report.json";
const JOURNAL: &str = "journal.ndjson";
/// The largest record and the largest report that are read, in bytes.
const LARGEST_RECORD: u64 = 64 << 10;
const LARGEST_REPORT: u64 = 64 << 20;
/// Of a journal, only its end is read, in bytes.
const JOURNAL_END: u64 = 16 << 10;
/// Characters of a run's name.
const LONGEST_NAME: usize = 40;

/// What `run.json` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    pub run: String,
    pub scenario: String,
    pub seed: u64,
    pub project: String,
    pub instance: String,
    pub began_at: String,
    /// The process that carries it out.
    pub pid: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<RunEnd>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunEnd {
    pub at: String,
    pub verdict: Verdict,
    pub healed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A run as it is now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KnownRun {
    #[serde(flatten)]
    pub record: RunRecord,
    pub state: RunState,
    /// The last line of the journal of a run that is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunState {
    Running,
    Completed,
    /// Its process is gone, and there is no verdict.
    Interrupted,
}

/// Records a run that begins.
pub fn begin(directory: &Path, record: &RunRecord) -> io::Result<()> {
    devenv_files::write_result(&directory.join(RECORD), &serde_json::to_vec_pretty(record)?)
}

/// Keeps the report of a run, and records its end.
pub fn end(directory: &Path, record: &RunRecord, report: &Report, at: String) -> io::Result<()> {
    devenv_files::write_result(&directory.join(REPORT), &serde_json::to_vec_pretty(report)?)?;
    let end = RunEnd { at, verdict: report.verdict, healed: report.healed, reason: report.reason.clone() };
    begin(directory, &RunRecord { end: Some(end), ..record.clone() })
}

/// The runs of an environment that are kept, the newest first.
pub fn known(runs: &Path, project: &str, instance: &str) -> Vec<KnownRun> {
    let directories = fs::read_dir(runs).into_iter().flatten().flatten().map(|entry| entry.path());
    let records = directories.filter_map(|directory| Some((record(&directory)?, directory)));
    let ours = records.filter(|(record, _)| record.project == project && record.instance == instance);
    let mut known: Vec<KnownRun> = ours.map(|(record, directory)| now(record, &directory)).collect();
    known.sort_by(|one, other| other.record.began_at.cmp(&one.record.began_at));
    known
}

/// The report of a run of this environment.
pub fn report(runs: &Path, run: &str, project: &str, instance: &str) -> Option<Report> {
    if run.is_empty() || run.len() > LONGEST_NAME || !run.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let directory = runs.join(run);
    record(&directory).filter(|record| record.project == project && record.instance == instance)?;
    serde_json::from_slice(&devenv_files::read_bounded(&directory.join(REPORT), LARGEST_REPORT).ok()?).ok()
}

fn record(directory: &Path) -> Option<RunRecord> {
    serde_json::from_slice(&devenv_files::read_bounded(&directory.join(RECORD), LARGEST_RECORD).ok()?).ok()
}

fn now(record: RunRecord, directory: &Path) -> KnownRun {
    let state = match &record.end {
        Some(_) => RunState::Completed,
        None if is_alive(record.pid) => RunState::Running,
        None => RunState::Interrupted,
    };
    let last = (state == RunState::Running).then(|| last_line(&directory.join(JOURNAL))).flatten();
    KnownRun { record, state, last }
}

/// Whether this process is one that runs a scenario: its id may be another's by now.
fn is_alive(pid: u32) -> bool {
    let words = fs::read(PathBuf::from(format!("/proc/{pid}/cmdline"))).unwrap_or_default();
    let mut words = words.split(|byte| *byte == 0);
    words.any(|word| word == b"chaos") && words.next() == Some(b"run")
}

/// The message of the last event of a journal.
fn last_line(journal: &Path) -> Option<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = fs::File::open(journal).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(JOURNAL_END))).ok()?;
    let mut text = Vec::new();
    file.take(JOURNAL_END).read_to_end(&mut text).ok()?;
    let event = |line: &str| Some(serde_json::from_str::<serde_json::Value>(line).ok()?.get("message")?.as_str()?.to_owned());
    String::from_utf8_lossy(&text).lines().rev().find_map(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record_of(run: &str, began_at: &str) -> RunRecord {
        RunRecord {
            run: run.to_owned(),
            scenario: "outage".to_owned(),
            seed: 1,
            project: "/shop".to_owned(),
            instance: "default".to_owned(),
            began_at: began_at.to_owned(),
            pid: u32::MAX,
            end: None,
        }
    }

    #[test]
    fn runs_of_an_environment_are_listed_newest_first_with_their_ends_and_reports() {
        let runs = tempfile::tempdir().unwrap();
        let directory = |run: &str| {
            let directory = runs.path().join(run);
            fs::create_dir(&directory).unwrap();
            directory
        };
        let (first, second, other) = (directory("aaa"), directory("bbb"), directory("ccc"));
        directory("without");
        fs::write(runs.path().join("some.lock"), "").unwrap();
        begin(&first, &record_of("aaa", "2026-01-01T00:00:00Z")).unwrap();
        begin(&second, &record_of("bbb", "2026-01-02T00:00:00Z")).unwrap();
        begin(&other, &RunRecord { project: "/other".to_owned(), ..record_of("ccc", "2026-01-03T00:00:00Z") }).unwrap();
        let sample = crate::report::sample();
        end(&first, &record_of("aaa", "2026-01-01T00:00:00Z"), &sample, "2026-01-01T00:01:00Z".to_owned()).unwrap();

        let known = known(runs.path(), "/shop", "default");
        let shown: Vec<_> = known.iter().map(|run| (run.record.run.as_str(), run.state)).collect();
        assert_eq!(shown, [("bbb", RunState::Interrupted), ("aaa", RunState::Completed)]);
        assert_eq!(known[1].record.end.as_ref().unwrap().verdict, Verdict::Fail);
        assert_eq!(report(runs.path(), "aaa", "/shop", "default"), Some(sample));
        for (run, project) in [("bbb", "/shop"), ("ccc", "/shop"), ("aaa", "/other"), ("../aaa", "/shop"), ("", "/shop"), ("/", "/shop")] {
            assert_eq!(report(runs.path(), run, project, "default"), None, "{run} of {project}");
        }
    }

    #[test]
    fn a_run_that_is_under_way_says_what_happened_last() {
        let directory = tempfile::tempdir().unwrap();
        let journal = directory.path().join(JOURNAL);
        let line = |message: &str| format!("{}\n", serde_json::json!({ "message": message }));
        fs::write(&journal, format!("{}{}{{\"mess", line("first"), line(&"x".repeat(20_000)))).unwrap();
        assert_eq!(last_line(&journal), None);
        fs::write(&journal, format!("{}{}{{\"mess", line("first"), line("second"))).unwrap();
        assert_eq!(last_line(&journal).as_deref(), Some("second"));
        assert!(!is_alive(std::process::id()));
    }
}
