//! PURE: how many users work at a time.

use std::time::Duration;

/// Stages that follow one another; the number of users changes evenly in each, and stays after the last.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Ramp(pub(super) Vec<Stage>);

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stage {
    pub(super) to: u32,
    pub(super) over: Duration,
}

impl Ramp {
    /// The users at this time, if `base` of them begin.
    pub(super) fn users(&self, base: u32, at: Duration) -> f64 {
        let (mut from, mut began) = (f64::from(base), Duration::ZERO);
        for stage in &self.0 {
            let to = f64::from(stage.to);
            let passed = at.saturating_sub(began);
            if passed < stage.over {
                return from + (to - from) * passed.as_secs_f64() / stage.over.as_secs_f64();
            }
            (from, began) = (to, began + stage.over);
        }
        from
    }

    /// Whether this user works at this time.
    pub(super) fn works(&self, number: u32, base: u32, at: Duration) -> bool {
        f64::from(number) < self.users(base, at)
    }

    pub(super) fn most(&self, base: u32) -> u32 {
        self.0.iter().map(|stage| stage.to).fold(base, u32::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_join_and_leave_evenly() {
        let seconds = Duration::from_secs;
        let ramp = Ramp(vec![Stage { to: 500, over: seconds(10) }, Stage { to: 0, over: seconds(5) }]);
        let users = |at| ramp.users(0, seconds(at)).round() as u32;
        assert_eq!([users(0), users(5), users(10), users(12), users(15), users(99)], [0, 250, 500, 300, 0, 0]);
        assert_eq!(ramp.most(8), 500);
        assert!(ramp.works(249, 0, seconds(5)) && !ramp.works(250, 0, seconds(5)));
        assert_eq!(Ramp::default().users(8, seconds(3)).round() as u32, 8);
    }
}
