//! The terminal while `top` has it: the alternate screen, without echo and cursor. It is given back when this is dropped.

use std::fmt::Write;

use anstream::adapter::strip_str;
use devenv_api::ApiError;
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use super::view::View;
use crate::cli::{
    failure::{Failure, internal},
    printer::Printer,
};

/// The alternate screen, no cursor, no wrapping of lines, and reports of clicks and of the wheel.
const ENTER: &str = "\u{1b}[?1049h\u{1b}[?25l\u{1b}[?7l\u{1b}[?1000h\u{1b}[?1006h";
const LEAVE: &str = "\u{1b}[?1006l\u{1b}[?1000l\u{1b}[?7h\u{1b}[?25h\u{1b}[?1049l";
/// For a terminal that does not report its size.
const USUAL_SIZE: (usize, usize) = (80, 24);

pub(super) struct Screen {
    before: Termios,
    drawn: Vec<String>,
    has_colours: bool,
}

impl Screen {
    pub(super) fn enter() -> Result<Self, ApiError> {
        let failed = |error: rustix::io::Errno| internal("cannot set up the terminal", error);
        let before = tcgetattr(rustix::stdio::stdin()).map_err(failed)?;
        let mut own = before.clone();
        // Ctrl-C stays a signal. Suspending would leave this screen on the terminal.
        own.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        own.special_codes[SpecialCodeIndex::VSUSP] = 0;
        own.special_codes[SpecialCodeIndex::VMIN] = 1;
        own.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &own).map_err(failed)?;
        let has_colours = std::env::var_os(crate::paths::NO_COLOR).is_none_or(|value| value.is_empty());
        // From here on dropping it gives the terminal back.
        let screen = Self { before, drawn: Vec::new(), has_colours };
        Printer::raw_output(ENTER.as_bytes()).map_err(|error| internal("cannot write to the terminal", error))?;
        Ok(screen)
    }

    /// Draws the view if it has changed, or the terminal has.
    pub(super) fn draw(&mut self, view: &View) -> Result<(), Failure> {
        let (columns, rows) = size();
        let frame = view.frame(columns, rows);
        if frame == self.drawn {
            return Ok(());
        }
        let mut text = String::from("\u{1b}[H");
        for (index, line) in frame.iter().enumerate() {
            let line = if self.has_colours { line.clone() } else { strip_str(line).to_string() };
            // Writing to a string cannot fail.
            let _ = write!(text, "{}{line}\u{1b}[K", if index == 0 { "" } else { "\r\n" });
        }
        text.push_str("\u{1b}[J");
        Printer::raw_output(text.as_bytes())?;
        self.drawn = frame;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone cannot be given back.
        let _ = Printer::raw_output(LEAVE.as_bytes());
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, &self.before);
    }
}

fn size() -> (usize, usize) {
    match tcgetwinsize(rustix::stdio::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (usize::from(size.ws_col), usize::from(size.ws_row)),
        _ => USUAL_SIZE,
    }
}
