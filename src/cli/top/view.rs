//! PURE: what `top` shows, and what keys do to it.

use std::{
    cell::Cell,
    collections::{HashMap, VecDeque},
};

use anstream::adapter::strip_str;
use anstyle::Style;
use bytesize::ByteSize;
use devenv_api::{Event, LogLine, Metrics, Service, Status};

use super::keys::Key;
use crate::cli::{
    printer::{BOLD, DIM, NAME, paint},
    table,
    terminal::visible,
};

/// Points of a sparkline.
const POINTS: usize = 16;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
/// Lines of output that are kept.
const KEPT: usize = 1000;
/// Rows that the output has at least, however many services there are.
const LEAST_OUTPUT: usize = 4;
const HELP: &str = "↑↓ select  r restart  s stop  u start  / filter  a all output  e events  q quit";
/// For terminals that have no room for the words.
const SHORT_HELP: &str = "↑↓ r restart  s stop  u start  / filter  a all  e events  q";
/// Columns of a wide terminal.
const WIDE: usize = 84;
/// Points of a sparkline in a narrow one.
const FEW_POINTS: usize = 6;

/// What a key asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Action {
    Quit,
    /// `restart`, `stop` or `start`, and the service.
    Change(&'static str, String),
}

pub(super) struct View {
    status: Status,
    usage: HashMap<String, Usage>,
    selected: usize,
    output: VecDeque<(String, String)>,
    events: VecDeque<(String, String)>,
    shows_events: bool,
    /// The first service of the last frame, and how many it shows: for clicks.
    shown: Cell<(usize, usize)>,
    shows_all: bool,
    filter: String,
    is_typing: bool,
    message: String,
}

/// What a service uses.
#[derive(Default)]
struct Usage {
    /// Fractions of its limit, the newest last.
    cpu: VecDeque<f64>,
    memory: f64,
}

impl View {
    pub(super) fn new(status: Status) -> Self {
        Self {
            status,
            usage: HashMap::new(),
            selected: 0,
            output: VecDeque::new(),
            events: VecDeque::new(),
            shows_events: false,
            shown: Cell::default(),
            shows_all: false,
            filter: String::new(),
            is_typing: false,
            message: String::new(),
        }
    }

    pub(super) fn update(&mut self, status: Status) {
        let selected = self.service().map(|service| service.name.clone());
        self.status = status;
        let place = self.status.services.iter().position(|service| Some(&service.name) == selected.as_ref());
        self.selected = place.unwrap_or(self.selected.min(self.status.services.len().saturating_sub(1)));
    }

    pub(super) fn measure(&mut self, metrics: &Metrics) {
        for sample in &metrics.samples {
            let usage = match sample.name.as_str() {
                "devenv_service_cpu_ratio" | "devenv_service_memory_bytes" => self.usage.entry(sample.service.clone()).or_default(),
                _ => continue,
            };
            if sample.name.ends_with("_ratio") {
                usage.cpu.push_back(sample.value);
                if usage.cpu.len() > POINTS {
                    usage.cpu.pop_front();
                }
            } else {
                usage.memory = sample.value;
            }
        }
    }

    pub(super) fn add(&mut self, line: &LogLine) {
        keep(&mut self.output, &line.service, &line.text);
    }

    pub(super) fn happened(&mut self, event: &Event) {
        // Of the time, what a day needs.
        let time = event.time.get(11..19).unwrap_or_default();
        keep(&mut self.events, event.service.as_deref().unwrap_or_default(), &format!("{time} {}", event.message.replace('\n', " ")));
    }

    pub(super) fn tell(&mut self, message: String) {
        self.message = message;
    }

    /// The service whose output is shown; `None` for all.
    pub(super) fn wanted_output(&self) -> Option<String> {
        if self.shows_all { None } else { self.service().map(|service| service.name.clone()) }
    }

    pub(super) fn forget_output(&mut self) {
        self.output.clear();
    }

    pub(super) fn press(&mut self, key: Key) -> Option<Action> {
        if self.is_typing {
            match key {
                Key::Enter => self.is_typing = false,
                Key::Escape => {
                    self.is_typing = false;
                    self.filter.clear();
                }
                Key::Backspace => drop(self.filter.pop()),
                Key::Character(character) => self.filter.push(character),
                Key::Up | Key::Down | Key::Click(_) => {}
            }
            return None;
        }
        let last = self.status.services.len().saturating_sub(1);
        let verb = match key {
            Key::Character('q') => return Some(Action::Quit),
            Key::Up | Key::Character('k') => {
                self.selected = self.selected.saturating_sub(1);
                return None;
            }
            Key::Down | Key::Character('j') => {
                self.selected = (self.selected + 1).min(last);
                return None;
            }
            Key::Click(row) => {
                let (first, count) = self.shown.get();
                // The title is above them.
                if let Some(at) = row.checked_sub(1).filter(|at| *at < count) {
                    self.selected = (first + at).min(last);
                }
                return None;
            }
            Key::Character('e') => {
                self.shows_events = !self.shows_events;
                return None;
            }
            Key::Character('/') => {
                self.is_typing = true;
                return None;
            }
            Key::Character('a') => {
                self.shows_all = !self.shows_all;
                return None;
            }
            Key::Escape => {
                self.filter.clear();
                return None;
            }
            Key::Character('r') => "restart",
            Key::Character('s') => "stop",
            Key::Character('u') => "start",
            Key::Enter | Key::Backspace | Key::Character(_) => return None,
        };
        let service = self.service()?.name.clone();
        self.message = format!("{verb} {service}…");
        Some(Action::Change(verb, service))
    }

    /// The lines of the whole screen.
    pub(super) fn frame(&self, columns: usize, rows: usize) -> Vec<String> {
        let mut lines = vec![self.title(columns)];
        let most = rows.saturating_sub(LEAST_OUTPUT + 3).max(1);
        let first = (self.selected + 1).saturating_sub(most);
        let width = self.status.services.iter().map(|service| service.name.chars().count()).max().unwrap_or(0).clamp(4, 24);
        for (index, service) in self.status.services.iter().enumerate().skip(first).take(most) {
            lines.push(self.row(service, index == self.selected, width, columns));
        }
        lines.push(self.heading(columns));
        let room = rows.saturating_sub(lines.len() + 1);
        let wanted = self.filter.to_lowercase();
        let matches = |(service, text): &&(String, String)| {
            wanted.is_empty() || text.to_lowercase().contains(&wanted) || service.to_lowercase().contains(&wanted)
        };
        self.shown.set((first, lines.len() - 2));
        let source = if self.shows_events { &self.events } else { &self.output };
        let newest: Vec<&(String, String)> = source.iter().rev().filter(matches).take(room).collect();
        lines.extend(newest.into_iter().rev().map(|(service, text)| {
            let text = if self.shows_all && !self.shows_events { format!("{service}: {text}") } else { text.clone() };
            cut(&text, columns)
        }));
        lines.resize(rows.saturating_sub(1).max(1), String::new());
        let help = if columns < WIDE { SHORT_HELP } else { HELP };
        let last = if self.message.is_empty() { help.to_owned() } else { format!("{}   {help}", visible(&self.message)) };
        lines.push(paint(DIM, cut(&last, columns)));
        lines.truncate(rows.max(1));
        lines
    }

    fn title(&self, columns: usize) -> String {
        let profile = self.status.profile.as_ref().map(|profile| format!(", {profile}")).unwrap_or_default();
        let faults = self.status.faults.len();
        let faults = if faults == 0 { String::new() } else { format!(", active faults: {faults}") };
        let text = format!("{}{profile}: {}{faults}", self.status.environment, self.status.phase);
        paint(BOLD, cut(&visible(&text), columns))
    }

    fn row(&self, service: &Service, is_selected: bool, width: usize, columns: usize) -> String {
        let usage = self.usage.get(&service.name);
        let cpu = usage.and_then(|usage| usage.cpu.back()).map(|ratio| format!("{:.0} %", ratio * 100.0)).unwrap_or_default();
        let memory = usage.filter(|usage| usage.memory > 0.0).map(|usage| ByteSize(usage.memory as u64).to_string()).unwrap_or_default();
        let points = if columns < WIDE { FEW_POINTS } else { POINTS };
        let spark: String = usage.map(|usage| spark(&usage.cpu, points)).unwrap_or_default();
        let restarts = if service.restarts == 0 { String::new() } else { format!("restarts {}  ", service.restarts) };
        let about = service.reason.clone().or_else(|| service.urls.values().next().cloned()).unwrap_or_default();
        let name = format!("{} {:<width$} ", if is_selected { '▸' } else { ' ' }, visible(&service.name));
        let state = format!("{:<13}", service.state.to_string());
        let rest = format!("{cpu:>6} {spark:<points$} {memory:>10}  {restarts}{}", visible(&about).replace('\n', " "));
        let parts: [(String, Style); 3] = [
            (name, if is_selected { NAME.bold() } else { Style::new() }),
            (state, table::state_style(service.state)),
            (rest, Style::new()),
        ];
        let (mut line, mut left) = (String::new(), columns);
        for (text, style) in parts {
            let text = cut(&text, left);
            left -= text.chars().count();
            line.push_str(&paint(style, text));
        }
        line
    }

    fn heading(&self, columns: usize) -> String {
        let of = self.wanted_output().unwrap_or_else(|| "all services".to_owned());
        let of = if self.shows_events { "events (e: output)".to_owned() } else { format!("output of {of}") };
        let filter = match (self.is_typing, self.filter.as_str()) {
            (true, text) => format!(" filter: {text}▏"),
            (false, "") => String::new(),
            (false, text) => format!(" filter: {text} (Esc clears)"),
        };
        let text = format!("── {of}{filter} ");
        let line: String = text.chars().chain(std::iter::repeat('─')).take(columns).collect();
        paint(DIM, line)
    }

    fn service(&self) -> Option<&Service> {
        self.status.services.get(self.selected)
    }
}

/// The newest of these.
fn spark(ratios: &VecDeque<f64>, points: usize) -> String {
    let bar = |ratio: &f64| BARS[((ratio.clamp(0.0, 1.0) * 7.0).round() as usize).min(7)];
    ratios.iter().skip(ratios.len().saturating_sub(points)).map(bar).collect()
}

/// Without colours of a program, which would go on in the next line.
fn keep(lines: &mut VecDeque<(String, String)>, service: &str, text: &str) {
    let text = visible(&strip_str(text).to_string()).replace('\t', "    ");
    lines.push_back((service.to_owned(), text));
    if lines.len() > KEPT {
        lines.pop_front();
    }
}

fn cut(text: &str, columns: usize) -> String {
    text.chars().take(columns).collect()
}

#[cfg(test)]
mod tests {
    use devenv_api::Sample;

    use super::*;

    fn view() -> View {
        let service = |name: &str, state: &str| serde_json::json!({ "name": name, "kind": "process", "state": state, "restarts": 0, "ports": [], "urls": {}, "depends_on": {} });
        let status = serde_json::json!({
            "environment": "shop-default-1", "project": "/shop", "instance": "default", "profile": "shop", "phase": "ready",
            "services": [service("db", "ready"), service("web", "stopped")], "drift": [], "faults": [], "operations": [],
        });
        View::new(serde_json::from_value(status).unwrap())
    }

    fn line(service: &str, text: &str) -> LogLine {
        let line = serde_json::json!({ "time": "2026-01-01T00:00:00Z", "service": service, "stream": "stdout", "text": text, "run": 1 });
        serde_json::from_value(line).unwrap()
    }

    fn plain(lines: &[String]) -> Vec<String> {
        lines.iter().map(|line| strip_str(line).to_string()).collect()
    }

    #[test]
    fn a_frame_fits_any_terminal() {
        let mut view = view();
        for number in 0..50 {
            view.add(&line("db", &format!("line {number} {}", "x".repeat(300))));
        }
        for (columns, rows) in [(1, 1), (20, 3), (60, 10), (80, 24), (300, 80)] {
            let frame = plain(&view.frame(columns, rows));
            assert_eq!(frame.len(), rows, "{columns} x {rows}");
            assert!(frame.iter().all(|line| line.chars().count() <= columns), "{columns} x {rows}: {frame:#?}");
        }
        let frame = plain(&view.frame(80, 24));
        assert!(frame[0].contains("shop: ready") && frame[1].starts_with("▸ db") && frame[2].contains("stopped"), "{frame:#?}");
        assert!(frame.iter().any(|line| line.starts_with("line 49")), "{frame:#?}");
    }

    #[test]
    fn output_cannot_move_the_cursor() {
        let mut view = view();
        view.add(&line("db", "a\u{1b}[2Jb\u{1b}[31mc\rd"));
        let frame = view.frame(80, 12).join("");
        assert!(!frame.contains("\u{1b}[2J") && !frame.contains('\r') && frame.contains('c'), "{frame:?}");
    }

    #[test]
    fn keys_select_filter_and_act_on_the_selected_service() {
        let mut view = view();
        assert_eq!(view.press(Key::Down), None);
        assert_eq!(view.press(Key::Character('u')), Some(Action::Change("start", "web".to_owned())));
        assert_eq!(view.wanted_output().as_deref(), Some("web"));
        view.add(&line("web", "tick one"));
        view.add(&line("web", "tock two"));
        for key in [Key::Character('/'), Key::Character('q'), Key::Backspace, Key::Character('o'), Key::Character('c'), Key::Enter] {
            assert_eq!(view.press(key), None);
        }
        let frame = plain(&view.frame(80, 12)).join("\n");
        assert!(frame.contains("tock two") && !frame.contains("tick one"), "{frame}");
        assert_eq!(view.press(Key::Character('q')), Some(Action::Quit));
    }

    #[test]
    fn a_click_selects_the_service_of_its_row() {
        let mut view = view();
        view.frame(80, 24);
        for (row, wanted) in [(2, "web"), (0, "web"), (1, "db"), (3, "db"), (23, "db")] {
            assert_eq!(view.press(Key::Click(row)), None);
            assert_eq!(view.wanted_output().as_deref(), Some(wanted), "row {row}");
        }
        // Of a list that has scrolled.
        view.press(Key::Down);
        view.frame(80, 5);
        view.press(Key::Click(1));
        assert_eq!(view.wanted_output().as_deref(), Some("web"));
    }

    #[test]
    fn events_take_the_place_of_output_and_sixty_columns_show_the_essentials() {
        let mut view = view();
        view.add(&line("db", "tick"));
        let event = serde_json::json!({ "sequence": 1, "time": "2026-01-01T10:11:12.000000Z", "environment": "e", "service": "db", "kind": "service.ready", "message": "db is\nready\u{1b}[2J", "data": null });
        view.happened(&serde_json::from_value(event).unwrap());
        view.press(Key::Character('e'));
        let frame = plain(&view.frame(60, 12));
        assert!(
            frame.iter().any(|line| line.starts_with("10:11:12 db is ready")) && !frame.iter().any(|line| line == "tick"),
            "{frame:#?}"
        );
        assert!(frame.last().unwrap().ends_with('q') && !frame.join("").contains("\u{1b}[2J"), "{frame:#?}");
        view.press(Key::Character('e'));
        assert!(plain(&view.frame(60, 12)).iter().any(|line| line == "tick"));
    }

    #[test]
    fn usage_becomes_a_sparkline() {
        let mut view = view();
        let sample = |name: &str, value: f64| Sample {
            service: "db".to_owned(),
            name: name.to_owned(),
            labels: std::collections::BTreeMap::new(),
            value,
            unit: None,
        };
        for value in [0.0, 0.5, 1.0] {
            view.measure(&Metrics {
                samples: vec![sample("devenv_service_cpu_ratio", value), sample("devenv_service_memory_bytes", 1024.0)],
            });
        }
        assert!(plain(&view.frame(80, 12))[1].contains("100 % ▁▅█"), "{:?}", plain(&view.frame(80, 12)));
    }
}
