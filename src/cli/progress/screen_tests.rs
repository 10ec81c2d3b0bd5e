//! Frames on a simulated terminal, which wraps, scrolls and reflows like a real one.

use super::*;

/// The text on a terminal: lines that end, each as long as it was written, and the line that the cursor is in.
struct Terminal {
    lines: Vec<String>,
    columns: usize,
}

impl Terminal {
    fn new(columns: usize) -> Self {
        Self { lines: vec![String::new()], columns }
    }

    /// As the screen shows it: wrapped.
    fn shown(&self) -> Vec<String> {
        let wrapped = |line: &String| {
            let characters: Vec<char> = line.chars().collect();
            let rows: Vec<String> = characters.chunks(self.columns).map(|row| row.iter().collect()).collect();
            if rows.is_empty() { vec![String::new()] } else { rows }
        };
        self.lines.iter().flat_map(wrapped).collect()
    }

    fn write(&mut self, text: &str) {
        let text = text.replace("\r\n", "\n");
        let mut rest = text.as_str();
        while let Some(c) = rest.chars().next() {
            rest = &rest[c.len_utf8()..];
            match c {
                '\n' => self.lines.push(String::new()),
                '\r' => {}
                '\x1b' => {
                    let end = rest.find(|c: char| c.is_ascii_alphabetic()).unwrap();
                    let (count, command) = (&rest[1..end], &rest[end..=end]);
                    rest = &rest[end + 1..];
                    match command {
                        "A" => self.up(count.parse().unwrap()),
                        "J" => {}
                        "m" => {}
                        other => panic!("{other}"),
                    }
                }
                c => self.lines.last_mut().unwrap().push(c),
            }
        }
    }

    /// Up and erased: the cursor is in the first column, so rows of the screen go.
    fn up(&mut self, rows: usize) {
        assert_eq!(self.lines.last().map(String::as_str), Some(""), "the cursor is at the beginning of a line");
        let mut kept = self.shown();
        kept.truncate(kept.len() - 1 - rows);
        self.lines = kept;
        self.lines.push(String::new());
    }
}

fn rows(count: usize, length: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number}{}", "x".repeat(length - 1))).collect()
}

#[test]
fn a_frame_replaces_the_last_one_at_every_width_and_after_every_resize() {
    for columns in [12, 40, 60, 80, 200] {
        for later in [12, 40, 60, 80, 200] {
            let mut terminal = Terminal::new(columns);
            terminal.write("a line of before\r\n");
            let before = terminal.shown().len();
            let (text, drawn) = frame(&rows(3, 150), &[], "", columns);
            terminal.write(&text);
            assert_eq!(terminal.shown().len(), before + 3, "no row wraps at {columns}");
            terminal.columns = later;
            let before = Terminal { lines: vec!["a line of before".to_owned()], columns: later }.shown().len() + 1;
            let (text, _) = frame(&rows(2, 150), &drawn, "news", later);
            terminal.write(&text);
            let shown = terminal.shown();
            assert_eq!(shown.len(), before + 3, "{columns} to {later}: {shown:?}");
            assert_eq!(shown.iter().filter(|row| row.starts_with("0x")).count(), 1, "{columns} to {later}: {shown:?}");
            assert!(shown.iter().any(|row| row == "news"), "{shown:?}");
        }
    }
}

#[test]
fn a_screen_that_is_too_low_shows_what_is_not_over() {
    let line = |text: &str, is_over| Line { text: text.to_owned(), is_over };
    let lines = [line("a", true), line("b", false), line("c", true), line("d", false)];
    assert_eq!(fitting(&lines, 4, "*"), ["  a", "* b", "  c", "* d"]);
    assert_eq!(fitting(&lines, 3, "*"), ["* b", "* d", "  … and 2 more"]);
    assert_eq!(fitting(&lines, 2, "*"), ["* b", "  … and 3 more"]);
    assert_eq!(fitting(&lines, 1, "*"), ["  … and 4 more"]);
}

#[test]
fn text_is_cut_by_columns_and_colours_are_none() {
    let painted = "\x1b[31mred and long\x1b[0m";
    assert_eq!(cut(painted, 12), painted);
    assert_eq!(cut(painted, 8), "\x1b[31mred and…\x1b[0m");
    assert_eq!(width(&cut("日本語の名前", 6)), 5);
    assert_eq!(cut("short", 80), "short");
}
