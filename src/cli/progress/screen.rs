//! The lines that are redrawn in place on a terminal, for all operations that this process follows at the same time.
//!
//! There is one screen: each [`Live`](super::live::Live) is a scope on it. Pure functions make a frame from the rows and the
//! terminal's current size, so that nothing remains after a resize: rows are cut to its width, and rows that the terminal has wrapped
//! meanwhile are counted when the last frame is erased. Text from elsewhere goes above the rows ([`above`]).

use std::{
    io::Write,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

/// How often times and spinners are updated.
const FRAME: Duration = Duration::from_millis(100);
/// The longest row, however wide the terminal is.
const LONGEST: usize = 100;
const SPINNER: [&str; 10] = ["⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// One row, as it is to be drawn.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// Makes the text for a number of columns. It may contain colours.
    pub(super) text: String,
    pub(super) is_over: bool,
}

/// The current rows of a scope.
pub(super) trait Rows: Send {
    fn lines(&self, columns: usize) -> Vec<Line>;
}

pub(super) struct Screen(Mutex<State>);

#[derive(Default)]
struct State {
    scopes: Vec<(u64, Arc<Mutex<dyn Rows>>)>,
    next: u64,
    tick: usize,
    /// The lengths of the rows that are on the terminal, in columns.
    drawn: Vec<usize>,
}

static CURRENT: Mutex<Weak<Screen>> = Mutex::new(Weak::new());

/// A scope's place on the screen.
pub(super) struct Place {
    screen: Arc<Screen>,
    id: u64,
}

impl Place {
    pub(super) fn take(rows: Arc<Mutex<dyn Rows>>) -> Self {
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        let screen = current.upgrade().unwrap_or_else(|| {
            let screen = Arc::new(Screen(Mutex::default()));
            *current = Arc::downgrade(&screen);
            animate(Arc::downgrade(&screen));
            screen
        });
        let id = {
            let mut state = screen.state();
            state.next += 1;
            let id = state.next;
            state.scopes.push((id, rows));
            id
        };
        Self { screen, id }
    }

    /// Shows what has changed.
    pub(super) fn draw(&self) {
        self.screen.state().draw("", false);
    }

    pub(super) fn above(&self, text: &str) {
        self.screen.state().draw(text, false);
    }
}

impl Drop for Place {
    /// The last scope leaves its rows on the terminal; of others that end before it, the rows go above.
    fn drop(&mut self) {
        let mut state = self.screen.state();
        let columns = columns();
        let at = state.scopes.iter().position(|(id, _)| *id == self.id);
        let Some((_, rows)) = at.map(|at| state.scopes.remove(at)) else { return };
        let lines = rows.lock().unwrap_or_else(PoisonError::into_inner).lines(columns);
        let text: Vec<String> = lines.into_iter().map(|line| format!("  {}", cut(&line.text, columns.saturating_sub(2)))).collect();
        state.draw(&text.join("\n"), true);
    }
}

/// Prints text above the rows, if there are any on the terminal.
pub(in crate::cli) fn above(text: &str) -> bool {
    let screen = CURRENT.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
    let Some(screen) = screen else { return false };
    let mut state = screen.state();
    if state.scopes.is_empty() {
        return false;
    }
    state.draw(text, false);
    true
}

impl Screen {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends with the screen.
fn animate(screen: Weak<Screen>) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(FRAME);
            let Some(screen) = screen.upgrade() else { return };
            let mut state = screen.state();
            if !state.scopes.is_empty() {
                state.tick += 1;
                state.draw("", false);
            }
        }
    });
}

impl State {
    /// A scope that is locked is being changed, and draws itself afterwards.
    fn draw(&mut self, above: &str, wait: bool) {
        let (columns, height) = size();
        let mut lines = Vec::new();
        for (_, rows) in &self.scopes {
            match (rows.try_lock(), wait) {
                (Ok(rows), _) => lines.extend(rows.lines(row_width(columns) - 2)),
                (Err(_), true) => {}
                (Err(_), false) if above.is_empty() => return,
                (Err(_), false) => {}
            }
        }
        let mut rows = fitting(&lines, height.saturating_sub(1), SPINNER[self.tick % SPINNER.len()]);
        let mut above = above.to_owned();
        // anstream would take the movements of the cursor out together with the colours.
        if anstream::AutoStream::choice(&std::io::stderr()) == anstream::ColorChoice::Never {
            let plain = |text: &mut String| *text = anstream::adapter::strip_str(text).to_string();
            rows.iter_mut().chain([&mut above]).for_each(plain);
        }
        let (text, drawn) = frame(&rows, &self.drawn, &above, columns);
        self.drawn = drawn;
        // A terminal that cannot be written to is not an error.
        let mut stderr = std::io::stderr().lock();
        let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
    }
}

fn columns() -> usize {
    row_width(size().0)
}

/// The last column stays free: some terminals wrap when it is written.
fn row_width(columns: usize) -> usize {
    columns.saturating_sub(1).clamp(10, LONGEST)
}

fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

/// PURE: the rows that fit, unfinished ones first, and how many more there are.
fn fitting(lines: &[Line], height: usize, spinner: &str) -> Vec<String> {
    let row = |line: &Line| format!("{} {}", if line.is_over { " " } else { spinner }, line.text);
    if lines.len() <= height {
        return lines.iter().map(row).collect();
    }
    let room = height.saturating_sub(1);
    let open = lines.iter().filter(|line| !line.is_over).count();
    let mut over = room.saturating_sub(open);
    let chosen = lines.iter().filter(|line| {
        let shown = !line.is_over || over > 0;
        over -= usize::from(line.is_over && over > 0);
        shown
    });
    let mut rows: Vec<String> = chosen.take(room).map(row).collect();
    rows.push(format!("  … and {} more", lines.len() - rows.len()));
    rows
}

/// PURE: the text that replaces the last rows by the new ones, with text above them; and the lengths of the new rows.
fn frame(rows: &[String], drawn: &[usize], above: &str, columns: usize) -> (String, Vec<usize>) {
    // A terminal that became narrower has wrapped the rows that were drawn.
    let up: usize = drawn.iter().map(|length| length.div_ceil(columns.max(1)).max(1)).sum();
    let mut text = String::from("\r");
    if up > 0 {
        text.push_str(&format!("\x1b[{up}A"));
    }
    text.push_str("\x1b[J");
    for line in above.lines() {
        text.push_str(line);
        text.push_str("\r\n");
    }
    let mut lengths = Vec::with_capacity(rows.len());
    for row in rows {
        let row = cut(row, row_width(columns));
        lengths.push(width(&row));
        text.push_str(&row);
        text.push_str("\r\n");
    }
    (text, lengths)
}

/// PURE: the beginning of a text in at most this many columns, with an ellipsis if something is left out; colours are ended.
pub(super) fn cut(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let escapes = text.contains('\x1b');
    let (mut kept, mut used, mut escape) = (String::new(), 0, false);
    for c in text.chars() {
        if c == '\x1b' || escape {
            escape = c != 'm';
            kept.push(c);
            continue;
        }
        if used + columns_of(c) >= columns {
            break;
        }
        used += columns_of(c);
        kept.push(c);
    }
    kept + if escapes { "…\x1b[0m" } else { "…" }
}

/// PURE: the number of columns of a text, without its colours.
pub(super) fn width(text: &str) -> usize {
    anstream::adapter::strip_str(text).to_string().chars().map(columns_of).sum()
}

/// East Asian characters and emoji take two. The number must never be too small.
fn columns_of(c: char) -> usize {
    match u32::from(c) {
        0x300..=0x36f | 0x200b..=0x200f => 0,
        0x1100..=0x115f
        | 0x2e80..=0xa4cf
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0x1f300..=0x1faff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}

#[cfg(test)]
#[path = "screen_tests.rs"]
mod tests;
