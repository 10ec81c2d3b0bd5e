//! The small static programs that devenv puts into containers, as bytes. `build.rs` makes and compresses them.
//!
//! The engine puts the launcher into containers, and `src/faults` the fault agent. Empty if one could not be built.

use std::{io::Read, sync::LazyLock};

/// Starts before a container's program if its variables contain secrets (`crates/launcher`).
pub fn launcher() -> &'static [u8] {
    static PROGRAM: LazyLock<Vec<u8>> = LazyLock::new(|| unpacked(include_bytes!(concat!(env!("OUT_DIR"), "/launcher"))));
    &PROGRAM
}

/// Works in containers' namespaces, for faults (`crates/fault-agent`).
pub fn fault_agent() -> &'static [u8] {
    static PROGRAM: LazyLock<Vec<u8>> = LazyLock::new(|| unpacked(include_bytes!(concat!(env!("OUT_DIR"), "/fault-agent"))));
    &PROGRAM
}

/// The bytes that `build.rs` compressed.
fn unpacked(packed: &[u8]) -> Vec<u8> {
    let mut program = Vec::new();
    if !packed.is_empty() {
        flate2::read::ZlibDecoder::new(packed).read_to_end(&mut program).expect("build.rs compressed it");
    }
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_whole_after_it_was_unpacked_and_nothing_if_it_was_not_built() {
        assert!(unpacked(b"").is_empty());
        for program in [launcher(), fault_agent()].into_iter().filter(|program| !program.is_empty()) {
            assert!(program.starts_with(b"\x7fELF"));
            // The table of sections is what linkers write last.
            let offset = u64::from_le_bytes(program[0x28..0x30].try_into().unwrap());
            let (size, count) = (u64::from(program[0x3a]), u64::from(program[0x3c]));
            assert_eq!(program.len() as u64, offset + size * count);
        }
    }
}
