//! Fields of a kind that name files of the project. Pure data.

/// One list of paths among a kind's fields, or one path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileField {
    /// The path in the kind's fields; `*` is every entry of a mapping or list.
    pub path: &'static [&'static str],
    pub used_for: FileUse,
}

/// What a file is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileUse {
    /// A script or a data set: it must exist.
    Script,
    /// It must exist.
    Needed,
    /// Its text goes into the service's configuration. A directory stands for its files with these endings.
    Text(&'static [&'static str]),
    /// A path of the host if it begins with `.` or `/`; it may be created later.
    Mounted,
}

impl FileField {
    pub const fn scripts(path: &'static [&'static str]) -> Self {
        Self { path, used_for: FileUse::Script }
    }
}
