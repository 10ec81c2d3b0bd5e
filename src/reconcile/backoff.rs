//! How long to wait before a service that ended is started again. Pure: randomness is an argument.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// Doubles with each consecutive attempt, from `FIRST` to `LONGEST`; `chance`, from 0 to 1, subtracts up to a fifth.
pub(crate) fn delay(attempt: u32, chance: f64) -> Duration {
    let doubled = FIRST.saturating_mul(2u32.saturating_pow(attempt.min(20)));
    doubled.min(LONGEST).mul_f64(1.0 - 0.2 * chance.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_a_bound_and_chance_only_shortens() {
        assert_eq!(delay(0, 0.0), Duration::from_millis(100));
        assert_eq!(delay(3, 0.0), Duration::from_millis(800));
        assert_eq!(delay(60, 0.0), Duration::from_secs(30));
        assert_eq!(delay(3, 1.0), Duration::from_millis(640));
    }
}
