//! Diagnostics of a failed run: everything that is known of an environment, as text, without its secrets.

use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use devenv_api::{ApiError, BundleFile, BundleRequest, ErrorCode, Phase, ServiceState, Status};
use devenv_logs::{Logs, Query};
use devenv_secrets::Vault;
use devenv_spec::{
    EnvironmentSpec, Template, Workload,
    sensitive::{self, MASK},
};
use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};
use regex::{Captures, Regex};
use tokio::sync::mpsc;

use super::Daemon;
use crate::{error::describe, event::EventLog};

/// The size of one chunk.
const PIECE: usize = 256 * 1024;
/// A shorter value would match parts of words.
const SHORTEST: usize = 4;
/// The last part of one service's log.
const LONGEST_LOG: usize = 8 << 20;
/// Chunks for a client that writes more slowly than we read.
const WAITING: usize = 8;

/// Masks secrets.
struct Censor {
    vault: Vault,
    /// Those that users gave.
    besides: Vec<String>,
    /// How many values were masked.
    masked: AtomicUsize,
}

/// `NAME=value`, `name: value` and `"name": "value"` with a name that sounds secret.
static NAMED: LazyLock<Regex> = LazyLock::new(|| {
    let word = "[a-z0-9_.-]*(?:key|pass|pwd|dsn|auth|token|secret|credential)[a-z0-9_.-]*";
    Regex::new(&format!(r#"(?i)(\b{word}["']?\s*[=:]\s*)("(?:[^"\\]|\\.)+"|'[^']+'|[^\s,;}})"']{{4,}})"#))
        .expect("the pattern is well formed")
});

impl Censor {
    fn redact(&self, text: &str) -> String {
        let before = text.matches(MASK).count();
        let mut text = self.vault.redact(text);
        for secret in self.besides.iter().filter(|secret| !secret.is_empty()) {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), MASK);
            }
        }
        let text = sensitive::masked_urls(&text);
        self.masked.fetch_add(text.matches(MASK).count().saturating_sub(before), Ordering::Relaxed);
        text
    }

    /// For text that no program parses: values with the name of a secret are masked too.
    fn redact_named(&self, text: &str) -> String {
        let masked = |found: &Captures<'_>| {
            let (name, value) = (&found[1], &found[2]);
            let harmless = value == MASK || matches!(value, "true" | "false" | "null" | "none") || value.parse::<f64>().is_ok();
            if harmless || !sensitive::sounds_secret(name.trim_end_matches(['=', ':', ' ', '"', '\''])) {
                return found[0].to_owned();
            }
            self.masked.fetch_add(1, Ordering::Relaxed);
            format!("{name}{MASK}")
        };
        NAMED.replace_all(text, masked).into_owned()
    }
}

impl Daemon {
    /// The files, chunk by chunk.
    pub(super) async fn bundle(self: Arc<Self>, request: BundleRequest) -> Result<mpsc::Receiver<BundleFile>, ApiError> {
        let environment = self.environments.require(&request.target)?;
        let record = environment.handle.record().await?;
        let status = environment.handle.status();
        let mut files = vec![
            file("versions.txt", versions(&self)),
            file("engine.json", pretty(&self.engine)),
            file("status.json", pretty(&status)),
            file("junit.xml", junit(&status)),
        ];
        // A spec contains only the names of secrets, except those that users gave.
        files.extend(record.spec.as_ref().map(|spec| file("spec.json", pretty(&without_sensitive(spec)))));
        files.extend(request.files);
        let (sender, receiver) = mpsc::channel(WAITING);
        let mut besides = request.secrets;
        besides.extend(record.spec.iter().flat_map(sensitive_values));
        // A value that contains another one is masked first.
        besides.sort_by_key(|value| std::cmp::Reverse(value.len()));
        let censor = Censor { vault: environment.vault.clone(), besides, masked: AtomicUsize::new(0) };
        let (events, logs) = (environment.handle.events.clone(), environment.logs.clone());
        // Reading files blocks; it ends when the client disconnects.
        tokio::task::spawn_blocking(move || {
            for file in files {
                if send(&sender, &censor, &file.path, &file.text).is_none() {
                    return;
                }
            }
            if let Err(error) = tell_history(&events, &logs, &status, &censor, &sender) {
                let _ = send(&sender, &censor, "incomplete.txt", &describe(&error));
            }
            let masked = censor.masked.load(Ordering::Relaxed);
            let _ =
                send(&sender, &censor, "masked.txt", &format!("masked: {masked} values that are secret or have the name of a secret\n"));
        });
        Ok(receiver)
    }
}

fn tell_history(
    events: &EventLog,
    logs: &Logs,
    status: &Status,
    censor: &Censor,
    sender: &mpsc::Sender<BundleFile>,
) -> std::io::Result<()> {
    let (events, _) = events.history_and_rest()?;
    let mut lines = String::new();
    for event in events {
        lines.push_str(&serde_json::to_string(&event)?);
        lines.push('\n');
    }
    let Some(()) = send(sender, censor, "events.ndjson", &lines) else { return Ok(()) };
    for service in &status.services {
        let query = Query { services: vec![service.name.clone()], ..Query::default() };
        let mut text = String::new();
        for line in logs.history(query)?.flatten() {
            if text.len() > LONGEST_LOG {
                let half = boundary(&text, text.len() / 2);
                text.drain(..half);
            }
            text.push_str(&format!("{} run {} {}: {}\n", line.time, line.run, stream(line.stream), line.text));
        }
        if text.is_empty() {
            continue;
        }
        let Some(()) = send(sender, censor, &format!("logs/{}.log", service.name), &text) else { return Ok(()) };
    }
    Ok(())
}

/// Without secrets, in chunks. `None` if the client is gone.
fn send(sender: &mpsc::Sender<BundleFile>, censor: &Censor, path: &str, text: &str) -> Option<()> {
    // Before it is split: a secret must not be split in two.
    let mut text = censor.redact(text);
    if path.ends_with(".txt") || path.ends_with(".log") {
        text = censor.redact_named(&text);
    }
    let mut rest = text.as_str();
    loop {
        let (piece, after) = rest.split_at(boundary(rest, PIECE));
        sender.blocking_send(BundleFile { path: path.to_owned(), text: piece.to_owned() }).ok()?;
        if after.is_empty() {
            return Some(());
        }
        rest = after;
    }
}

/// Values that users gave, long enough not to be common words.
fn sensitive_values(spec: &EnvironmentSpec) -> Vec<String> {
    let templates = spec.variables.values().flat_map(|variable| [&variable.host, &variable.container]);
    let services = spec.services.values().flat_map(|service| match &service.workload {
        Workload::Container(container) => container.environment.values(),
        Workload::Process(process) => process.environment.values(),
    });
    let files = spec.services.values().filter_map(|service| service.container()).flat_map(|container| &container.files);
    let values = templates.chain(services).chain(files.map(|file| &file.content)).flat_map(Template::sensitive);
    values.filter(|value| value.len() >= SHORTEST).map(str::to_owned).collect()
}

/// A spec as JSON with the secrets of users masked.
fn without_sensitive(spec: &EnvironmentSpec) -> serde_json::Value {
    fn mask(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(fields) => {
                if let Some(secret) = fields.get_mut("sensitive").filter(|secret| secret.is_string()) {
                    *secret = MASK.into();
                }
                fields.values_mut().for_each(mask);
            }
            serde_json::Value::Array(items) => items.iter_mut().for_each(mask),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(spec).unwrap_or_default();
    mask(&mut value);
    value
}

/// The last position at or before this one where a text can be split.
fn boundary(text: &str, at: usize) -> usize {
    (0..=at.min(text.len())).rev().find(|place| text.is_char_boundary(*place)).unwrap_or_default()
}

fn file(path: &str, text: String) -> BundleFile {
    BundleFile { path: path.to_owned(), text }
}

fn stream(stream: devenv_api::LogStream) -> &'static str {
    match stream {
        devenv_api::LogStream::Stdout => "stdout",
        devenv_api::LogStream::Stderr => "stderr",
    }
}

fn versions(daemon: &Daemon) -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let engine = &daemon.engine;
    format!(
        "devenv {}\nengine {} {} (API {}) at {}\nkernel {}\n",
        env!("CARGO_PKG_VERSION"),
        engine.kind,
        engine.version,
        engine.api,
        engine.endpoint,
        kernel.trim()
    )
}

fn pretty(document: &impl serde::Serialize) -> String {
    let text =
        serde_json::to_string_pretty(document).unwrap_or_else(|error| ApiError::new(ErrorCode::Internal, error.to_string()).to_string());
    text + "\n"
}

/// The environment's own actions, for tools that show test reports: a case for each service.
fn junit(status: &Status) -> String {
    let degraded = if status.phase == Phase::Ready { "" } else { " degraded" };
    let mut suite = TestSuite::new(format!("devenv{degraded}"));
    for service in &status.services {
        let good = matches!(service.state, ServiceState::Ready | ServiceState::Completed) || service.optional == Some(true);
        let outcome = if good {
            TestCaseStatus::success()
        } else {
            let mut failure = TestCaseStatus::non_success(NonSuccessKind::Failure);
            failure.set_message(format!("{}: {}", service.state, service.reason.as_deref().unwrap_or("it is not ready")));
            failure
        };
        let mut case = TestCase::new(format!("{} is ready", service.name), outcome);
        case.set_classname("devenv").set_time(Duration::from_millis(service.ready_after_ms.unwrap_or_default()));
        suite.add_test_case(case);
    }
    let mut report = Report::new("devenv");
    report.add_test_suite(suite);
    report.to_string().expect("text in memory can always be written")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_of_tests_has_a_case_for_each_service_and_no_text_leaves_its_place() {
        let status: Status = serde_json::from_value(serde_json::json!({
            "environment": "e", "project": "/p", "instance": "default", "profile": "p", "phase": "degraded",
            "services": [
                { "name": "db", "kind": "postgres", "state": "ready", "ready_after_ms": 1250, "restarts": 0, "ports": [], "urls": {}, "depends_on": {} },
                { "name": "api", "kind": "process", "state": "failed", "reason": "it said \"<no>\" & \u{1b}[31mended",
                  "restarts": 0, "ports": [], "urls": {}, "depends_on": {} },
            ],
        }))
        .unwrap();
        insta::assert_snapshot!(junit(&status), @r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites name="devenv" tests="2" skipped="0" failures="1" errors="0">
            <testsuite name="devenv degraded" tests="2" skipped="0" errors="0" failures="1">
                <testcase name="db is ready" classname="devenv" time="1.250"/>
                <testcase name="api is ready" classname="devenv" time="0.000">
                    <failure message="failed: it said &quot;&lt;no&gt;&quot; &amp; ended"/>
                </testcase>
            </testsuite>
        </testsuites>
        "#);
    }

    #[test]
    fn secrets_are_masked_by_their_names_and_in_urls_and_counted() {
        let directory = tempfile::tempdir().unwrap();
        let censor =
            Censor { vault: Vault::new(directory.path().into()), besides: vec!["planted".to_owned()], masked: AtomicUsize::new(0) };
        let text =
            "SMTP_PASS=hunter22 level=info\n{\"api_token\": \"abc def\", \"keys\": 5}\nat planted\nhttp://u:pw@h/x\nAUTH: true PWD=/tmp\n";
        let shown = censor.redact_named(&censor.redact(text));
        assert_eq!(
            shown,
            "SMTP_PASS=******** level=info\n{\"api_token\": ********, \"keys\": 5}\nat ********\nhttp://u:********@h/x\nAUTH: true PWD=/tmp\n"
        );
        assert_eq!(censor.masked.load(Ordering::Relaxed), 4);
    }

    #[tokio::test]
    async fn a_secret_is_taken_out_even_where_a_file_is_cut() {
        let directory = tempfile::tempdir().unwrap();
        let vault = Vault::new(directory.path().into());
        let secret = vault.reveal(&devenv_spec::SecretRef::new("db", "app")).unwrap();
        let text = format!("{}{secret}{}", "x".repeat(PIECE - 5), "y".repeat(PIECE));
        let (sender, mut receiver) = mpsc::channel(WAITING);
        let task = tokio::task::spawn_blocking(move || {
            send(&sender, &Censor { vault, besides: vec!["yes-yes".to_owned()], masked: AtomicUsize::new(0) }, "a", &text)
        });
        let mut all = String::new();
        while let Some(piece) = receiver.recv().await {
            all.push_str(&piece.text);
        }
        task.await.unwrap().unwrap();
        assert!(!all.contains(&secret) && all.contains("********") && all.ends_with('y'));
    }
}
