//! Makes release builds smaller where the linker can: symbols are left out, equal functions, of which generic code has many, are kept
//! once, and relocations are packed where the C library is built in.
//!
//! Rust's own lld can do both, and is what rustc links with on most machines; whether it does is tried rather than guessed. Builds for
//! tests stay as they are.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

const FOLD: &str = "-Wl,--icf=all";
/// `strip = "symbols"` of the manifest does not reach this program: cargo passes `strip=debuginfo` to a package of which the manifest
/// overrides a part of the profile, as it does with this one's `opt-level`.
const STRIP: &str = "-Wl,--strip-all";
/// Needs a loader that knows them. The built-in one of musl does since 1.2.4; that of another machine may not.
const PACK: &str = "-Wl,-z,pack-relative-relocs";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if !is("PROFILE", "release") || !is("CARGO_CFG_TARGET_OS", "linux") {
        return;
    }
    // Who asks for debug information, as `CARGO_PROFILE_RELEASE_DEBUG=1` does, keeps it.
    if is("DEBUG", "false") {
        println!("cargo::rustc-link-arg-bin=devenv={STRIP}");
    }
    if linked_with(FOLD).is_some() {
        println!("cargo::rustc-link-arg-bin=devenv={FOLD}");
    }
    let runs = |program: PathBuf| Command::new(program).status().is_ok_and(|status| status.success());
    if is("CARGO_CFG_TARGET_ENV", "musl") && linked_with(PACK).is_some_and(runs) {
        println!("cargo::rustc-link-arg-bin=devenv={PACK}");
    }
}

/// A program that is linked with the argument, as cargo will link this one; nothing if the linker refuses it.
fn linked_with(argument: &str) -> Option<PathBuf> {
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let directory = variable("OUT_DIR");
    let source = Path::new(&directory).join("empty.rs");
    fs::write(&source, "fn main() {}\n").ok()?;
    let mut rustc = Command::new(variable("RUSTC"));
    rustc.args(["--edition", "2024", "--target", &variable("TARGET"), "--out-dir", &directory]).arg(&source);
    rustc.args(variable("CARGO_ENCODED_RUSTFLAGS").split('\x1f').filter(|flag| !flag.is_empty()));
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={linker}"));
    }
    rustc.arg("-C").arg(format!("link-arg={argument}"));
    rustc.output().is_ok_and(|output| output.status.success()).then(|| Path::new(&directory).join("empty"))
}
