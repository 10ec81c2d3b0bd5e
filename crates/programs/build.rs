//! Builds the small static programs for containers, with the compiler alone: they have no dependencies, so
//! neither cargo's lock file nor a network is needed. Their bytes are compressed and embedded in the binary: most of each is the
//! C library, of which less than half is left.

use std::{
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

/// By the names of their crates, with what is missing without them.
const PROGRAMS: [(&str, &str); 2] =
    [("fault-agent", "faults that need it are refused"), ("launcher", "containers with secret variables will be refused")];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    for (name, loss) in PROGRAMS {
        println!("cargo::rerun-if-changed=../{name}/src");
        let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it")).join(name);
        // Containers are Linux; on other systems they are not built.
        if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
            fs::write(&out, []).expect("the output directory is writable");
            continue;
        }
        let built = build(name, &out).and_then(|()| compress(&out).map_err(|error| error.to_string()));
        if let Err(reason) = built {
            // A check of the sources must not fail if no static C library is installed.
            println!("cargo::warning=THIS DEVENV WILL BE INCOMPLETE: the {name} could not be built, so {loss}");
            println!(
                "cargo::warning=install a static C library (Debian and Ubuntu: libc6-dev, Fedora: glibc-static) and build again: {reason}"
            );
            // The file does not exist, so every build tries again.
            println!("cargo::rerun-if-changed={}.missing", out.display());
            fs::write(&out, []).expect("the output directory is writable");
        }
    }
}

fn build(name: &str, out: &Path) -> Result<(), String> {
    let variable = |name: &str| env::var(name).map_err(|_| format!("{name} is not set"));
    let mut rustc = Command::new(variable("RUSTC")?);
    rustc
        .args(["--edition", "2024", "--crate-name", &name.replace('-', "_"), "--crate-type", "bin", "--cap-lints", "allow"])
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
        .arg(format!("../{name}/src/main.rs"));
    if let Ok(linker) = variable("RUSTC_LINKER") {
        rustc.arg("-C").arg(format!("linker={linker}"));
    }
    let output = rustc.output().map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).replace('\n', " ")) }
}

/// Replaces a file by its compressed bytes.
fn compress(path: &Path) -> io::Result<()> {
    let program = fs::read(path)?;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&program)?;
    fs::write(path, encoder.finish()?)
}
