//! The files of a build context: which of them `.dockerignore` keeps, and a fingerprint of their content.
//!
//! `X.dockerignore` beside a Dockerfile `X` takes precedence over the context's `.dockerignore`, as in BuildKit. Size and time are
//! trusted only for hashes of the same file with the same change time.

use std::{
    collections::{BTreeMap, HashMap},
    fs::Metadata,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{LazyLock, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use devenv_files::ReadError;
use devenv_spec::ImageBuild;
use globset::{GlobBuilder, GlobMatcher};
use sha2::{Digest, Sha256};

use super::AdditionalContext;

/// The number of hashes that are cached.
const MOST_HASHES: usize = 200_000;
/// A file that changed this recently may change again within the same tick of the file system's clock.
const SETTLED: Duration = Duration::from_secs(2);
/// The largest Dockerfile or `.dockerignore` that is read, in bytes.
const LARGEST_DOCKERFILE: u64 = 8 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    #[error("cannot read the build context {}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("cannot read the Dockerfile {}", path.display())]
    Dockerfile { path: PathBuf, source: io::Error },
    #[error("{}:{line}: invalid pattern `{pattern}`", path.display())]
    Pattern { path: PathBuf, line: usize, pattern: String, source: globset::Error },
}

/// A file, directory or link that is part of a context.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Relative to the context.
    pub path: PathBuf,
    pub metadata: Metadata,
}

/// All files that an image is built from.
#[derive(Debug)]
pub struct BuildContext {
    pub root: PathBuf,
    /// In the order of their paths; a directory comes before what is in it.
    pub entries: Vec<Entry>,
    pub dockerfile: Vec<u8>,
    /// The files of additional contexts that are directories, by the names of the contexts.
    pub additional: BTreeMap<String, AdditionalFiles>,
}

/// The files of an additional context.
#[derive(Debug)]
pub struct AdditionalFiles {
    pub root: PathBuf,
    pub entries: Vec<Entry>,
}

/// The entries of a context, by path: the type, the permissions and the hash of each.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Manifest(pub BTreeMap<String, String>);

impl BuildContext {
    pub fn read(build: &ImageBuild) -> Result<Self, ContextError> {
        let root = build.context.clone();
        let file = root.join(&build.dockerfile);
        let mut dockerfile = Vec::new();
        if let Some(text) = &build.options.dockerfile_inline {
            dockerfile.extend_from_slice(text.as_bytes());
        } else {
            dockerfile = devenv_files::read_bounded(&file, LARGEST_DOCKERFILE)
                .map_err(|error| ContextError::Dockerfile { path: file.clone(), source: error.into() })?;
        }
        let files = |root: &Path, file: &Path| {
            let ignored = Ignored::of(root, file)?;
            entries(root, &ignored).map_err(|(path, source)| ContextError::Unreadable { path, source })
        };
        let mut additional = BTreeMap::new();
        for (name, value) in &build.options.contexts {
            if let Some(AdditionalContext::Directory(root)) = AdditionalContext::parse(value) {
                // It has an ignore file of its own, which belongs to no Dockerfile.
                let entries = files(root, &root.join(""))?;
                additional.insert(name.clone(), AdditionalFiles { root: root.to_owned(), entries });
            }
        }
        let entries = files(&root, &file)?;
        Ok(Self { root, entries, dockerfile, additional })
    }

    /// Hashes the content of every file. Slow the first time, when each file is read.
    pub fn manifest(&self) -> Result<Manifest, ContextError> {
        let mut files = BTreeMap::new();
        let additional = self.additional.iter().map(|(name, files)| (format!("{name}: "), &files.root, &files.entries));
        for (prefix, root, entries) in additional.chain([(String::new(), &self.root, &self.entries)]) {
            for entry in entries {
                let full = root.join(&entry.path);
                let description = describe(&full, &entry.metadata).map_err(|source| ContextError::Unreadable { path: full, source })?;
                files.insert(format!("{prefix}{}", entry.path.to_string_lossy()), description);
            }
        }
        // It is part of the build even if it is outside the context.
        files.insert("the Dockerfile".to_owned(), hex::encode(Sha256::digest(&self.dockerfile)));
        Ok(Manifest(files))
    }
}

impl Manifest {
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        for (path, description) in &self.0 {
            hash.update(path.as_bytes());
            hash.update([0]);
            hash.update(description.as_bytes());
            hash.update([0]);
        }
        hex::encode(hash.finalize())
    }

    /// The paths that were added, removed or changed since `before`.
    pub fn changes_since(&self, before: &Self) -> Vec<String> {
        let changed = self.0.iter().filter(|(path, description)| before.0.get(*path) != Some(*description)).map(|(path, _)| path);
        let removed = before.0.keys().filter(|path| !self.0.contains_key(*path));
        let mut found: Vec<String> = changed.chain(removed).cloned().collect();
        found.sort();
        // A Dockerfile in its context counts once.
        if found.len() > 1 {
            found.retain(|path| path != "the Dockerfile");
        }
        found
    }
}

fn describe(full: &Path, metadata: &Metadata) -> io::Result<String> {
    let mode = metadata.mode() & 0o7777;
    if metadata.is_symlink() {
        return Ok(format!("link {}", std::fs::read_link(full)?.display()));
    }
    if metadata.is_file() {
        return Ok(format!("file {mode:o} {}", hex::encode(content_hash(full, metadata)?)));
    }
    Ok(format!("{} {mode:o}", if metadata.is_dir() { "directory" } else { "special" }))
}

/// Identifies the state of a file: unchanged if the file has not been written since.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

type Hashes = HashMap<PathBuf, (Stamp, [u8; 32])>;
static HASHES: LazyLock<Mutex<Hashes>> = LazyLock::new(Mutex::default);

fn content_hash(full: &Path, metadata: &Metadata) -> io::Result<[u8; 32]> {
    let stamp = Stamp {
        inode: (metadata.dev(), metadata.ino()),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    };
    let kept = || HASHES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((known, hash)) = kept().get(full)
        && *known == stamp
    {
        return Ok(*hash);
    }
    let mut hasher = Sha256::new();
    let mut file = devenv_files::open_regular(full)?;
    let mut piece = vec![0; 128 << 10];
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        hasher.update(&piece[..read]);
    }
    let hash: [u8; 32] = hasher.finalize().into();
    let changed = SystemTime::UNIX_EPOCH + Duration::new(metadata.ctime().max(0) as u64, metadata.ctime_nsec() as u32);
    if changed.elapsed().is_ok_and(|since| since > SETTLED) {
        let mut kept = kept();
        if kept.len() >= MOST_HASHES {
            kept.clear();
        }
        kept.insert(full.to_owned(), (stamp, hash));
    }
    Ok(hash)
}

/// The entries of the context, ordered by path, with the directories above each.
fn entries(root: &Path, ignored: &Ignored) -> Result<Vec<Entry>, (PathBuf, io::Error)> {
    let mut found: BTreeMap<PathBuf, Metadata> = BTreeMap::new();
    let mut directories = vec![(PathBuf::new(), root.metadata().map_err(|error| (root.to_owned(), error))?)];
    let mut passed: HashMap<PathBuf, Metadata> = HashMap::new();
    while let Some((directory, metadata)) = directories.pop() {
        let full = root.join(&directory);
        passed.insert(directory.clone(), metadata);
        for entry in std::fs::read_dir(&full).map_err(|error| (full.clone(), error))? {
            devenv_files::progressed();
            let entry = entry.map_err(|error| (full.clone(), error))?;
            let path = directory.join(entry.file_name());
            let out = ignored.matches(&path);
            let metadata = match entry.metadata() {
                Ok(metadata) => metadata,
                // Removed in the meantime.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err((root.join(&path), error)),
            };
            if metadata.is_dir() && (!out || ignored.has_exceptions) {
                directories.push((path.clone(), metadata.clone()));
            }
            if !out {
                // A path that is included again may be below directories that are not.
                for above in path.ancestors().skip(1).filter(|above| !above.as_os_str().is_empty()) {
                    if let Some(metadata) = passed.get(above) {
                        found.entry(above.to_owned()).or_insert_with(|| metadata.clone());
                    }
                }
                found.insert(path, metadata);
            }
        }
    }
    Ok(found.into_iter().map(|(path, metadata)| Entry { path, metadata }).collect())
}

/// The rules of `.dockerignore`: patterns from the context's root. The last match decides; `!` includes again.
#[derive(Default)]
struct Ignored {
    patterns: Vec<(GlobMatcher, bool)>,
    has_exceptions: bool,
}

impl Ignored {
    fn of(root: &Path, dockerfile: &Path) -> Result<Self, ContextError> {
        let mut own = dockerfile.as_os_str().to_owned();
        own.push(".dockerignore");
        for path in [PathBuf::from(own), root.join(".dockerignore")] {
            match devenv_files::read_text_bounded(&path, LARGEST_DOCKERFILE) {
                Ok(text) => return Self::parse(&text, &path),
                Err(ReadError::Missing) => {}
                Err(error) => return Err(ContextError::Unreadable { path, source: error.into() }),
            }
        }
        Ok(Self::default())
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ContextError> {
        let mut ignored = Self::default();
        for (index, line) in text.trim_start_matches('\u{FEFF}').lines().enumerate() {
            if line.starts_with('#') {
                continue;
            }
            let line = line.trim();
            let (pattern, out) = line.strip_prefix('!').map_or((line, true), |pattern| (pattern.trim(), false));
            let pattern = pattern.trim_start_matches("./").trim_matches('/');
            if pattern.is_empty() || pattern == "." {
                continue;
            }
            let glob = GlobBuilder::new(pattern).literal_separator(true).backslash_escape(true).build();
            let invalid = |source| ContextError::Pattern { path: path.to_owned(), line: index + 1, pattern: pattern.to_owned(), source };
            ignored.patterns.push((glob.map_err(invalid)?.compile_matcher(), out));
            ignored.has_exceptions |= !out;
        }
        Ok(ignored)
    }

    /// A pattern that matches a directory matches everything below it.
    fn matches(&self, path: &Path) -> bool {
        let hit = |glob: &GlobMatcher| path.ancestors().any(|part| !part.as_os_str().is_empty() && glob.is_match(part));
        self.patterns.iter().rev().find(|(glob, _)| hit(glob)).is_some_and(|(_, out)| *out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(files: &[(&str, &str)]) -> (tempfile::TempDir, ImageBuild) {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            std::fs::create_dir_all(directory.path().join(path).parent().unwrap()).unwrap();
            std::fs::write(directory.path().join(path), text).unwrap();
        }
        let build = ImageBuild::new(directory.path().to_owned(), "x");
        (directory, build)
    }

    fn names(build: &ImageBuild) -> Vec<String> {
        BuildContext::read(build).unwrap().entries.iter().map(|entry| entry.path.display().to_string()).collect()
    }

    #[test]
    fn the_last_pattern_that_matches_decides() {
        let text = "# comment\n/target\n*.log\n**/*.tmp\ndocs/\n!docs/keep.md\n!a.log\n";
        let ignored = Ignored::parse(text, Path::new(".dockerignore")).unwrap();
        for (path, out) in [
            ("target", true),
            ("target/debug/x", true),
            ("src/target", false),
            ("x.log", true),
            ("a.log", false),
            ("src/x.log", false),
            ("src/deep/x.tmp", true),
            ("x.tmp", true),
            ("docs/other.md", true),
            ("docs/keep.md", false),
            ("src/main.rs", false),
        ] {
            assert_eq!(ignored.matches(Path::new(path)), out, "{path}");
        }
    }

    #[test]
    fn a_dockerfiles_own_ignore_file_precedes_that_of_the_context() {
        let (_directory, mut build) = context(&[
            ("Dockerfile", "FROM a"),
            ("api.Dockerfile", "FROM a"),
            ("api.Dockerfile.dockerignore", "secret\n"),
            (".dockerignore", "other\n"),
            ("secret", "s"),
            ("other", "o"),
        ]);
        assert!(names(&build).contains(&"secret".to_owned()) && !names(&build).contains(&"other".to_owned()));
        build.dockerfile = "api.Dockerfile".into();
        assert!(!names(&build).contains(&"secret".to_owned()) && names(&build).contains(&"other".to_owned()));
    }

    #[test]
    fn a_path_that_is_included_again_comes_after_its_parent_directories() {
        let (_directory, build) =
            context(&[("Dockerfile", ""), (".dockerignore", "docs\nDockerfile\n!docs/a/keep\n"), ("docs/a/keep", ""), ("docs/b", "")]);
        assert_eq!(names(&build), [".dockerignore", "docs", "docs/a", "docs/a/keep"]);
    }

    #[test]
    fn the_fingerprint_follows_content_and_permissions_and_not_times_or_ignored_files() {
        let (directory, build) = context(&[("Dockerfile", "FROM a"), (".dockerignore", "noise\n"), ("word", "one"), ("noise", "1")]);
        let manifest = || BuildContext::read(&build).unwrap().manifest().unwrap();
        let first = manifest();
        std::fs::write(directory.path().join("noise"), "2").unwrap();
        std::fs::write(directory.path().join("word"), "one").unwrap();
        assert_eq!(manifest().fingerprint(), first.fingerprint());
        std::fs::write(directory.path().join("word"), "two").unwrap();
        std::fs::write(directory.path().join("new"), "").unwrap();
        assert_eq!(manifest().changes_since(&first), ["new", "word"]);
        assert_ne!(manifest().fingerprint(), first.fingerprint());
        std::fs::write(directory.path().join("Dockerfile"), "FROM b").unwrap();
        assert_eq!(manifest().changes_since(&first), ["Dockerfile", "new", "word"]);
    }

    #[test]
    fn files_of_an_additional_context_belong_to_the_fingerprint() {
        let (_directory, mut build) = context(&[("Dockerfile", "FROM a")]);
        let (more, _) = context(&[("logo", "1"), ("noise", ""), (".dockerignore", "noise\n")]);
        build.options.contexts.insert("assets".to_owned(), more.path().display().to_string());
        build.options.contexts.insert("base".to_owned(), "docker-image://alpine:3".to_owned());
        let manifest = || BuildContext::read(&build).unwrap().manifest().unwrap();
        let first = manifest();
        std::fs::write(more.path().join("noise"), "2").unwrap();
        std::fs::write(more.path().join("logo"), "2").unwrap();
        assert_eq!(manifest().changes_since(&first), ["assets: logo"]);
        std::fs::remove_dir_all(more.path()).unwrap();
        assert!(BuildContext::read(&build).is_err());
    }

    #[test]
    fn an_invalid_pattern_is_an_error_with_its_line() {
        let (_directory, build) = context(&[("Dockerfile", ""), (".dockerignore", "a\nb[\n")]);
        let error = BuildContext::read(&build).unwrap_err().to_string();
        assert!(error.ends_with(".dockerignore:2: invalid pattern `b[`"), "{error}");
    }
}
