//! What changed while no daemon watched: compares the files of the running version with the project's.
//!
//! Times alone do not suffice: a restored file may have an old one, and a touched file a new one. So files
//! are compared with the kept files of the version. Without any, only files written after the start count.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use devenv_spec::{ServiceSpec, WatchRule};

use super::{Manifest, Stamp, Versions, watched};

const PIECE: usize = 64 << 10;

/// A start of a service that continued while no daemon ran.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AdoptedStart {
    pub(crate) run: u32,
    pub(crate) at: SystemTime,
}

impl Versions {
    /// The files that differ from those of this start, by the rules that watch them. Blocks.
    pub(crate) fn changes_since(&self, spec: &ServiceSpec, start: AdoptedStart) -> BTreeMap<usize, Vec<PathBuf>> {
        let _guard = self.lock();
        let tree = self.tree(&spec.name);
        let kept = self.manifest(&spec.name).filter(|kept| kept.run == start.run && kept.spec == spec.hash());
        let mut changes = BTreeMap::new();
        for (index, rule) in spec.watch.iter().enumerate() {
            let mut paths = devenv_watch::files(&self.project, &watched(&spec.name, index, rule));
            let there = paths.clone();
            match &kept {
                Some(kept) => {
                    paths.retain(|path| kept.differs(&tree, path));
                    // The output of a build is kept too, and changes with it.
                    if rule.build.is_none() {
                        paths.extend(kept.gone(rule, &there));
                    }
                }
                None => paths.retain(|path| is_newer(path, start.at)),
            }
            if !paths.is_empty() {
                changes.insert(index, paths);
            }
        }
        changes
    }
}

impl Manifest {
    /// Whether a file differs from this version. One that cannot be read counts as equal.
    fn differs(&self, tree: &Path, path: &Path) -> bool {
        let Ok(below) = path.strip_prefix(&self.base) else { return true };
        let Some(then) = self.files.0.get(below) else { return true };
        match fs::metadata(path).ok().as_ref().and_then(Stamp::of) {
            Some(now) if now == *then => false,
            Some(now) if now.size != then.size => true,
            Some(_) => is_same(path, &tree.join(below)).is_ok_and(|is_same| !is_same),
            None => false,
        }
    }

    /// Files of this version that the rule watches and that do not exist any more.
    fn gone<'a>(&'a self, rule: &'a WatchRule, there: &'a [PathBuf]) -> impl Iterator<Item = PathBuf> + 'a {
        let files = self.files.0.keys().map(|below| self.base.join(below));
        files.filter(|path| rule.paths.iter().any(|watched| path.starts_with(watched)) && !there.contains(path) && !path.exists())
    }
}

/// Written or created since: a restored file has an old modification time, and a recent change time.
fn is_newer(path: &Path, than: SystemTime) -> bool {
    fs::metadata(path).ok().is_some_and(|data| {
        let changed = SystemTime::UNIX_EPOCH.checked_add(std::time::Duration::new(
            u64::try_from(data.ctime()).unwrap_or_default(),
            u32::try_from(data.ctime_nsec()).unwrap_or_default(),
        ));
        changed.is_some_and(|at| at > than) || data.modified().is_ok_and(|at| at > than)
    })
}

/// Compares what two files hold.
fn is_same(a: &Path, b: &Path) -> io::Result<bool> {
    let (mut a, mut b) = (File::open(a)?, File::open(b)?);
    let (mut left, mut right) = (Vec::with_capacity(PIECE), Vec::with_capacity(PIECE));
    loop {
        for (file, piece) in [(&mut a, &mut left), (&mut b, &mut right)] {
            piece.clear();
            file.take(PIECE as u64).read_to_end(piece)?;
        }
        if left != right {
            return Ok(false);
        }
        if left.is_empty() {
            return Ok(true);
        }
    }
}
