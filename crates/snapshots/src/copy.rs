//! Copies a volume: on the host where the engine's volumes are files of this host, otherwise in a helper container.
//!
//! On the host, the file system shares blocks if it can (a reflink takes no time and no space); otherwise the kernel copies.
//! Holes, owners, modes, times and extended attributes are kept, and one sync at the end makes the copy durable.
//! An interrupted copy is invalid: the caller does not publish the target's name until the copy is complete.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, lchown, symlink},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::fs::{AtFlags, CWD, Mode, SeekFrom, Timespec, Timestamps, XattrFlags};
use tokio_util::sync::CancellationToken;

use super::tree::{Entry, in_parallel, walk};
use devenv_engine::{CreatedMount, Engine, EngineError, HelperRun, Labels};

/// Between two pieces of a file a copy can be cancelled.
const PIECE: u64 = 64 << 20;

/// Source and target of a copy. The target exists; its content is replaced.
#[derive(Debug, Clone)]
pub struct VolumeCopy<'a> {
    /// Names in the engine.
    pub from: &'a str,
    pub to: &'a str,
    /// The volumes' directories on this host, if the engine is local and they can be reached.
    pub mountpoints: Option<(PathBuf, PathBuf)>,
    /// An image with `cp`, `find` and a shell, such as the service's own.
    pub image: &'a str,
    /// For the helper container.
    pub labels: Labels,
    /// Cancels a copy on the host; a helper container runs to its end.
    pub cancel: CancellationToken,
    /// Counts the bytes of a copy on the host; what a helper container has copied is not known.
    pub progress: Arc<CopyProgress>,
}

/// How far a copy is, in bytes of files. The total is 0 until it is known.
#[derive(Debug, Default)]
pub struct CopyProgress {
    done: AtomicU64,
    total: AtomicU64,
}

impl CopyProgress {
    /// The bytes copied so far, and the total once it is known.
    pub fn now(&self) -> Option<(u64, u64)> {
        let total = self.total.load(Ordering::Relaxed);
        (total > 0).then(|| (self.done.load(Ordering::Relaxed).min(total), total))
    }
}

/// What a copy on the host watches and reports.
#[derive(Clone, Default)]
struct Watched {
    cancel: CancellationToken,
    progress: Arc<CopyProgress>,
}

/// What was copied, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Bytes of files; unknown if a helper copied.
    pub bytes: Option<u64>,
    pub way: CopyWay,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyWay {
    /// Blocks are shared until one side changes them.
    Reflink,
    Host,
    Helper,
}

#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("cannot copy {from} to {to}")]
    Files {
        from: PathBuf,
        to: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot copy the volume {from}")]
    Engine {
        from: String,
        #[source]
        source: EngineError,
    },
    #[error("cannot copy the volume {from}: {message}")]
    Helper { from: String, message: String },
}

/// Makes `to` a copy of `from`. Nothing may write to either in the meantime.
pub async fn copy_volume(engine: &dyn Engine, copy: VolumeCopy<'_>) -> Result<Copied, CopyError> {
    if let Some((from, to)) = copy.mountpoints.clone().filter(|(from, to)| is_ours(from) && is_ours(to)) {
        let fail = {
            let (from, to) = (from.clone(), to.clone());
            move |source| CopyError::Files { from, to, source }
        };
        let watched = Watched { cancel: copy.cancel, progress: copy.progress };
        let work = move || {
            let copied = copy_tree_unless(&from, &to, |_| false, &watched)?;
            rustix::fs::syncfs(File::open(to)?)?;
            Ok(copied)
        };
        return match tokio::task::spawn_blocking(work).await {
            Ok(result) => result.map_err(fail),
            Err(error) => Err(fail(io::Error::other(error))),
        };
    }
    let script = "set -e; find /to -mindepth 1 -delete; cp -a --reflink=auto /from/. /to/ 2>/dev/null || cp -a /from/. /to/; sync";
    let helper = HelperRun {
        labels: copy.labels,
        image: copy.image.to_owned(),
        command: ["sh", "-c", script].map(str::to_owned).to_vec(),
        mounts: vec![
            CreatedMount::Volume { name: copy.from.to_owned(), target: "/from".to_owned(), read_only: true },
            CreatedMount::Volume { name: copy.to.to_owned(), target: "/to".to_owned(), read_only: false },
        ],
        user: Some("0:0".to_owned()),
        network: None,
    };
    let output = engine.run_helper(&helper).await.map_err(|source| CopyError::Engine { from: copy.from.to_owned(), source })?;
    if output.code == 0 {
        return Ok(Copied { bytes: None, way: CopyWay::Helper });
    }
    Err(CopyError::Helper { from: copy.from.to_owned(), message: String::from_utf8_lossy(&output.stderr).trim().to_owned() })
}

/// Only root can keep owners, and only for files on this host.
pub fn is_ours(mountpoint: &Path) -> bool {
    rustix::process::geteuid().is_root() && mountpoint.is_dir()
}

/// Replaces the content of the directory `to` by that of `from`, and makes it durable. Blocking.
pub fn copy_tree(from: &Path, to: &Path) -> io::Result<Copied> {
    let copied = copy_tree_unsynced(from, to)?;
    rustix::fs::syncfs(File::open(to)?)?;
    Ok(copied)
}

/// As [`copy_tree`], without the final sync: a caller that needs a durable copy syncs it.
pub fn copy_tree_unsynced(from: &Path, to: &Path) -> io::Result<Copied> {
    copy_tree_without(from, to, |_| false)
}

/// As [`copy_tree_unsynced`], without the files whose paths are `needless`.
pub fn copy_tree_without(from: &Path, to: &Path, needless: impl Fn(&Path) -> bool) -> io::Result<Copied> {
    copy_tree_unless(from, to, needless, &Watched::default())
}

fn copy_tree_unless(from: &Path, to: &Path, needless: impl Fn(&Path) -> bool, watched: &Watched) -> io::Result<Copied> {
    for entry in fs::read_dir(to)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    let mut entries = walk(from)?;
    entries.retain(|entry| entry.metadata.is_dir() || !needless(&entry.path));
    let (directories, rest): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(|entry| entry.metadata.is_dir());
    for directory in directories.iter().skip(1) {
        fs::create_dir(to.join(&directory.path))?;
    }
    let mut first: HashMap<(u64, u64), &Path> = HashMap::new();
    let (mut files, mut links) = (Vec::new(), Vec::new());
    for entry in rest {
        match first.get(&entry.inode()) {
            Some(original) if entry.metadata.nlink() > 1 => links.push((*original, &entry.path)),
            _ => {
                first.insert(entry.inode(), &entry.path);
                files.push(entry);
            }
        }
    }
    let bytes: u64 = files.iter().filter(|entry| entry.metadata.is_file()).map(|entry| entry.metadata.len()).sum();
    watched.progress.total.store(bytes, Ordering::Relaxed);
    // The largest first, so that no thread is left with one at the end.
    files.sort_by_key(|entry| std::cmp::Reverse(entry.metadata.len()));
    let ways = in_parallel(&files, |entry| copy_entry(&from.join(&entry.path), &to.join(&entry.path), &entry.metadata, watched))?;
    for (original, link) in links {
        fs::hard_link(to.join(original), to.join(link))?;
    }
    // The deepest first: writing into a directory changes its time.
    for directory in directories.iter().rev() {
        dress(&from.join(&directory.path), &to.join(&directory.path), &directory.metadata)?;
    }
    let shared = ways.iter().all(|shared| *shared != Some(false)) && ways.contains(&Some(true));
    Ok(Copied { bytes: Some(bytes), way: if shared { CopyWay::Reflink } else { CopyWay::Host } })
}

/// Whether blocks were shared; `None` for what has none.
fn copy_entry(from: &Path, to: &Path, metadata: &fs::Metadata, watched: &Watched) -> io::Result<Option<bool>> {
    let kind = metadata.file_type();
    let mut shared = None;
    if kind.is_symlink() {
        symlink(fs::read_link(from)?, to)?;
    } else if kind.is_file() {
        let (source, target) = (File::open(from)?, File::create_new(to)?);
        if metadata.len() > 0 {
            shared = Some(rustix::fs::ioctl_ficlone(&target, &source).is_ok());
            if shared == Some(false) {
                copy_content(&source, &target, metadata, watched)?;
            }
            watched.progress.done.fetch_add(if shared == Some(true) { metadata.len() } else { 0 }, Ordering::Relaxed);
        }
    } else if std::os::unix::fs::FileTypeExt::is_fifo(&kind) || std::os::unix::fs::FileTypeExt::is_socket(&kind) {
        // The socket of a stopped server is useless, and a pipe is created again by its user.
        return Ok(None);
    } else {
        return Err(io::Error::other(format!("{} is a device", from.display())));
    }
    dress(from, to, metadata)?;
    Ok(shared)
}

/// Copies every piece between holes. Sets the length first, so that a hole at the end stays one.
fn copy_content(source: &File, target: &File, metadata: &fs::Metadata, watched: &Watched) -> io::Result<()> {
    let length = metadata.len();
    target.set_len(length)?;
    let is_sparse = metadata.blocks() * 512 < length;
    let mut at = 0;
    while at < length {
        let (start, end) = if is_sparse {
            match rustix::fs::seek(source, SeekFrom::Data(at)) {
                Ok(start) => (start, rustix::fs::seek(source, SeekFrom::Hole(start))?),
                Err(rustix::io::Errno::NXIO) => {
                    watched.progress.done.fetch_add(length - at, Ordering::Relaxed);
                    break;
                }
                Err(error) => return Err(error.into()),
            }
        } else {
            (at, length)
        };
        let end = end.min(start + PIECE);
        if watched.cancel.is_cancelled() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the copy was cancelled"));
        }
        copy_piece(source, target, start, end)?;
        // A hole counts like what is copied.
        watched.progress.done.fetch_add(end - at, Ordering::Relaxed);
        at = end;
    }
    Ok(())
}

fn copy_piece(source: &File, target: &File, start: u64, end: u64) -> io::Result<()> {
    let (mut read, mut written) = (start, start);
    while read < end {
        let left = (end - read) as usize;
        match rustix::fs::copy_file_range(source, Some(&mut read), target, Some(&mut written), left) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file became shorter while it was copied")),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            // Different file systems, or one without reflinks.
            Err(rustix::io::Errno::XDEV | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::INVAL) => {
                return copy_by_hand(source, target, read, end);
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn copy_by_hand(source: &File, target: &File, mut at: u64, end: u64) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let mut buffer = vec![0; 1024 * 1024];
    while at < end {
        let wanted = buffer.len().min((end - at) as usize);
        let count = source.read_at(&mut buffer[..wanted], at)?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "a file became shorter while it was copied"));
        }
        target.write_all_at(&buffer[..count], at)?;
        at += count as u64;
    }
    Ok(())
}

/// Owner, mode, extended attributes, times: in this order, since each may undo a later one.
fn dress(from: &Path, to: &Path, metadata: &fs::Metadata) -> io::Result<()> {
    lchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    if !metadata.is_symlink() {
        rustix::fs::chmod(to, Mode::from_raw_mode(metadata.mode() & 0o7777))?;
    }
    attributes(from, to)?;
    let time = |seconds, nanoseconds| Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps {
        last_access: time(metadata.atime(), metadata.atime_nsec()),
        last_modification: time(metadata.mtime(), metadata.mtime_nsec()),
    };
    rustix::fs::utimensat(CWD, to, &times, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(())
}

fn attributes(from: &Path, to: &Path) -> io::Result<()> {
    let mut names = vec![0u8; 64 * 1024];
    let length = match rustix::fs::llistxattr(from, &mut names) {
        Ok(length) => length,
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = std::ffi::OsStr::from_bytes(name);
        let mut value = vec![0u8; 64 * 1024];
        let length = rustix::fs::lgetxattr(from, name, &mut value)?;
        rustix::fs::lsetxattr(to, name, &value[..length], XattrFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{io::Write, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::digest_tree;

    #[test]
    fn a_copy_is_the_same_to_the_checksum_and_replaces_what_was_there() {
        let place = tempfile::tempdir().unwrap();
        let (from, to) = (place.path().join("from"), place.path().join("to"));
        for directory in ["from/base/1", "from/empty", "to/old"] {
            fs::create_dir_all(place.path().join(directory)).unwrap();
        }
        fs::write(from.join("base/1/a"), vec![7; 3_000_000]).unwrap();
        fs::write(from.join("none"), "").unwrap();
        fs::write(to.join("old/file"), "old").unwrap();
        symlink("base/1/a", from.join("link")).unwrap();
        fs::hard_link(from.join("base/1/a"), from.join("hard")).unwrap();
        let mut sparse = File::create(from.join("sparse")).unwrap();
        sparse.write_all(&[1; 4096]).unwrap();
        sparse.set_len(50_000_000).unwrap();
        drop(sparse);
        fs::set_permissions(from.join("base"), fs::Permissions::from_mode(0o700)).unwrap();
        if rustix::process::geteuid().is_root() {
            lchown(from.join("none"), Some(999), Some(998)).unwrap();
        }
        let watched = Watched::default();
        let copied = copy_tree_unless(&from, &to, |_| false, &watched).unwrap();
        assert_eq!(copied.bytes, Some(53_000_000));
        assert_eq!(watched.progress.now(), Some((53_000_000, 53_000_000)));
        assert_eq!(digest_tree(&from).unwrap(), digest_tree(&to).unwrap());
        let of = |name: &str| fs::symlink_metadata(to.join(name)).unwrap();
        assert!(of("sparse").blocks() * 512 < 1_000_000);
        assert_eq!((of("hard").ino(), of("hard").nlink()), (of("base/1/a").ino(), 2));
        assert_eq!(of("base").mtime_nsec(), fs::metadata(from.join("base")).unwrap().mtime_nsec());
        assert!(!to.join("old").exists());
        fs::write(to.join("base/1/a"), "x").unwrap();
        assert_ne!(digest_tree(&from).unwrap().checksum, digest_tree(&to).unwrap().checksum);
    }

    #[test]
    fn a_copy_that_is_cancelled_ends_with_an_error() {
        let place = tempfile::tempdir().unwrap();
        let (from, to) = (place.path().join("from"), place.path().join("to"));
        fs::create_dir(&from).unwrap();
        fs::create_dir(&to).unwrap();
        fs::write(from.join("a"), vec![7; 3_000_000]).unwrap();
        let watched = Watched::default();
        watched.cancel.cancel();
        // A reflink takes no time, and need not be cancelled.
        let copied = copy_tree_unless(&from, &to, |_| false, &watched);
        assert!(copied.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) || copied.unwrap().way == CopyWay::Reflink);
    }

    /// Prints durations: `cargo test --features docker-tests snapshot -- --nocapture`.
    #[cfg(all(test, feature = "docker-tests"))]
    #[expect(clippy::print_stderr, reason = "measurements, shown with --nocapture")]
    #[test]
    fn a_data_directory_on_the_engines_own_disk_is_copied_whole() {
        use devenv_kinds::script::testing::{Server, docker};
        let server = Server::postgres("x");
        let volume = docker(&["inspect", "-f", "{{range .Mounts}}{{.Source}}{{end}}", &server.id]);
        let target = tempfile::tempdir_in("/var/lib/docker/volumes").unwrap();
        for (megabytes, rows) in [(100, 700_000), (1000, 8_500_000)] {
            server.psql("postgres", &format!("drop table if exists t; create unlogged table t as select g as id, repeat('x', 100) as name from generate_series(1, {rows}) g; checkpoint"));
            docker(&["stop", "-t", "30", &server.id]);
            let began = std::time::Instant::now();
            let copied = copy_tree(Path::new(&volume), target.path()).unwrap();
            let took = began.elapsed();
            let began = std::time::Instant::now();
            let digest = digest_tree(target.path()).unwrap();
            eprintln!(
                "{megabytes} MB wanted, {} MB copied in {took:?} by {:?}, checksum in {:?}",
                copied.bytes.unwrap() / 1_000_000,
                copied.way,
                began.elapsed()
            );
            assert_eq!(digest, digest_tree(Path::new(&volume)).unwrap());
            let other = tempfile::tempdir_in("/var/lib/docker/volumes").unwrap();
            let began = std::time::Instant::now();
            std::process::Command::new("cp")
                .args(["-a", "--reflink=auto", &format!("{volume}/."), other.path().to_str().unwrap()])
                .status()
                .unwrap();
            eprintln!("cp -a: {:?}", began.elapsed());
            if megabytes == 100 {
                docker(&["restart", &server.id]);
                break_if_not_ready(&server);
            }
        }
    }

    #[cfg(all(test, feature = "docker-tests"))]
    fn break_if_not_ready(server: &devenv_kinds::script::testing::Server) {
        server.until(|| server.try_psql("postgres", "select 1").is_ok());
    }
}
