//! Turns BuildKit's progress into lines: each step when it begins, its output, and how it ends. Pure.

use std::collections::{HashMap, HashSet, VecDeque};

use super::protobuf::fields;
use crate::EngineError;

/// The output lines that are kept of a failed step.
const KEPT: usize = 30;

pub(super) struct Trace {
    tag: String,
    dockerfile: String,
    steps: HashMap<String, Step>,
    reported: HashSet<(String, &'static str)>,
}

#[derive(Default)]
struct Step {
    name: String,
    error: Option<String>,
    /// Its output since the last line end.
    rest: String,
    last: VecDeque<String>,
}

impl Trace {
    pub(super) fn new(tag: String, dockerfile: String) -> Self {
        Self { tag, dockerfile, steps: HashMap::new(), reported: HashSet::new() }
    }

    /// The fields of one status message.
    pub(super) fn lines(&mut self, status: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for (field, value) in fields(status) {
            match field {
                1 => self.vertex(value.bytes(), &mut lines),
                3 => self.log(value.bytes(), &mut lines),
                _ => {}
            }
        }
        lines
    }

    fn vertex(&mut self, message: &[u8], lines: &mut Vec<String>) {
        let (mut digest, mut name, mut cached, mut started, mut completed, mut error) =
            (String::new(), String::new(), false, None, None, None);
        for (field, value) in fields(message) {
            match field {
                1 => digest = value.text(),
                3 => name = value.text(),
                4 => cached = value.number() != 0,
                5 => started = Some(moment(value.bytes())),
                6 => completed = Some(moment(value.bytes())),
                7 if !value.bytes().is_empty() => error = Some(value.text()),
                _ => {}
            }
        }
        let step = self.steps.entry(digest.clone()).or_default();
        step.name.clone_from(&name);
        if name.starts_with("[internal]") && error.is_none() {
            return;
        }
        let mut once = |what: &'static str| self.reported.insert((digest.clone(), what));
        if cached {
            if once("cached") {
                lines.push(format!("{name}: cached"));
            }
            return;
        }
        if started.is_some() && once("started") {
            lines.push(name.clone());
        }
        if let (Some(started), Some(completed)) = (started, completed) {
            lines.extend((!step.rest.is_empty()).then(|| std::mem::take(&mut step.rest)));
            if let Some(error) = error {
                step.error = Some(error);
            } else if once("completed") {
                lines.push(format!("{name}: done in {:.1} s", (completed - started).max(0.0)));
            }
        }
    }

    fn log(&mut self, message: &[u8], lines: &mut Vec<String>) {
        let (mut digest, mut text) = (String::new(), String::new());
        for (field, value) in fields(message) {
            match field {
                1 => digest = value.text(),
                4 => text = value.text(),
                _ => {}
            }
        }
        let step = self.steps.entry(digest).or_default();
        step.rest.push_str(&text);
        while let Some(end) = step.rest.find('\n') {
            let line: String = step.rest.drain(..=end).collect();
            // A progress bar overwrites its line; only the last version is kept.
            let line = line.trim_end().rsplit('\r').next().unwrap_or_default().to_owned();
            if step.last.len() == KEPT {
                step.last.pop_front();
            }
            step.last.push_back(line.clone());
            if !line.is_empty() {
                lines.push(line);
            }
        }
    }

    pub(super) fn failure(&mut self, message: &str) -> EngineError {
        let failed = self.steps.values_mut().find(|step| step.error.as_ref().is_some_and(|error| !error.contains("context canceled")));
        let message = message.trim().trim_start_matches("failed to solve with frontend dockerfile.v0: ");
        let message = message.trim_start_matches("failed to solve: ").trim_start_matches("failed to create LLB definition: ");
        let message =
            message.trim_start_matches("failed to build LLB: ").replace("dockerfile parse error line ", &format!("{}:", self.dockerfile));
        match failed {
            Some(step) => {
                let mut output: Vec<String> = step.last.drain(..).collect();
                output.extend((!step.rest.is_empty()).then(|| std::mem::take(&mut step.rest)));
                EngineError::BuildFailed { tag: self.tag.clone(), message: format!("the step `{}` failed: {message}", step.name), output }
            }
            None => EngineError::BuildFailed { tag: self.tag.clone(), message, output: Vec::new() },
        }
    }
}

/// Seconds since an arbitrary time.
fn moment(message: &[u8]) -> f64 {
    fields(message).into_iter().fold(0.0, |sum, (field, value)| match field {
        1 => sum + value.number() as f64,
        2 => sum + value.number() as f64 / 1e9,
        _ => sum,
    })
}

#[cfg(test)]
mod tests {
    use super::{super::protobuf::Message, *};

    fn vertex(digest: &str, name: &str) -> Message {
        Message::default().bytes(1, digest.as_bytes()).bytes(3, name.as_bytes())
    }

    fn at(seconds: u64) -> Vec<u8> {
        Message::default().number(1, seconds).0
    }

    fn status(field: u64, message: Message) -> Vec<u8> {
        Message::default().message(field, &message.0).0
    }

    #[test]
    fn each_step_reports_its_beginning_its_output_and_its_end_once() {
        let mut trace = Trace::new("x".into(), "Dockerfile".into());
        let log = |text: &str| status(3, Message::default().bytes(1, b"b").bytes(4, text.as_bytes()));
        let all = [
            status(1, vertex("i", "[internal] load").message(5, &at(1)).message(6, &at(2))),
            status(1, vertex("a", "[1/2] FROM a").number(4, 1).message(5, &at(1))),
            status(1, vertex("b", "[2/2] RUN x").message(5, &at(10))),
            status(1, vertex("b", "[2/2] RUN x").message(5, &at(10))),
            log("10%\r20%\r99%\nout\npar"),
            log("t\n"),
            status(1, vertex("b", "[2/2] RUN x").message(5, &at(10)).message(6, &at(13))),
        ];
        let lines: Vec<String> = all.iter().flat_map(|message| trace.lines(message)).collect();
        assert_eq!(lines, ["[1/2] FROM a: cached", "[2/2] RUN x", "99%", "out", "part", "[2/2] RUN x: done in 3.0 s"]);
    }

    #[test]
    fn a_failure_names_the_step_and_keeps_its_output() {
        let mut trace = Trace::new("x".into(), "api.Dockerfile".into());
        trace.lines(&status(1, vertex("a", "[3/3] RUN y").message(5, &at(1))));
        trace.lines(&status(3, Message::default().bytes(1, b"a").bytes(4, b"one\ntwo")));
        trace.lines(&status(1, vertex("a", "[3/3] RUN y").message(5, &at(1)).message(6, &at(2)).bytes(7, b"exit code: 7")));
        let EngineError::BuildFailed { message, output, .. } = trace.failure("failed to solve: exit code: 7") else { panic!() };
        assert_eq!((message.as_str(), output.join(" ")), ("the step `[3/3] RUN y` failed: exit code: 7", "one".to_owned()));
        let EngineError::BuildFailed { message, .. } = Trace::new("x".into(), "api.Dockerfile".into())
            .failure("failed to solve with frontend dockerfile.v0: failed to create LLB definition: dockerfile parse error line 4: unknown flag: link")
        else {
            panic!()
        };
        assert_eq!(message, "api.Dockerfile:4: unknown flag: link");
    }
}
