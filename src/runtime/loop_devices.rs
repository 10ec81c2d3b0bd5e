//! Volumes with a file system of their own: a file in the state directory, a loop device, ext4.
//!
//! Faults of disks need them: such a file system can be stopped or filled without harm to anything else. All of
//! it is on the engine's own host and needs root there; elsewhere the service is refused with that reason. The file is
//! the truth: a device that is gone after a boot is created again, and the file of a removed volume is removed too.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use devenv_files::Durability;
use devenv_spec::Size;
use tokio::process::Command;

use crate::store::create_private;

/// The driver's options for a volume on a device of its own, which is created if it does not exist.
pub(crate) async fn options(directory: &Path, volume: &str, size: Size) -> Result<BTreeMap<String, String>, String> {
    if !rustix::process::geteuid().is_root() {
        return Err(
            "a faultable disk requires root on the engine's host, because devenv creates a loop device and a file system for it".to_owned()
        );
    }
    create_private(directory).map_err(|error| error.to_string())?;
    let image = image(directory, volume);
    if !image.exists() {
        let unfinished = devenv_files::unfinished(&image, devenv_files::PRIVATE)
            .map_err(|error| format!("cannot make a file in {}: {error}", directory.display()))?;
        let file = unfinished.path().to_string_lossy();
        unfinished.as_file().set_len(size.bytes()).map_err(|error| format!("cannot give {file} its size: {error}"))?;
        // Without the directory that a file system check would create: a database refuses a directory that is not empty.
        run("mkfs.ext4", &["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1", &file]).await?;
        // A server that does not run as root must be able to write there, and an engine sets the owner only of empty volumes.
        run("debugfs", &["-w", "-R", "set_inode_field <2> mode 040777", &file]).await?;
        drop(file);
        devenv_files::put_in_place(unfinished, &image, Durability::Synced)
            .map_err(|error| format!("cannot rename {}: {error}", image.display()))?;
    }
    let device = match attached(&image).await? {
        Some(device) => device,
        None => run("losetup", &["--find", "--show", &image.to_string_lossy()]).await?.trim().to_owned(),
    };
    Ok(BTreeMap::from([
        ("type".to_owned(), "ext4".to_owned()),
        ("device".to_owned(), device),
        ("o".to_owned(), "errors=remount-ro,nodiscard".to_owned()),
    ]))
}

/// Devices and files of removed volumes.
pub(crate) async fn sweep(directory: &Path, volumes: &[String]) {
    let Ok(files) = fs::read_dir(directory) else { return };
    for file in files.flatten() {
        let path = file.path();
        // Its maker puts it in place or removes it.
        if devenv_files::is_unfinished(&path) {
            continue;
        }
        let Some(name) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
        if volumes.iter().any(|volume| volume == name) {
            continue;
        }
        if let Err(reason) = remove(&path).await {
            tracing::warn!(reason, path = %path.display(), "Cannot remove an orphaned disk.");
        }
    }
}

/// The disk of a removed volume whose name is used again: the next one begins empty.
pub(crate) async fn discard(directory: &Path, volume: &str) -> Result<(), String> {
    let image = image(directory, volume);
    if image.exists() { remove(&image).await } else { Ok(()) }
}

async fn remove(image: &Path) -> Result<(), String> {
    if let Some(device) = attached(image).await? {
        run("losetup", &["--detach", &device]).await?;
    }
    fs::remove_file(image).map_err(|error| error.to_string())
}

/// The device of a volume, as the kernel reports it.
pub(crate) fn device_of(directory: &Path, volume: &str) -> Option<String> {
    let image = fs::canonicalize(image(directory, volume)).ok()?;
    fs::read_dir("/sys/block").ok()?.flatten().find_map(|block| {
        let backing = fs::read_to_string(block.path().join("loop/backing_file")).ok()?;
        (Path::new(backing.trim_end()) == image).then(|| format!("/dev/{}", block.file_name().to_string_lossy()))
    })
}

async fn attached(image: &Path) -> Result<Option<String>, String> {
    let output = run("losetup", &["--noheadings", "--output", "NAME", "--associated", &image.to_string_lossy()]).await?;
    Ok(output.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned))
}

fn image(directory: &Path, volume: &str) -> PathBuf {
    directory.join(format!("{volume}.img"))
}

async fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| format!("cannot run {program}: {error} (faultable disks need util-linux and e2fsprogs on the host)"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
