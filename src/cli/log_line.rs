//! Formats a log line for people: each service in its own colour, and JSON as text.

use anstyle::{AnsiColor, Style};
use devenv_api::{LogLine, LogStream};
use serde_json::{Map, Value};

use super::printer::{BAD, DIM, GOOD, WARN, paint};

const COLOURS: [AnsiColor; 6] =
    [AnsiColor::Cyan, AnsiColor::Green, AnsiColor::Yellow, AnsiColor::Blue, AnsiColor::Magenta, AnsiColor::BrightCyan];
/// The names that common loggers use for these fields.
const LEVEL: &[&str] = &["level", "severity", "lvl", "levelname", "log.level"];
const MESSAGE: &[&str] = &["msg", "message", "event", "@message", "MESSAGE"];
/// Every line has a time already.
const TIME: &[&str] = &["time", "timestamp", "ts", "@timestamp", "asctime"];

/// The services in the order of their first line, which determines their colours.
#[derive(Default)]
pub(super) struct Lines {
    services: Vec<String>,
    width: usize,
}

impl Lines {
    pub(super) fn render(&mut self, line: &LogLine) -> String {
        let index = self.services.iter().position(|known| *known == line.service).unwrap_or_else(|| {
            self.services.push(line.service.clone());
            self.width = self.width.max(line.service.len());
            self.services.len() - 1
        });
        let style = Style::new().fg_color(Some(COLOURS[index % COLOURS.len()].into()));
        let bar = match line.stream {
            LogStream::Stdout => '|',
            LogStream::Stderr => '!',
        };
        let text = structured(&line.text).unwrap_or_else(|| line.text.clone());
        format!("{} {} {text}", paint(style, format_args!("{:width$}", line.service, width = self.width)), paint(DIM, bar))
    }
}

/// A JSON object as level, message and fields; `None` for other text, or without a message.
fn structured(text: &str) -> Option<String> {
    if !text.starts_with('{') {
        return None;
    }
    let mut fields: Map<String, Value> = serde_json::from_str(text).ok()?;
    let mut take = |names: &[&str]| names.iter().find_map(|name| fields.shift_remove(*name));
    let message = take(MESSAGE)?;
    let level = take(LEVEL).map(|level| level_word(&level));
    while take(TIME).is_some() {}
    let mut words = Vec::new();
    if let Some(level) = level {
        words.push(paint(level_style(&level), format_args!("{level:<5}")));
    }
    words.push(plain(&message));
    flatten("", &Value::Object(fields), &mut words);
    Some(words.join(" "))
}

/// Fields as `name=value`; nested fields with their path.
fn flatten(path: &str, value: &Value, words: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                flatten(&path, value, words);
            }
        }
        Value::String(text) if text.contains([' ', '"', '\n']) => words.push(format!("{}{text:?}", paint(DIM, format_args!("{path}=")))),
        other => words.push(format!("{}{}", paint(DIM, format_args!("{path}=")), plain(other))),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The numeric levels of Bunyan and pino.
fn level_word(level: &Value) -> String {
    let word = match level.as_u64() {
        Some(number) => match number {
            0..20 => "trace",
            20..30 => "debug",
            30..40 => "info",
            40..50 => "warn",
            50..60 => "error",
            _ => "fatal",
        }
        .to_owned(),
        None => plain(level),
    };
    word.to_uppercase()
}

fn level_style(level: &str) -> Style {
    match level {
        "ERROR" | "FATAL" | "CRITICAL" | "PANIC" => BAD,
        "WARN" | "WARNING" => WARN,
        "INFO" => GOOD,
        _ => DIM,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(text: &str) -> String {
        anstream::adapter::strip_str(text).to_string()
    }

    #[test]
    fn lines_are_aligned_and_the_stream_is_a_sign() {
        let line = |service: &str, stream, text: &str| LogLine {
            time: String::new(),
            service: service.to_owned(),
            stream,
            text: text.to_owned(),
            run: 1,
        };
        let mut lines = Lines::default();
        let given = [line("cache", LogStream::Stdout, "a"), line("db", LogStream::Stderr, "b"), line("cache", LogStream::Stdout, "c")];
        let text: Vec<String> = given.iter().map(|line| stripped(&lines.render(line))).collect();
        assert_eq!(text, ["cache | a", "db    ! b", "cache | c"]);
    }

    #[test]
    fn a_json_log_line_is_shown_as_text_for_every_known_logger() {
        let cases = [
            (r#"{"level":"info","time":"x","msg":"listening","port":8080}"#, "INFO  listening port=8080"),
            (
                r#"{"level":50,"time":1,"pid":7,"msg":"no reply","err":{"code":"ECONNREFUSED","text":"a b"}}"#,
                "ERROR no reply pid=7 err.code=ECONNREFUSED err.text=\"a b\"",
            ),
            (r#"{"timestamp":"x","severity":"WARNING","message":"slow","trace_id":"ab"}"#, "WARNING slow trace_id=ab"),
            (r#"{"event":"started"}"#, "started"),
        ];
        for (text, expected) in cases {
            assert_eq!(structured(text).map(|text| stripped(&text)).as_deref(), Some(expected));
        }
        for text in ["plain", "{not json", r#"{"a":1}"#, "[1]"] {
            assert_eq!(structured(text), None, "{text}");
        }
    }
}
