//! Builds `crates/holder`, the small static program that faults need, with the compiler alone: it has no dependencies, so
//! neither cargo's lock nor a network is in the way. Its bytes are embedded in the binary.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

fn main() {
    println!("cargo::rerun-if-changed=crates/holder/src");
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo says where")).join("holder");
    // Containers are Linux; elsewhere there is nothing to hold with, and faults say so.
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        fs::write(&out, []).expect("the output directory can be written");
        return;
    }
    if let Err(reason) = build(&out) {
        // A check of the sources must not fail where no static C library is installed.
        println!("cargo::warning=the holder could not be built, so faults that need one will be refused: {reason}");
        fs::write(&out, []).expect("the output directory can be written");
    }
}

fn build(out: &Path) -> Result<(), String> {
    let variable = |name: &str| env::var(name).map_err(|_| format!("{name} is not set"));
    let mut rustc = Command::new(variable("RUSTC")?);
    rustc
        .args(["--edition", "2024", "--crate-name", "holder", "--crate-type", "bin", "--cap-lints", "allow"])
        .args([
            "-C",
            "target-feature=+crt-static",
            "-C",
            "opt-level=2",
            "-C",
            "panic=abort",
            "-C",
            "strip=symbols",
            "-C",
            "relocation-model=static",
        ])
        .args(["--target", &variable("TARGET")?])
        .arg("-o")
        .arg(out)
        .arg("crates/holder/src/main.rs");
    if let Ok(linker) = variable("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={linker}"));
    }
    let output = rustc.output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).replace('\n', " ")) }
}
