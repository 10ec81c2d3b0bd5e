//! Reproducible random numbers: each follows from a seed and a number.

/// A good mix of both (`splitmix64`).
pub fn mix(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Whether a fault affects a connection. `chance` is out of 10 000.
pub fn decides(seed: u64, connection: u64, chance: u64) -> bool {
    mix(seed, connection) % 10_000 < chance
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_follows_from_the_seed_and_the_connection() {
        let decide = |seed| (0..1000).map(|number| decides(seed, number, 3000)).collect::<Vec<_>>();
        assert_eq!(decide(7), decide(7));
        assert_ne!(decide(7), decide(8));
        let hits = decide(7).into_iter().filter(|hit| *hit).count();
        assert!((230..370).contains(&hits), "{hits}");
        assert!((0..1000).all(|number| !decides(7, number, 0) && decides(7, number, 10_000)));
    }
}
