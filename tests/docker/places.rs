//! devenv where CI jobs run it: in a container with the engine's socket mounted, and next to an engine in another container.

use std::process::Command;

#[test]
fn addresses_hold_in_a_container_wherever_its_engine_is() {
    let binary = std::env::var("DEVENV_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_devenv").to_owned());
    let ended = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/places.sh")).arg(binary).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(ended.status.success(), "{}\n{}", text(&ended.stdout), text(&ended.stderr));
}
