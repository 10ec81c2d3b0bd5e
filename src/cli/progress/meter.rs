//! PURE: the progress of something with a size, such as a pull: a bar, the rate, and the remaining time.

use std::time::Duration;

/// The size of a bar, in columns.
const BAR: u64 = 16;
/// A rate over the first moments is meaningless.
const FIRST: Duration = Duration::from_millis(700);

/// The amount done, in bytes or another unit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Meter {
    done: u64,
    total: u64,
    unit: String,
    /// The amount at the first look, which does not count for the rate.
    first: u64,
}

impl Meter {
    /// Parses a message that ends with `120/400 bytes`; returns the words before it too.
    pub(super) fn of(message: &str, before: Option<&Self>) -> Option<(Self, String)> {
        let mut words: Vec<&str> = message.split_whitespace().collect();
        let unit = words.pop()?;
        let (done, total) = words.pop()?.split_once('/')?;
        let (done, total): (u64, u64) = (done.parse().ok()?, total.parse().ok()?);
        let known = before.filter(|before| before.unit == unit && before.total == total && before.done <= done);
        let first = known.map_or(done, |before| before.first);
        (total > 0).then(|| (Self { done: done.min(total), total, unit: unit.to_owned(), first }, words.join(" ")))
    }

    /// `[####------------] 120.0 MB of 400.0 MB, 11.0 MB/s, 26 s left`, the longest form of it that fits.
    pub(super) fn text(&self, elapsed: Duration, columns: usize) -> String {
        let filled = self.done.saturating_mul(BAR) / self.total;
        let bar = format!("[{}{}]", "#".repeat(filled as usize), "-".repeat((BAR - filled) as usize));
        let amounts = format!("{} of {}", self.amount(self.done), self.amount(self.total));
        let percent = format!("{} %", self.done.saturating_mul(100) / self.total);
        let mut forms = Vec::new();
        let moved = self.done.saturating_sub(self.first);
        if elapsed >= FIRST && moved > 0 {
            let rate = moved as f64 / elapsed.as_secs_f64();
            let left = ((self.total - self.done) as f64 / rate).ceil() as u64;
            let (rate, left) = (self.amount(rate as u64), time(left));
            forms.push(format!("{bar} {amounts}, {rate}/s, {left} left"));
            forms.push(format!("{bar} {percent}, {rate}/s, {left} left"));
            forms.push(format!("{percent}, {rate}/s, {left} left"));
        } else {
            forms.push(format!("{bar} {amounts}"));
        }
        forms.push(format!("{bar} {percent}"));
        forms.into_iter().find(|form| form.len() <= columns).unwrap_or(percent)
    }

    fn amount(&self, number: u64) -> String {
        if self.unit == "bytes" {
            return bytesize::ByteSize(number).display().si().to_string();
        }
        format!("{number} {}", self.unit)
    }
}

/// `26 s`, `3 min 20 s`.
pub(super) fn time(seconds: u64) -> String {
    match seconds {
        0..=99 => format!("{seconds} s"),
        100..=5999 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meter_shows_rate_and_rest_as_far_as_there_is_room() {
        let (first, words) = Meter::of("Downloading 100000000/400000000 bytes", None).unwrap();
        assert_eq!(words, "Downloading");
        assert_eq!(first.text(Duration::from_secs(2), 80), "[####------------] 100.0 MB of 400.0 MB");
        let (later, _) = Meter::of("Downloading 200000000/400000000 bytes", Some(&first)).unwrap();
        let after = Duration::from_secs(10);
        assert_eq!(later.text(after, 80), "[########--------] 200.0 MB of 400.0 MB, 10.0 MB/s, 20 s left");
        assert_eq!(later.text(after, 50), "[########--------] 50 %, 10.0 MB/s, 20 s left");
        assert_eq!(later.text(after, 30), "50 %, 10.0 MB/s, 20 s left");
        assert_eq!(later.text(after, 5), "50 %");
        let (layers, _) = Meter::of("Extracting 3/12 layers", None).unwrap();
        assert_eq!(layers.text(after, 80), "[####------------] 3 layers of 12 layers");
    }

    #[test]
    fn what_has_no_size_is_no_meter() {
        for message in ["", "bytes", "waiting for db", "Downloading 1/0 bytes", "a/b bytes", "step 3/x of 4"] {
            assert_eq!(Meter::of(message, None), None, "{message}");
        }
        let (meter, _) = Meter::of("x 9/4 bytes", None).unwrap();
        assert_eq!(meter.text(Duration::ZERO, 80), "[################] 4 B of 4 B");
    }

    #[test]
    fn times_are_short() {
        assert_eq!([time(5), time(99), time(200), time(7300)], ["5 s", "99 s", "3 min 20 s", "2 h 1 min"]);
    }
}
